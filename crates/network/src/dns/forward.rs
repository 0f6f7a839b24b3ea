//! Questions that other servers are asked: each from sockets of its own, whose random ports and numbers nobody can guess,
//! the next server after a short wait instead of when the first one has been given up. Whoever answers first is believed.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::socket::Dialer;
use super::tcp::Asker;
use super::token::{Poll, Token};
use super::wire::{self, Query, Verdict, code};

/// Questions under way at a time; who asks more is told that it failed.
const MOST: usize = 256;
/// How long a server is waited for before the next one is asked too.
const STAGGER: Duration = Duration::from_millis(250);
/// When all are asked, they are asked again after this (UDP loses messages).
const AGAIN: Duration = Duration::from_millis(1200);
/// After this the answer is that it failed, just before the C library's resolver would give up (5 s).
const PATIENCE: Duration = Duration::from_millis(4800);
/// Longest message there is.
const LONGEST: usize = 65535;

/// All questions under way.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    slots: Vec<Option<Pending>>,
    generation: u32,
    active: usize,
}

/// One of them.
#[derive(Debug)]
struct Pending {
    generation: u32,
    asker: Asker,
    /// The client's number for the question.
    id: u16,
    /// The message as the client sent it, but with a number of ours.
    message: Vec<u8>,
    servers: Vec<SocketAddr>,
    attempts: Vec<Attempt>,
    next: Instant,
    until: Instant,
    /// What a server that failed said.
    failure: Option<Vec<u8>>,
}

/// A server that was asked.
#[derive(Debug)]
enum Attempt {
    Udp(OwnedFd),
    Tcp(Stream),
    Failed,
}

/// A question over TCP.
#[derive(Debug)]
struct Stream {
    socket: OwnedFd,
    out: Vec<u8>,
    got: Vec<u8>,
}

/// A question that has come to its end.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Who asked.
    pub(super) asker: Asker,
    /// The question as it came.
    pub(super) message: Vec<u8>,
    /// What to say, and what it says of itself; none: nobody answered.
    pub(super) answer: Option<(Vec<u8>, Verdict)>,
}

impl Forwards {
    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.active == 0
    }

    /// When the next of them wants something by itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        self.slots.iter().flatten().map(|pending| pending.next.min(pending.until)).min()
    }

    /// Takes a question over; whether there was room for it. `id` is to be random.
    pub(super) fn begin(
        &mut self,
        query: &Query<'_>,
        asker: Asker,
        id: u16,
        servers: &[SocketAddr],
        (poll, dialer): (&Poll, &Dialer),
        now: Instant,
    ) -> bool {
        if self.active == MOST || servers.is_empty() {
            return false;
        }
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        let mut message = query.bytes.to_vec();
        wire::set_id(&mut message, id);
        self.generation = self.generation.wrapping_add(1);
        let mut pending = Pending {
            generation: self.generation,
            asker,
            id: query.id(),
            message,
            servers: servers.to_vec(),
            attempts: Vec::new(),
            next: now,
            until: now + PATIENCE,
            failure: None,
        };
        let alive = pending.ask_next(slot, poll, dialer, now);
        if alive {
            self.slots[slot] = Some(pending);
            self.active += 1;
        }
        alive
    }

    /// A server's socket has something; the end of the question, if this was it.
    pub(super) fn ready(
        &mut self,
        slot: u16,
        generation: u32,
        number: u8,
        (poll, dialer): (&Poll, &Dialer),
        now: Instant,
    ) -> Option<Outcome> {
        let slot = usize::from(slot);
        let pending = self.slots.get_mut(slot)?.as_mut().filter(|pending| pending.generation == generation)?;
        let token = Token::Attempt { slot: slot as u16, generation, number };
        let answer = match pending.attempts.get_mut(usize::from(number))?.read(poll, token)? {
            Ok(bytes) => match pending.judge(bytes) {
                // Anybody can send a datagram; on a connection it was the server.
                None if matches!(pending.asker, Asker::Udp(_)) => return None,
                judged => judged.flatten(),
            },
            Err(_) => None,
        };
        if let Some(answer) = answer {
            return self.end(slot, Some(answer));
        }
        pending.attempts[usize::from(number)] = Attempt::Failed;
        if pending.ask_next(slot, poll, dialer, now) {
            return None;
        }
        self.end(slot, None)
    }

    /// What is due: further servers are asked, hopeless questions given up.
    pub(super) fn due(&mut self, (poll, dialer): (&Poll, &Dialer), now: Instant) -> Vec<Outcome> {
        let mut ended = Vec::new();
        for slot in 0..self.slots.len() {
            let Some(pending) = &mut self.slots[slot] else { continue };
            let hopeless = pending.until <= now || pending.next <= now && !pending.ask_next(slot, poll, dialer, now);
            if hopeless {
                ended.extend(self.end(slot, None));
            }
        }
        ended
    }

    /// Gives memory back when nothing is under way.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            self.slots = Vec::new();
        }
    }

    fn end(&mut self, slot: usize, answer: Option<(Vec<u8>, Verdict)>) -> Option<Outcome> {
        let mut pending = self.slots[slot].take()?;
        self.active -= 1;
        let verdict = Verdict { code: code::FAILURE, truncated: false, ttl: None };
        let mut answer = answer.or_else(|| Some((pending.failure.take()?, verdict)));
        wire::set_id(&mut pending.message, pending.id);
        if let Some((bytes, _)) = &mut answer {
            wire::set_id(bytes, pending.id);
        }
        Some(Outcome { asker: pending.asker, message: pending.message, answer })
    }
}

