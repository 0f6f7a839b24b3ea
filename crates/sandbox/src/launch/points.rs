//! Places in a root file system for mounts that somebody else makes: CRIU, at the restore of a container.

use std::path::{Component, Path};

use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{Mode, OFlags};

use super::Error;
use super::root::{DIRECTORY_MODE, Root};
use super::step::Step;

/// Makes the missing ones of the configured mounts: files for mounted files, else directories. What lies in another mount
/// is not looked at: the places in that one were made with the container, or are saved with it.
pub fn make_mount_points(rootfs: &Path, spec: &Spec) -> Result<(), Error> {
    let what = || format!("open the root file system {}", rootfs.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = Root::new(rustix::fs::open(rootfs, flags, Mode::empty()).step(what)?);
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    for mount in mounts.iter().filter(|mount| !mounts.iter().any(|other| lies_in(mount, other))) {
        let path = mount.destination();
        let file = mount.source().as_ref().is_some_and(|source| source.is_absolute() && source.is_file());
        let made = if file { root.make_file(path) } else { root.make_directory(path, DIRECTORY_MODE) };
        made.step(|| format!("make the mount point {}", path.display()))?;
    }
    Ok(())
}

fn lies_in(mount: &Mount, other: &Mount) -> bool {
    let plain = |path: &Path| -> Vec<_> {
        path.components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .map(|part| part.as_os_str().to_owned())
            .collect()
    };
    let (path, other) = (plain(mount.destination()), plain(other.destination()));
    path.len() > other.len() && path.starts_with(&other)
}
