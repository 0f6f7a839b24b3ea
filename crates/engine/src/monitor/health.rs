//! Health checks: when to probe, and what follows from the result. A probe is a process of its own that joins the
//! container, so a hanging one never holds up the monitor. Docker's rules (moby `daemon/health.go`).

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use sandbox::launch::Stdio;

use super::poll::Token;
use super::stream::read_some;
use super::{Monitor, read_plan};
use crate::model::{self, ExecConfig, HealthLog, Healthcheck};
use crate::status::RunStatus;
use crate::{Context, Paths, Result, clock, verbs};

/// Bytes of output that are kept of each probe.
const OUTPUT: usize = 4096;
/// Probes that are kept.
const KEPT: usize = 5;
/// Exit code of a probe process that could not do its work; Docker shows -1.
const NO_RESULT: i32 = 255;
const SIGKILL: i32 = 9;

/// The schedule of a container's checks.
pub(super) struct Health {
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: i64,
    started: Instant,
    due: Instant,
    probe: Option<Probe>,
}

/// A probe at work.
struct Probe {
    pidfd: OwnedFd,
    output: OwnedFd,
    text: Vec<u8>,
    began: Instant,
    began_at: i64,
}

impl Health {
    /// The schedule of a check; none if there is nothing to check.
    pub(super) fn new(check: &Healthcheck) -> Option<Self> {
        if !matches!(check.test.first().map(String::as_str), Some("CMD" | "CMD-SHELL")) {
            return None;
        }
        let or = |value: i64, default: u64| {
            Duration::from_nanos(if value > 0 { value as u64 } else { default * 1_000_000_000 })
        };
        let now = Instant::now();
        Some(Health {
            interval: or(check.interval, 30),
            timeout: or(check.timeout, 30),
            start_period: or(check.start_period, 0),
            start_interval: or(check.start_interval, 5),
            retries: if check.retries > 0 { check.retries } else { 3 },
            started: now,
            due: now,
            probe: None,
        })
    }

    /// The container has started (again).
    pub(super) fn restart(&mut self) -> model::Health {
        self.started = Instant::now();
        self.probe = None;
        let health = model::Health { status: "starting".to_owned(), ..model::Health::default() };
        self.schedule(&health);
        health
    }

    /// Goes on where another monitor has left off.
    pub(super) fn resume(&mut self, health: &model::Health) {
        self.schedule(health);
    }

    fn schedule(&mut self, health: &model::Health) {
        let early = health.status == "starting" && self.in_start_period();
        self.due = Instant::now() + if early { self.start_interval } else { self.interval };
    }

    fn in_start_period(&self) -> bool {
        self.started.elapsed() < self.start_period
    }

    /// When the next probe is due; none while one is at work, which ends by itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.probe.is_none().then_some(self.due)
    }

    /// Counts a result in.
    fn judge(&self, health: &mut model::Health, result: HealthLog) {
        if result.exit_code == 0 {
            (health.failing_streak, health.status) = (0, "healthy".to_owned());
        } else if health.status != "starting" || !self.in_start_period() {
            health.failing_streak += 1;
            if health.failing_streak >= self.retries {
                health.status = "unhealthy".to_owned();
            }
        }
        health.log.push(result);
        let surplus = health.log.len().saturating_sub(KEPT);
        health.log.drain(..surplus);
    }
}

impl Monitor {
    /// Starts a probe if it is time.
    pub(super) fn probe_if_due(&mut self, now: Instant) {
        let Some(health) = &mut self.health else { return };
        if health.deadline().is_none_or(|at| at > now) {
            return;
        }
        match begin_probe(&self.paths, &self.id, &self.status, health.timeout) {
            Ok(probe) => {
                drop(self.poll.watch_input(&probe.pidfd, Token::Probe));
                drop(self.poll.watch_input(&probe.output, Token::ProbeOutput));
                health.probe = Some(probe);
            }
            Err(error) => self.probed(clock::now(), -1, error.message),
        }
    }

    /// A probe wrote something, or has ended.
    pub(super) fn probe_progress(&mut self, token: Token) {
        let Some(probe) = self.health.as_mut().and_then(|health| health.probe.as_mut()) else { return };
        let more = collect(probe, &mut self.buffer);
        if token == Token::ProbeOutput && !more {
            self.poll.forget(&probe.output);
        }
        if token == Token::Probe {
            self.poll.forget(&probe.pidfd);
            self.poll.forget(&probe.output);
            self.probe_ended();
        }
    }

