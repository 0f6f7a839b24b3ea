//! EROFS indexes: a layer's archive stays as it is, and a small read-only file system image says where in it each file
//! is. From archive to tree (`build`), from several trees to one (`merge`), from a tree to the image (`write`).

mod build;
mod data;
mod directory;
mod format;
mod merge;
mod tree;
mod verify;
mod write;

pub(crate) use build::build;
pub(crate) use merge::merge;
pub(crate) use tree::Tree;
pub(crate) use verify::verify;
pub(crate) use write::write;
