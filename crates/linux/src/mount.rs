//! The mount API beyond rustix: attributes of mounts, id-mapped clones of trees.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use crate::check;
use crate::exec::c_string;

/// `MOUNT_ATTR_…` bits (mount_setattr(2)).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits have no effect.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x8;
    /// All ways to treat access times; always cleared together with setting one of them.
    pub const ATIME: u64 = 0x70;
    /// Update access times only when they are older than the file's change.
    pub const RELATIME: u64 = 0x00;
    /// Never update access times.
    pub const NOATIME: u64 = 0x10;
    /// Always update access times.
    pub const STRICTATIME: u64 = 0x20;
    /// No access times for directories.
    pub const NODIRATIME: u64 = 0x80;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
    pub(super) const IDMAP: u64 = 0x10_0000;
}

/// Changes to make to a mount or a tree of mounts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// Bits of [`attr`] to set.
    pub set: u64,
    /// Bits to clear first.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`; zero leaves it.
    pub propagation: u64,
    /// Show owners through this user namespace: id n on disk is what n inside that namespace is.
    pub idmap: Option<BorrowedFd<'a>>,
}

/// `struct mount_attr` (`include/uapi/linux/mount.h`).
#[repr(C)]
struct Raw {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

impl Attributes<'_> {
    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.set | self.clear | self.propagation == 0 && self.idmap.is_none()
    }

    fn raw(&self) -> Raw {
        Raw {
            set: self.set | if self.idmap.is_some() { attr::IDMAP } else { 0 },
            clear: self.clear,
            propagation: self.propagation,
            userns: self.idmap.map_or(0, |fd| fd.as_raw_fd() as u64),
        }
    }
}

/// Changes the mount behind `mount`, or with `recursive` the whole tree.
pub fn set_attributes(mount: impl AsFd, recursive: bool, attributes: &Attributes<'_>) -> io::Result<()> {
    let raw = attributes.raw();
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the empty path means the descriptor itself; `raw` is a valid mount_attr of the given size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<Raw>(),
        )
    })
    .map(drop)
}

/// Whether something is mounted right there. Follows no link at the end.
pub fn is_mount_point(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    statx(CWD, path, AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// A detached clone (a bind mount that is nowhere yet) of what `path` below `dir` names (empty: `dir` itself), with its
/// submounts if `recursive`, already changed as `attributes` say. One call from Linux 6.15, two before.
pub fn clone_tree(dir: impl AsFd, path: &Path, recursive: bool, attributes: &Attributes<'_>) -> io::Result<OwnedFd> {
    const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
    let c_path = c_string(path.as_os_str().as_encoded_bytes())?;
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    flags |= if path.as_os_str().is_empty() { libc::AT_EMPTY_PATH as libc::c_uint } else { 0 };
    flags |= if recursive { libc::AT_RECURSIVE as libc::c_uint } else { 0 };
    let dir = dir.as_fd().as_raw_fd();
    let open_tree = || {
        // SAFETY: the path is null-terminated.
        let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, dir, c_path.as_ptr(), flags) })?;
        // SAFETY: the kernel just returned this new descriptor to us alone.
        Ok::<_, io::Error>(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    };
    if attributes.is_empty() {
        return open_tree();
    }
    let raw = attributes.raw();
    // SAFETY: the path is null-terminated, `raw` a valid mount_attr of the given size.
    let result = check(unsafe {
        libc::syscall(SYS_OPEN_TREE_ATTR, dir, c_path.as_ptr(), flags, &raw const raw, size_of::<Raw>())
    });
    match result {
        // SAFETY: the kernel just returned this new descriptor to us alone.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            let tree = open_tree()?;
            set_attributes(&tree, recursive, attributes)?;
            Ok(tree)
        }
        Err(error) => Err(error),
    }
}

/// Decides for an overlay to be where it keeps its notes, and that they are only those which its upper directory explains
/// by itself, whatever the module's defaults are: no moved directories (`redirect_dir`), no files without their data
/// (`metacopy`). Such notes of a hostile layer would lead elsewhere, so they are not followed either. In a user namespace
/// (`rootless`) the notes are attributes that its root may write, and both are off without being named.
pub fn set_overlay_notes(overlay: impl AsFd, rootless: bool) -> io::Result<()> {
    if rootless {
        rustix::mount::fsconfig_set_flag(overlay, "userxattr")?;
    } else {
        rustix::mount::fsconfig_set_string(overlay.as_fd(), "redirect_dir", "nofollow")?;
        rustix::mount::fsconfig_set_string(overlay, "metacopy", "off")?;
    }
    Ok(())
}
