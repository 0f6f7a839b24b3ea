//! The verbs that end or freeze a running container, each by way of its monitor.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::monitor::protocol::{self, Answer, Request};
use crate::request::signal;
use crate::table::Container;
use crate::verbs::StartOptions;
use crate::verbs::start::not_running;
use crate::{Engine, Error, ErrorKind, Result, status};

const SIGKILL: i32 = 9;
const SIGCONT: i32 = 18;
/// How many monitors may die over one request before it is given up.
const MONITORS: usize = 3;

impl Engine {
    /// Sends the stop signal, and SIGKILL after `timeout` seconds (absent: the container's; negative: never).
    /// `NotModified` if it does not run.
    pub fn stop(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let container = self.look_up(name)?;
        let signal = signal.map(signal::parse).transpose()?;
        match self.ask(&container, &Request::Stop { signal, timeout })? {
            Some(()) => Ok(()),
            None => Err(Error::new(ErrorKind::NotModified, format!("container {} is already stopped", container.name))),
        }
    }

    /// `stop` and `start`.
    pub fn restart(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        match self.stop(name, signal, timeout) {
            Err(error) if error.kind != ErrorKind::NotModified => return Err(error),
            _ => {}
        }
        match self.start(name, &StartOptions::default()) {
            Err(error) if error.kind != ErrorKind::NotModified => return Err(error),
            _ => {}
        }
        let container = self.look_up(name)?;
        self.tell(&container, "restart");
        Ok(())
    }

    /// Sends a signal (name with or without `SIG`, or number; absent: KILL) to the container's first process.
    pub fn kill(&self, name: &str, signal: Option<&str>) -> Result<()> {
        let send = || {
            let container = self.look_up(name)?;
            let signal = signal.map(signal::parse).transpose()?.unwrap_or(SIGKILL);
            self.ask(&container, &Request::Kill { signal })?.ok_or_else(|| not_running(&container))
        };
        send().map_err(|error| Error { message: format!("cannot kill container: {name}: {error}"), ..error })
    }

    /// Freezes every process of the container.
    pub fn pause(&self, name: &str) -> Result<()> {
        let container = self.look_up(name)?;
        self.ask(&container, &Request::Pause)?.ok_or_else(|| not_running(&container))
    }

    /// Thaws a paused container.
    pub fn unpause(&self, name: &str) -> Result<()> {
        let container = self.look_up(name)?;
        let not_paused = || Error::conflict(format!("Container {} is not paused", container.id));
        self.ask(&container, &Request::Unpause)?.ok_or_else(not_paused)
    }

    /// Sets the size of the container's terminal.
    pub fn resize(&self, name: &str, rows: u16, columns: u16) -> Result<()> {
        let container = self.look_up(name)?;
        self.ask(&container, &Request::Resize { rows, columns })?.ok_or_else(|| not_running(&container))
    }

    /// Asks the container's monitor for something; none if the container does not run. A monitor that dies over the
    /// question is replaced, and the next one is asked.
    pub(crate) fn ask(&self, container: &Container, request: &Request) -> Result<Option<()>> {
        for _ in 0..MONITORS {
            let Some(socket) = self.connect_or_settle(container)? else { return Ok(None) };
            match self.exchange(&container.id, &socket, request)? {
                Some(Answer::Failed(error)) => return Err(error),
                Some(_) => return Ok(Some(())),
                None => {}
            }
        }
        Err(Error::internal(format!(
            "the monitor of container {} was killed {MONITORS} times over this",
            container.name
        ))
        .hinted("see the kernel's log (dmesg): it may have been killed for want of memory"))
    }

    /// Sends a request and waits for its answer; none if the monitor died. One that somebody has stopped (SIGSTOP) is
    /// made to go on, and if that is of no use replaced.
    fn exchange(&self, id: &str, socket: &OwnedFd, request: &Request) -> Result<Option<Answer>> {
        if protocol::send(socket, request, &[]).is_err() {
            return Ok(None);
        }
        let mut tried = false;
        while !is_readable(socket) {
            let monitor = status::read(self.paths(), id).map_or(0, |run| run.monitor_pid);
            if !is_stopped(monitor, id) {
                continue;
            }
            let signal = if tried { SIGKILL } else { SIGCONT };
            let pidfd = rustix::process::Pid::from_raw(monitor)
                .and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok());
            if let Some(pidfd) = pidfd.filter(|_| is_stopped(monitor, id)) {
                drop(linux::pidfd::send_signal(pidfd.as_fd(), signal));
                self.note(format!("the monitor of {id:.12} was stopped by a signal; it was made to go on"));
            }
            tried = true;
        }
        Ok(protocol::answer(socket)?.map(|(answer, _)| answer))
    }

    /// A connection to the container's monitor (a new one if the old one is dead); none if the container does not run.
    fn connect_or_settle(&self, container: &Container) -> Result<Option<OwnedFd>> {
        let directory = self.paths().container_state(&container.id);
        loop {
            match self.look_up(&container.id) {
                // Gone with its run, by `--rm`.
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
                found => drop(found?),
            }
            if !status::is_held(self.paths(), &container.id) {
                return Ok(None);
            }
            if let Some(socket) = protocol::connect(&directory)? {
                return Ok(Some(socket));
            }
            // Starting or being wound up: a matter of milliseconds.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether a process is the monitor of that container, and stopped.
fn is_stopped(pid: i32, id: &str) -> bool {
    let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let (stat, line) = (read("stat"), read("cmdline"));
    let state = stat.iter().rposition(|byte| *byte == b')').and_then(|end| stat.get(end + 2));
    pid > 0 && state == Some(&b'T') && line.windows(id.len()).any(|word| word == id.as_bytes())
}

/// How long an answer may take before it is looked whether the monitor can give one.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Waits until there is something to read; whether there is.
fn is_readable(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    poll(&mut fds, Some(&PATIENCE)) != Ok(0)
}
