//! Where a container's cgroup is, and the limits it gets: what runc adds to the configuration.

use std::fs;
use std::io;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxResources, Spec};
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
    fn paths_are_cleaned() {
        assert_eq!(clean(Path::new("//a/./b//c/")), "/a/b/c");
        assert_eq!(clean(Path::new("/")), "");
    }
}
