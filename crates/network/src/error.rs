//! The crate's error: what went wrong, of which kind, and what to do about it.

use std::fmt;

use linux::netlink::Refusal;

/// What class of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request contradicts itself or names something malformed.
    Invalid,
    /// What is named does not exist.
    NotFound,
    /// Something is taken, or in a state that forbids it.
    Conflict,
    /// What exists must not be touched.
    Forbidden,
    /// The kernel cannot do that.
    Unsupported,
    /// Everything else.
    Internal,
}

/// One line for the user, and where possible a hint.
#[derive(Clone, Debug)]
pub struct Error {
    /// The class of failure.
    pub kind: Kind,
    /// One line that names the step and its arguments.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of a kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::new(Kind::Invalid, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Error::new(Kind::Conflict, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Error::new(Kind::Internal, message)
    }

    /// The same error with a hint.
    #[must_use]
    pub fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<records::rusqlite::Error> for Error {
    fn from(cause: records::rusqlite::Error) -> Self {
        let hint = records::hint(&cause).map(str::to_owned);
        Error { kind: Kind::Internal, message: format!("database: {cause}"), hint }
    }
}

/// Names the step that a system's error happened in.
pub(crate) trait Context<T> {
    /// Turns an error into `STEP: CAUSE`.
    fn step(self, step: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Refusal>> Context<T> for std::result::Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| {
            let cause = cause.into();
            let kind = match cause.errno() {
                libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT => Kind::Unsupported,
                _ => Kind::Internal,
            };
            Error::new(kind, format!("{}: {cause}", step()))
        })
    }
}
