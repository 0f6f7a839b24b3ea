//! Clients that ask over TCP: a few at a time, each with short messages and little patience for silence.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

use super::token::{Poll, Token};

/// Connections at a time; the one that has been silent longest makes room for a new one.
const MOST: usize = 32;
/// Longest question: a name, and options of which nobody sends more.
const QUESTION: usize = 4096;
/// Bytes of answers that wait for a client that does not read them.
const BACKLOG: usize = 256 << 10;
/// Silence after which a connection is closed.
const IDLE: Duration = Duration::from_secs(10);

/// Who asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// By a datagram from there.
    Udp(SocketAddr),
    /// On a connection.
    Tcp {
        /// Its place.
        slot: u16,
        /// Which of those that had the place.
        generation: u32,
    },
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Clients {
    slots: Vec<Option<Client>>,
    generation: u32,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    generation: u32,
    got: Vec<u8>,
    out: Vec<u8>,
    active: Instant,
}

impl Clients {
    /// Takes new connections.
    pub(super) fn accept(&mut self, listener: &TcpListener, poll: &Poll, now: Instant) {
        while let Ok(socket) = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            let slot = self.free_slot();
            self.generation = self.generation.wrapping_add(1);
            let token = Token::Client { slot: slot as u16, generation: self.generation };
            if poll.watch(&socket, token, true, false).is_ok() {
                let (got, out) = (Vec::new(), Vec::new());
                self.slots[slot] = Some(Client { socket, generation: self.generation, got, out, active: now });
            }
        }
    }

    fn free_slot(&mut self) -> usize {
        if let Some(slot) = self.slots.iter().position(Option::is_none) {
            return slot;
        }
        if self.slots.len() < MOST {
            self.slots.push(None);
            return self.slots.len() - 1;
        }
        let idlest = (0..self.slots.len()).min_by_key(|slot| self.slots[*slot].as_ref().map(|client| client.active));
        idlest.unwrap_or(0)
    }

    /// A connection has something, or room; the questions that it brought.
    pub(super) fn ready(&mut self, slot: u16, generation: u32, poll: &Poll, now: Instant) -> Vec<Vec<u8>> {
        let Some(client) = self.find(slot, generation) else { return Vec::new() };
        client.active = now;
        let mut questions = Vec::new();
        let alive = client.flush(poll, slot) && client.read(&mut questions);
        if !alive {
            self.slots[usize::from(slot)] = None;
        }
        questions
    }

    /// Sends an answer, if the connection is still there.
    pub(super) fn answer(&mut self, slot: u16, generation: u32, bytes: &[u8], poll: &Poll) {
        let Some(client) = self.find(slot, generation) else { return };
        client.out.extend((bytes.len() as u16).to_be_bytes());
        client.out.extend(bytes);
        if client.out.len() > BACKLOG || !client.flush(poll, slot) {
            self.slots[usize::from(slot)] = None;
        }
    }

    /// When the first of them has been silent for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.slots.iter().flatten().map(|client| client.active + IDLE).min()
    }

    /// Closes those.
    pub(super) fn close_idle(&mut self, now: Instant) {
        for slot in &mut self.slots {
            if slot.as_ref().is_some_and(|client| client.active + IDLE <= now) {
                *slot = None;
            }
        }
        if self.slots.iter().all(Option::is_none) {
            self.slots = Vec::new();
        }
    }

    fn find(&mut self, slot: u16, generation: u32) -> Option<&mut Client> {
        self.slots.get_mut(usize::from(slot))?.as_mut().filter(|client| client.generation == generation)
    }
}

impl Client {
    /// Sends what waits; false if the connection is broken.
    fn flush(&mut self, poll: &Poll, slot: u16) -> bool {
        let waited = !self.out.is_empty();
        while !self.out.is_empty() {
            match send(&self.socket, &self.out, SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        let token = Token::Client { slot, generation: self.generation };
        !waited || poll.watch(&self.socket, token, true, !self.out.is_empty()).is_ok()
    }

    /// Reads what there is; false at the end of the connection or of our patience.
    fn read(&mut self, questions: &mut Vec<Vec<u8>>) -> bool {
        let mut piece = [0; 2 + QUESTION];
        match recv(&self.socket, &mut piece[..], RecvFlags::empty()) {
            Ok((0, _)) => return false,
            Ok((count, _)) => self.got.extend(&piece[..count]),
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) => return false,
        }
        while let [high, low, rest @ ..] = &self.got[..] {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if length > QUESTION {
                return false;
            }
            let Some(question) = rest.get(..length) else { break };
            questions.push(question.to_vec());
            self.got.drain(..2 + length);
        }
        true
    }
}
