//! `events`: what happened, from the event log on disk, and what happens next (an [`EventTail`] never blocks). Reading is by position in the file, with
//! inotify telling when there is more; a rotation on the way is followed.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use crate::filters::Filters;
use crate::glob::glob;
use crate::model::{Event, Map};
use crate::verbs::Next;
use crate::wake::drain;
use crate::{Context as _, Engine, Error, Result, clock, events};

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct EventsRequest {
    /// Nanoseconds since 1970: replay from here; absent: only new ones.
    pub since: Option<i64>,
    /// Nanoseconds since 1970: stop there; absent: never.
    pub until: Option<i64>,
    /// `key` → values: container daemon event image label network scope type volume.
    pub filters: Map<Vec<String>>,
}

/// A place in the event log.
pub struct EventTail {
    request: EventsRequest,
    /// What is still to be replayed.
    old: Option<BufReader<File>>,
    log: Follower,
    watch: OwnedFd,
    /// Line by line, as it is read.
    partial: Vec<u8>,
    over: bool,
}

impl Engine {
    /// Calls `each` for every event until it returns false.
    pub fn events(&self, request: &EventsRequest, each: &mut dyn FnMut(Event) -> bool) -> Result<()> {
        let mut tail = self.event_tail(request)?;
        loop {
            match tail.read_next()? {
                Next::Item(event) => {
                    if !each(event) {
                        return Ok(());
                    }
                }
                Next::Later => sleep(&tail.watch, tail.left())?,
                Next::End => return Ok(()),
            }
        }
    }

    /// A reader of the events. It never blocks.
    pub fn event_tail(&self, request: &EventsRequest) -> Result<EventTail> {
        Filters::new(&request.filters, &KEYS)?;
        crate::make_directory(self.root())?;
        let watch = watch(self.root())?;
        let mut log = Follower::open(&self.paths().events())?;
        let old = match request.since {
            Some(_) => rotated(&events::rotated(self.paths()))?,
            None => {
                log.skip_to_end()?;
                None
            }
        };
        let mut request = request.clone();
        if let Some((name, value)) = &self.bounds().label {
            request.filters.entry("label".to_owned()).or_default().push(format!("{name}={value}"));
        }
        Ok(EventTail { request, old, log, watch, partial: Vec::new(), over: false })
    }
}

impl EventTail {
    /// The next event, if there is one now.
    pub fn read_next(&mut self) -> Result<Next<Event>> {
        loop {
            while let Some(event) = self.read()? {
                let request = &self.request;
                let in_time = request.since.is_none_or(|since| event.time_nano >= since)
                    && request.until.is_none_or(|until| event.time_nano <= until);
                if in_time && accepts(&Filters::new(&request.filters, &KEYS)?, &event) {
                    return Ok(Next::Item(event));
                }
            }
            if self.over {
                return Ok(Next::End);
            }
            if drain(&self.watch) {
                continue;
            }
            if self.left() != Some(0) {
                return Ok(Next::Later);
            }
            // What was written before the end may only now be seen.
            self.over = true;
        }
    }

    fn read(&mut self) -> Result<Option<Event>> {
        if let Some(old) = &mut self.old {
            if let Some(event) = next_event(old, &mut self.partial)? {
                return Ok(Some(event));
            }
            (self.old, self.partial) = (None, Vec::new());
        }
        self.log.next()
    }

    /// Nanoseconds until the end; none: there is none.
    pub fn left(&self) -> Option<i64> {
        self.request.until.map(|until| (until - clock::now()).max(0))
    }
}

impl AsFd for EventTail {
    /// Readable when [`EventTail::read_next`] may have something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watch.as_fd()
    }
}

/// The log before the present one.
fn rotated(path: &Path) -> Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::internal(format!("open {}: {e}", path.display()))),
    }
}

/// Watches the directory, since the log itself is replaced when it is full.
fn watch(directory: &Path) -> Result<OwnedFd> {
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let watch = inotify::init(flags).step(|| "watch for events".to_owned())?;
    let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_FROM;
    inotify::add_watch(&watch, directory, events).step(|| format!("watch {}", directory.display()))?;
    Ok(watch)
}

/// Waits for a change, for at most so many nanoseconds.
fn sleep(watch: &OwnedFd, left: Option<i64>) -> Result<()> {
    let timeout = left.map(|left| Timespec { tv_sec: left / 1_000_000_000, tv_nsec: left % 1_000_000_000 });
    match poll(&mut [PollFd::new(watch, PollFlags::IN)], timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(Error::internal(format!("wait for events: {e}"))),
    }
}

/// Reads a log that grows and may be replaced.
struct Follower {
    path: PathBuf,
    log: Option<BufReader<File>>,
    /// Begin of a line whose end is not written yet.
    partial: Vec<u8>,
}

impl Follower {
    fn open(path: &Path) -> Result<Self> {
        let mut follower = Follower { path: path.to_owned(), log: None, partial: Vec::new() };
        follower.reopen()?;
        Ok(follower)
    }

