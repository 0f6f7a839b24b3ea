//! Errors that name the step that failed: one method on every kind of `Result` that system calls return.

use std::io;

use super::Error;

/// Names the step of a failed call.
pub(super) trait Step<T> {
    /// `what` is a phrase such as `mount proc on /proc`.
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::Step(format!("{}: {}", what(), describe(&error))))
    }
}

impl<T> Step<T> for rustix::io::Result<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(io::Error::from).step(what)
    }
}

/// The error's text as `strerror` has it, in lower case and without Rust's "(os error 2)".
pub(super) fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}
