//! Namespaces: their kinds, making, joining, and descriptors of another process's.

use std::io;
use std::ops::{BitOr, BitOrAssign};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check;

/// A set of kinds of namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u64);

impl Kinds {
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// Host and domain name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// System V and POSIX message queues, semaphores, shared memory.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// Process numbers.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// Network.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET as u64);
    /// Users and groups, capabilities.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// The root of the visible cgroup tree.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);
    /// Monotonic and boot-time clocks.
    pub const TIME: Self = Self(0x80);
    /// Every kind.
    pub const ALL: Self = Self(
        Self::MOUNT.0
            | Self::UTS.0
            | Self::IPC.0
            | Self::PID.0
            | Self::NETWORK.0
            | Self::USER.0
            | Self::CGROUP.0
            | Self::TIME.0,
    );

    /// As the kernel's `CLONE_NEW…` bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether every kind of `other` is in it.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With the kinds of `other`; `|` for constants.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Only the kinds that are in `other` too.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Without the kinds of `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Kinds {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Kinds {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// Moves the calling thread into new namespaces (`unshare(2)`).
pub fn unshare(kinds: Kinds) -> io::Result<()> {
    // SAFETY: no memory is passed; `Kinds` holds namespace flags only, none of which splits the memory or the
    // descriptor table that safe code relies on.
    check(unsafe { libc::syscall(libc::SYS_unshare, kinds.0) }).map(drop)
}

/// Joins namespaces (`setns(2)`): `target` is a pidfd, or a namespace's own descriptor and `kinds` its kind.
pub fn join(target: BorrowedFd<'_>, kinds: Kinds) -> io::Result<()> {
    // SAFETY: no memory is passed; the descriptor is borrowed, hence open.
    check(unsafe { libc::syscall(libc::SYS_setns, target.as_raw_fd(), kinds.0) }).map(drop)
}

/// Whether the calling process has no power over the host: it is not root, or root only in a user namespace that is
/// not the first one.
pub fn is_rootless() -> bool {
    /// `PROC_USER_INIT_INO` of `include/linux/proc_ns.h`.
    const FIRST: u64 = 0xEFFF_FFFD;
    let in_first = || rustix::fs::stat("/proc/self/ns/user").is_ok_and(|namespace| namespace.st_ino == FIRST);
    !rustix::process::geteuid().is_root() || !in_first()
}

/// Whether the calling process's user namespace has one id only.
pub fn has_one_id() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().count() == 1 && map.split_whitespace().nth(2) == Some("1")
}

/// The user namespace of the process behind a pidfd (Linux 6.11; EINVAL or ENOTTY before).
pub fn user_of(pidfd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const PIDFD_GET_USER_NAMESPACE: libc::c_ulong = 0xFF09;
    namespace_of(pidfd, PIDFD_GET_USER_NAMESPACE)
}

/// The mount namespace of the process behind a pidfd (Linux 6.11; EINVAL or ENOTTY before).
pub fn mounts_of(pidfd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const PIDFD_GET_MNT_NAMESPACE: libc::c_ulong = 0xFF03;
    namespace_of(pidfd, PIDFD_GET_MNT_NAMESPACE)
}

/// The user namespace in which another one was made (`ioctl_nsfs(2)`, NS_GET_PARENT).
pub fn parent_of(user_namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const NS_GET_PARENT: libc::c_ulong = 0xb702;
    namespace_of(user_namespace, NS_GET_PARENT)
}

fn namespace_of(pidfd: BorrowedFd<'_>, request: libc::c_ulong) -> io::Result<OwnedFd> {
    // SAFETY: these ioctls take no argument.
    let fd = check(unsafe { libc::ioctl(pidfd.as_raw_fd(), request, 0) }.into())?;
    // SAFETY: the kernel just returned this new descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
