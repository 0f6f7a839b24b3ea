//! What `create` does with a request before anything is made: check it, merge the image's configuration into it, work
//! out its mounts. Pure functions over the data model; making directories and rows is left to `verbs/create.rs`.

pub(crate) mod defaults;
pub(crate) mod files;
pub(crate) mod limits;
pub(crate) mod merge;
pub(crate) mod mounts;
pub(crate) mod names;
pub(crate) mod network;
pub(crate) mod platform;
pub(crate) mod signal;
pub(crate) mod validate;
