//! Where a container's cgroup is, and the limits it gets: what runc adds to the configuration.

use std::fs;
use std::io;
use std::path::Path;

use oci_spec::runtime::{
    LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespace, LinuxNamespaceType, LinuxResources, Mount, Spec,
};
use sandbox::cgroup::{self, Version};

use crate::Result;
use crate::error::Step;

/// The path below the root of each hierarchy: the configuration's if it is absolute; else beside the caller's own cgroup
/// on v2 (as runc; a cgroup with processes can have no limited children), and below the root on v1.
pub(crate) fn cgroup_path(spec: &Spec, id: &str) -> Result<String> {
    let configured = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    let wanted = match configured {
        Some(path) if !path.as_os_str().is_empty() => path,
        _ => Path::new(id),
    };
    let parent = match cgroup::version() {
        Version::V2 if !wanted.is_absolute() => own_parent().step(|| "read /proc/self/cgroup".into())?,
        _ => "/".to_owned(),
    };
    Ok(clean(&Path::new(&parent).join(wanted)))
}

fn own_parent() -> io::Result<String> {
    let memberships = fs::read_to_string("/proc/self/cgroup")?;
    let own = memberships.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    Ok(own.rsplit_once('/').map_or("/", |(parent, _)| parent).to_owned() + "/")
}

/// Without repeated slashes, `.` and a slash at the end; `..` stays and is refused later.
fn clean(path: &Path) -> String {
    let mut clean = String::new();
    for part in path.to_string_lossy().split('/').filter(|part| !matches!(*part, "" | ".")) {
        clean.push('/');
        clean.push_str(part);
    }
    clean
}

/// Who is to own the container's cgroup, so that its program can make others below (runtime-spec, config-linux.md "Cgroup
/// ownership"): only on v2, with a cgroup namespace of its own and a file system of cgroups that can be written.
pub(crate) fn cgroup_owner(spec: &Spec) -> Option<u32> {
    if cgroup::version() == Version::V2 { owner(spec) } else { None }
}

fn owner(spec: &Spec) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    let own = |namespace: &LinuxNamespace| {
        namespace.typ() == LinuxNamespaceType::Cgroup
            && namespace.path().as_ref().is_none_or(|p| p.as_os_str().is_empty())
    };
    let writable = |mount: &Mount| {
        let read_only = mount.options().iter().flatten().any(|word| word == "ro" || word == "rro");
        matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")) && !read_only
    };
    let delegated = linux.namespaces().iter().flatten().any(own) && spec.mounts().iter().flatten().any(writable);
    let uid = spec.process().as_ref().filter(|_| delegated)?.user().uid();
    match linux.uid_mappings().as_deref() {
        None | Some([]) => Some(uid),
        Some(mappings) => mappings.iter().find_map(|mapping| {
            let offset = uid.checked_sub(mapping.container_id()).filter(|offset| *offset < mapping.size())?;
            mapping.host_id().checked_add(offset)
        }),
    }
}

/// The limits of the configuration, with the device rules that every container has: all is denied that is not allowed,
/// and what every container needs is allowed (runc's `specconv.AllowedDevices`).
pub(crate) fn resources(spec: &Spec) -> LinuxResources {
    let mut resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
    let mut rules = vec![rule(false, LinuxDeviceType::A, None, None, "rwm")];
    rules.extend(resources.devices().iter().flatten().cloned());
    rules.extend(default_devices());
    resources.set_devices(Some(rules));
    resources
}

/// Device (kind, major, minor, access) that every container may use.
const DEFAULT_DEVICES: [(LinuxDeviceType, Option<i64>, Option<i64>, &str); 11] = [
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    (LinuxDeviceType::C, Some(136), None, "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(1), "rwm"),
];

fn default_devices() -> impl Iterator<Item = LinuxDeviceCgroup> {
    DEFAULT_DEVICES.iter().map(|(kind, major, minor, access)| rule(true, *kind, *major, *minor, access))
}

fn rule(allow: bool, kind: LinuxDeviceType, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow);
    rule.set_typ(Some(kind));
    rule.set_major(major);
    rule.set_minor(minor);
    rule.set_access(Some(access.to_owned()));
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_belongs_to_who_may_write_below_it() {
        let spec = |uid: u32, mount: &str, namespace: &str| -> Option<u32> {
            let json = format!(
                r#"{{"ociVersion": "1.3.0", "process": {{"user": {{"uid": {uid}, "gid": 0}}, "cwd": "/"}},
                "mounts": [{mount}], "linux": {{"namespaces": [{namespace}],
                "uidMappings": [{{"containerID": 0, "hostID": 1000, "size": 10}}]}}}}"#
            );
            owner(&serde_json::from_str(&json).unwrap())
        };
        let (mount, namespace) = (r#"{"destination": "/c", "type": "cgroup"}"#, r#"{"type": "cgroup"}"#);
        assert_eq!((spec(0, mount, namespace), spec(7, mount, namespace)), (Some(1000), Some(1007)));
        assert_eq!(spec(10, mount, namespace), None);
        assert_eq!(spec(0, r#"{"destination": "/c", "type": "cgroup", "options": ["ro"]}"#, namespace), None);
        assert_eq!(spec(0, mount, r#"{"type": "cgroup", "path": "/proc/1/ns/cgroup"}"#), None);
        assert_eq!(spec(0, "", namespace), None);
    }

    #[test]
    fn paths_are_cleaned() {
        assert_eq!(clean(Path::new("//a/./b//c/")), "/a/b/c");
        assert_eq!(clean(Path::new("/")), "");
    }
}
