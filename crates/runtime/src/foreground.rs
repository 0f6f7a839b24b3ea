//! Staying with a process that runs in the foreground: signals are passed on, a terminal is relayed, the end is awaited.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use linux::signal::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};
use rustix::termios::{
    OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::error::Step;
use crate::{Error, Result};

/// Signals about our own children or job, or that the kernel sends for our own faults: not passed on.
const OWN: [i32; 12] = [17, 13, 21, 22, 23, 4, 5, 6, 7, 8, 11, 31];

/// The signals of this process, caught from before the container's process exists, so that none is lost.
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Catches all that can be passed on, and the ends of children.
    pub(crate) fn catch() -> Result<Self> {
        let all: Vec<i32> = (1..=linux::signal::MAX).filter(|number| !OWN.contains(number) || *number == 17).collect();
        linux::signalfd(&all).map(Self).step(|| "watch signals".into())
    }
}

/// Orphans of the container's processes come to us instead of going to the host's init.
pub(crate) fn become_subreaper() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).step(|| "become a subreaper".into())
}

/// Stays until the process has ended; its exit code.
pub(crate) fn stay(signals: &Signals, pid: i32, pidfd: &OwnedFd, terminal: Option<OwnedFd>) -> Result<u8> {
    let mut relay = terminal.map(Relay::new).transpose()?;
    loop {
        let [signalled, ended] = wait_for(signals, pidfd, relay.as_mut())?;
        if signalled {
            pass_on(signals, pidfd, relay.as_ref(), pid)?;
        }
        if ended {
            let code = reap(pidfd)?;
            if let Some(relay) = relay.as_mut() {
                relay.drain();
            }
            return Ok(code);
        }
    }
}

/// Waits for signals, the end, and bytes to relay; relays them.
fn wait_for(signals: &Signals, pidfd: &OwnedFd, relay: Option<&mut Relay>) -> Result<[bool; 2]> {
    let mut fds = vec![PollFd::new(&signals.0, PollFlags::IN), PollFd::new(pidfd, PollFlags::IN)];
    let ready = |fds: &[PollFd<'_>]| [0, 1].map(|index| !fds[index].revents().is_empty());
    let Some(relay) = relay else {
        retry(|| poll(&mut fds, None)).step(|| "wait for the container".into())?;
        return Ok(ready(&fds));
    };
    let stdin = rustix::stdio::stdin();
    let master = if relay.pending.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT };
    fds.push(PollFd::new(&relay.master, if relay.output { master } else { PollFlags::empty() }));
    if relay.input && relay.pending.is_empty() {
        fds.push(PollFd::new(&stdin, PollFlags::IN));
    }
    retry(|| poll(&mut fds, None)).step(|| "wait for the container".into())?;
    let outcome = ready(&fds);
    let events: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
    drop(fds);
    relay.serve(events[2], events.get(3).copied().unwrap_or(PollFlags::empty()));
    Ok(outcome)
}

fn retry(mut call: impl FnMut() -> rustix::io::Result<usize>) -> rustix::io::Result<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn pass_on(signals: &Signals, pidfd: &OwnedFd, relay: Option<&Relay>, pid: i32) -> Result<()> {
    while let Some(received) = signals.0.read().step(|| "read a signal".into())? {
        match received.signal {
            17 => reap_others(pid),
            28 if relay.is_some() => relay.into_iter().for_each(Relay::resize),
            // The process may just have ended.
            number => drop(linux::pidfd::send_signal(pidfd.as_fd(), number)),
        }
    }
    Ok(())
}

/// Collects orphans that came to us; the process itself is left for [`reap`].
fn reap_others(pid: i32) {
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for child in children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()).filter(|child| *child != pid)
    {
        let _ = waitpid(Pid::from_raw(child), WaitOptions::NOHANG);
    }
}

/// The exit code of a process of ours that has ended: its own, or 128 and the signal.
pub(crate) fn reap(pidfd: &OwnedFd) -> Result<u8> {
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).step(|| "wait for the process".into())?;
    let status = status.ok_or_else(|| Error::new("the process has ended without a status"))?;
    Ok(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code as u8,
        (None, Some(signal)) => 128_u8.saturating_add(signal as u8),
        (None, None) => 255,
    })
}

/// Between our own terminal (or pipes) and the container's.
struct Relay {
    master: OwnedFd,
    /// Our terminal's modes, to go back to.
    before: Option<Termios>,
    /// Our input still has something to say.
    input: bool,
    /// The container's side is still open.
    output: bool,
    /// Read from our input, not yet taken by the container.
    pending: Vec<u8>,
}

impl Relay {
    fn new(master: OwnedFd) -> Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master).step(|| "read the terminal's flags".into())?;
        rustix::fs::fcntl_setfl(&master, flags | rustix::fs::OFlags::NONBLOCK)
            .step(|| "set the terminal's flags".into())?;
        keep_newlines(&master);
        let relay = Self { master, before: raw(), input: true, output: true, pending: Vec::new() };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of ours.
    fn resize(&self) {
        let stdin = rustix::stdio::stdin();
        if let Ok(size) = tcgetwinsize(stdin) {
            // It may have been closed.
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    fn serve(&mut self, master: PollFlags, stdin: PollFlags) {
        if master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.output = self.copy_out();
        }
        if !stdin.is_empty() {
            let mut buffer = [0; 4096];
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
                Ok(0) => self.end_input(),
                Ok(length) => self.pending.extend_from_slice(&buffer[..length]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.input = false,
            }
        }
        if !self.pending.is_empty() {
            match rustix::io::write(&self.master, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => self.pending.clear(),
            }
        }
    }

    /// A terminal knows no half-closed connections: the end is a character (^D).
    fn end_input(&mut self) {
        self.input = false;
        self.pending.push(4);
    }

    /// Whether there may be more.
    fn copy_out(&self) -> bool {
        let mut buffer = [0; 16384];
        match rustix::io::read(&self.master, &mut buffer[..]) {
            Ok(0) => false,
            Ok(length) => write_all(rustix::stdio::stdout(), &buffer[..length]).is_ok(),
            Err(Errno::INTR | Errno::AGAIN) => true,
            // EIO: the last one has closed the container's side.
            Err(_) => false,
        }
    }

    /// What the process has written before its end.
    fn drain(&mut self) {
        loop {
            let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            let readable = matches!(poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().contains(PollFlags::IN);
            if !readable || !self.copy_out() {
                return;
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &before);
        }
    }
}

fn write_all(target: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(target, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => drop(poll(&mut [PollFd::from_borrowed_fd(target, PollFlags::OUT)], None)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The container's terminal leaves newlines as they are, as under runc: what goes into a pipe has no carriage returns.
pub(crate) fn keep_newlines(master: &OwnedFd) {
    if let Ok(mut modes) = tcgetattr(master) {
        modes.output_modes -= OutputModes::ONLCR;
        // Without it lines only look different.
        let _ = tcsetattr(master, OptionalActions::Now, &modes);
    }
}

/// Makes our terminal raw, if our input is one; its modes before.
fn raw() -> Option<Termios> {
    let stdin = rustix::stdio::stdin();
    let before = isatty(stdin).then(|| tcgetattr(stdin).ok())??;
    let mut raw = before.clone();
    raw.make_raw();
    // Our terminal makes lines end at their beginning again: the container's does not (see `keep_newlines`).
    raw.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    tcsetattr(stdin, OptionalActions::Drain, &raw).ok()?;
    Some(before)
}
