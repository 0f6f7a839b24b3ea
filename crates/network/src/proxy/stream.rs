//! TCP: for each connection of a client one to the container, and a flow in each direction.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, acceptfrom_with, bind, connect, ipproto, socket_with, sockopt,
};

use super::flow::{Broken, Flow, Pipes};
use super::{Route, Side, Token};
use crate::poll::Poll;

/// Connections of one container at a time.
const MOST: usize = 4096;
/// How long nothing is accepted when there was no room.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections that are accepted before others get a turn.
const BURST: usize = 64;

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Streams {
    slots: Vec<Option<Stream>>,
    /// Places of `slots` that are free.
    free: Vec<usize>,
    generation: u32,
    pipes: Pipes,
    paused: Option<Instant>,
}

#[derive(Debug)]
struct Stream {
    generation: u32,
    client: OwnedFd,
    container: OwnedFd,
    /// The container has answered.
    connected: bool,
    /// Where else it may answer.
    other: Option<SocketAddr>,
    /// From the client, from the container.
    flows: [Flow; 2],
}

impl Streams {
    /// Takes new connections; false if there is no room for more.
    pub(super) fn accept(&mut self, route: &Route, poll: &Poll<Token>, now: Instant) -> bool {
        for _ in 0..BURST {
            if self.slots.len() - self.free.len() >= MOST {
                return self.pause(now);
            }
            match acceptfrom_with(&route.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok((client, from)) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                    if self.begin(client, from, route, poll).is_err_and(is_shortage) {
                        return self.pause(now);
                    }
                }
                Err(Errno::AGAIN) => return true,
                Err(errno) if is_shortage(errno) => return self.pause(now),
                // A client that has gone again already.
                Err(_) => {}
            }
        }
        true
    }

    fn pause(&mut self, now: Instant) -> bool {
        self.paused = Some(now + PAUSE);
        false
    }

    fn begin(
        &mut self,
        client: OwnedFd,
        from: Option<SocketAddr>,
        route: &Route,
        poll: &Poll<Token>,
    ) -> rustix::io::Result<()> {
        let mut other = route.other;
        let container = dial(route, from).or_else(|errno| dial_again(other.take(), errno))?;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.generation = self.generation.wrapping_add(1);
        let (generation, flows) = (self.generation, [Flow::default(), Flow::default()]);
        let stream = Stream { generation, client, container, connected: false, other, flows };
        let watched = stream.watch(slot, poll);
        self.slots[slot] = Some(stream);
        if watched.is_err() {
            self.end(slot);
        }
        Ok(())
    }

    /// One side of a connection has something, or room.
    pub(super) fn ready(&mut self, slot: u16, generation: u32, side: Side, poll: &Poll<Token>) {
        let slot = usize::from(slot);
        let Some(stream) = self.slots.get_mut(slot).and_then(Option::as_mut) else { return };
        if stream.generation != generation {
            return;
        }
        let passed = stream.progress(side, &mut self.pipes);
        let over = stream.flows.iter().all(Flow::is_over);
        if passed.is_err() || over || stream.watch(slot, poll).is_err() {
            self.end(slot);
        }
    }

    fn end(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.free.push(slot);
        if self.free.len() == self.slots.len() {
            (self.slots, self.free) = (Vec::new(), Vec::new());
        }
    }

    /// When to accept again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.paused
    }

    /// Whether a pause is over just now.
    pub(super) fn resumes(&mut self, now: Instant) -> bool {
        self.paused.take_if(|until| *until <= now).is_some()
    }

    /// Closes pipes that nothing passes through.
    pub(super) fn rest(&mut self) {
        self.pipes.clear();
    }
}

impl Stream {
    fn progress(&mut self, side: Side, pipes: &mut Pipes) -> Result<(), Broken> {
        if !self.connected {
            if side == Side::Client {
                return Ok(());
            }
            match sockopt::socket_error(&self.container) {
                Ok(Ok(())) => self.connected = true,
                _ => return self.dial_other(),
            }
        }
        let [from_client, from_container] = &mut self.flows;
        from_client.pass(&self.client, &self.container, pipes)?;
        from_container.pass(&self.container, &self.client, pipes)
    }

    /// Tries the other address, once.
    fn dial_other(&mut self) -> Result<(), Broken> {
        self.container = dial_again(self.other.take(), Errno::CONNREFUSED).map_err(|_| Broken)?;
        Ok(())
    }

    fn watch(&self, slot: usize, poll: &Poll<Token>) -> std::io::Result<()> {
        let token = |side| Token::Stream { slot: slot as u16, generation: self.generation, side };
        let [from_client, from_container] = &self.flows;
        if !self.connected {
            return poll.watch(&self.container, token(Side::Container), false, true);
        }
        poll.watch(&self.client, token(Side::Client), from_client.wants_input(), from_container.wants_room())?;
        poll.watch(&self.container, token(Side::Container), from_container.wants_input(), from_client.wants_room())
    }
}

/// Whether it will work again when others have ended.
fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS)
}

/// A connection to the container that is being made.
fn dial(route: &Route, from: Option<SocketAddr>) -> rustix::io::Result<OwnedFd> {
    let socket = open(route, SocketType::STREAM, from)?;
    match connect(&socket, &route.target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// A connection to the container's other address, if there is one; else the error of the first.
fn dial_again(other: Option<SocketAddr>, errno: Errno) -> rustix::io::Result<OwnedFd> {
    let other = other.ok_or(errno)?;
    let socket = socket(&other, SocketType::STREAM)?;
    match connect(&socket, &other) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// A socket of the family of an address.
fn socket(target: &SocketAddr, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol = if kind == SocketType::STREAM { ipproto::TCP } else { ipproto::UDP };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, Some(protocol))?;
    if kind == SocketType::STREAM {
        let _ = sockopt::set_tcp_nodelay(&socket, true);
    }
    Ok(socket)
}

/// A socket by which the container is reached, with the client's address as its own where that is asked for and can be.
pub(super) fn open(route: &Route, kind: SocketType, from: Option<SocketAddr>) -> rustix::io::Result<OwnedFd> {
    let v4 = route.target.is_ipv4();
    let socket = socket(&route.target, kind)?;
    // A client on the host's loopback means somebody else in the container.
    let kept = from.filter(|from| route.transparent && from.is_ipv4() == v4 && !from.ip().is_loopback());
    if let Some(from) = kept
        && linux::net::set_transparent(&socket, v4).is_ok()
    {
        // Without it the container sees our address: better than nothing.
        let _ = sockopt::set_socket_reuseaddr(&socket, true).and_then(|()| bind(&socket, &from));
    }
    Ok(socket)
}
