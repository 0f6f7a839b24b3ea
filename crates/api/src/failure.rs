//! What goes wrong, as an HTTP status and Docker's error body. Which engine error is which status is decided here.

use engine::ErrorKind;
use hyper::StatusCode;

/// A request that fails.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What kind of failure, for programs.
    pub(crate) status: StatusCode,
    /// What went wrong, for people (and for programs that match on Docker's words).
    pub(crate) message: String,
}

/// The result of handling a request.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure of that status.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Failure { status, message: message.into() }
    }

    /// The request itself is wrong.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Failure::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such thing.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Failure::new(StatusCode::NOT_FOUND, message)
    }

    /// Known, but not to be had here.
    pub(crate) fn not_implemented(message: impl Into<String>) -> Self {
        Failure::new(StatusCode::NOT_IMPLEMENTED, message)
    }

    /// The server's own fault.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        let status = match error.kind {
            // Docker takes a program that cannot be executed for a wrong request (moby `daemon/errors.go`).
            ErrorKind::Invalid | ErrorKind::NotExecutable | ErrorKind::CommandNotFound => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // Hints speak of our own command line, which is not what the client uses.
        Failure { status, message: error.message }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::internal(engine::plain(error.to_string()))
    }
}
