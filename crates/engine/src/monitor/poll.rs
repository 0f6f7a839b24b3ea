//! epoll with names: which descriptor woke the monitor.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

use crate::{Context, Result};

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The container's first process has ended.
    Process,
    /// A client connects.
    Listener,
    /// The monitor got a signal.
    Signal,
    /// The container wrote: 0 stdout or terminal, 1 stderr.
    Output(u32),
    /// The container reads again.
    Input,
    /// A health probe has ended.
    Probe,
    /// A health probe wrote.
    ProbeOutput,
    /// A client asks.
    Client(u32),
    /// A client's standard input has something.
    ClientInput(u32),
    /// A client reads its standard output again.
    ClientStdout(u32),
    /// A client reads its standard error again.
    ClientStderr(u32),
    /// The container asks for names.
    Names,
    /// Something passes through a published port.
    Proxy,
    /// Somebody has deleted parts of networks, or the one that watches over them has ended.
    Watch,
    /// What makes networks whole has ended.
    Repair,
}

impl Token {
    fn encode(self) -> u64 {
        let (kind, number) = match self {
            Token::Process => (0, 0),
            Token::Listener => (1, 0),
            Token::Signal => (2, 0),
            Token::Output(stream) => (3, stream),
            Token::Input => (4, 0),
            Token::Probe => (5, 0),
            Token::ProbeOutput => (6, 0),
            Token::Client(id) => (7, id),
            Token::ClientInput(id) => (8, id),
            Token::ClientStdout(id) => (9, id),
            Token::ClientStderr(id) => (10, id),
            Token::Names => (11, 0),
            Token::Proxy => (12, 0),
            Token::Watch => (13, 0),
            Token::Repair => (14, 0),
        };
        (kind << 32) | u64::from(number)
    }

    fn decode(data: u64) -> Self {
        let number = data as u32;
        match data >> 32 {
            0 => Token::Process,
            1 => Token::Listener,
            2 => Token::Signal,
            3 => Token::Output(number),
            4 => Token::Input,
            5 => Token::Probe,
            6 => Token::ProbeOutput,
            7 => Token::Client(number),
            8 => Token::ClientInput(number),
            9 => Token::ClientStdout(number),
            10 => Token::ClientStderr(number),
            11 => Token::Names,
            12 => Token::Proxy,
            13 => Token::Watch,
            _ => Token::Repair,
        }
    }
}

/// The set of descriptors that may wake the monitor. A closed descriptor leaves it by itself.
pub(crate) struct Poll(OwnedFd);

impl Poll {
    pub(crate) fn new() -> Result<Self> {
        epoll::create(CreateFlags::CLOEXEC).map(Poll).step(|| "create an epoll set".to_owned())
    }

    /// Wakes when there is something to read (or the other end is gone).
    pub(crate) fn watch_input(&self, descriptor: impl AsFd, token: Token) -> Result<()> {
        self.add(descriptor, token, EventFlags::IN)
    }

    /// Wakes when there is room to write (or the other end is gone).
    pub(crate) fn watch_room(&self, descriptor: impl AsFd, token: Token) -> Result<()> {
        self.add(descriptor, token, EventFlags::OUT)
    }

    /// Watches a descriptor, or changes what it is watched for.
    fn add(&self, descriptor: impl AsFd, token: Token, flags: EventFlags) -> Result<()> {
        let data = EventData::new_u64(token.encode());
        match epoll::add(&self.0, &descriptor, data, flags) {
            Err(Errno::EXIST) => epoll::modify(&self.0, &descriptor, data, flags),
            added => added,
        }
        .step(|| format!("watch {token:?}"))
    }

    /// Stops watching; no error if it was not watched.
    pub(crate) fn forget(&self, descriptor: impl AsFd) {
        let _ = epoll::delete(&self.0, descriptor);
    }

    /// Gives all memory back that a sleeper does not need, and sleeps until something happens or `deadline` has come.
    pub(crate) fn sleep_small(&self, deadline: Option<Instant>) {
        let timeout = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        // If it fails, the next `wait` sleeps instead.
        drop(linux::footprint::sleep(self.0.as_fd(), timeout.as_ref()));
    }

    /// Sleeps until something happens or `deadline` has come; what happened (nothing at the deadline).
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Result<Vec<Token>> {
        let mut events = [const { Event { flags: EventFlags::empty(), data: EventData::new_u64(0) } }; 16];
        let timeout = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        match epoll::wait(&self.0, &mut events[..], timeout.as_ref()) {
            Ok(count) => Ok(events[..count].iter().map(|event| Token::decode(event.data.u64())).collect()),
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(errno) => Err(errno).step(|| "wait for events".to_owned()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}
