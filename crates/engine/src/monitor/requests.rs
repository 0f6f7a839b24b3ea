//! What the requests of clients do to the container.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use sandbox::cgroup::Cgroup;

use super::clients::Waiting;
use super::protocol::{Answer, Request, Streams};
use super::{Monitor, SIGTERM};
use crate::model::Status;
use crate::{Context, Error, Result, failpoint};

const SIGKILL: i32 = 9;

impl Monitor {
    /// A client says something, or goes.
    pub(super) fn client(&mut self, id: u32) {
        match self.clients.request(id) {
            Some(request) => self.answer_request(id, request),
            None if self.clients.is_gone(id) => self.client_gone(id),
            None => {}
        }
    }

    fn client_gone(&mut self, id: u32) {
        let was_attached = self.clients.remove(id);
        if was_attached && self.run.is_some() {
            self.teller.tell("detach", &[]);
        }
    }

    fn answer_request(&mut self, id: u32, request: Request) {
        let result = match request {
            Request::Begin { .. } => Err(Error::invalid("the monitor has begun already")),
            Request::Attach(wanted) => return self.attach_or_refuse(id, wanted),
            Request::Resize { rows, columns } => self.resize(rows, columns),
            Request::Signal { signal } => self.signal(signal),
            Request::Kill { signal } => match self.kill(signal) {
                Ok(true) => return self.wait_for(id, Waiting::Stop),
                result => result.map(drop),
            },
            Request::Stop { signal, timeout } => match self.stop(signal, timeout) {
                Ok(()) => return self.wait_for(id, Waiting::Stop),
                result => result,
            },
            Request::Pause => self.freeze(true),
            Request::Unpause => self.freeze(false),
            Request::Wait { next } => return self.wait_for(id, if next { Waiting::Exit } else { Waiting::End }),
            Request::Renamed { name } => {
                self.teller.renamed(name);
                Ok(())
            }
            Request::UpdateRestart(policy) => {
                self.settings.restart = policy;
                Ok(())
            }
        };
        self.clients.reply(id, result);
    }

    /// The client is answered later; at once if there is nothing left to wait for.
    fn wait_for(&mut self, id: u32, what: Waiting) {
        if self.run.is_none() && self.restart_at.is_none() {
            let code = self.status.exit_code;
            let answer = if what == Waiting::Stop { Answer::done() } else { Answer::Ended { code } };
            self.clients.answer(id, &answer, &[]);
        } else if let Some(client) = self.clients.get(id) {
            client.waiting = what;
        }
    }

    fn attach_or_refuse(&mut self, id: u32, wanted: Streams) {
        match self.attach(id, wanted, false) {
            Ok(()) => self.teller.tell("attach", &[]),
            Err(error) => self.clients.reply(id, Err(error)),
        }
    }

    /// Connects a client; `lossless` for the one that started the container.
    pub(super) fn attach(&mut self, id: u32, wanted: Streams, lossless: bool) -> Result<()> {
        let has_two = !self.streams.terminal;
        let given = Streams {
            stdin: wanted.stdin && self.streams.input.is_some(),
            stdout: wanted.stdout,
            stderr: wanted.stderr && has_two,
        };
        let directory = self.spill_directory();
        self.clients.attach(&self.poll, id, given, lossless.then_some(directory.as_path()))?;
        Ok(())
    }

    fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        let master = self.streams.output[0].as_ref().filter(|_| self.streams.terminal);
        let master = master.ok_or_else(|| Error::invalid("the container has no terminal"))?;
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(master, size).step(|| "set the terminal's size".to_owned())?;
        self.console = Some((rows, columns));
        self.teller.tell("resize", &[("height", rows.to_string()), ("width", columns.to_string())]);
        Ok(())
    }

    /// Sends a signal to the container's first process.
    pub(super) fn signal(&self, number: i32) -> Result<()> {
        let run = self.run.as_ref().ok_or_else(|| self.not_running())?;
        linux::pidfd::send_signal(run.pidfd.as_fd(), number).step(|| format!("send signal {number} to the container"))
    }

    fn not_running(&self) -> Error {
        Error::conflict(format!("container {} is not running", self.id))
    }

    /// `kill`: whether the client has to wait for the end.
    fn kill(&mut self, signal: i32) -> Result<bool> {
        self.signal(signal)?;
        if signal == SIGKILL || signal == self.settings.stop_signal {
            self.mark_stopped();
            self.thaw();
        }
        self.teller.tell("kill", &[("signal", signal.to_string())]);
        Ok(signal == SIGKILL)
    }

    /// `stop`: asks the process to end, and sets the time at which it is forced to.
    pub(super) fn stop(&mut self, signal: Option<i32>, timeout: Option<i64>) -> Result<()> {
        failpoint::hit("stop-requested");
        self.stop_asked = true;
        self.mark_stopped();
        if self.restart_at.take().is_some() {
            self.finish_run();
            return Ok(());
        }
        let timeout = timeout.unwrap_or(self.settings.stop_timeout);
        if timeout == 0 {
            self.force();
            return Ok(());
        }
        let signal = signal.unwrap_or(if self.settings.stop_signal > 0 { self.settings.stop_signal } else { SIGTERM });
        self.signal(signal)?;
        self.thaw();
        failpoint::hit("stop-signalled");
        self.teller.tell("kill", &[("signal", signal.to_string())]);
        if timeout > 0 {
            let at = Instant::now() + Duration::from_secs(timeout as u64);
            self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
        }
        Ok(())
    }

    fn mark_stopped(&mut self) {
        self.status.manually_stopped = true;
        self.write_status();
    }

    /// Ends the process now.
    pub(super) fn force(&mut self) {
        if self.signal(SIGKILL).is_ok() {
            self.teller.tell("kill", &[("signal", SIGKILL.to_string())]);
        }
        self.thaw();
    }

    /// A frozen process takes no signal: thaw it. On v1 not even SIGKILL reaches it.
    fn thaw(&mut self) {
        if self.status.status == Status::Paused && self.set_frozen(false).is_ok() {
            self.status.status = Status::Running;
            self.write_status();
            self.teller.tell("unpause", &[]);
        }
    }

    fn freeze(&mut self, frozen: bool) -> Result<()> {
        match (frozen, self.status.status) {
            (true, Status::Paused) => return Err(Error::conflict(format!("container {} is already paused", self.id))),
            // Frozen now, on v1 it would never get to die.
            (true, Status::Running) if is_being_killed(self.status.pid) => {
                return Err(Error::conflict(format!("container {} is not running", self.id)));
            }
            (false, Status::Paused) | (true, Status::Running) => {}
            (false, _) => return Err(Error::conflict(format!("Container {} is not paused", self.id))),
            (true, _) => return Err(Error::conflict(format!("container {} is not running", self.id))),
        }
        self.set_frozen(frozen)?;
        self.status.status = if frozen { Status::Paused } else { Status::Running };
        self.write_status();
        self.teller.tell(if frozen { "pause" } else { "unpause" }, &[]);
        Ok(())
    }

    fn set_frozen(&self, frozen: bool) -> Result<()> {
        if !sandbox::cgroup::is_available() {
            return Err(Error::invalid(format!(
                "cannot pause container {}: it has no cgroup to be frozen in",
                self.id
            ))
            .hinted("see the warnings of `kiste info`"));
        }
        let cgroup =
            Cgroup::open(&self.settings.cgroup).step(|| format!("open the cgroup {}", self.settings.cgroup))?;
        cgroup.freeze(frozen).step(|| format!("freeze or thaw the cgroup {}", self.settings.cgroup))
    }
}

/// Whether a SIGKILL is on its way to the process (`ShdPnd` and `SigPnd` of proc_pid_status(5)).
fn is_being_killed(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = |line: &str| line.strip_prefix("ShdPnd:").or(line.strip_prefix("SigPnd:")).map(str::trim).map(hex);
    status.lines().filter_map(pending).any(|set| set & 1 << (SIGKILL - 1) != 0)
}

fn hex(digits: &str) -> u64 {
    u64::from_str_radix(digits, 16).unwrap_or(0)
}
