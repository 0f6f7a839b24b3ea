//! One run of `criu swrk`: a request, its notices, its answer. CRIU ends with the connection.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use linux::clone::{Child, Clone};
use prost::Message;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::rpc::{Kind, Notice, Request, Response};
use crate::error::Step;
use crate::{Error, Result};

/// Largest message, in bytes; a request names every mount.
const LIMIT: usize = 1 << 20;

/// A notice, and the descriptors that came with it.
pub(crate) type Notices<'a> = dyn FnMut(&Notice, Vec<OwnedFd>) -> Result<()> + 'a;

/// Sends the request to a new `criu`, answers its notices by `notice`, and returns its answer. `before` runs in the new
/// process before it becomes CRIU; `keep` are descriptors that CRIU gets under their own numbers.
pub(crate) fn ask(
    request: &Request,
    keep: &[i32],
    before: impl FnOnce() -> io::Result<()>,
    notice: &mut Notices<'_>,
) -> Result<Response> {
    let (ours, theirs) = linux::socket::pair().step(|| "make a pair of sockets".into())?;
    let child = Clone::default().spawn(|| become_criu(&theirs, keep, before)).step(|| "start criu".into())?;
    drop(theirs);
    let criu = Criu { child };
    let answer = talk(&ours, request, notice);
    drop(ours);
    criu.end(answer)
}

/// In the child: what it says when it fails is CRIU's or ours, on standard error.
fn become_criu(socket: &OwnedFd, keep: &[i32], before: impl FnOnce() -> io::Result<()>) -> i32 {
    linux::signal::reset();
    let prepared = before().and_then(|()| {
        let mut all = keep.iter().copied().chain([socket.as_raw_fd()]);
        all.try_for_each(linux::process::keep_on_exec)
    });
    let error = match prepared {
        Ok(()) => Command::new("criu").args(["swrk", &socket.as_raw_fd().to_string()]).exec(),
        Err(error) => error,
    };
    let missing = error.kind() == ErrorKind::NotFound;
    let _ = linux::socket::send(socket, format!("\0{error}").as_bytes(), &[]);
    if missing { 127 } else { 126 }
}

struct Criu {
    child: Child,
}

impl Criu {
    /// After the answer nothing is to be waited for but its end; without one, it is ended.
    fn end(self, answer: Result<Response>) -> Result<Response> {
        if answer.is_err() {
            let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
        }
        let _ = waitid(WaitId::PidFd(self.child.pidfd.as_fd()), WaitIdOptions::EXITED);
        answer
    }
}

fn talk(socket: &OwnedFd, request: &Request, notice: &mut Notices<'_>) -> Result<Response> {
    // Who ends before it has read this may have said why.
    let sent = send(socket, request);
    loop {
        let received = match linux::socket::receive(socket, LIMIT) {
            // The connection is reset once; what was said before is still there.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => linux::socket::receive(socket, LIMIT),
            other => other,
        };
        let Some((bytes, fds)) = received.step(|| "hear from criu".into())? else {
            return sent.and(Err(Error::new("criu ended without an answer")));
        };
        if let [0, text @ ..] = &bytes[..] {
            let text = String::from_utf8_lossy(text).into_owned();
            return Err(Error::new(format!(
                "checkpoint/restore needs CRIU (criu on PATH): {}",
                crate::error::plain(&text)
            )));
        }
        let response = Response::decode(&bytes[..]).step(|| "read criu's answer".into())?;
        match response.notify.as_ref().filter(|_| response.kind() == Kind::Notify) {
            Some(about) => {
                notice(about, fds)?;
                let request = Request { kind: Kind::Notify.into(), notify_success: Some(true), ..Request::default() };
                send(socket, &request)?;
            }
            None if response.success => return Ok(response),
            None => {
                let errno = response.errno.unwrap_or(0);
                let kind = response.kind();
                return Err(Error::new(format!("criu failed: type {kind:?} errno {errno}")));
            }
        }
    }
}

fn send(socket: &OwnedFd, request: &Request) -> Result<()> {
    linux::socket::send(socket, &request.encode_to_vec(), &[]).step(|| "speak to criu".into())
}
