//! `logs`: reads what the monitor wrote, across rotations, and follows it.

use crate::{Engine, Result};

/// Which output a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Which lines.
#[derive(Clone, Debug, Default)]
pub struct LogsRequest {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only the last lines; absent: all.
    pub tail: Option<u64>,
    /// Nanoseconds since 1970: not before.
    pub since: Option<i64>,
    /// Nanoseconds since 1970: not after.
    pub until: Option<i64>,
}

/// One chunk of output: a line with its newline, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it came from.
    pub stream: Stream,
    /// Nanoseconds since 1970.
    pub time: i64,
    /// The bytes, newline included.
    pub bytes: Vec<u8>,
    /// `--log-opt labels/env` attributes.
    pub attributes: Vec<(String, String)>,
}

impl Engine {
    /// Calls `each` for every entry until it returns false.
    pub fn logs(&self, _name: &str, _request: &LogsRequest, _each: &mut dyn FnMut(LogEntry) -> bool) -> Result<()> {
        todo!()
    }
}
