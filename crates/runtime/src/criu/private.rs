//! A mount namespace for the time of a restore: CRIU wants the root file system to be a mount of its own, and looks at our
//! descriptors, so we are in it too. Nothing of it shows on the host, and it goes with us.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use linux::mount::{Attributes, clone_tree, set_attributes};
use linux::namespace::{Kinds, join, unshare};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MoveMountFlags, move_mount};

/// We are in it until this is dropped.
pub(crate) struct Private {
    hosts: Place,
    own: Place,
}

/// A mount namespace and a directory in it.
struct Place {
    namespace: OwnedFd,
    directory: OwnedFd,
}

impl Place {
    fn here() -> io::Result<Self> {
        Ok(Self { namespace: File::open("/proc/self/ns/mnt")?.into(), directory: directory(Path::new("."))? })
    }

    fn enter(&self) -> io::Result<()> {
        join(self.namespace.as_fd(), Kinds::MOUNT)?;
        Ok(rustix::process::fchdir(&self.directory)?)
    }
}

impl Private {
    /// Enters a new one, in which what the host mounts from now on is seen and not the other way round, with `rootfs` at
    /// `place` too.
    pub(crate) fn enter(rootfs: &Path, place: &Path) -> io::Result<Self> {
        let hosts = Place::here()?;
        unshare(Kinds::MOUNT)?;
        let private = Self { own: Place::here()?, hosts };
        let slave = Attributes { propagation: libc::MS_SLAVE, ..Attributes::default() };
        set_attributes(directory(Path::new("/"))?, true, &slave)?;
        let tree = clone_tree(CWD, rootfs, true, &Attributes::default())?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&tree, "", directory(place)?, "", flags)?;
        Ok(private)
    }

    /// Does something outside of it: what hooks mount is the host's.
    pub(crate) fn outside<T>(&self, act: impl FnOnce() -> T) -> io::Result<T> {
        self.hosts.enter()?;
        let outcome = act();
        self.own.enter()?;
        Ok(outcome)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = self.hosts.enter();
    }
}

fn directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
