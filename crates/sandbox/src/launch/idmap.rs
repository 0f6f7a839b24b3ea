//! User namespaces as id maps for mounts: the container's own, or one made from a mount's own mappings.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use linux::clone::{Child, Clone};
use linux::mount::Attributes;
use linux::namespace::Kinds;
use oci_spec::runtime::LinuxIdMapping;

use super::Error;
use super::parent::kill_and_reap;
use super::step::Step;

/// A mapping between the ids on disk and those on the host.
pub(super) struct IdMap {
    /// The namespace that says so.
    pub(super) userns: OwnedFd,
    /// Host ids of its root.
    pub(super) root: (u32, u32),
}

impl IdMap {
    /// Attributes that map a mount.
    pub(super) fn attributes(&self) -> Attributes<'_> {
        Attributes { idmap: Some(self.userns.as_fd()), ..Attributes::default() }
    }
}

/// The user namespace of a child; by its pidfd where the kernel can (6.11), else by its number.
pub(super) fn user_namespace(child: &Child) -> Result<OwnedFd, Error> {
    if let Ok(fd) = linux::namespace::user_of(child.pidfd.as_fd()) {
        return Ok(fd);
    }
    let path = format!("/proc/{}/ns/user", child.pid);
    fs::File::open(&path).map(OwnedFd::from).step(|| format!("open {path}"))
}

/// Writes the id maps of a child that is the first one in a new user namespace.
pub(super) fn write_maps(pid: i32, uids: &str, gids: &str) -> Result<(), Error> {
    for (file, map) in [("uid_map", uids), ("gid_map", gids)] {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, map).step(|| format!("write {:?} to {path}", map.trim_end()))?;
    }
    Ok(())
}

/// A namespace for the mappings that a mount brings itself (OCI 1.1 `uidMappings`): a process is born into it, and
/// killed once it is held by a descriptor.
pub(super) fn for_mappings(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<IdMap, Error> {
    // The kernel takes ids in the file system as the "inside" and the mount's as the "outside" ids; the configuration
    // names them container and host ids (runtime-spec, config.md, "idmap").
    let lines = |maps: &[LinuxIdMapping]| -> String {
        maps.iter().map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size())).collect()
    };
    let clone = Clone { namespaces: Kinds::USER, ..Clone::default() };
    let holder = clone.spawn(wait_for_death).step(|| "make a user namespace for an id-mapped mount".into())?;
    let made = write_maps(holder.pid, &lines(uids), &lines(gids)).and_then(|()| user_namespace(&holder));
    kill_and_reap(&holder.pidfd);
    Ok(IdMap { userns: made?, root: (0, 0) })
}

fn wait_for_death() -> i32 {
    loop {
        rustix::event::pause();
    }
}
