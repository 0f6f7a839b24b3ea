//! `logs`: reads what the monitor wrote, across rotations, and follows it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::io::Errno;

use crate::log::{Driver, Options, read::Reader};
use crate::monitor::protocol::{self, Request};
use crate::table::Intent;
use crate::{Context, Engine, Error, Result};

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

impl LogsRequest {
    fn wants(&self, entry: &LogEntry) -> bool {
        self.since.is_none_or(|since| entry.time >= since) && !self.is_past(entry)
    }

    fn is_past(&self, entry: &LogEntry) -> bool {
        self.until.is_some_and(|until| entry.time > until)
    }
}

impl Engine {
    /// Calls `each` for every entry until it returns false.
    pub fn logs(&self, name: &str, request: &LogsRequest, each: &mut dyn FnMut(LogEntry) -> bool) -> Result<()> {
        let container = self.look_up(name)?;
        let options = Options::parse(&container.host.log_config)?;
        if options.driver == Driver::None {
            return Err(Error::not_implemented("configured logging driver does not support reading")
                .hinted("run the container with --log-driver json-file or local"));
        }
        let path = self.log_path(&container.id);
        let step = || format!("read the log {}", path.display());
        // Watching begins before reading, and the monitor is asked before that: nothing falls in between.
        let monitor = if request.follow { self.subscribe_end(&container.id)? } else { None };
        let watch = monitor.is_some().then(|| watch(&path)).transpose().step(step)?;
        let mut reader = Reader::open(
            &path,
            options.driver,
            request.tail.filter(|_| request.since.is_none() && request.until.is_none()),
        )
        .step(step)?;
        if !replay(&mut reader, request, each).step(step)? {
            return Ok(());
        }
        let (Some(mut monitor), Some(watch)) = (monitor, watch) else { return Ok(()) };
        loop {
            let ended = wait_for_more(&watch, &monitor).step(step)?;
            while let Some(entry) = reader.next().step(step)? {
                if request.is_past(&entry) || (request.wants(&entry) && !each(entry)) {
                    return Ok(());
                }
            }
            if ended {
                match self.successor(&container.id, &monitor)? {
                    Some(next) => monitor = next,
                    None => return Ok(()),
                }
            }
        }
    }

    /// What to wait for when `monitor` has been heard of: nothing if it told the end of the run; if it died, the one that
    /// has adopted the container.
    fn successor(&self, id: &str, monitor: &OwnedFd) -> Result<Option<OwnedFd>> {
        if protocol::answer(monitor)?.is_some() {
            return Ok(None);
        }
        let Ok(container) = self.look_up(id) else { return Ok(None) };
        if container.state != Intent::Running || self.connect(&container).is_err() {
            return Ok(None);
        }
        self.subscribe_end(id)
    }

    /// A connection that becomes readable when the run is over; none if there is no run.
    fn subscribe_end(&self, id: &str) -> Result<Option<OwnedFd>> {
        let Some(socket) = protocol::connect(&self.paths().container_state(id))? else { return Ok(None) };
        protocol::send(&socket, &Request::Wait { next: false }, &[])?;
        Ok(Some(socket))
    }
}

/// Hands out what is there; false if the caller has had enough.
fn replay(reader: &mut Reader, request: &LogsRequest, each: &mut dyn FnMut(LogEntry) -> bool) -> std::io::Result<bool> {
    let Some(tail) = request.tail else {
        while let Some(entry) = reader.next()? {
            if request.is_past(&entry) || (request.wants(&entry) && !each(entry)) {
                return Ok(false);
            }
        }
        return Ok(true);
    };
    let mut last = VecDeque::new();
    while let Some(entry) = reader.next()? {
        if request.wants(&entry) {
            last.push_back(entry);
        }
        if last.len() as u64 > tail {
            last.pop_front();
        }
    }
    Ok(last.into_iter().all(each))
}

fn watch(log: &Path) -> std::io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let directory = log.parent().unwrap_or(log);
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CREATE;
    inotify::add_watch(&watch, directory, flags)?;
    Ok(watch)
}

/// Sleeps until the log has changed or the run is over; whether it is over.
fn wait_for_more(watch: &OwnedFd, monitor: &OwnedFd) -> std::io::Result<bool> {
    let mut descriptors = [
        PollFd::from_borrowed_fd(watch.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(monitor.as_fd(), PollFlags::IN),
    ];
    match poll(&mut descriptors, None) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(false),
        Err(errno) => return Err(errno.into()),
    }
    let ended = !descriptors[1].revents().is_empty();
    let mut events = [0; 4096];
    while matches!(rustix::io::read(watch, &mut events), Ok(count) if count > 0) {}
    Ok(ended)
}
