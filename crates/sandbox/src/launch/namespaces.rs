//! Which namespaces a container gets: new ones, ones to join, the host's; and the id maps of a new user namespace.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use linux::namespace::Kinds;
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use super::Error;
use super::step::Step;

/// The plan for a container's namespaces. What is neither new nor joined is the caller's.
#[derive(Default)]
pub(super) struct Namespaces {
    /// To be made.
    pub(super) new: Kinds,
    /// To be joined; the user namespace, if any, first.
    pub(super) joined: Vec<(Kinds, OwnedFd)>,
    /// `/proc/PID/uid_map` of the new user namespace.
    pub(super) uid_map: String,
    /// `/proc/PID/gid_map` likewise.
    pub(super) gid_map: String,
    /// Host ids of the container's root; where 0 is not mapped, of its first id.
    pub(super) root: (u32, u32),
}

impl Namespaces {
    /// Reads the configuration and opens the namespaces to join.
    pub(super) fn new(linux: &Linux) -> Result<Self, Error> {
        let mut plan = Self::default();
        for namespace in linux.namespaces().iter().flatten() {
            let kind = kind(namespace.typ());
            match namespace.path() {
                None if plan.new.contains(kind) => {
                    return Err(Error::Invalid(format!("linux.namespaces: {} occurs twice", namespace.typ())));
                }
                None => plan.new |= kind,
                Some(path) => {
                    let file =
                        File::open(path).step(|| format!("open {} namespace {}", namespace.typ(), path.display()))?;
                    plan.joined.push((kind, file.into()));
                }
            }
        }
        plan.joined.sort_by_key(|(kind, _)| *kind != Kinds::USER);
        if !plan.new.contains(Kinds::MOUNT) {
            return Err(Error::Invalid("linux.namespaces: a container needs a new mount namespace".into()));
        }
        if plan.new.contains(Kinds::USER) {
            (plan.uid_map, plan.root.0) = map("uidMappings", linux.uid_mappings().as_deref().unwrap_or_default())?;
            (plan.gid_map, plan.root.1) = map("gidMappings", linux.gid_mappings().as_deref().unwrap_or_default())?;
        }
        Ok(plan)
    }

    /// Whether the container has a user namespace other than the caller's.
    pub(super) fn own_user(&self) -> bool {
        self.new.contains(Kinds::USER) || self.joined(Kinds::USER).is_some()
    }

    /// The namespace of this kind that is to be joined.
    pub(super) fn joined(&self, kind: Kinds) -> Option<&OwnedFd> {
        self.joined.iter().find(|(joined, _)| *joined == kind).map(|(_, fd)| fd)
    }

    /// Whether the container has another namespace of this kind than the caller.
    pub(super) fn separate(&self, kind: Kinds) -> bool {
        self.new.contains(kind) || self.joined(kind).is_some_and(|joined| !is_callers(kind, joined))
    }

    /// Joins all that are to be joined, except processes' (which only children enter).
    pub(super) fn join(&self) -> Result<(), Error> {
        for (kind, fd) in self.joined.iter().filter(|(kind, _)| *kind != Kinds::PID) {
            linux::namespace::join(fd.as_fd(), *kind).step(|| format!("join the {} namespace", name(*kind)))?;
        }
        Ok(())
    }
}

/// Whether the caller is in this namespace itself.
fn is_callers(kind: Kinds, namespace: &OwnedFd) -> bool {
    let file = match kind {
        Kinds::MOUNT => "mnt",
        Kinds::NETWORK => "net",
        other => name(other),
    };
    let own = rustix::fs::stat(format!("/proc/self/ns/{file}"));
    let joined = rustix::fs::fstat(namespace);
    own.and_then(|own| Ok((own.st_dev, own.st_ino) == joined.map(|joined| (joined.st_dev, joined.st_ino))?))
        .unwrap_or(true)
}

fn kind(typ: LinuxNamespaceType) -> Kinds {
    match typ {
        LinuxNamespaceType::Mount => Kinds::MOUNT,
        LinuxNamespaceType::Cgroup => Kinds::CGROUP,
        LinuxNamespaceType::Uts => Kinds::UTS,
        LinuxNamespaceType::Ipc => Kinds::IPC,
        LinuxNamespaceType::User => Kinds::USER,
        LinuxNamespaceType::Pid => Kinds::PID,
        LinuxNamespaceType::Network => Kinds::NETWORK,
        LinuxNamespaceType::Time => Kinds::TIME,
    }
}

fn name(kind: Kinds) -> &'static str {
    match kind {
        Kinds::MOUNT => "mount",
        Kinds::CGROUP => "cgroup",
        Kinds::UTS => "uts",
        Kinds::IPC => "ipc",
        Kinds::USER => "user",
        Kinds::NETWORK => "network",
        Kinds::TIME => "time",
        _ => "pid",
    }
}

/// The map's text for the kernel, and the host id that the container's 0 (else its first id) is.
fn map(field: &str, mappings: &[LinuxIdMapping]) -> Result<(String, u32), Error> {
    let line = |m: &LinuxIdMapping| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size());
    let root = mappings.iter().find(|m| m.container_id() == 0).or(mappings.first());
    match root {
        Some(root) => Ok((mappings.iter().map(line).collect(), root.host_id())),
        None => Err(Error::Invalid(format!("linux.{field}: a new user namespace needs mappings"))),
    }
}
