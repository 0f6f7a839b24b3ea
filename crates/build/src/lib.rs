//! From a Dockerfile and a build context to an image: the language (`dockerfile`, `words`, `ignore`), which stages are
//! needed (`stages`), and the steps (`solver`, `stage`, `step`, `run`), each from the cache or anew. Containers and the
//! storing of images are the engine's business, showing the progress is the command line's.
//!
//! A [`Request`] says what to build; its files, secrets and agents may come from this machine or, through the traits of
//! `source`, from a client. [`build`] works in the calling thread's time, tells of each [`Event`] and ends with what was
//! [`Built`] or with a [`Failure`] that points into the Dockerfile. A [`Cancel`] stops it from another thread.

mod agent;
mod attest;
mod cache;
mod caches;
mod cancel;
mod contexts;
pub mod copying;
mod digests;
pub mod dockerfile;
mod error;
mod event;
mod export;
pub mod files;
#[doc(hidden)]
pub mod fuzz;
mod git;
pub mod ignore;
mod leftovers;
mod lint;
mod locks;
pub mod modes;
mod mounts;
mod output;
mod remote;
mod request;
mod run;
pub mod scope;
mod scratch;
mod solver;
mod source;
mod stage;
pub mod stages;
pub mod state;
mod step;
mod teller;
mod transfer;
mod web;
pub mod words;

pub use attest::Provenance;
pub use cache::{CachePlace, CacheSource, CacheTarget};
pub use caches::{prune, prune_unused_since};
pub use cancel::Cancel;
pub use error::{Error, Failure, Result, Span};
pub use event::{Built, BuiltImage, Event, Warning};
pub use output::{Output, Sink};
pub use request::{OnError, Request};
pub use solver::{build, check};
pub use source::{Agents, Archive, Context, LocalAgents, LocalSecrets, Recipe, Remote, Secret, Secrets, Wanted};
