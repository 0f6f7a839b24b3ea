//! A live connection to a process in a container: its streams as plain descriptors and a control channel. `run`,
//! `start -a` and `attach` get one from the container's monitor, `exec` one for a process of its own or its keeper's. Copying bytes
//! between the streams and a terminal or an HTTP connection is the face's business.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::model::Event;
use crate::monitor::protocol::{self, Answer, Request};
use crate::verbs::{ExecEnds, WaitCondition};
use crate::{Context, Engine, Error, Paths, Result, clock, events};

/// Streams and control of one process.
pub struct Session {
    /// Write end of standard input, if it is connected. Closing it is the end of input (not with a terminal).
    pub stdin: Option<OwnedFd>,
    /// Read end of standard output; with a terminal all output comes here.
    pub stdout: Option<OwnedFd>,
    /// Read end of standard error; none with a terminal.
    pub stderr: Option<OwnedFd>,
    target: Target,
}

/// What a session is connected to.
enum Target {
    /// A container, by way of its monitor.
    Container { paths: Paths, id: String, socket: OwnedFd },
    /// A process of `exec`, by way of its keeper.
    Exec { id: String, socket: OwnedFd },
    /// A child of this process.
    Process { pidfd: OwnedFd, terminal: Option<OwnedFd>, end: ExecEnd, code: Option<i32> },
}

/// What is to be told when a process of `exec` has ended.
pub(crate) struct ExecEnd {
    pub(crate) paths: Paths,
    /// The `exec_die` event but for code and time.
    pub(crate) event: Event,
}

impl Session {
    /// A session with a container; `descriptors` came with the monitor's answer.
    pub(crate) fn of_container(
        paths: &Paths,
        id: &str,
        socket: OwnedFd,
        streams: protocol::Streams,
        descriptors: Vec<OwnedFd>,
    ) -> Self {
        let target = Target::Container { paths: paths.clone(), id: id.to_owned(), socket };
        Session::connected(streams, descriptors, target)
    }

    /// A session with a process of `exec`; `descriptors` came with the keeper's answer.
    pub(crate) fn of_exec(id: &str, socket: OwnedFd, streams: protocol::Streams, descriptors: Vec<OwnedFd>) -> Self {
        let target = Target::Exec { id: id.to_owned(), socket };
        Session::connected(streams, descriptors, target)
    }

    fn connected(streams: protocol::Streams, descriptors: Vec<OwnedFd>, target: Target) -> Self {
        let mut descriptors = descriptors.into_iter();
        let mut take = |given: bool| if given { descriptors.next() } else { None };
        let (stdin, stdout, stderr) = (take(streams.stdin), take(streams.stdout), take(streams.stderr));
        Session { stdin, stdout, stderr, target }
    }

    /// A session with a child of this process.
    pub(crate) fn of_process(pidfd: OwnedFd, terminal: Option<OwnedFd>, ends: ExecEnds, end: ExecEnd) -> Result<Self> {
        let ExecEnds { stdin, stdout, stderr } = ends;
        let target = |terminal| Target::Process { pidfd, terminal, end, code: None };
        let Some(master) = terminal else { return Ok(Session { stdin, stdout, stderr, target: target(None) }) };
        let copy = || rustix::io::fcntl_dupfd_cloexec(&master, 3).step(|| "duplicate the terminal".to_owned());
        let (stdin, stdout) = (Some(copy()?), Some(copy()?));
        Ok(Session { stdin, stdout, stderr: None, target: target(Some(master)) })
    }

    /// Becomes readable when the process has ended and [`Session::wait`] will not block.
    pub fn ended(&self) -> BorrowedFd<'_> {
        match &self.target {
            Target::Container { socket, .. } | Target::Exec { socket, .. } => socket.as_fd(),
            Target::Process { pidfd, .. } => pidfd.as_fd(),
        }
    }

    /// Waits for the process and, with `--rm`, until the container is gone; its exit code (128 + signal).
    pub fn wait(&mut self) -> Result<i32> {
        match &mut self.target {
            Target::Container { paths, id, socket } => wait_for_container(paths, id, socket),
            Target::Exec { id, socket } => match protocol::answer(socket)? {
                Some((Answer::Ended { code }, _)) => Ok(code),
                _ => Err(Error::internal(format!("the keeper of exec {id} was killed"))),
            },
            Target::Process { pidfd, end, code, .. } => match *code {
                Some(code) => Ok(code),
                None => {
                    let ended = wait_for_child(pidfd)?;
                    *code = Some(ended);
                    end.tell(ended);
                    Ok(ended)
                }
            },
        }
    }

    /// Sets the size of the process's terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        match &self.target {
            Target::Container { socket, .. } | Target::Exec { socket, .. } => {
                protocol::send(socket, &Request::Resize { rows, columns }, &[])
            }
            Target::Process { terminal: Some(terminal), .. } => {
                let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                rustix::termios::tcsetwinsize(terminal, size).step(|| "set the terminal's size".to_owned())
            }
            Target::Process { terminal: None, .. } => Err(Error::invalid("the process has no terminal")),
        }
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: i32) -> Result<()> {
        match &self.target {
            Target::Container { socket, .. } | Target::Exec { socket, .. } => {
                protocol::send(socket, &Request::Signal { signal }, &[])
            }
            Target::Process { pidfd, .. } => {
                linux::pidfd::send_signal(pidfd.as_fd(), signal).step(|| format!("send signal {signal}"))
            }
        }
    }
}

impl ExecEnd {
    fn tell(&mut self, code: i32) {
        let now = clock::now();
        (self.event.time, self.event.time_nano) = (now / 1_000_000_000, now);
        self.event.actor.attributes.insert("exitCode".to_owned(), code.to_string());
        // The process has ended well or badly by itself: a full disk changes nothing about that.
        drop(events::append(&self.paths, &self.event));
    }
}

fn wait_for_container(paths: &Paths, id: &str, socket: &OwnedFd) -> Result<i32> {
    match protocol::answer(socket)? {
        Some((Answer::Ended { code }, _)) => Ok(code),
        Some((Answer::Dropped { reason }, _)) => Err(Error::internal(format!("disconnected: {reason}"))),
        Some((Answer::Failed(error), _)) => Err(error),
        // The monitor was killed. Whoever looks next takes the container over, and that is us.
        Some((Answer::Done { .. }, _)) | None => Engine::new(paths.clone()).wait(id, WaitCondition::NotRunning),
    }
}

fn wait_for_child(pidfd: &OwnedFd) -> Result<i32> {
    let status =
        waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).step(|| "wait for the process".to_owned())?;
    let status = status.ok_or_else(|| Error::internal("the process has not ended"))?;
    Ok(status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255))
}
