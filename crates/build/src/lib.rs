//! From a Dockerfile and a build context to an image. So far the front end: the language (`dockerfile`), expansion of
//! words (`words`) and what a context leaves out (`ignore`). Running the steps is still to come.

pub mod dockerfile;
mod error;
pub mod ignore;
pub mod words;

pub use error::{Error, Result, Span};
