//! The server's own epoll set, which can itself be watched as one descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Datagrams of the container.
    Udp,
    /// New connections of the container.
    Listener,
    /// One of those.
    Client { slot: u16, generation: u32 },
    /// A server that was asked.
    Attempt { slot: u16, generation: u32, number: u8 },
}

impl Token {
    fn encode(self) -> u64 {
        let (kind, number, slot, generation) = match self {
            Token::Udp => (0, 0, 0, 0),
            Token::Listener => (1, 0, 0, 0),
            Token::Client { slot, generation } => (2, 0, slot, generation),
            Token::Attempt { slot, generation, number } => (3, number, slot, generation),
        };
        u64::from(generation) | u64::from(slot) << 32 | u64::from(number) << 48 | kind << 56
    }

    fn decode(data: u64) -> Self {
        let (generation, slot, number) = (data as u32, (data >> 32) as u16, (data >> 48) as u8);
        match data >> 56 {
            0 => Token::Udp,
            1 => Token::Listener,
            2 => Token::Client { slot, generation },
            _ => Token::Attempt { slot, generation, number },
        }
    }
}

/// The set. A closed descriptor leaves it by itself.
#[derive(Debug)]
pub(super) struct Poll(OwnedFd);

impl Poll {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Poll(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Watches a descriptor, or changes what it is watched for.
    pub(super) fn watch(&self, descriptor: impl AsFd, token: Token, input: bool, room: bool) -> std::io::Result<()> {
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
    pub(super) fn ready(&self) -> Vec<Token> {
        let mut events = [const { Event { flags: EventFlags::empty(), data: EventData::new_u64(0) } }; 32];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let count = epoll::wait(&self.0, &mut events[..], Some(&now)).unwrap_or(0);
        events[..count].iter().map(|event| Token::decode(event.data.u64())).collect()
    }
}

impl AsFd for Poll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        let attempt = Token::Attempt { slot: 65535, generation: u32::MAX, number: 255 };
        for token in [Token::Udp, Token::Listener, Token::Client { slot: 7, generation: 9 }, attempt] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
