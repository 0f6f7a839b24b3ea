//! Devices: the nodes that a container sees beside the minimal `/dev`, and the rules of its device cgroup.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use crate::model::{DeviceMapping, HostConfig};
use crate::{Error, Result};

/// Nesting and number of nodes below a directory given as a device, at most: `/dev` of a large host has some hundreds.
const MAX_DEPTH: usize = 8;
const MAX_NODES: usize = 65536;

/// Checks `--device` and `--device-cgroup-rule`.
pub(crate) fn check(host: &HostConfig) -> Result<()> {
    for rule in host.device_cgroup_rules.iter().flatten() {
        parse_rule(rule)?;
    }
    for device in host.devices.iter().flatten() {
        check_permissions(&device.cgroup_permissions)?;
        let inside = &device.path_in_container;
        if !inside.is_empty() && (!inside.starts_with('/') || inside.split('/').any(|part| part == "..")) {
            return Err(Error::invalid(format!(
                "bad device path in the container: {inside:?}, it needs to be absolute"
            )));
        }
        mapped(device)?;
    }
    Ok(())
}

fn check_permissions(permissions: &str) -> Result<()> {
    let repeated = |c: char| permissions.matches(c).count() > 1;
    if permissions.chars().all(|c| "rwm".contains(c) && !repeated(c)) {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid device mode: {permissions}"))
        .hinted("it is any of r, w and m, for example rwm"))
}

/// The device nodes: every one of the host's for a privileged container, else those asked for.
pub(crate) fn nodes(host: &HostConfig) -> Result<Vec<LinuxDevice>> {
    let mut nodes = Vec::new();
    if host.privileged {
        collect(Path::new("/dev"), Path::new("/dev"), 0, &mut nodes)?;
    }
    for device in host.devices.iter().flatten() {
        nodes.extend(mapped(device)?);
    }
    Ok(nodes)
}

/// What one `--device` means: one node, or every node below a directory.
fn mapped(device: &DeviceMapping) -> Result<Vec<LinuxDevice>> {
    let outside = Path::new(&device.path_on_host);
    let inside = if device.path_in_container.is_empty() { outside } else { Path::new(&device.path_in_container) };
    let fail = |cause: String| {
        Error::invalid(format!(
            "error gathering device information while adding custom device \"{}\": {cause}",
            device.path_on_host
        ))
    };
    let data = fs::metadata(outside).map_err(|e| fail(e.to_string()))?;
    let mut nodes = Vec::new();
    if data.is_dir() {
        collect(outside, inside, 0, &mut nodes)?;
    } else {
        nodes.push(node(&data, inside).ok_or_else(|| fail("not a device node".to_owned()))?);
    }
    if nodes.is_empty() {
        return Err(fail("no device nodes in it".to_owned()));
    }
    Ok(nodes)
}

fn node(data: &fs::Metadata, inside: &Path) -> Option<LinuxDevice> {
    let kind = match data.file_type() {
        kind if kind.is_block_device() => LinuxDeviceType::B,
        kind if kind.is_char_device() => LinuxDeviceType::C,
        _ => return None,
    };
    let mut device = LinuxDevice::default();
    device.set_path(inside.to_owned());
    device.set_typ(kind);
    device.set_major(i64::from(rustix::fs::major(data.rdev())));
    device.set_minor(i64::from(rustix::fs::minor(data.rdev())));
    device.set_file_mode(Some(data.mode() & 0o7777));
    device.set_uid(Some(data.uid()));
    device.set_gid(Some(data.gid()));
    Some(device)
}

/// What `/dev` always has of its own, so that the host's is never copied.
const OWN: &[&str] = &[
    "pts",
    "shm",
    "fd",
    "mqueue",
    "console",
    "ptmx",
    "null",
    "zero",
    "full",
    "random",
    "urandom",
    "tty",
    "lxc",
    ".lxc",
    ".lxd-mounts",
    ".udev",
];

fn collect(outside: &Path, inside: &Path, depth: usize, nodes: &mut Vec<LinuxDevice>) -> Result<()> {
    let entries = fs::read_dir(outside).map_err(|e| Error::internal(format!("read {}: {e}", outside.display())))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let (path, target): (PathBuf, PathBuf) = (entry.path(), inside.join(&name));
        if depth == 0 && OWN.contains(&name.to_string_lossy().as_ref()) {
            continue;
        }
        // Links are left out: what they point to is found by itself, and they may lead anywhere.
        let Ok(data) = fs::symlink_metadata(&path) else { continue };
        if data.is_dir() && depth < MAX_DEPTH {
            collect(&path, &target, depth + 1, nodes)?;
        } else if nodes.len() < MAX_NODES {
            nodes.extend(node(&data, &target));
        }
    }
    Ok(())
}

