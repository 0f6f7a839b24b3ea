//! The signals that come to us while a container's process is in the foreground, taken as data.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use linux::signal::SignalFd;
use rustix::process::Signal;

use crate::failure::{Failure, Result};

/// Standard signals that are passed on to the container's process; the real-time ones (34–64) come on top.
const PASSED: [Signal; 9] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::TERM,
    Signal::IO,
    Signal::POWER,
];
/// Signals about our own terminal and job, which are not passed on.
const OWN: [Signal; 3] = [Signal::WINCH, Signal::TSTP, Signal::CONT];

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The window has another size.
    Resized,
    /// We are to stop (`^Z`).
    Stop,
    /// We go on after a stop.
    Continued,
    /// For the container's process.
    Pass(i32),
}

/// Blocked signals, to be read.
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// From now on signals wait to be read. To be called before the container starts: a `^C` typed meanwhile is not
    /// lost, and does not leave a container without its client.
    pub(crate) fn catch() -> Result<Signals> {
        linux::signalfd(&all()).map(Signals).map_err(|error| Failure::new(format!("signalfd: {error}")))
    }

    /// Lets signals do again what they do by default.
    pub(crate) fn release(self) {
        linux::signal::unblock(&all());
    }

    /// The next event; `None` if there is none.
    pub(super) fn next(&self) -> io::Result<Option<Event>> {
        let Some(received) = self.0.read()? else { return Ok(None) };
        let is = |signal: Signal| signal.as_raw() == received.signal;
        Ok(Some(match () {
            () if is(Signal::WINCH) => Event::Resized,
            () if is(Signal::TSTP) => Event::Stop,
            () if is(Signal::CONT) => Event::Continued,
            () => Event::Pass(received.signal),
        }))
    }
}

fn all() -> Vec<i32> {
    let standard = PASSED.iter().chain(&OWN).map(|signal| signal.as_raw());
    standard.chain(34..=linux::signal::MAX).collect()
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
