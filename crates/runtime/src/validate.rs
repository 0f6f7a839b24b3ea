//! Contradictions in a configuration that would reach beyond the container or do something else than was meant: found
//! before anything is made. What single fields mean is the sandbox's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::{Error, Result};

/// Parameters of System V IPC and message queues (kernel documentation, `sysctl/kernel.rst`).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Checks the configuration.
pub(crate) fn check(spec: &Spec) -> Result<()> {
    names(spec)?;
    sysctls(spec)
}

/// Longest name that the kernel takes, in bytes (sethostname(2)).
const LONGEST_NAME: usize = 64;

/// A host name without a namespace for it would be the host's.
fn names(spec: &Spec) -> Result<()> {
    for (field, value) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        if let Some(length) = value.as_ref().map(String::len).filter(|length| *length > LONGEST_NAME) {
            return Err(Error::new(format!("{field}: {length} bytes are more than {LONGEST_NAME}")));
        }
    }
    if has_own(spec, LinuxNamespaceType::Uts) {
        return Ok(());
    }
    for (field, value) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        if value.as_ref().is_some_and(|value| !value.is_empty()) {
            return Err(Error::new(format!("{field}: unable to set {field} without a private UTS namespace")));
        }
    }
    Ok(())
}

/// Kernel parameters may only be those of namespaces that are the container's (CVE-2022-0532).
fn sysctls(spec: &Spec) -> Result<()> {
    let Some(sysctls) = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref()) else { return Ok(()) };
    for (given, value) in sysctls {
        // With slashes as separators, dots are part of names (sysctl.d(5)).
        let name = if given.find('/') < given.find('.') && given.contains('/') {
            given.replace('.', "\u{0}").replace('/', ".").replace('\u{0}', "/")
        } else {
            given.clone()
        };
        let refused = |why: &str| Err(Error::new(format!("linux.sysctl: {given}: {why}")));
        if value.contains(['\n', '\0']) {
            return refused("the value must be one line");
        }
        match name.as_str() {
            "kernel.domainname" if spec.domainname().as_ref().is_some_and(|domain| domain != value) => {
                return refused("conflicts with domainname");
            }
            // As in runc: the field says it better.
            "kernel.hostname" => return refused("is not allowed as it conflicts with the OCI field hostname"),
            _ => {}
        }
        if !namespace_of(&name).is_some_and(|kind| has_own(spec, kind)) {
            return refused("not in a separate kernel namespace");
        }
    }
    Ok(())
}

/// The namespace that a parameter belongs to.
fn namespace_of(name: &str) -> Option<LinuxNamespaceType> {
    match name {
        _ if IPC.contains(&name) || name.starts_with("fs.mqueue.") => Some(LinuxNamespaceType::Ipc),
        _ if name.starts_with("net.") => Some(LinuxNamespaceType::Network),
        _ if name.starts_with("user.") => Some(LinuxNamespaceType::User),
        "kernel.domainname" => Some(LinuxNamespaceType::Uts),
        _ => None,
    }
}

/// Whether the container has a namespace of this kind that is not the one that we are in.
fn has_own(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let found = namespaces.into_iter().flatten().find(|namespace| namespace.typ() == kind);
    found.is_some_and(|namespace| namespace.path().as_ref().is_none_or(|path| !is_ours(path, kind)))
}

fn is_ours(path: &Path, kind: LinuxNamespaceType) -> bool {
    let own = match kind {
        LinuxNamespaceType::Network => "net",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::Uts => "uts",
        _ => "user",
    };
    let identity = |path: &Path| fs::metadata(path).map(|data| (data.dev(), data.ino())).ok();
    identity(path) == identity(&Path::new("/proc/self/ns").join(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(namespaces: &[&str], more: &str) -> String {
        let namespaces: Vec<_> = namespaces.iter().map(|kind| serde_json::json!({"type": kind})).collect();
        let mut spec: serde_json::Value = serde_json::from_str(more).unwrap();
        spec["ociVersion"] = "1.0.0".into();
        spec["linux"]["namespaces"] = namespaces.into();
        let spec = crate::bundle::parse(spec.to_string().as_bytes()).unwrap();
        check(&spec).err().map_or(String::new(), |error| error.text)
    }

    #[test]
    fn parameters_of_the_host_are_refused() {
        let shm = r#"{"linux": {"sysctl": {"kernel.shmmax": "1"}}}"#;
        assert_eq!(refused(&["ipc"], shm), "");
        assert!(refused(&["network"], shm).contains("kernel.shmmax"));
        let net = r#"{"linux": {"sysctl": {"net/ipv4/conf/eth0.1/forwarding": "1"}}}"#;
        assert_eq!(refused(&["network"], net), "");
        assert!(refused(&[], net).contains("separate kernel namespace"));
        for name in ["vm.swappiness", "kernel.core_pattern", "kernel/core_pattern", "kernel.panic"] {
            let json = serde_json::json!({"linux": {"sysctl": {name: "1"}}}).to_string();
            assert!(refused(&["ipc", "network", "uts", "user"], &json).contains(name), "{name}");
        }
        let injected = r#"{"linux": {"sysctl": {"net.ipv4.ip_forward": "1\nkernel.x=2"}}}"#;
        assert!(refused(&["network"], injected).contains("one line"));
    }

    #[test]
    fn names_need_a_namespace_and_one_value() {
        assert!(refused(&[], r#"{"hostname": "x"}"#).contains("UTS"));
        assert!(refused(&["uts"], r#"{"linux": {"sysctl": {"kernel.hostname": "x"}}}"#).contains("hostname"));
        let two = r#"{"domainname": "x", "linux": {"sysctl": {"kernel.domainname": "y"}}}"#;
        assert!(refused(&["uts"], two).contains("conflicts"));
    }

    #[test]
    fn joining_our_own_namespace_makes_nothing_private() {
        let spec = r#"{"ociVersion": "1.0.0", "hostname": "x", "linux": {"namespaces":
            [{"type": "uts", "path": "/proc/self/ns/uts"}]}}"#;
        assert!(check(&crate::bundle::parse(spec.as_bytes()).unwrap()).is_err());
    }
}
