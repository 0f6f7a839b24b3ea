//! An epoll set of a service's own, which can itself be watched as one descriptor.

use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// What a descriptor is for, in 64 bits.
pub(crate) trait Token: Copy {
    /// As the kernel keeps it.
    fn encode(self) -> u64;
    /// As the kernel gives it back.
    fn decode(data: u64) -> Self;
}

/// The set. A closed descriptor leaves it by itself.
#[derive(Debug)]
pub(crate) struct Poll<T>(OwnedFd, PhantomData<T>);

impl<T: Token> Poll<T> {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Poll(epoll::create(CreateFlags::CLOEXEC)?, PhantomData))
    }

    /// Watches a descriptor, or changes what it is watched for; one that is watched for nothing reports no errors either.
    pub(crate) fn watch(&self, descriptor: impl AsFd, token: T, input: bool, room: bool) -> std::io::Result<()> {
        if !input && !room {
            return match epoll::delete(&self.0, &descriptor) {
                Err(Errno::NOENT) => Ok(()),
                other => Ok(other?),
            };
        }
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, input);
        flags.set(EventFlags::OUT, room);
        let data = EventData::new_u64(token.encode());
        match epoll::add(&self.0, &descriptor, data, flags) {
            Err(Errno::EXIST) => Ok(epoll::modify(&self.0, &descriptor, data, flags)?),
            other => Ok(other?),
        }
    }

    /// What is ready now, a few at a time.
    pub(crate) fn ready(&self) -> Vec<T> {
        let mut events = [const { Event { flags: EventFlags::empty(), data: EventData::new_u64(0) } }; 32];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let count = epoll::wait(&self.0, &mut events[..], Some(&now)).unwrap_or(0);
        events[..count].iter().map(|event| T::decode(event.data.u64())).collect()
    }
}

impl<T> AsFd for Poll<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
