//! Process descriptors: what rustix has not: how a process ended that is no child of ours, or was reaped already.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::check;

/// `struct pidfd_info` (`include/uapi/linux/pidfd.h`), first published size.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

const INFO_PID: u64 = 1;
const INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`
const PIDFD_GET_INFO: libc::c_ulong = (3 << 30) | ((size_of::<Info>() as libc::c_ulong) << 16) | 0xFF0B;

/// The wait status (as `waitpid` encodes it) of a process that has ended and has been reaped, by whomever; `None` while
/// it lives or is a zombie. Linux 6.15; before, ENOTTY or `None`.
pub fn exit_status(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let info = info(pidfd, INFO_EXIT)?;
    Ok((info.mask & INFO_EXIT != 0).then_some(info.exit_code))
}

/// The number of the living process behind `pidfd`, as the caller's pid namespace counts; ESRCH once it is reaped.
pub fn pid(pidfd: BorrowedFd<'_>) -> io::Result<i32> {
    if let Ok(info) = info(pidfd, INFO_PID) {
        return Ok(info.pid as i32);
    }
    // Before Linux 6.13; -1 there means that the process is gone.
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.filter(|pid| *pid > 0).ok_or(io::Error::from_raw_os_error(libc::ESRCH))
}

/// Sends a signal by number, real-time signals included, which rustix does not name. 0 only checks.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `info` is allowed and read as "sent by kill"; the descriptor lives through the call.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) }).map(drop)
}

/// The shell's exit code for a wait status: the code, or 128 + the signal.
pub fn exit_code(wait_status: i32) -> i32 {
    match wait_status & 0x7f {
        0 => (wait_status >> 8) & 0xff,
        signal => 128 + signal,
    }
}

fn info(pidfd: BorrowedFd<'_>, mask: u64) -> io::Result<Info> {
    let mut info = Info { mask, ..Info::default() };
    // SAFETY: the request number says how large the structure is, and it is writable for the whole call.
    check(unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) }.into())?;
    Ok(info)
}
