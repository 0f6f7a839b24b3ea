//! `logs`: reads what the monitor wrote, across rotations, and follows it. A [`LogTail`] never blocks; its descriptor
//! says when to look again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify;

use crate::log::{Driver, Options, read::Reader};
use crate::monitor::protocol::{self, Request};
use crate::table::Intent;
use crate::wake::{Wake, drain, is_readable};
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

/// What a follower has at the moment.
#[derive(Debug)]
pub enum Next<T> {
    /// This.
    Item(T),
    /// Nothing until its descriptor is readable.
    Later,
    /// Nothing any more.
    End,
}

/// A place in a container's log.
pub struct LogTail {
    id: String,
    path: PathBuf,
    request: LogsRequest,
    reader: Reader,
    /// Wanted entries that come before the last ones.
    skip: u64,
    follower: Option<Follower>,
}

/// What tells that there is more, and that there will be no more.
struct Follower {
    monitor: OwnedFd,
    watch: OwnedFd,
    wake: Wake,
    over: bool,
}

impl Engine {
    /// Calls `each` for every entry until it returns false.
    pub fn logs(&self, name: &str, request: &LogsRequest, each: &mut dyn FnMut(LogEntry) -> bool) -> Result<()> {
        let mut tail = self.log_tail(name, request)?;
        loop {
            match tail.read_next(self)? {
                Next::Item(entry) => {
                    if !each(entry) {
                        return Ok(());
                    }
                }
                Next::Later => tail.sleep()?,
                Next::End => return Ok(()),
            }
        }
    }

    /// A reader of a container's log. Errors: `NotImplemented` for a log driver that keeps nothing.
    pub fn log_tail(&self, name: &str, request: &LogsRequest) -> Result<LogTail> {
        let container = self.look_up(name)?;
        let options = Options::parse(&container.host.log_config)?;
        if options.driver == Driver::None {
            return Err(Error::not_implemented("configured logging driver does not support reading")
                .hinted("run the container with --log-driver json-file or local"));
        }
        let path = self.log_path(&container.id);
        let step = || format!("read the log {}", path.display());
        // Watching begins before reading, and the monitor is asked before that: nothing falls in between.
        let follower = match request.follow {
            true => self.subscribe_end(&container.id)?.map(|monitor| Follower::new(monitor, &path)).transpose()?,
            false => None,
        };
        let hint = request.tail.filter(|_| request.since.is_none() && request.until.is_none());
        let open = || Reader::open(&path, options.driver, hint).step(step);
        let skip = match request.tail {
            Some(tail) => count(&mut open()?, request).step(step)?.saturating_sub(tail),
            None => 0,
        };
        let reader = open()?;
        Ok(LogTail { id: container.id, path, request: request.clone(), reader, skip, follower })
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

impl LogTail {
    /// The next entry, if there is one now.
    pub fn read_next(&mut self, engine: &Engine) -> Result<Next<LogEntry>> {
        let step = || format!("read the log {}", self.path.display());
        loop {
            while let Some(entry) = self.reader.next().step(step)? {
                if self.request.is_past(&entry) {
                    return Ok(Next::End);
                }
                if !self.request.wants(&entry) {
                    continue;
                }
                if self.skip == 0 {
                    return Ok(Next::Item(entry));
                }
                self.skip -= 1;
            }
            let Some(follower) = &mut self.follower else { return Ok(Next::End) };
            if follower.over {
                return Ok(Next::End);
            }
            // In this order: what was written before the end is read after it was seen.
            let ended = is_readable(&follower.monitor);
            if !drain(&follower.watch) && !ended {
                return Ok(Next::Later);
            }
            if ended {
                match engine.successor(&self.id, &follower.monitor)? {
                    Some(next) => *follower = Follower::new(next, &self.path)?,
                    None => follower.over = true,
                }
            }
        }
    }

    /// Readable when [`LogTail::read_next`] may have something; none if it will not be.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.follower.as_ref().map(|follower| follower.wake.as_fd())
    }

    fn sleep(&self) -> Result<()> {
        self.follower.as_ref().map_or(Ok(()), |follower| follower.wake.wait(None))
    }
}

impl Follower {
    fn new(monitor: OwnedFd, log: &Path) -> Result<Self> {
        let watch = watch(log).step(|| format!("follow the log {}", log.display()))?;
        let wake = Wake::new()?;
        wake.add(&monitor)?;
        wake.add(&watch)?;
        Ok(Follower { monitor, watch, wake, over: false })
    }
}

/// How many entries are wanted.
fn count(reader: &mut Reader, request: &LogsRequest) -> std::io::Result<u64> {
    let mut wanted = 0;
    while let Some(entry) = reader.next()? {
        if request.is_past(&entry) {
            break;
        }
        wanted += u64::from(request.wants(&entry));
    }
    Ok(wanted)
}

fn watch(log: &Path) -> std::io::Result<OwnedFd> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let directory = log.parent().unwrap_or(log);
    let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CREATE;
    inotify::add_watch(&watch, directory, flags)?;
    Ok(watch)
}
