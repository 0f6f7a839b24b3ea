//! The keeper of one process in a container that was asked for through the Engine API: it starts it, hands its streams
//! to whoever asked, and records its end. Single-threaded and small; the death of neither the asker nor the container's
//! monitor disturbs it. What an asker leaves unread when it goes is thrown away, so that the process never stalls.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::net::{RecvFlags, SocketFlags};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::protocol::{self, Answer, Received, Request, Streams};
use super::stream::read_some;
use crate::exec_record::ExecRecord;
use crate::plan::Plan;
use crate::reconcile::failure_code;
use crate::verbs::{ExecEnds, read_plan, spawn};
use crate::wake::{Wake, is_readable};
use crate::{Context, Engine, Error, Paths, Result, events};

/// Bytes thrown away at a time.
const CHUNK: usize = 16 << 10;

/// A process and its keeper's connections.
struct Keeper {
    pidfd: OwnedFd,
    /// The terminal's master, if the process has one.
    terminal: Option<OwnedFd>,
    /// Copies of what the asker reads.
    outputs: Vec<OwnedFd>,
    listener: OwnedFd,
    /// The asker and those who set the terminal's size; the asker is the first as long as `asked`.
    clients: Vec<OwnedFd>,
    asked: bool,
    wake: Wake,
}

/// Entry point: runs until the process has ended. Returns the keeper's own exit code.
pub(super) fn main(paths: &Paths, container: &str, id: &str) -> i32 {
    let Ok(control) = super::settle() else { return 1 };
    let _ = rustix::thread::set_name(c"kiste-exec");
    let Ok(record) = ExecRecord::find(paths, container, id) else { return 1 };
    match keep(paths, record, control) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn keep(paths: &Paths, mut record: ExecRecord, control: OwnedFd) -> Result<()> {
    let started = start(paths, &mut record);
    let (plan, mut keeper, near, streams) = match started {
        Ok(started) => started,
        Err(error) => {
            record.exit_code = Some(failure_code(&error));
            record.write(paths)?;
            return protocol::send(&control, &Answer::Failed(error), &[]);
        }
    };
    tell(paths, &plan, &record, &format!("exec_start: {}", record.config.cmd.join(" ")), &[]);
    let ends: Vec<_> = near.iter().map(AsFd::as_fd).collect();
    // An asker that has gone already is one that left.
    drop(protocol::send(&control, &Answer::Done { streams }, &ends));
    // Only the asker holds the writing end of the input.
    drop(near);
    keeper.serve(control)?;
    let code = reap(&keeper.pidfd);
    record.exit_code = Some(code);
    let recorded = record.write(paths);
    tell(paths, &plan, &record, "exec_die", &[("exitCode", code.to_string())]);
    if let (true, Some(asker)) = (keeper.asked, keeper.clients.first()) {
        drop(protocol::send(asker, &Answer::Ended { code }, &[]));
    }
    recorded
}

type Started = (Plan, Keeper, Vec<OwnedFd>, Streams);

fn start(paths: &Paths, record: &mut ExecRecord) -> Result<Started> {
    let engine = Engine::new(paths.clone());
    let status = engine.running(&engine.look_up(&record.container)?)?;
    let plan = read_plan(paths, &record.container)?;
    let listener = protocol::listen(&record.directory(paths))?;
    let (created, ends) = spawn(&plan, &status, &record.config, record.detach)?;
    record.set_running(created.pid);
    record.write(paths)?;
    let (near, streams) = near_ends(ends, created.terminal.as_ref(), record.config.attach_stdin)?;
    let outputs = near.iter().skip(usize::from(streams.stdin)).map(duplicate).collect::<Result<Vec<_>>>()?;
    let wake = Wake::new()?;
    wake.add(&created.pidfd)?;
    wake.add(&listener)?;
    let (pidfd, terminal) = (created.pidfd, created.terminal);
    let keeper = Keeper { pidfd, terminal, outputs, listener, clients: Vec::new(), asked: true, wake };
    Ok((plan, keeper, near, streams))
}

/// What the asker gets, in the order stdin, stdout, stderr.
fn near_ends(ends: ExecEnds, terminal: Option<&OwnedFd>, stdin: bool) -> Result<(Vec<OwnedFd>, Streams)> {
    let ExecEnds { stdin: input, stdout, stderr } = ends;
    let (input, stdout) = match terminal {
        Some(master) => {
            let flags = rustix::fs::fcntl_getfl(master).step(|| "read the terminal's flags".to_owned())?;
            rustix::fs::fcntl_setfl(master, flags | OFlags::NONBLOCK).step(|| "set the terminal's flags".to_owned())?;
            (stdin.then(|| duplicate(master)).transpose()?, Some(duplicate(master)?))
        }
        None => (input, stdout),
    };
    let streams = Streams { stdin: input.is_some(), stdout: stdout.is_some(), stderr: stderr.is_some() };
    Ok(([input, stdout, stderr].into_iter().flatten().collect(), streams))
}

fn duplicate(descriptor: &OwnedFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(descriptor, 3).step(|| "duplicate a stream".to_owned())
}

fn tell(paths: &Paths, plan: &Plan, record: &ExecRecord, action: &str, more: &[(&str, String)]) {
    let mut attributes = vec![("execID", record.id.clone())];
    attributes.extend_from_slice(more);
    let event = events::container_event(&plan.id, &plan.name, &plan.image, &plan.labels, action, &attributes);
    // What happened has happened, on a full disk too.
    drop(events::append(paths, &event));
}

fn reap(pidfd: &OwnedFd) -> i32 {
    let ended = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).ok().flatten();
    ended.and_then(|s| s.exit_status().or_else(|| s.terminating_signal().map(|signal| 128 + signal))).unwrap_or(255)
}

