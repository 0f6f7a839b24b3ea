//! From a Dockerfile and a build context to an image: the language (`dockerfile`, `words`, `ignore`), which stages are
//! needed (`stages`), and the steps (`solver`, `stage`, `step`, `run`), each from the cache or anew. Containers and the
//! storing of images are the engine's business, showing the progress is the command line's.

mod caches;
pub mod copying;
pub mod dockerfile;
mod error;
pub mod files;
pub mod ignore;
mod request;
mod run;
pub mod scope;
mod solver;
mod stage;
pub mod stages;
pub mod state;
mod step;
pub mod words;

pub use caches::prune;
pub use error::{Error, Result, Span};
pub use request::{Context, Event, Request};
pub use solver::{Built, build};
