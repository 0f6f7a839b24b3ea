//! From a Dockerfile and a build context to an image. So far the front end: the language (`dockerfile`), expansion of
//! words (`words`) and what a context leaves out (`ignore`). Running the steps is still to come.

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

pub use error::{Error, Result, Span};
pub use request::{Context, Event, Request};
pub use solver::{Built, build};