    fn reopen(&mut self) -> Result<()> {
        self.partial.clear();
        self.log = match File::open(&self.path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::internal(format!("open {}: {e}", self.path.display()))),
        };
        Ok(())
    }

    fn skip_to_end(&mut self) -> Result<()> {
        let path = &self.path;
        self.log
            .as_mut()
            .map_or(Ok(0), |log| log.seek(SeekFrom::End(0)))
            .step(|| format!("seek {}", path.display()))?;
        Ok(())
    }

    /// The next event, if there is one now.
    fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some(log) = &mut self.log
                && let Some(event) = next_event(log, &mut self.partial)?
            {
                return Ok(Some(event));
            }
            if !self.is_replaced() {
                return Ok(None);
            }
            // The log was moved aside perhaps after it was read: its last lines come first.
            if let Some(log) = &mut self.log
                && let Some(event) = next_event(log, &mut self.partial)?
            {
                return Ok(Some(event));
            }
            self.reopen()?;
        }
    }

    fn is_replaced(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let now = std::fs::metadata(&self.path).map(|data| data.ino()).ok();
        let ours = self.log.as_ref().and_then(|log| log.get_ref().metadata().ok()).map(|data| data.ino());
        now.is_some() && now != ours
    }
}

/// The next whole line's event; a line that is none (torn by a full disk or a power loss) is passed over.
fn next_event(log: &mut BufReader<File>, partial: &mut Vec<u8>) -> Result<Option<Event>> {
    loop {
        let read = log.read_until(b'\n', partial).step(|| "read the event log".to_owned())?;
        if read == 0 || partial.last() != Some(&b'\n') {
            return Ok(None);
        }
        let event = serde_json::from_slice(partial);
        partial.clear();
        if let Ok(event) = event {
            return Ok(Some(event));
        }
    }
}

/// The keys that `events` knows; most name a kind of thing (moby `daemon/events/filter.go`).
const KEYS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

fn accepts(filters: &Filters<'_>, event: &Event) -> bool {
    filters.labels(&event.actor.attributes)
        && KEYS.iter().filter(|key| **key != "label").all(|key| filters.any(key, |value| matches(event, key, value)))
}

fn matches(event: &Event, key: &str, value: &str) -> bool {
    match key {
        // `exec_start: ls` is found as `exec_start` too.
        "event" => event.action == value || event.action.split_once(':').is_some_and(|(action, _)| action == value),
        "type" => event.kind == value,
        "scope" => event.scope == value,
        kind => event.kind == kind && is_named(event, value),
    }
}

/// By id, a prefix of it, or name; images without their tag too.
fn is_named(event: &Event, value: &str) -> bool {
    let name = event.actor.attributes.get("name").map_or("", String::as_str);
    let untagged = || name.rsplit_once(':').map_or(name, |(name, _)| name);
    event.actor.id.starts_with(value)
        || event.actor.id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(value))
        || glob(value, name)
        || (event.kind == "image" && glob(value, untagged()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Paths;

    fn engine(directory: &tempfile::TempDir) -> Engine {
        Engine::new(Paths { root: directory.path().join("root"), state: directory.path().join("state") })
    }

    fn make(engine: &Engine, action: &str, name: &str) {
        crate::make_directory(engine.root()).unwrap();
        let event = events::container_event(&"ab".repeat(32), name, "busybox", &Map::new(), action, &[]);
        events::append(engine.paths(), &event).unwrap();
    }

    fn replayed(engine: &Engine, filters: &[(&str, &str)]) -> Vec<String> {
        let filters = filters.iter().map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()])).collect();
        let request = EventsRequest { since: Some(0), until: Some(clock::now()), filters };
        let mut seen = Vec::new();
        engine
            .events(&request, &mut |event| {
                seen.push(event.action);
                true
            })
            .unwrap();
        seen
    }

    #[test]
    fn the_past_is_replayed_and_filtered() {
        let directory = tempfile::tempdir().unwrap();
        let engine = engine(&directory);
        make(&engine, "create", "one");
        make(&engine, "exec_start: ls", "one");
        make(&engine, "die", "two");
        assert_eq!(replayed(&engine, &[]), ["create", "exec_start: ls", "die"]);
        assert_eq!(replayed(&engine, &[("container", "two")]), ["die"]);
        assert_eq!(replayed(&engine, &[("event", "exec_start")]), ["exec_start: ls"]);
        assert_eq!(replayed(&engine, &[("type", "image")]), [""; 0]);
        let unknown = EventsRequest { filters: Map::from([("colour".to_owned(), vec![])]), ..EventsRequest::default() };
        assert!(engine.events(&unknown, &mut |_| true).is_err());
    }

    #[test]
    fn a_torn_line_is_passed_over_and_a_rotation_followed() {
        use std::io::Write as _;
        let directory = tempfile::tempdir().unwrap();
        let engine = engine(&directory);
        make(&engine, "create", "one");
        let mut log = std::fs::OpenOptions::new().append(true).open(engine.paths().events()).unwrap();
        log.write_all(b"{\"Type\": \"cont\0\0\n").unwrap();
        std::fs::rename(engine.paths().events(), events::rotated(engine.paths())).unwrap();
        make(&engine, "die", "one");
        assert_eq!(replayed(&engine, &[]), ["create", "die"]);
    }

    #[test]
    fn new_events_arrive_while_following() {
        let directory = tempfile::tempdir().unwrap();
        let follower = engine(&directory);
        let writer = engine(&directory);
        make(&writer, "create", "old");
        std::thread::scope(|scope| {
            let (send, receive) = std::sync::mpsc::channel();
            scope.spawn(move || {
                let request = EventsRequest { until: Some(clock::now() + 20_000_000_000), ..EventsRequest::default() };
                follower
                    .events(&request, &mut |event| {
                        send.send(event.action).unwrap();
                        false
                    })
                    .unwrap();
            });
            // The follower only sees what comes after it looked: keep writing until it has one.
            let seen = loop {
                make(&writer, "start", "new");
                if let Ok(seen) = receive.recv_timeout(std::time::Duration::from_millis(20)) {
                    break seen;
                }
            };
            assert_eq!(seen, "start");
        });
    }
}
