//! One descriptor for several: readable when any of them is. What followers (of logs, events, ends) hand to whoever
//! sleeps for them: a poll loop here, a runtime in the HTTP face.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::{Context, Result};

/// A set of descriptors to sleep for. A closed one leaves it by itself.
pub(crate) struct Wake(OwnedFd);

impl Wake {
    pub(crate) fn new() -> Result<Self> {
        epoll::create(CreateFlags::CLOEXEC).map(Wake).step(|| "create an epoll set".to_owned())
    }

    /// Wakes too when there is something to read here.
    pub(crate) fn add(&self, descriptor: impl AsFd) -> Result<()> {
        epoll::add(&self.0, descriptor, EventData::new_u64(0), EventFlags::IN).step(|| "watch a descriptor".to_owned())
    }

    /// Sleeps until something can be read, for at most `timeout` nanoseconds.
    pub(crate) fn wait(&self, timeout: Option<i64>) -> Result<()> {
        let timeout = timeout.map(|n| Timespec { tv_sec: n.max(0) / 1_000_000_000, tv_nsec: n.max(0) % 1_000_000_000 });
        let mut events = [const { Event { flags: EventFlags::empty(), data: EventData::new_u64(0) } }; 1];
        match epoll::wait(&self.0, &mut events[..], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno).step(|| "sleep".to_owned()),
        }
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether there is something to read (or the other end is gone), without waiting.
pub(crate) fn is_readable(descriptor: impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&now)), Ok(1..))
}

/// Takes what a non-blocking inotify descriptor has to say; whether that was anything.
pub(crate) fn drain(watch: impl AsFd) -> bool {
    let mut buffer = [0; 4096];
    let mut any = false;
    while rustix::io::read(&watch, &mut buffer).is_ok_and(|count| count > 0) {
        any = true;
    }
    any
}
