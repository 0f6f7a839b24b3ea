//! What goes wrong, as callers of a runtime want it: one line of text and an exit code.

use std::fmt::Display;
use std::io;

use sandbox::launch;

/// An error that ends the command.
#[derive(Debug)]
pub(crate) struct Error {
    /// One line; callers match on parts of it.
    pub(crate) text: String,
    /// Exit code of the command.
    pub(crate) code: u8,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Exit code 1, as for most errors.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 1 }
    }

    /// With another exit code.
    pub(crate) fn coded(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// Says before the text what was being done.
    pub(crate) fn during(self, what: &str) -> Self {
        Self { text: format!("{what}: {}", self.text), ..self }
    }
}

impl From<launch::Error> for Error {
    fn from(error: launch::Error) -> Self {
        match error {
            // docker, podman and containerd look for this text to choose between exit codes 126, 127 and 125.
            launch::Error::CommandNotFound(text) | launch::Error::NotExecutable(text) => {
                Self::new(format!("unable to start container process: {text}"))
            }
            other => Self::new(other.to_string()),
        }
    }
}

/// Names the step that failed.
pub(crate) trait Step<T> {
    /// `what` is a phrase such as `open the bundle /b`.
    fn step(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Display> Step<T> for std::result::Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::new(format!("{}: {}", what(), plain(&error.to_string()))))
    }
}

/// The error's text as `strerror` has it, in lower case and without Rust's "(os error 2)".
pub(crate) fn plain(text: &str) -> String {
    match text.find(" (os error ") {
        Some(end) => {
            let words = text[..end].rsplit_once(": ").map_or(0, |(before, _)| before.len() + 2);
            format!("{}{}", &text[..words], text[words..end].to_lowercase())
        }
        None => text.to_owned(),
    }
}

/// Whether the host does not let us: what a runtime without privileges has to live with.
pub(crate) fn is_denied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_system_are_plain() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(
            Err::<(), _>(error).step(|| "open /x".into()).unwrap_err().text,
            "open /x: no such file or directory"
        );
        assert_eq!(plain("stat A: No such file or directory (os error 2)"), "stat A: no such file or directory");
    }
}