impl Keeper {
    /// Serves until the process has ended.
    fn serve(&mut self, control: OwnedFd) -> Result<()> {
        self.wake.add(&control)?;
        self.clients.push(control);
        while !is_readable(&self.pidfd) {
            self.accept();
            self.clients()?;
            if !self.asked {
                self.discard();
            }
            // If it fails, the loop looks again at once.
            drop(linux::footprint::sleep(self.wake.as_fd(), None));
        }
        Ok(())
    }

    fn accept(&mut self) {
        while is_readable(&self.listener) {
            let Ok(socket) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) else { return };
            let trusted = rustix::net::sockopt::socket_peercred(&socket)
                .is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid());
            if trusted && self.wake.add(&socket).is_ok() {
                self.clients.push(socket);
            }
        }
    }

    /// Does what clients ask for, and forgets those who have gone.
    fn clients(&mut self) -> Result<()> {
        let mut index = 0;
        while index < self.clients.len() {
            match protocol::receive::<Request>(&self.clients[index], RecvFlags::DONTWAIT) {
                Ok(Received::Nothing) => index += 1,
                Ok(Received::Message(request, _)) => {
                    let asker = self.asked && index == 0;
                    let answer = self.obey(&request).map_or_else(Answer::Failed, |()| Answer::done());
                    if !asker {
                        drop(protocol::send(&self.clients[index], &answer, &[]));
                    }
                }
                Ok(Received::Closed) | Err(_) => {
                    self.clients.remove(index);
                    if self.asked && index == 0 {
                        self.asked = false;
                        self.outputs.iter().try_for_each(|output| self.wake.add(output))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn obey(&self, request: &Request) -> Result<()> {
        match (request, &self.terminal) {
            (Request::Resize { rows, columns }, Some(terminal)) => {
                let size = rustix::termios::Winsize { ws_row: *rows, ws_col: *columns, ws_xpixel: 0, ws_ypixel: 0 };
                rustix::termios::tcsetwinsize(terminal, size).step(|| "set the terminal's size".to_owned())
            }
            (Request::Resize { .. }, None) => Err(Error::invalid("the process has no terminal")),
            (Request::Signal { signal }, _) => linux::pidfd::send_signal(self.pidfd.as_fd(), *signal)
                .step(|| format!("send signal {signal} to the process")),
            _ => Err(Error::invalid("a keeper is asked for sizes and signals only")),
        }
    }

    /// Throws away what nobody reads any more.
    fn discard(&mut self) {
        let mut buffer = [0; CHUNK];
        self.outputs.retain(|output| {
            while is_readable(output) {
                match read_some(output, &mut buffer) {
                    Some(0) => return false,
                    Some(_) => {}
                    None => break,
                }
            }
            true
        });
    }
}
