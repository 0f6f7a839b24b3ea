//! The monitor's clients: who is connected, with which streams, and what each waits for. What a request does to the
//! container is in `requests`.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::net::{RecvFlags, SocketFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::poll::{Poll, Token};
use super::protocol::{self, Answer, Received, Request, Streams};
use super::stream::{Delivery, Sink};
use crate::verbs::Stream;
use crate::{Context, Error, Result};

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// Nothing: its next message is a request.
    No,
    /// The code, at the end of the run.
    End,
    /// The code, at the end of the present process, though it be restarted.
    Exit,
    /// That `stop` or `kill` is done.
    Stop,
}

/// One connection.
pub(super) struct Client {
    socket: OwnedFd,
    pub(super) waiting: Waiting,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<Sink>,
    pub(super) stderr: Option<Sink>,
    attached: bool,
}

impl Client {
    fn sink(&mut self, stream: Stream) -> &mut Option<Sink> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn is_idle(&self) -> bool {
        [&self.stdout, &self.stderr].into_iter().flatten().all(Sink::is_idle)
    }
}

/// All connections.
#[derive(Default)]
pub(super) struct Clients {
    all: BTreeMap<u32, Client>,
    next: u32,
}

impl Clients {
    /// Takes a connection in.
    pub(super) fn add(&mut self, poll: &Poll, socket: OwnedFd) -> Result<u32> {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        poll.watch_input(&socket, Token::Client(id))?;
        let client = Client { socket, waiting: Waiting::No, stdin: None, stdout: None, stderr: None, attached: false };
        self.all.insert(id, client);
        Ok(id)
    }

    /// Accepts connections of this user and of root, no others.
    pub(super) fn accept(&mut self, poll: &Poll, listener: &OwnedFd) -> Result<()> {
        while let Ok(socket) = rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            let peer =
                rustix::net::sockopt::socket_peercred(&socket).step(|| "read a client's credentials".to_owned())?;
            if peer.uid.is_root() || peer.uid == rustix::process::geteuid() {
                self.add(poll, socket)?;
            }
        }
        Ok(())
    }

    /// The next request of a client; none if it is gone (and then forgotten) or says nothing.
    pub(super) fn request(&mut self, id: u32) -> Option<Request> {
        let received = protocol::receive(&self.all.get(&id)?.socket, RecvFlags::DONTWAIT);
        match received {
            Ok(Received::Message(request, _)) => return Some(request),
            Ok(Received::Nothing) => return None,
            Ok(Received::Closed) => {}
            Err(error) => self.answer(id, &Answer::Failed(error), &[]),
        }
        None
    }

    /// Whether the peer of this connection has gone.
    pub(super) fn is_gone(&self, id: u32) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec};
        let Some(client) = self.all.get(&id) else { return true };
        let mut poll = [PollFd::from_borrowed_fd(client.socket.as_fd(), PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut poll, Some(&now)), Ok(1..))
    }

    pub(super) fn get(&mut self, id: u32) -> Option<&mut Client> {
        self.all.get_mut(&id)
    }

    /// Forgets a client; true if it was attached.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        self.all.remove(&id).is_some_and(|client| client.attached)
    }

    /// Answers; a client that cannot take it is noticed when its socket is read.
    pub(super) fn answer(&mut self, id: u32, answer: &Answer, descriptors: &[BorrowedFd<'_>]) {
        if let Some(client) = self.all.get(&id) {
            let _ = protocol::send(&client.socket, answer, descriptors);
        }
    }

    /// Answers without connecting: an attached client hears nothing but the end.
    pub(super) fn reply(&mut self, id: u32, result: Result<()>) {
        if self.all.get(&id).is_some_and(|client| client.attached) {
            return;
        }
        let answer = result.map_or_else(Answer::Failed, |()| Answer::done());
        self.answer(id, &answer, &[]);
    }

    /// Connects a client to the streams it wants (and the container has) and sends it their other ends. A lossless
    /// client's unread output waits in `spill_to`.
    pub(super) fn attach(&mut self, poll: &Poll, id: u32, wanted: Streams, spill_to: Option<&Path>) -> Result<()> {
        let client = self.all.get_mut(&id).ok_or_else(|| Error::internal("the client is gone"))?;
        let mut far = Vec::new();
        if wanted.stdin {
            let (read, write) = pipe()?;
            set_nonblocking(&read)?;
            poll.watch_input(&read, Token::ClientInput(id))?;
            client.stdin = Some(read);
            far.push(write);
        }
        for (stream, asked) in [(Stream::Stdout, wanted.stdout), (Stream::Stderr, wanted.stderr)] {
            if asked {
                let (read, write) = pipe()?;
                set_nonblocking(&write)?;
                let token = if stream == Stream::Stdout { Token::ClientStdout(id) } else { Token::ClientStderr(id) };
                *client.sink(stream) = Some(Sink::new(write, token, spill_to));
                far.push(read);
            }
        }
        client.attached = true;
        client.waiting = Waiting::End;
        let descriptors: Vec<_> = far.iter().map(AsFd::as_fd).collect();
        self.answer(id, &Answer::Done { streams: wanted }, &descriptors);
        Ok(())
    }

    /// Gives output to everyone who wants that stream.
    pub(super) fn broadcast(&mut self, poll: &Poll, stream: Stream, bytes: &[u8]) {
        let mut too_slow = Vec::new();
        for (&id, client) in &mut self.all {
            let slot = client.sink(stream);
            match slot.as_mut().map(|sink| sink.push(poll, bytes)) {
                None | Some(Delivery::Kept) => {}
                Some(Delivery::Closed) => *slot = None,
                Some(Delivery::TooSlow) => too_slow.push(id),
            }
        }
        for id in too_slow {
            let reason = "the client did not read the container's output in time".to_owned();
            self.answer(id, &Answer::Dropped { reason }, &[]);
            self.all.remove(&id);
        }
    }

    /// A client reads again.
    pub(super) fn flush(&mut self, poll: &Poll, id: u32, stream: Stream) {
        let Some(client) = self.all.get_mut(&id) else { return };
        let slot = client.sink(stream);
        if slot.as_mut().is_some_and(|sink| sink.flush(poll) == Delivery::Closed) {
            *slot = None;
        }
    }

    /// Tells everyone who waits for one of these that it has come.
    pub(super) fn tell(&mut self, which: &[Waiting], answer: &Answer) {
        for client in self.all.values_mut().filter(|client| which.contains(&client.waiting)) {
            let _ = protocol::send(&client.socket, answer, &[]);
            client.waiting = Waiting::No;
        }
    }

    /// Closes all streams that have nothing left for the client, and the connections of those who have none left.
    pub(super) fn close_idle(&mut self) {
        for client in self.all.values_mut() {
            client.stdin = None;
            for slot in [&mut client.stdout, &mut client.stderr] {
                if slot.as_ref().is_some_and(Sink::is_idle) {
                    *slot = None;
                }
            }
        }
        self.all.retain(|_, client| !client.is_idle());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Clients whose input is connected.
    pub(super) fn with_input(&self) -> impl Iterator<Item = (u32, &OwnedFd)> {
        self.all.iter().filter_map(|(&id, client)| Some((id, client.stdin.as_ref()?)))
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC).step(|| "make a pipe for a client".to_owned())
}

fn set_nonblocking(end: &OwnedFd) -> Result<()> {
    rustix::fs::fcntl_setfl(end, OFlags::NONBLOCK).step(|| "make a client's pipe non-blocking".to_owned())
}