    fn probe_ended(&mut self) {
        let Some(health) = &mut self.health else { return };
        let Some(probe) = health.probe.take() else { return };
        let ended = waitid(WaitId::PidFd(probe.pidfd.as_fd()), WaitIdOptions::EXITED).ok().flatten();
        let code = ended.and_then(|ended| ended.exit_status()).unwrap_or(NO_RESULT);
        let mut text = String::from_utf8_lossy(&probe.text).into_owned();
        let timed_out = code == NO_RESULT && probe.began.elapsed() >= health.timeout;
        if timed_out {
            let seconds = health.timeout.as_secs_f64();
            let separator = if text.is_empty() { "" } else { ": " };
            text = format!("Health check exceeded timeout ({seconds}s){separator}{text}");
        }
        self.probed(probe.began_at, if code == NO_RESULT { -1 } else { i64::from(code) }, text);
    }

    fn probed(&mut self, began_at: i64, exit_code: i64, output: String) {
        let (Some(schedule), Some(health)) = (&mut self.health, &mut self.status.health) else { return };
        let before = health.status.clone();
        let result =
            HealthLog { start: clock::rfc3339(began_at), end: clock::rfc3339(clock::now()), exit_code, output };
        schedule.judge(health, result);
        schedule.schedule(health);
        let after = health.status.clone();
        self.write_status();
        if before != after {
            self.teller.tell(&format!("health_status: {after}"), &[]);
        }
        linux::memory::trim();
    }

    /// The container has ended, and with it whatever probes it.
    pub(super) fn abort_probe(&mut self) {
        let Some(probe) = self.health.as_mut().and_then(|health| health.probe.take()) else { return };
        drop(linux::pidfd::send_signal(probe.pidfd.as_fd(), SIGKILL));
        let _ = waitid(WaitId::PidFd(probe.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// Takes what the probe wrote; false at the end of its output.
fn collect(probe: &mut Probe, buffer: &mut [u8]) -> bool {
    while let Some(count) = read_some(&probe.output, buffer) {
        if count == 0 {
            return false;
        }
        let room = OUTPUT - probe.text.len();
        probe.text.extend_from_slice(&buffer[..count.min(room)]);
    }
    true
}

fn begin_probe(paths: &Paths, id: &str, status: &RunStatus, timeout: Duration) -> Result<Probe> {
    let (output, far) = pipe_with(PipeFlags::CLOEXEC).step(|| "make a pipe".to_owned())?;
    rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK).step(|| "make a pipe non-blocking".to_owned())?;
    let began = (Instant::now(), clock::now());
    let child = linux::clone::Clone::default().spawn(|| probe(paths, id, status, timeout, &far));
    let child = child.step(|| "start a process for the health check".to_owned())?;
    Ok(Probe { pidfd: child.pidfd, output, text: Vec::new(), began: began.0, began_at: began.1 })
}

/// The probe process: runs the check in the container and ends with its exit code.
fn probe(paths: &Paths, id: &str, status: &RunStatus, timeout: Duration, output: &OwnedFd) -> i32 {
    super::shield::lower();
    let attempt = || -> Result<i32> {
        let plan = read_plan(paths, id)?;
        let test = plan.health.as_ref().map(|check| check.test.as_slice()).unwrap_or_default();
        let cmd = match test.first().map(String::as_str) {
            Some("CMD-SHELL") => {
                let shell = if plan.shell.is_empty() {
                    vec!["/bin/sh".to_owned(), "-c".to_owned()]
                } else {
                    plan.shell.clone()
                };
                [shell.as_slice(), &test[1..]].concat()
            }
            _ => test.get(1..).unwrap_or_default().to_vec(),
        };
        let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .step(|| "open /dev/null".to_owned())?;
        let config = ExecConfig { cmd, ..ExecConfig::default() };
        let stdio = Stdio::Fds([null.as_fd(), output.as_fd(), output.as_fd()]);
        let process = verbs::execute(&plan, status, &config, stdio)?;
        Ok(await_end(&process.pidfd, timeout))
    };
    attempt().unwrap_or_else(|error| {
        let _ = rustix::io::write(output, error.message.as_bytes());
        NO_RESULT
    })
}

/// The exit code of the check, which is killed when its time is up.
fn await_end(pidfd: &OwnedFd, timeout: Duration) -> i32 {
    let limit = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
    let mut ended = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    let in_time = matches!(poll(&mut ended, Some(&limit)), Ok(1..));
    if !in_time {
        drop(linux::pidfd::send_signal(pidfd.as_fd(), SIGKILL));
    }
    // Reaped in any case: the container's pid namespace does not end before all its processes are.
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).ok().flatten();
    status.filter(|_| in_time).and_then(|status| status.exit_status()).unwrap_or(NO_RESULT)
}