impl Pending {
    /// Asks the next server that can be reached, or all again; false if none is left that might answer.
    fn ask_next(&mut self, slot: usize, poll: &Poll, dialer: &Dialer, now: Instant) -> bool {
        while let Some(server) = self.servers.get(self.attempts.len()) {
            let number = self.attempts.len() as u8;
            let token = Token::Attempt { slot: slot as u16, generation: self.generation, number };
            let attempt = self.ask(*server, poll, dialer, token);
            let asked = attempt.is_ok();
            self.attempts.push(attempt.unwrap_or(Attempt::Failed));
            if asked {
                let more = self.attempts.len() < self.servers.len();
                self.next = now + if more { STAGGER } else { AGAIN };
                return true;
            }
        }
        let mut waiting = false;
        for attempt in &mut self.attempts {
            match attempt {
                Attempt::Udp(socket) if self.next <= now => match send(&*socket, &self.message, SendFlags::NOSIGNAL) {
                    Ok(_) => waiting = true,
                    Err(_) => *attempt = Attempt::Failed,
                },
                Attempt::Udp(_) | Attempt::Tcp(_) => waiting = true,
                Attempt::Failed => {}
            }
        }
        if self.next <= now {
            self.next = now + AGAIN;
        }
        waiting
    }

    fn ask(&self, server: SocketAddr, poll: &Poll, dialer: &Dialer, token: Token) -> std::io::Result<Attempt> {
        if !matches!(self.asker, Asker::Tcp { .. }) {
            let socket = dialer.udp(server)?;
            send(&socket, &self.message, SendFlags::NOSIGNAL)?;
            poll.watch(&socket, token, true, false)?;
            return Ok(Attempt::Udp(socket));
        }
        let socket = dialer.tcp(server)?;
        let out = [&(self.message.len() as u16).to_be_bytes()[..], &self.message].concat();
        poll.watch(&socket, token, false, true)?;
        Ok(Attempt::Tcp(Stream { socket, out, got: Vec::new() }))
    }

    /// Nothing: this is not the answer, wait on. `Some(None)`: the server failed.
    fn judge(&mut self, bytes: Vec<u8>) -> Option<Option<(Vec<u8>, Verdict)>> {
        let query = Query::read(&self.message).ok()?;
        let verdict = wire::judge(&bytes, query.id(), query.question())?;
        if matches!(verdict.code, code::OK | code::NO_NAME) {
            return Some(Some((bytes, verdict)));
        }
        self.failure = Some(bytes);
        Some(None)
    }
}

impl Attempt {
    /// Takes what there is: nothing yet, a message, or that the server cannot be reached.
    fn read(&mut self, poll: &Poll, token: Token) -> Option<Result<Vec<u8>, Errno>> {
        match self {
            Attempt::Udp(socket) => {
                let mut bytes = vec![0; LONGEST];
                match recv(&*socket, &mut bytes[..], RecvFlags::empty()) {
                    Ok((count, _)) => {
                        bytes.truncate(count);
                        bytes.shrink_to_fit();
                        Some(Ok(bytes))
                    }
                    Err(Errno::AGAIN | Errno::INTR) => None,
                    Err(errno) => Some(Err(errno)),
                }
            }
            Attempt::Tcp(stream) => stream.progress(poll, token),
            Attempt::Failed => None,
        }
    }
}

impl Stream {
    fn progress(&mut self, poll: &Poll, token: Token) -> Option<Result<Vec<u8>, Errno>> {
        if !self.out.is_empty() {
            match send(&self.socket, &self.out, SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Some(Err(errno)),
            }
            if self.out.is_empty() && poll.watch(&self.socket, token, true, false).is_err() {
                return Some(Err(Errno::IO));
            }
            return None;
        }
        let wanted = self.wanted();
        let mut piece = vec![0; wanted - self.got.len()];
        match recv(&self.socket, &mut piece[..], RecvFlags::empty()) {
            Ok((0, _)) => return Some(Err(Errno::CONNRESET)),
            Ok((count, _)) => self.got.extend(&piece[..count]),
            Err(Errno::AGAIN | Errno::INTR) => return None,
            Err(errno) => return Some(Err(errno)),
        }
        (self.got.len() > 2 && self.got.len() == self.wanted()).then(|| Ok(self.got.split_off(2)))
    }

    /// Bytes of length and message together, as far as they are known.
    fn wanted(&self) -> usize {
        match self.got[..] {
            [high, low, ..] => 2 + usize::from(u16::from_be_bytes([high, low])),
            _ => 2,
        }
    }
}
