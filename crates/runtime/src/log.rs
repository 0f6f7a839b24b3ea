//! Where errors and warnings go: standard error or the caller's file, as text or as JSON lines in runc's fields, which
//! containerd, conmon and BuildKit read.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{Result, Step};

/// The log of this invocation.
#[derive(Default)]
pub(crate) struct Log {
    file: Option<File>,
    json: bool,
    debug: bool,
    quiet: bool,
}

impl Log {
    /// Writes to this file from now on, and the final error to standard error too.
    pub(crate) fn open(&mut self, path: &Path) -> Result<()> {
        let mut options = OpenOptions::new();
        // O_NONBLOCK: a FIFO that nobody reads is no reason to wait.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = options.append(true).create(true).mode(0o644).custom_flags(nonblocking).open(path);
        self.file = Some(file.step(|| format!("open log file {}", path.display()))?);
        Ok(())
    }

    /// JSON lines instead of text.
    pub(crate) fn set_json(&mut self, json: bool) {
        self.json = json;
    }

    /// Says more.
    pub(crate) fn set_debug(&mut self) {
        self.debug = true;
    }

    /// Says nothing but errors.
    pub(crate) fn set_quiet(&mut self) {
        self.quiet = true;
    }

    /// The error that ends the command.
    pub(crate) fn error(&self, text: &str) {
        self.write("error", text);
        if self.file.is_some() {
            // Nothing can be done if even standard error is gone.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// What the caller should know though the command goes on.
    pub(crate) fn warn(&self, text: &str) {
        if !self.quiet {
            self.write("warning", text);
        }
    }

    /// Steps, if asked for.
    pub(crate) fn debug(&self, text: impl FnOnce() -> String) {
        if self.debug {
            self.write("debug", &text());
        }
    }

    fn write(&self, level: &str, text: &str) {
        let line = self.line(level, text, &now());
        // Nothing can be done about a log that cannot be written.
        let _ = match self.file.as_ref() {
            Some(mut file) => file.write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }

    fn line(&self, level: &str, text: &str, time: &str) -> String {
        match self.json {
            true => serde_json::json!({"level": level, "msg": text, "time": time}).to_string() + "\n",
            false => format!("time=\"{time}\" level={level} msg={}\n", serde_json::Value::from(text)),
        }
    }
}

/// RFC 3339 in whole seconds, as logrus writes it.
fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_logrus() {
        let mut log = Log::default();
        assert_eq!(log.line("error", "a \"b\"\n", "T"), "time=\"T\" level=error msg=\"a \\\"b\\\"\\n\"\n");
        log.set_json(true);
        let line: serde_json::Value = serde_json::from_str(&log.line("error", "a\nb", "T")).unwrap();
        assert_eq!(line, serde_json::json!({"level": "error", "msg": "a\nb", "time": "T"}));
    }
}
