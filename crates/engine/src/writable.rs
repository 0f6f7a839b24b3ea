//! A container's writable directory and its image as two open trees: what `diff`, `commit` and `export` read.

use std::os::fd::OwnedFd;

use image::Upper;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::copy_up::View;
use crate::table::Container;
use crate::{Context as _, Engine, Result};

/// What every container has mounted over; the places for it were made in its writable directory.
const PLACES: [&str; 6] = ["dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys"];

/// Both trees. The ids in them are the container's own.
pub(crate) struct Writable {
    pub(crate) upper: OwnedFd,
    lower: View,
}

impl Engine {
    /// Opens the trees of a container.
    pub(crate) fn writable(&self, container: &Container) -> Result<Writable> {
        let image = self.image_of(container)?;
        let path = self.writable_home(container)?.join("upper");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let upper = openat(CWD, &path, flags, Mode::empty()).step(|| format!("open {}", path.display()))?;
        Ok(Writable { upper, lower: View::open(&self.images().mount(&image)?)? })
    }
}

impl Writable {
    /// The image's tree.
    pub(crate) fn lower(&self) -> &OwnedFd {
        self.lower.root()
    }

    /// For finding changes.
    pub(crate) fn trees(&self) -> Upper<'_> {
        Upper { upper: &self.upper, lower: self.lower(), places: &PLACES }
    }
}
