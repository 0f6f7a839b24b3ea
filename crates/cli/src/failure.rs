//! The error of the command line: what is printed and which exit code follows. How a clap error becomes one is in
//! `usage`, what the engine's errors mean is the engine's business.

use std::io;

use engine::ErrorKind;

/// Exit code of errors before a container's own program could run (docker run).
pub(crate) const ENGINE_FAILED: u8 = 125;
/// Exit code when standard output was closed under us: what a process killed by SIGPIPE shows (128 + 13).
const BROKEN_PIPE: u8 = 141;

/// Why a command ends with something other than its normal exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Exit code of the process.
    pub(crate) code: u8,
    /// Printed as `kiste: MESSAGE`; empty: nothing is printed (it has been said already).
    pub(crate) message: String,
    /// Printed as `hint: HINT`.
    pub(crate) hint: Option<String>,
    /// Printed last, as it stands: where to read more.
    pub(crate) footer: Option<String>,
}

/// The command line's result.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// An error with exit code 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Failure { code: 1, message: engine::plain(message.into()), hint: None, footer: None }
    }

    /// An end with `code` about which nothing more is said.
    pub(crate) fn quiet(code: u8) -> Self {
        Failure { code, ..Failure::new("") }
    }

    /// The same failure with a hint.
    #[must_use]
    pub(crate) fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same failure with another exit code.
    #[must_use]
    pub(crate) fn coded(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The same failure with the pointer to a command's help: `See 'kiste run --help'.`
    #[must_use]
    pub(crate) fn see(mut self, command: &str) -> Self {
        self.footer = Some(format!("See '{command} --help'."));
        self
    }

    /// An engine error of `run`, `create` or `exec`: 126 and 127 tell what is wrong with the program, the rest is
    /// `otherwise` (125 for `run`, 1 for `exec`).
    pub(crate) fn of_program(error: engine::Error, otherwise: u8) -> Self {
        let code = match error.kind {
            ErrorKind::NotExecutable => 126,
            ErrorKind::CommandNotFound => 127,
            _ => otherwise,
        };
        Failure::from(error).coded(code)
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        let hint = error.hint.or_else(|| usual_hint(&error.message, rustix::process::geteuid().is_root()));
        Failure { hint, ..Failure::new(error.message) }
    }
}

/// What helps against causes that any step can meet.
fn usual_hint(message: &str, root: bool) -> Option<String> {
    let hint = match message.rsplit(": ").next()? {
        "permission denied" | "operation not permitted" if !root => "run as root",
        "no space left on device" => "free some disk space, or use another directory with --root",
        "disk quota exceeded" => "raise the quota, or use another directory with --root",
        "read-only file system" => "make it writable, or use another directory with --root and --state",
        _ => return None,
    };
    Some(hint.to_owned())
}

impl From<io::Error> for Failure {
    /// Meant for errors of our own standard output; other files name themselves in the message.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::quiet(BROKEN_PIPE),
            _ => Failure::new(format!("write output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_causes_have_hints() {
        assert_eq!(usual_hint("open /x: permission denied", false).as_deref(), Some("run as root"));
        assert_eq!(usual_hint("open /x: permission denied", true), None);
        assert!(usual_hint("create /x: no space left on device", true).is_some());
        assert_eq!(usual_hint("No such container: x", false), None);
        let own = Failure::from(engine::Error::internal("a: no space left on device").hinted("own"));
        assert_eq!(own.hint.as_deref(), Some("own"));
    }
}
