//! The one error of the engine: what went wrong, of which kind, and what to do about it. The faces decide from the
//! kind alone which exit code or HTTP status follows; message texts follow Docker's where clients match on them.

use std::fmt;

/// What class of failure it is; each face maps it to its own codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ErrorKind {
    /// The request contradicts itself or names something malformed (HTTP 400).
    Invalid,
    /// The named object does not exist (HTTP 404).
    NotFound,
    /// The object is in a state that forbids the verb, or a name is taken (HTTP 409).
    Conflict,
    /// Nothing to do: already started, already stopped (HTTP 304).
    NotModified,
    /// The caller may not do that (HTTP 403).
    Forbidden,
    /// The container's program cannot be executed: permission, format, a directory (exit code 126).
    NotExecutable,
    /// The container's program, its interpreter or its loader does not exist (exit code 127).
    CommandNotFound,
    /// Recognised but not available here; the message names what is missing (HTTP 501).
    NotImplemented,
    /// Everything else: a system call failed, the disk is full (HTTP 500).
    Internal,
}

/// An engine failure: one line for the user, a kind for the face, and where possible a hint.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Error {
    /// The class of failure.
    pub kind: ErrorKind,
    /// One line, without a final full stop, naming the step and its arguments.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
}

/// The engine's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: plain(message.into()), hint: None }
    }

    /// An [`ErrorKind::Invalid`] error.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Invalid, message)
    }

    /// An [`ErrorKind::NotFound`] error.
    pub fn not_found(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::NotFound, message)
    }

    /// An [`ErrorKind::Conflict`] error.
    pub fn conflict(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Conflict, message)
    }

    /// An [`ErrorKind::NotImplemented`] error.
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::NotImplemented, message)
    }

    /// An [`ErrorKind::Internal`] error.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Internal, message)
    }

    /// The same error with a hint.
    #[must_use]
    pub fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with a hint, where there is one.
    #[must_use]
    pub(crate) fn hinted_if(mut self, hint: Option<&str>) -> Self {
        self.hint = hint.map(str::to_owned).or(self.hint);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Longest message in bytes.
const LONGEST: usize = 4 << 10;

/// A message in one line of bounded length, whatever names an image or a user put into it (control characters could
/// write anything on a terminal), and in which system errors read as strerror(3) has them, in lower case: without Rust's
/// `(os error 2)`.
pub fn plain(message: String) -> String {
    let mut message = strerror(message);
    if message.contains(char::is_control) {
        let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        message = message.chars().map(escape).collect();
    }
    if message.len() > LONGEST {
        message.truncate(message.floor_char_boundary(LONGEST - '…'.len_utf8()));
        message.push('…');
    }
    message
}

fn strerror(mut message: String) -> String {
    while let Some(end) = message.find(" (os error ") {
        let Some(length) = message[end..].find(')') else { break };
        message.replace_range(end..=end + length, "");
        let start = message[..end].rfind(": ").map_or(0, |colon| colon + 2);
        if let Some(first) = message[start..end].chars().next() {
            message.replace_range(start..start + first.len_utf8(), &first.to_lowercase().to_string());
        }
    }
    message
}

/// Names the step that a lower layer's error happened in.
pub trait Context<T> {
    /// Turns any error into an [`ErrorKind::Internal`] one: `STEP: CAUSE`.
    fn step(self, step: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|cause| Error::internal(format!("{}: {cause}", step())))
    }
}

impl From<records::rusqlite::Error> for Error {
    fn from(cause: records::rusqlite::Error) -> Self {
        let hint = records::hint(&cause);
        Error::internal(format!("database: {cause}")).hinted_if(hint)
    }
}

impl From<network::Error> for Error {
    fn from(cause: network::Error) -> Self {
        use network::Kind as K;
        let kind = match cause.kind {
            K::Invalid => ErrorKind::Invalid,
            K::NotFound => ErrorKind::NotFound,
            K::Conflict => ErrorKind::Conflict,
            K::Forbidden => ErrorKind::Forbidden,
            K::Unsupported => ErrorKind::NotImplemented,
            K::Internal => ErrorKind::Internal,
        };
        Error::new(kind, cause.message).hinted_if(cause.hint.as_deref())
    }
}

impl From<image::store::Error> for Error {
    fn from(cause: image::store::Error) -> Self {
        use image::store::Error as E;
        let kind = match &cause {
            E::NotFound(_) => ErrorKind::NotFound,
            E::Untrusted(_) | E::Invalid(_) | E::Platform(_) => ErrorKind::Invalid,
            E::Conflict(_) => ErrorKind::Conflict,
            E::Refused(text) if text.contains("failed with status: 401") => ErrorKind::Forbidden,
            E::Refused(text) if text.contains("not found") || text.contains("denied") => ErrorKind::NotFound,
            _ => ErrorKind::Internal,
        };
        Error::new(kind, cause.to_string()).hinted_if(cause.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_read_as_everywhere_else() {
        let error = std::io::Error::from(rustix::io::Errno::NOENT);
        let text = plain(format!("open /x: {error}; hint"));
        assert_eq!(text, "open /x: no such file or directory; hint");
        assert_eq!(plain("no (os error".to_owned()), "no (os error");
        assert_eq!(plain("É (os error 1): B (os error 2)".to_owned()), "é: b");
        assert_eq!(Error::internal(error.to_string()).message, "no such file or directory");
    }

    #[test]
    fn messages_are_one_short_line_whatever_they_name() {
        let error = Error::invalid("unable to find user \u{1b}[2J\nroot".to_owned() + &"ä".repeat(100_000));
        assert!(error.message.starts_with(r"unable to find user \u{1b}[2J\nrootää"), "{:.99}", error.message);
        assert!(error.message.len() <= LONGEST && error.message.ends_with("ä…"));
    }
}
