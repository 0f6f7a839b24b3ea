//! The built-in init (`--init`): PID 1 that starts the program as its child, hands signals on to it, reaps every orphan
//! and ends as the program ended. It stays a copy of its maker (no second executable), not dumpable, with nothing open.

use std::os::fd::{AsFd, AsRawFd};

use linux::clone::{Clone, exit};
use linux::process::Title;
use linux::signal::{self, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitOptions, WaitStatus, wait};

use super::Error;
use super::step::Step;

/// Becomes PID 1's loop; `program` runs in the child and ends by executing the container's program, or with a code.
/// `title` hides the maker's command line.
pub(super) fn run(title: Option<&Title>, program: impl FnOnce() -> i32) -> Result<std::convert::Infallible, Error> {
    let all: Vec<i32> = (1..=signal::MAX).filter(|number| !SYNCHRONOUS.contains(number)).collect();
    let signals = linux::signalfd(&all).step(|| "init: watch signals".into())?;
    let child = Clone::default().spawn(|| in_foreground(program)).step(|| "init: start the program".into())?;
    let _ = rustix::thread::set_name(c"kiste-init");
    if let Some(title) = title {
        title.set("kiste-init");
    }
    let keep = signals.as_fd().as_raw_fd();
    // The descriptors' owners are never used again: this process only loops and exits.
    let _ = linux::process::close_range(0, keep - 1);
    let _ = linux::process::close_range(keep + 1, i32::MAX);
    std::mem::forget(child.pidfd);
    serve(&signals, child.pid)
}

/// Signals that mean a fault of the receiver itself.
const SYNCHRONOUS: [i32; 7] =
    [libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];

/// In the child: a process group of its own, in the foreground of the terminal if there is one.
fn in_foreground(program: impl FnOnce() -> i32) -> i32 {
    let _ = rustix::process::setpgid(None, None);
    // SIGTTOU, which stops background groups that do this, is still blocked.
    let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpgrp());
    signal::reset();
    program()
}

fn serve(signals: &SignalFd, child: i32) -> ! {
    loop {
        let _ = poll(&mut [PollFd::new(signals, PollFlags::IN)], None);
        while let Ok(Some(received)) = signals.read() {
            match received.signal {
                libc::SIGCHLD => {}
                // A program that has just ended is no error.
                number => drop(signal::send(child, number)),
            }
        }
        reap(child);
    }
}

/// Collects every process that has ended; ends itself with the program, which takes all others along.
fn reap(child: i32) {
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid.as_raw_nonzero().get() == child {
            exit(code(status));
        }
    }
}

fn code(status: WaitStatus) -> i32 {
    linux::pidfd::exit_code(status.as_raw())
}
