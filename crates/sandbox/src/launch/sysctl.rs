//! Kernel parameters: which of them belong to a container's own namespaces, and setting them. Written through a procfs
//! that no other process can reach, so that nothing in the image or on a shared volume can redirect them
//! (CVE-2025-52881).

use std::os::fd::OwnedFd;
use std::path::Path;

use linux::namespace::Kinds;
use oci_spec::runtime::Linux;
use rustix::fs::OFlags;

use super::namespaces::Namespaces;
use super::root::Root;
use super::step::Step;
use super::{Error, place};

/// Parameters of IPC namespaces (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Refuses parameters that would be the host's.
pub(super) fn check(linux: &Linux, namespaces: &Namespaces) -> Result<(), Error> {
    for (name, value) in linux.sysctl().iter().flatten() {
        let refused = |text: &str| Err(Error::Invalid(format!("linux.sysctl: sysctl {name:?} {text}")));
        let path = path(name)?;
        if value.contains(['\0', '\n']) {
            return refused("has a value of several lines");
        }
        let (own, text) = match path.as_str() {
            "kernel/hostname" => (false, "is not allowed as it conflicts with the OCI \"hostname\" field"),
            "kernel/domainname" => (namespaces.separate(Kinds::UTS), "is not allowed in the hosts uts namespace"),
            path if IPC.contains(&path) || path.starts_with("fs/mqueue/") => {
                (namespaces.separate(Kinds::IPC), "is not allowed in the hosts ipc namespace")
            }
            path if path.starts_with("net/") => {
                (namespaces.separate(Kinds::NETWORK), "not allowed in host network namespace")
            }
            path if path.starts_with("user/") => {
                (namespaces.own_user(), "is not allowed without a user namespace of the container's own")
            }
            _ => (false, "is not in a separate kernel namespace"),
        };
        if !own {
            return refused(text);
        }
    }
    Ok(())
}

/// Sets them: through `own`, the container's procfs before anything can see it, or one made for this.
pub(super) fn set(linux: &Linux, own: Option<OwnedFd>) -> Result<(), Error> {
    let wanted = linux.sysctl().iter().flatten();
    if wanted.clone().next().is_none() {
        return Ok(());
    }
    let procfs = Root::new(own.map_or_else(place::procfs, Ok)?);
    for (name, value) in wanted {
        write(&procfs, &Path::new("sys").join(path(name)?), value).map_err(|error| match error {
            Error::Step(text) => Error::Step(format!("sysctl {name}={value}: {text}")),
            other => other,
        })?;
    }
    Ok(())
}

/// The file below `/proc/sys`. The first of `.` and `/` that occurs separates, the other stands for a dot in a name, as
/// in `net/ipv4/conf/eth0.1/forwarding` (sysctl(8)).
fn path(name: &str) -> Result<String, Error> {
    let dots = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'.');
    let swap = |letter: char| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if dots { name.chars().map(swap).collect() } else { name.to_owned() };
    match path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
        true => Err(Error::Invalid(format!("linux.sysctl: sysctl {name:?}: malformed name"))),
        false => Ok(path),
    }
}

fn write(procfs: &Root, path: &Path, value: &str) -> Result<(), Error> {
    let what = || format!("write {:?} to /proc/{}", value.trim_end(), path.display());
    let file = procfs.open_unlinked(path, OFlags::WRONLY).step(what)?;
    rustix::io::write(file, value.as_bytes()).step(what).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_slashes() {
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding").unwrap(), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding").unwrap(), "net/ipv4/conf/eth0.1/forwarding");
        for name in ["", ".", "..", "net..ipv4", "/net", "net/../../kernel/core_pattern", "a/"] {
            assert!(path(name).is_err(), "{name}");
        }
    }

    fn refused(name: &str, namespaces: &str) -> String {
        let json = format!(r#"{{"sysctl": {{"{name}": "1"}}, "namespaces": [{{"type": "mount"}}{namespaces}]}}"#);
        let linux: Linux = serde_json::from_str(&json).unwrap();
        let plan = Namespaces::new(&linux).unwrap();
        check(&linux, &plan).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn only_the_containers_own_parameters() {
        let host = r#",{"type": "network", "path": "/proc/self/ns/net"}"#;
        let cases = [
            ("kernel.msgmax", "", "ipc namespace"),
            ("kernel.msgmax", r#",{"type": "ipc"}"#, ""),
            ("fs.mqueue.msg_max", r#",{"type": "ipc"}"#, ""),
            ("net.ipv4.ip_forward", "", "host network namespace"),
            ("net.ipv4.ip_forward", host, "host network namespace"),
            ("net.ipv4.ip_forward", r#",{"type": "network"}"#, ""),
            ("kernel.hostname", r#",{"type": "uts"}"#, "conflicts"),
            ("kernel.domainname", r#",{"type": "uts"}"#, ""),
            ("user.max_user_namespaces", "", "user namespace"),
            ("kernel.core_pattern", r#",{"type": "ipc"}"#, "separate kernel namespace"),
            ("vm.swappiness", "", "separate kernel namespace"),
        ];
        for (name, namespaces, expected) in cases {
            let text = refused(name, namespaces);
            assert!(text.contains(expected) && text.is_empty() == expected.is_empty(), "{name}: {text}");
        }
    }
}
