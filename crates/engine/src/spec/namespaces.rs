//! The namespaces of a container: which are its own, which it shares with the host or with another container.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespace, LinuxNamespaceType};

use super::userns::{self, Owner};
use crate::model::HostConfig;
use crate::table::{self, Container};
use crate::{Engine, Error, Result, status};

/// Whose user namespace a container is started in, and how its ids are mapped.
pub(crate) enum Space {
    /// The host's: ids are what they are.
    Host,
    /// Its own, with these mappings of users and groups.
    Own(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>),
    /// That of a process, which has its mappings already.
    Joined(i32),
}

impl Space {
    /// Whether ids in the container differ from the host's.
    pub(crate) fn is_mapped(&self) -> bool {
        !matches!(self, Space::Host)
    }
}

/// How many containers may join each other's namespaces in a row.
const MAX_CHAIN: usize = 16;

impl Engine {
    /// A running container whose namespaces are to be joined, and its first process. `what` is for the error.
    pub(crate) fn joined(&self, name: &str, what: &str) -> Result<(Container, i32)> {
        let container = self.read(|connection| table::find(connection, name))?;
        let status = status::liveness(self.paths(), &container.id).status().cloned();
        match status.filter(|status| status.process_alive()) {
            Some(status) => Ok((container, status.pid)),
            None => Err(Error::conflict(format!("cannot join {what} of a non running container: {}", container.id))
                .hinted(format!("start it first: kiste start {}", container.name))),
        }
    }

    /// The user namespace in which a container is started now.
    pub(crate) fn space(&self, container: &Container) -> Result<Space> {
        match userns::owner(&container.host)? {
            Owner::Host => Ok(Space::Host),
            Owner::Own => own_space(container),
            Owner::Container(name) => self.joined_space(&name, shared_with(&container.host, &name)),
        }
    }

    /// The user namespace of another container: its own, the host's, or the one that it joined itself.
    fn joined_space(&self, name: &str, what: &str) -> Result<Space> {
        let (_, pid) = self.joined(name, what)?;
        let mut name = name.to_owned();
        for _ in 0..MAX_CHAIN {
            let container = self.read(|connection| table::find(connection, &name))?;
            match userns::owner(&container.host)? {
                Owner::Host => return Ok(Space::Host),
                Owner::Container(next) => name = next,
                Owner::Own => return Ok(Space::Joined(pid)),
            }
        }
        Err(Error::invalid(format!("container {name}: more than {MAX_CHAIN} containers join each other's namespaces")))
    }
}

/// What a container asked to share with another one, for errors.
fn shared_with(host: &HostConfig, name: &str) -> &'static str {
    let asks = |mode: &str| mode.strip_prefix("container:") == Some(name);
    match () {
        () if asks(&host.network_mode) => "network namespace",
        () if asks(&host.pid_mode) => "PID namespace",
        () if asks(&host.ipc_mode) => "IPC namespace",
        () => "user namespace",
    }
}

fn own_space(container: &Container) -> Result<Space> {
    if sandbox::rootless::is_rootless() {
        let (users, groups) = userns::all_of_mine()?;
        return Ok(Space::Own(users, groups));
    }
    let base = container
        .uid_base
        .ok_or_else(|| Error::internal(format!("container {} has no range of ids on record", container.id)))?;
    let (users, groups) = userns::mappings(&container.host, base)?;
    Ok(Space::Own(users, groups))
}

fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind);
    namespace.set_path(path);
    namespace
}

/// The namespaces to make or join; those of the host's that are shared are absent.
pub(super) fn list(engine: &Engine, host: &HostConfig, space: &Space) -> Result<Vec<LinuxNamespace>> {
    use LinuxNamespaceType as Type;
    let mut list = vec![namespace(Type::Mount, None), namespace(Type::Time, None)];
    match space {
        Space::Host => {}
        Space::Own(..) => list.push(namespace(Type::User, None)),
        Space::Joined(pid) => list.push(namespace(Type::User, Some(path(*pid, "user")))),
    }
    let modes = [
        (Type::Pid, &host.pid_mode, "pid", "PID namespace"),
        (Type::Network, &host.network_mode, "net", "network namespace"),
        (Type::Ipc, &host.ipc_mode, "ipc", "IPC namespace"),
        (Type::Uts, &host.uts_mode, "uts", "UTS namespace"),
        (Type::Cgroup, &host.cgroupns_mode, "cgroup", "cgroup namespace"),
    ];
    for (kind, mode, file, what) in modes {
        match mode.strip_prefix("container:") {
            _ if mode == "host" => {}
            None => list.push(namespace(kind, None)),
            Some(name) => {
                let (_, pid) = engine.joined(name, what)?;
                list.push(namespace(kind, Some(path(pid, file))));
            }
        }
    }
    Ok(list)
}

fn path(pid: i32, file: &str) -> PathBuf {
    format!("/proc/{pid}/ns/{file}").into()
}