/// Rules of the device cgroup: nothing, then what every container may use (Docker's list), then what was asked for.
pub(crate) fn rules(host: &HostConfig, nodes: &[LinuxDevice]) -> Result<Vec<LinuxDeviceCgroup>> {
    if host.privileged {
        return Ok(vec![rule(true, LinuxDeviceType::A, None, None, "rwm")]);
    }
    use LinuxDeviceType::{A, B, C};
    let mut rules =
        vec![rule(false, A, None, None, "rwm"), rule(true, C, None, None, "m"), rule(true, B, None, None, "m")];
    // null, zero, full, random, urandom, tty, console, ptmx; 136 is the terminals of devpts.
    let allowed = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    rules.extend(allowed.iter().map(|(major, minor)| rule(true, C, Some(*major), Some(*minor), "rwm")));
    rules.push(rule(true, C, Some(136), None, "rwm"));
    let access = permissions(host);
    for node in nodes {
        rules.push(rule(true, node.typ(), Some(node.major()), Some(node.minor()), access(node.path())));
    }
    for text in host.device_cgroup_rules.iter().flatten() {
        rules.push(parse_rule(text)?);
    }
    Ok(rules)
}

/// Which access was asked for to a node in the container.
fn permissions<'a>(host: &'a HostConfig) -> impl Fn(&Path) -> &'a str {
    |path| {
        let asked = host.devices.iter().flatten().rev().find(|device| {
            let inside =
                if device.path_in_container.is_empty() { &device.path_on_host } else { &device.path_in_container };
            path.starts_with(inside)
        });
        asked.map(|device| device.cgroup_permissions.as_str()).filter(|access| !access.is_empty()).unwrap_or("rwm")
    }
}

/// One rule of the device cgroup; without a number: any.
pub(crate) fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow);
    rule.set_typ(Some(kind));
    rule.set_major(major);
    rule.set_minor(minor);
    rule.set_access(Some(access.to_owned()));
    rule
}

/// `a|b|c MAJOR:MINOR rwm`, numbers or `*`.
fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    parse_rule_parts(text).ok_or_else(|| {
        Error::invalid(format!("invalid device cgroup rule format: '{text}'")).hinted("for example 'c 42:* rwm'")
    })
}

fn parse_rule_parts(text: &str) -> Option<LinuxDeviceCgroup> {
    let mut words = text.split(' ');
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return None,
    };
    let number =
        |text: &str| if text == "*" { Some(None) } else { text.parse::<u32>().ok().map(|n| Some(i64::from(n))) };
    let (major, minor) = numbers.split_once(':')?;
    let good = words.next().is_none() && !access.is_empty() && check_permissions(access).is_ok();
    good.then_some(rule(true, kind, number(major)?, number(minor)?, access))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(path: &str, access: &str) -> HostConfig {
        let device = DeviceMapping {
            path_on_host: path.to_owned(),
            path_in_container: "/dev/mine".to_owned(),
            cgroup_permissions: access.to_owned(),
        };
        HostConfig { devices: Some(vec![device]), ..HostConfig::default() }
    }

    #[test]
    fn a_node_comes_with_its_numbers_and_a_rule() {
        let host = with("/dev/full", "rw");
        let nodes = nodes(&host).unwrap();
        assert_eq!((nodes[0].major(), nodes[0].minor(), nodes[0].path().as_path()), (1, 7, Path::new("/dev/mine")));
        let rules = rules(&host, &nodes).unwrap();
        assert!(!rules[0].allow());
        assert_eq!(rules.last().unwrap().access().as_deref(), Some("rw"));
    }

    #[test]
    fn bad_devices_are_named() {
        assert!(
            check(&with("/dev/does-not-exist", "rwm"))
                .unwrap_err()
                .message
                .contains("custom device \"/dev/does-not-exist\"")
        );
        assert!(check(&with("/etc/passwd", "rwm")).unwrap_err().message.contains("not a device node"));
        assert!(check(&with("/dev/null", "rx")).unwrap_err().message.contains("invalid device mode: rx"));
    }

    #[test]
    fn rule_grammar() {
        assert_eq!(parse_rule("c 42:* rwm").unwrap().major(), Some(42));
        for bad in ["", "c 42 rwm", "x 1:1 r", "c 1:1 rr", "c 1:1 r w", "c -1:1 r"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }
}
