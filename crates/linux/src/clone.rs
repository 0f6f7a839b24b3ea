//! `clone3(2)`: a child that goes on as a copy of its single-threaded parent, in new namespaces, born in a cgroup, with
//! a pidfd. What the child does is the caller's business.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::{check, namespace};

/// How the child is made; the default is a plain fork.
#[derive(Default)]
pub struct Clone<'a> {
    /// New namespaces for the child.
    pub namespaces: namespace::Kinds,
    /// Directory of the cgroup (v2) the child is born in.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The child's parent is the caller's parent.
    pub sibling: bool,
}

/// A child process; dropping it neither kills nor reaps it.
#[derive(Debug)]
pub struct Child {
    /// Its number as the caller sees it.
    pub pid: i32,
    /// Its descriptor: readable once it has ended.
    pub pidfd: OwnedFd,
}

/// `struct clone_args` (`include/uapi/linux/sched.h`), as of version 2.
#[repr(C, align(8))]
#[derive(Default)]
struct Args {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// libc still has it as an overflowing `c_int`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

impl Clone<'_> {
    /// Starts a child that runs `body` and exits with what it returns.
    ///
    /// Refused (EINVAL) in a process with several threads: another thread's lock, held for ever in the copy, would
    /// block the child.
    pub fn spawn(&self, body: impl FnOnce() -> i32) -> io::Result<Child> {
        if !single_threaded() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the process has more than one thread"));
        }
        let mut pidfd: RawFd = -1;
        let mut args = Args {
            flags: libc::CLONE_PIDFD as u64 | self.namespaces.bits(),
            pidfd: &raw mut pidfd as u64,
            exit_signal: if self.sibling { 0 } else { libc::SIGCHLD as u64 },
            ..Args::default()
        };
        if self.sibling {
            args.flags |= libc::CLONE_PARENT as u64;
        }
        if let Some(cgroup) = self.cgroup {
            args.flags |= CLONE_INTO_CGROUP;
            args.cgroup = cgroup.as_raw_fd() as u64;
        }
        // SAFETY: `args` is a valid clone_args and outlives the call; without CLONE_VM the child has its own copy of
        // the memory; the process is single-threaded, so the copy is as usable as the original.
        let pid = match check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<Args>()) }) {
            // Seccomp profiles that cannot look into clone3's arguments pretend that it does not exist.
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && self.cgroup.is_none() => {
                let flags = args.flags | args.exit_signal;
                // SAFETY: as above; the third argument is where CLONE_PIDFD stores the descriptor.
                check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) })?
            }
            other => other?,
        };
        if pid == 0 {
            exit(body());
        }
        // SAFETY: CLONE_PIDFD made the kernel store a new descriptor there, which nobody else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Child { pid: pid as i32, pidfd })
    }
}

/// Ends the process at once: no destructors, no exit handlers, which belong to the original of a copied process.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Whether the process has one thread only. `unshare(CLONE_THREAD)` changes nothing and fails with EINVAL otherwise; a
/// seccomp filter that forbids it leaves the question open, and whoever is filtered has asked before.
pub fn single_threaded() -> bool {
    // SAFETY: no memory is passed, and the flag has no effect but the check.
    let asked = check(unsafe { libc::unshare(libc::CLONE_THREAD) }.into());
    !asked.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
}
