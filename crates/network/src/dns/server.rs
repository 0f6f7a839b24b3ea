//! The server itself: one descriptor to watch, one deadline, one function that does what is to be done. It never blocks
//! and needs no thread; whoever owns it decides when it runs.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use super::cache::Cache;
use super::forward::{Forwards, Outcome};
use super::names::{self, Names};
use super::socket::{Dialer, Sockets};
use super::tcp::{Asker, Clients};
use super::token::{Poll, Token};
use super::upstream::Upstream;
use super::wire::{self, Query, Refusal, code, kind};

/// Datagrams that are answered before anybody else gets a turn.
const BURST: usize = 64;
/// Longest datagram that can be a question.
const QUESTION: usize = 4096;
/// What fits into a message over TCP.
const TCP_LIMIT: usize = 65535;

/// Where questions about names outside go.
#[derive(Debug)]
pub enum Outside {
    /// Nowhere: the network is internal.
    Nowhere,
    /// To the servers in this file (resolv.conf(5)), over the network of the calling process.
    Host(PathBuf),
    /// To these addresses; from inside a network namespace, if one is given.
    Servers(Vec<String>, Option<OwnedFd>),
}

/// What a server answers from.
#[derive(Debug)]
pub struct Settings {
    /// Names of its own.
    pub names: Names,
    /// Everything else.
    pub outside: Outside,
    /// The user has set `ndots`: names without a dot are never asked for outside.
    pub ndots: bool,
}

/// The DNS server of one container.
#[derive(Debug)]
pub struct Server {
    poll: Poll,
    sockets: Sockets,
    names: Names,
    upstream: Upstream,
    dialer: Dialer,
    ndots: bool,
    cache: Cache,
    forwards: Forwards,
    clients: Clients,
    /// Counts answers, so that several addresses of one name take turns.
    turn: u32,
}

impl Server {
    /// A server on these sockets.
    pub fn new(sockets: Sockets, settings: Settings) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        poll.watch(&sockets.udp, Token::Udp, true, false)?;
        poll.watch(&sockets.tcp, Token::Listener, true, false)?;
        let mut server = Server {
            poll,
            sockets,
            names: Names::default(),
            upstream: Upstream::None,
            dialer: Dialer::default(),
            ndots: false,
            cache: Cache::default(),
            forwards: Forwards::default(),
            clients: Clients::default(),
            turn: 0,
        };
        server.set(settings);
        Ok(server)
    }

    /// Answers from something else from now on.
    pub fn set(&mut self, settings: Settings) {
        (self.names, self.ndots) = (settings.names, settings.ndots);
        (self.upstream, self.dialer.inside) = match settings.outside {
            Outside::Nowhere => (Upstream::None, None),
            Outside::Host(file) => (Upstream::host(file), None),
            Outside::Servers(servers, inside) => (Upstream::own(&servers), inside),
        };
        self.cache.clear();
    }

    /// What it answers about names in networks; to be changed when the container joins or leaves one.
    pub fn set_names(&mut self, names: Names) {
        self.names = names;
    }

    /// When [`Server::turn`] must be called even if nothing is ready.
    pub fn deadline(&self) -> Option<Instant> {
        [self.forwards.deadline(), self.clients.deadline()].into_iter().flatten().min()
    }

    /// Does what is ready and what is due. To be called when the descriptor is readable or the deadline has come.
    pub fn turn(&mut self) {
        let now = Instant::now();
        for token in self.poll.ready() {
            match token {
                Token::Udp => self.datagrams(now),
                Token::Listener => self.clients.accept(&self.sockets.tcp, &self.poll, now),
                Token::Client { slot, generation } => {
                    for question in self.clients.ready(slot, generation, &self.poll, now) {
                        self.question(&question, Asker::Tcp { slot, generation }, now);
                    }
                }
                Token::Attempt { slot, generation, number } => {
                    let by = (&self.poll, &self.dialer);
                    if let Some(outcome) = self.forwards.ready(slot, generation, number, by, now) {
                        self.outcome(outcome, now);
                    }
                }
            }
        }
        for outcome in self.forwards.due((&self.poll, &self.dialer), now) {
            self.outcome(outcome, now);
        }
        self.clients.close_idle(now);
    }

    /// Gives memory back that a server without questions does not need.
    pub fn rest(&mut self) {
        self.cache.expire(Instant::now());
        self.forwards.rest();
    }

    fn datagrams(&mut self, now: Instant) {
        let mut buffer = [0; QUESTION];
        for _ in 0..BURST {
            // Errors are those of earlier answers (a client that has gone), or that there is nothing more.
            let Ok((length, from)) = self.sockets.udp.recv_from(&mut buffer) else { return };
            self.question(&buffer[..length], Asker::Udp(from), now);
        }
    }

    fn question(&mut self, bytes: &[u8], asker: Asker, now: Instant) {
        match Query::read(bytes) {
            Ok(query) => {
                if let Some(reply) = self.reply(&query, asker, now) {
                    self.send(asker, &reply);
                }
            }
            Err(Refusal::Code(code)) => self.send(asker, &wire::refusal(bytes, code)),
            Err(Refusal::Silence) => {}
        }
    }

    /// The answer, if there is one already; else another server is asked.
    fn reply(&mut self, query: &Query<'_>, asker: Asker, now: Instant) -> Option<Vec<u8>> {
        let limit = limit(query, asker);
        self.turn = self.turn.wrapping_add(1);
        if let Some((code, records)) = names::answer(&self.names, query, self.turn) {
            return Some(query.answer(code, &records, limit));
        }
        if self.ndots
            && matches!(query.kind, kind::A | kind::AAAA)
            && query.name.text().is_some_and(|n| !n.contains('.'))
        {
            return Some(query.answer(code::OK, &[], limit));
        }
        if self.upstream.refresh() {
            self.cache.clear();
        }
        if let Some(kept) = self.cache.find(query, now) {
            return Some(if kept.len() > limit { query.truncated() } else { kept });
        }
        let by = (&self.poll, &self.dialer);
        let servers = self.upstream.servers();
        let begun = random_id().is_some_and(|id| self.forwards.begin(query, asker, id, servers, by, now));
        (!begun).then(|| query.answer(code::FAILURE, &[], limit))
    }

    /// Another server has answered, or none has.
    fn outcome(&mut self, outcome: Outcome, now: Instant) {
        let Ok(query) = Query::read(&outcome.message) else { return };
        let limit = limit(&query, outcome.asker);
        let reply = match outcome.answer {
            None => query.answer(code::FAILURE, &[], limit),
            Some((bytes, verdict)) => {
                if let Some(ttl) = verdict.ttl {
                    self.cache.keep(query.key(), &bytes, ttl, now);
                }
                if bytes.len() > limit { query.truncated() } else { bytes }
            }
        };
        self.send(outcome.asker, &reply);
    }

    fn send(&mut self, asker: Asker, bytes: &[u8]) {
        match asker {
            // A client that has gone, or has no room, asks again if it still wants to know.
            Asker::Udp(to) => drop(self.sockets.udp.send_to(bytes, to as SocketAddr)),
            Asker::Tcp { slot, generation } => self.clients.answer(slot, generation, bytes, &self.poll),
        }
    }
}

/// A number for a question that nobody can guess; none if the kernel has none, which it does not do after boot.
fn random_id() -> Option<u16> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).ok()?;
    Some(u16::from_ne_bytes(id))
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

fn limit(query: &Query<'_>, asker: Asker) -> usize {
    match asker {
        Asker::Udp(_) => query.udp_limit(),
        Asker::Tcp { .. } => TCP_LIMIT,
    }
}
