//! `kiste logs`: what a container has written, to the same streams.

use std::io::{self, Write};

use engine::{LogEntry, LogsRequest, Stream};

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::format::times;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs, or "all"
    #[arg(short = 'n', long, value_name = "string", default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    until: Option<String>,
    #[arg(value_name = "CONTAINER", hide = true)]
    container: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER";
    const ABOUT: &'static str = "Fetch the logs of a container";

    fn run(self, context: &Context) -> Result<u8> {
        let request = LogsRequest {
            follow: self.follow,
            // As with Docker, what is no number means all.
            tail: self.tail.parse().ok(),
            since: point("since", self.since.as_deref())?,
            until: point("until", self.until.as_deref())?,
        };
        let mut printer = Printer::new(context, self.timestamps, self.details, self.follow);
        let mut written = Ok(());
        context.engine.logs(&self.container, &request, &mut |entry| {
            written = printer.print(&entry);
            written.is_ok()
        })?;
        written.and_then(|()| printer.flush())?;
        Ok(0)
    }
}

/// A time argument; nothing or empty means no limit.
fn point(name: &str, text: Option<&str>) -> Result<Option<i64>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    times::parse(text).map(Some).map_err(|error| Failure::new(format!("invalid value for {name:?}: {error}")))
}

/// Writes entries to the streams that they came from, in their order.
struct Printer<'a> {
    out: Box<dyn Write + 'a>,
    err: Box<dyn Write + 'a>,
    last: Stream,
    timestamps: bool,
    details: bool,
    /// Someone waits for every line.
    live: bool,
}

impl Printer<'static> {
    fn new(context: &Context, timestamps: bool, details: bool, live: bool) -> Self {
        let err = io::BufWriter::new(io::stderr().lock());
        Printer { out: Box::new(context.out()), err: Box::new(err), last: Stream::Stdout, timestamps, details, live }
    }
}

impl Printer<'_> {
    fn print(&mut self, entry: &LogEntry) -> io::Result<()> {
        if entry.stream != self.last {
            // Both may be the same terminal: the order of the lines must stay.
            self.flush()?;
            self.last = entry.stream;
        }
        let (timestamps, details) = (self.timestamps, self.details);
        let target = match entry.stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        };
        if timestamps {
            write!(target, "{} ", times::log_time(entry.time))?;
        }
        if details {
            write!(target, "{} ", attributes(entry))?;
        }
        target.write_all(&entry.bytes)?;
        if self.live { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.err.flush()
    }
}

/// `name=value,…` in the order of the names.
fn attributes(entry: &LogEntry) -> String {
    let mut pairs: Vec<String> = entry.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.sort_unstable();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stream: Stream, text: &str) -> LogEntry {
        let attributes = vec![("b".to_owned(), "c".to_owned()), ("X".to_owned(), "y".to_owned())];
        LogEntry { stream, time: 1_795_466_285_026_301_655, bytes: text.as_bytes().to_vec(), attributes }
    }

    fn printed(timestamps: bool, details: bool) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut printer = Printer {
            out: Box::new(&mut out),
            err: Box::new(&mut err),
            last: Stream::Stdout,
            timestamps,
            details,
            live: false,
        };
        printer.print(&entry(Stream::Stdout, "hi\n")).unwrap();
        printer.print(&entry(Stream::Stderr, "part")).unwrap();
        drop(printer);
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn streams_timestamps_and_details() {
        assert_eq!(printed(false, false), ("hi\n".to_owned(), "part".to_owned()));
        assert_eq!(printed(true, true).0, "2026-11-23T20:38:05.026301655Z X=y,b=c hi\n");
    }

    #[test]
    fn times_name_their_flag() {
        assert_eq!(point("since", Some("")).unwrap(), None);
        assert_eq!(
            point("since", Some("bogus")).unwrap_err().message,
            "invalid value for \"since\": failed to parse value as time or duration: \"bogus\""
        );
    }
}
