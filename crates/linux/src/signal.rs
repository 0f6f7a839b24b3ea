//! Signals: as readable descriptors, and back to their defaults before a program is executed.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check;

/// Highest signal number of Linux on all supported architectures.
pub const MAX: i32 = 64;

/// Signals that arrive as data instead of interrupting: blocked for the process, read one by one.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// One signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// Process that sent it, or the child that a SIGCHLD is about.
    pub pid: i32,
}

/// Blocks these signals and makes a non-blocking descriptor that is readable when one of them is pending.
pub fn signalfd(signals: &[i32]) -> io::Result<SignalFd> {
    let set = set_of(signals);
    // SAFETY: `set` is an initialised signal set; the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) }.into())?;
    // SAFETY: as above; -1 asks for a new descriptor.
    let fd = check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) }.into())?;
    // SAFETY: the kernel just returned this new descriptor to us alone.
    Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

impl SignalFd {
    /// The next pending signal; `None` if there is none.
    pub fn read(&self) -> io::Result<Option<Received>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is writable and `size` bytes long.
        let got = check(unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) } as libc::c_long);
        match got {
            Ok(n) if n as usize == size => {
                // SAFETY: the kernel filled all of it.
                let info = unsafe { info.assume_init() };
                Ok(Some(Received { signal: info.ssi_signo as i32, pid: info.ssi_pid as i32 }))
            }
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a signal by its number, real-time ones included, to the process `pid`.
pub fn send(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Ignores a signal from now on.
pub fn ignore(signal: i32) {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Sets every signal to its default action and unblocks all: what a new program expects to inherit. By the kernel's own
/// interface: libc refuses to touch the two signals that it uses itself, which a parent may have left ignored.
pub fn reset() {
    // `struct kernel_sigaction` without handler, flags, restorer and mask: SIG_DFL. 32 bytes on all architectures.
    let default = [0_u64; 4];
    for signal in 1..=MAX {
        // SAFETY: the structure is valid, the mask size is the kernel's; SIG_DFL runs no code of ours; KILL and STOP
        // are refused.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, 0, size_of::<u64>()) };
    }
    let none = 0_u64;
    // SAFETY: a mask of the size that is named; the old one is not asked for.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, 0, size_of::<u64>()) };
}

/// Blocks every signal that can be blocked until the guard is dropped, which restores the mask.
pub fn block_all() -> Blocked {
    // SAFETY: a zeroed sigset_t is a valid value; sigfillset and sigprocmask only write to the two sets.
    unsafe {
        let (mut all, mut old): (libc::sigset_t, libc::sigset_t) = (zeroed(), zeroed());
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
        Blocked(old)
    }
}

/// Restores the signal mask when dropped.
pub struct Blocked(libc::sigset_t);

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set was filled by sigprocmask.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// Unblocks these signals; one that is pending is delivered at once.
pub fn unblock(signals: &[i32]) {
    let set = set_of(signals);
    // SAFETY: an initialised set; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: a zeroed sigset_t is a valid value, sigemptyset initialises it, sigaddset refuses wrong numbers.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Names of the signals from 1 on (signal(7), numbers of Linux on x86 and ARM).
const NAMES: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// First and last real-time signal as libc numbers them.
const REALTIME: (i32, i32) = (34, 64);

/// The number of a signal given as `TERM`, `SIGTERM`, `15`, `RTMIN+3` or `RTMAX-2`, in any case of letters.
pub fn number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=REALTIME.1).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    match name {
        "CLD" => return Some(17),
        "POLL" => return Some(29),
        "IOT" => return Some(6),
        _ => {}
    }
    if let Some(index) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(index + 1).ok();
    }
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        REALTIME.0 + offset(rest, '+')?
    } else {
        REALTIME.1 - offset(name.strip_prefix("RTMAX")?, '-')?
    };
    (REALTIME.0..=REALTIME.1).contains(&number).then_some(number)
}

fn offset(rest: &str, sign: char) -> Option<i32> {
    if rest.is_empty() { Some(0) } else { rest.strip_prefix(sign)?.parse().ok() }
}
