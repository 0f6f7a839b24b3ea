//! `/dev/shm` of a container whose IPC namespace others may join (`--ipc shareable`): a tmpfs of its size in the
//! container's state directory, from where it and those who join bind it. It lives as long as the run.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::{Context as _, Paths, Result};

/// Where it is.
pub(crate) fn path(paths: &Paths, id: &str) -> PathBuf {
    paths.container_state(id).join("shm")
}

/// Mounts a new one of `size` bytes in the place of the last run's.
pub(crate) fn make(directory: &Path, size: i64) -> Result<()> {
    remove(directory);
    fs::create_dir_all(directory).step(|| format!("create {}", directory.display()))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let options = std::ffi::CString::new(format!("mode=1777,size={size}")).step(|| "mount options".to_owned())?;
    mount("shm", directory, "tmpfs", flags, options.as_c_str())
        .map_err(std::io::Error::from)
        .step(|| format!("mount shared memory on {}", directory.display()))
}

/// Takes it away; who still uses it keeps it until the last one ends. No error if there is none.
pub(crate) fn remove(directory: &Path) {
    while unmount(directory, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) == Ok(()) {}
    // What else is in the state directory is removed with it.
    let _: Result<(), Errno> = rustix::fs::rmdir(directory);
}
