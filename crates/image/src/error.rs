//! Why an image operation failed, sorted by who is to blame.

use std::fmt::Display;

/// Why an image operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such image; the text is Docker's.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The archive or the registry's answer is damaged or hostile.
    #[error("{0}")]
    Untrusted(String),
    /// The reference or another argument is malformed.
    #[error("{0}")]
    Invalid(String),
    /// The image is for another platform.
    #[error("{0}")]
    Platform(String),
    /// The verb conflicts with the image's state.
    #[error("{0}")]
    Conflict(String),
    /// The registry could not be reached, or the connection broke.
    #[error("{0}")]
    Registry(String),
    /// The registry said no.
    #[error("{0}")]
    Refused(String),
    /// A step failed.
    #[error("{step}: {cause}")]
    Step {
        /// Step and arguments.
        step: String,
        /// Cause.
        cause: String,
    },
    /// The database.
    #[error("database: {0}")]
    Database(#[from] records::rusqlite::Error),
}

impl Error {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::NotFound(_) => Some("`kiste images` lists what is here, `kiste pull` and `kiste load` bring more"),
            Error::Untrusted(_) => Some("nothing was kept; get the image again from a source that you trust"),
            Error::Platform(_) => Some("choose another one with --platform, or an image for this machine"),
            Error::Refused(text) if text.contains("docker login") || text.contains("basic auth") => {
                Some("check the spelling of the name, and whether `kiste login` is needed")
            }
            Error::Refused(text) if text.contains("manifest") => Some("check the spelling of the name and the tag"),
            Error::Refused(_) => Some("the registry decides that: ask those who run it"),
            Error::Registry(_) => Some("check the name of the registry and the network"),
            Error::Step { cause, .. } if cause.contains("No space left") || cause.contains(NO_SPACE) => {
                Some("free some disk space, or put the images elsewhere with --root")
            }
            Error::Step { cause, .. } if cause.contains("ermission denied") || cause.contains("not permitted") => {
                Some("run as root")
            }
            Error::Database(error) => records::hint(error),
            _ => None,
        }
    }

    pub(crate) fn untrusted(text: impl Into<String>) -> Self {
        Error::Untrusted(text.into())
    }
}

/// Marks errors of the free-space check.
pub(crate) const NO_SPACE: &str = "not enough free disk space";

/// The crate's result.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Names the step that another library's error happened in.
pub(crate) trait Step<T> {
    /// Turns any error into an [`Error::Step`].
    fn step(self, step: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Display> Step<T> for std::result::Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::Step { step: step(), cause: cause.to_string() })
    }
}
