//! The relay between our standard streams and a session: one poll loop, no threads, bounded buffers.

use std::os::fd::BorrowedFd;

use engine::Session;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};
use rustix::stdio::{stderr, stdin, stdout};

use super::pump::{End, Pump, Step};
use super::raw::Raw;
use super::signals::{Event, Signals};
use super::{Keys, size};
use crate::context::say;
use crate::failure::{Failure, Result};

/// After how many requests to end we leave a process alone that does not.
const PATIENCE: u8 = 3;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The process ended with this exit code.
    Exited(u8),
    /// The detach keys were typed.
    Detached,
}

impl Outcome {
    /// The exit code of a command that ends like this.
    pub(crate) fn code(self) -> u8 {
        match self {
            Outcome::Exited(code) => code,
            Outcome::Detached => 0,
        }
    }
}

/// A session in the foreground.
pub(crate) struct Relay {
    session: Session,
    signals: Signals,
    raw: Option<Raw>,
    keys: Option<Keys>,
    tty: bool,
    pass_signals: bool,
    until_closed: bool,
    terminations: u8,
    input: Option<Pump>,
    output: [Option<Pump>; 2],
}

impl Relay {
    /// Connects `session`; with `tty` its process has a terminal, and ours becomes raw for the time.
    pub(crate) fn new(mut session: Session, signals: Signals, tty: bool) -> Relay {
        let pump_out = |from: Option<_>, to| from.map(|fd| Pump::new(End::own(fd), End::standard(to, OFlags::WRONLY)));
        let output = [pump_out(session.stdout.take(), stdout()), pump_out(session.stderr.take(), stderr())];
        let raw = if tty && session.stdin.is_some() { Raw::enter() } else { None };
        let input = session.stdin.take().map(|fd| Pump::new(End::standard(stdin(), OFlags::RDONLY), End::own(fd)));
        let relay = Relay {
            session,
            signals,
            raw,
            keys: None,
            tty,
            pass_signals: true,
            until_closed: true,
            terminations: 0,
            input,
            output,
        };
        relay.resize();
        relay
    }

    /// These keys detach, if the process has a terminal.
    #[must_use]
    pub(crate) fn detach_keys(mut self, keys: Keys) -> Relay {
        self.keys = self.tty.then_some(keys);
        self
    }

    /// Whether signals to us are passed on (`--sig-proxy`); otherwise they end us.
    #[must_use]
    pub(crate) fn sig_proxy(mut self, pass: bool) -> Relay {
        self.pass_signals = pass;
        self
    }

    /// Makes a program that fills the screen draw it anew, by giving its terminal another size for a moment.
    #[must_use]
    pub(crate) fn redraw(self) -> Relay {
        if let (true, Some((rows, columns))) = (self.tty, size()) {
            let _ = self.session.resize(rows.saturating_add(1), columns.saturating_add(1));
            self.resize();
        }
        self
    }

    /// Do not wait for the output's end once the process has ended: an exec'ed process may leave others behind that
    /// keep it open.
    #[must_use]
    pub(crate) fn until_exit(mut self) -> Relay {
        self.until_closed = false;
        self
    }

    /// Relays until the process has ended and all its output is written, or the keys detach.
    pub(crate) fn run(mut self) -> Result<Outcome> {
        let mut ended = false;
        while !(ended && self.output_done()) {
            let ready = self.wait(ended)?;
            if ready.signal && self.take_signals()? {
                continue;
            }
            if ready.input && self.step_input() {
                drop(self.raw.take());
                say("read escape sequence\n");
                return Ok(Outcome::Detached);
            }
            for (index, ready) in ready.output.into_iter().enumerate() {
                if ready {
                    self.step_output(index)?;
                }
            }
            if ended && !self.until_closed && !self.output_waits() && !ready.output.contains(&true) {
                break;
            }
            ended |= ready.ended;
        }
        drop(self.raw.take());
        Ok(Outcome::Exited(self.session.wait()? as u8))
    }

    fn output_done(&self) -> bool {
        self.output.iter().flatten().all(Pump::done)
    }

    /// Whether there is output that our side has not taken yet.
    fn output_waits(&self) -> bool {
        self.output.iter().flatten().any(|pump| !pump.buffer.is_empty())
    }

