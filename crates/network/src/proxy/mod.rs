//! What the kernel's rules cannot do for a published port: lead `::1` to a container, IPv6 clients to one that has only
//! IPv4, and, without root, clients of the host to another network namespace. Connections and datagrams are handed on by
//! the container's monitor: one descriptor to watch, one deadline, one function, no process, no copy of what passes.

mod flow;
mod stream;
mod udp;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::poll::{self, Poll};
use stream::Streams;
use udp::Datagrams;

/// A socket of the host and where what comes in there goes to.
#[derive(Debug)]
pub struct Route {
    /// Bound to the published address and port.
    pub socket: OwnedFd,
    /// A datagram socket; else one of TCP, which need not listen yet.
    pub datagrams: bool,
    /// The container's address and port.
    pub target: SocketAddr,
    /// Where connections go that are refused there: programs that serve one family only.
    pub other: Option<SocketAddr>,
    /// The container sees the client's address as the source. Needs rules by which its answers find back here, which a
    /// network namespace of our own has.
    pub transparent: bool,
}

/// All of a container's ports that are served this way.
#[derive(Debug)]
pub struct Proxy {
    poll: Poll<Token>,
    routes: Vec<Route>,
    streams: Streams,
    datagrams: Datagrams,
}

/// What a descriptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// A route's socket.
    Route(u32),
    /// One side of a connection.
    Stream { slot: u16, generation: u32, side: Side },
    /// A container's answer to datagrams of a client.
    Flow { slot: u16, generation: u32 },
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Container,
}

impl poll::Token for Token {
    fn encode(self) -> u64 {
        let (kind, slot, generation) = match self {
            Token::Route(number) => (0, 0, number),
            Token::Stream { slot, generation, side: Side::Client } => (1, slot, generation),
            Token::Stream { slot, generation, side: Side::Container } => (2, slot, generation),
            Token::Flow { slot, generation } => (3, slot, generation),
        };
        kind << 48 | u64::from(slot) << 32 | u64::from(generation)
    }

    fn decode(data: u64) -> Self {
        let (slot, generation) = ((data >> 32) as u16, data as u32);
        match data >> 48 {
            0 => Token::Route(generation),
            1 => Token::Stream { slot, generation, side: Side::Client },
            2 => Token::Stream { slot, generation, side: Side::Container },
            _ => Token::Flow { slot, generation },
        }
    }
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

impl Proxy {
    /// Serves these routes from now on.
    pub fn new(routes: Vec<Route>) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        for (number, route) in (0..).zip(&routes) {
            rustix::io::ioctl_fionbio(&route.socket, true)?;
            if !route.datagrams {
                rustix::net::listen(&route.socket, BACKLOG)?;
            }
            poll.watch(&route.socket, Token::Route(number), true, false)?;
        }
        Ok(Proxy { poll, routes, streams: Streams::default(), datagrams: Datagrams::default() })
    }

    /// When [`Proxy::turn`] must be called even if nothing is ready.
    pub fn deadline(&self) -> Option<Instant> {
        [self.streams.deadline(), self.datagrams.deadline()].into_iter().flatten().min()
    }

    /// Does what is ready and what is due.
    pub fn turn(&mut self) {
        let now = Instant::now();
        for token in self.poll.ready() {
            match token {
                Token::Route(number) => self.arrival(number as usize, now),
                Token::Stream { slot, generation, side } => self.streams.ready(slot, generation, side, &self.poll),
                Token::Flow { slot, generation } => self.datagrams.answer(slot, generation, &self.routes, now),
            }
        }
        self.datagrams.close_idle(now);
        self.rest_or_resume(now);
    }

    /// Gives memory back that is not needed while nothing passes.
    pub fn rest(&mut self) {
        self.streams.rest();
    }

    fn arrival(&mut self, number: usize, now: Instant) {
        let Some(route) = self.routes.get(number) else { return };
        if route.datagrams {
            self.datagrams.arrive(number, route, &self.poll, now);
        } else if !self.streams.accept(route, &self.poll, now) {
            // No room: whoever connects waits in the kernel's queue.
            for (number, route) in (0..).zip(&self.routes).filter(|(_, route)| !route.datagrams) {
                let _ = self.poll.watch(&route.socket, Token::Route(number), false, false);
            }
        }
    }

    /// Accepts again after a pause for want of room.
    fn rest_or_resume(&mut self, now: Instant) {
        if !self.streams.resumes(now) {
            return;
        }
        for (number, route) in (0..).zip(&self.routes).filter(|(_, route)| !route.datagrams) {
            let _ = self.poll.watch(&route.socket, Token::Route(number), true, false);
        }
    }
}

impl AsFd for Proxy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::Token as _;

    #[test]
    fn tokens_survive_the_kernel() {
        let (slot, generation) = (65535, u32::MAX);
        for token in [
            Token::Route(7),
            Token::Stream { slot, generation, side: Side::Client },
            Token::Stream { slot, generation, side: Side::Container },
            Token::Flow { slot, generation },
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