    /// Waits for something to do. Once the process has ended only its output matters, and what has not arrived by then
    /// is waited for only if it will be closed for sure.
    fn wait(&self, ended: bool) -> Result<Ready> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let input = if ended { None } else { self.input.as_ref().and_then(Pump::wants) };
        let input = place(&mut fds, input);
        let output = [0, 1].map(|index| self.output[index].as_ref().and_then(Pump::wants));
        let output = output.map(|wanted| place(&mut fds, wanted));
        let end = if ended { None } else { place(&mut fds, Some((self.session.ended(), PollFlags::IN))) };
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let at_once = ended && !self.until_closed && !self.output_waits();
        match poll(&mut fds, at_once.then_some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::new(format!("poll: {error}"))),
        }
        let is = |place: Option<usize>| place.is_some_and(|index| !fds[index].revents().is_empty());
        Ok(Ready { signal: is(Some(0)), input: is(input), output: output.map(is), ended: is(end) })
    }

    /// Moves input; true if the detach keys are complete.
    fn step_input(&mut self) -> bool {
        let Some(pump) = &mut self.input else { return false };
        let step = pump.step();
        let detached = step == Step::Filled && self.keys.as_mut().is_some_and(|keys| keys.filter(&mut pump.buffer));
        if detached {
            // What was typed before the keys belongs to the process.
            pump.step();
        }
        if pump.done() {
            self.input = None;
        }
        detached
    }

    /// Moves output. A reader that has gone ends us, as it would any program; the container goes on.
    fn step_output(&mut self, index: usize) -> Result<()> {
        let Some(pump) = &mut self.output[index] else { return Ok(()) };
        let broken = match pump.step() {
            Step::Filled => pump.step() == Step::Broken,
            step => step == Step::Broken,
        };
        if broken { Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()) } else { Ok(()) }
    }

    /// Handles what signals ask for; true if there were any.
    fn take_signals(&mut self) -> Result<bool> {
        let mut any = false;
        while let Some(event) = self.signals.next().map_err(|error| Failure::new(format!("read signals: {error}")))? {
            any = true;
            match event {
                Event::Resized => self.resize(),
                Event::Stop => self.stop(),
                Event::Continued => self.resume(),
                Event::Pass(signal) if self.pass_signals => self.pass(signal)?,
                Event::Pass(signal) => return Err(Failure::quiet(128 + signal as u8)),
            }
        }
        Ok(any)
    }

    /// Passes a signal on. Whoever asks for the third time wants to be rid of us, whatever the process makes of it.
    fn pass(&mut self, signal: i32) -> Result<()> {
        // The process may have ended a moment ago; then there is nobody to pass it to.
        drop(self.session.signal(signal));
        self.terminations += u8::from([Signal::INT.as_raw(), Signal::TERM.as_raw()].contains(&signal));
        if self.terminations < PATIENCE {
            return Ok(());
        }
        drop(self.raw.take());
        Err(Failure::new(format!("got {PATIENCE} SIGTERM/SIGINTs, forcefully exiting"))
            .hinted("the container goes on; `kiste ps` shows it, `kiste kill` ends it"))
    }

    fn resize(&self) {
        if let (true, Some((rows, columns))) = (self.tty, size()) {
            // A terminal without its process needs no size.
            let _ = self.session.resize(rows, columns);
        }
    }

    /// Stops like any program at `^Z`, with the terminal as it was before us.
    fn stop(&self) {
        self.raw.iter().for_each(Raw::pause);
        let _ = kill_process(getpid(), Signal::STOP);
        self.resume();
    }

    fn resume(&self) {
        self.raw.iter().for_each(Raw::again);
        self.resize();
    }
}

/// Adds a descriptor to what is polled; its place there.
fn place<'a>(fds: &mut Vec<PollFd<'a>>, wanted: Option<(BorrowedFd<'a>, PollFlags)>) -> Option<usize> {
    let (fd, flags) = wanted?;
    fds.push(PollFd::from_borrowed_fd(fd, flags));
    Some(fds.len() - 1)
}

/// What poll found.
struct Ready {
    signal: bool,
    input: bool,
    output: [bool; 2],
    ended: bool,
}
