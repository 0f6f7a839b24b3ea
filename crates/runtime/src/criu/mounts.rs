//! Mounts and namespaces that CRIU is not to save, because they come from outside: under which names it is told of them
//! at a checkpoint, and what stands behind these names at a restore. The names follow from the configuration alone:
//! nothing in a checkpoint's files decides what of the host is mounted.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::rpc::{InheritFd, JoinNamespace, Options, Pair};
use crate::Result;
use crate::error::Step;

/// Names of what hides masked paths: the empty directory and the null device.
const MASKED_DIRECTORY: &str = "masked-directory";
const MASKED_FILE: &str = "masked-file";

/// For a checkpoint: every mount of the process that comes from outside, with its name.
pub(crate) fn outside(pid: i32, spec: &Spec) -> Result<Vec<Pair>> {
    let file = format!("/proc/{pid}/mountinfo");
    let table = fs::read_to_string(&file).step(|| format!("read {file}"))?;
    let points: Vec<PathBuf> = table.lines().filter_map(point).collect();
    let named = points.iter().filter_map(|point| {
        let name = name(pid, point, spec)?;
        Some(Pair { key: point.to_string_lossy().into_owned(), value: name })
    });
    let mut pairs: Vec<Pair> = Vec::new();
    for pair in named {
        // Several on top of one another count once.
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

fn name(pid: i32, point: &Path, spec: &Spec) -> Option<String> {
    let linux = spec.linux().as_ref()?;
    let masked = linux.masked_paths().iter().flatten().any(|path| clean(Path::new(path)) == point);
    if masked {
        let seen = format!("/proc/{pid}/root{}", point.display());
        let directory = fs::metadata(seen).is_ok_and(|data| data.is_dir());
        return Some(if directory { MASKED_DIRECTORY } else { MASKED_FILE }.to_owned());
    }
    let device = linux.devices().iter().flatten().any(|device| clean(device.path()) == point);
    // Of the mounts that it lies below, the deepest says where it comes from.
    let mounts = spec.mounts().iter().flatten();
    let above = mounts.filter(|mount| point.starts_with(clean(mount.destination())));
    let owner = above.max_by_key(|mount| clean(mount.destination()).components().count());
    let outside = owner.is_some_and(|mount| is_bind(mount) || is_cgroup(mount, point));
    (device || outside).then(|| point.to_string_lossy().into_owned())
}

/// What the process sees of v1 hierarchies are directories of the host's; the `tmpfs` above them is its own.
fn is_cgroup(mount: &Mount, point: &Path) -> bool {
    let kind = mount.typ().as_deref();
    kind == Some("cgroup") && clean(mount.destination()) != point
}

fn is_bind(mount: &Mount) -> bool {
    let words = mount.options().as_deref().unwrap_or_default();
    mount.typ().as_deref() == Some("bind") || words.iter().any(|word| word == "bind" || word == "rbind")
}

/// For a restore: what stands behind each name. `cgroups` are the container's directories by the names under which they
/// are shown, `empty` is the directory that hides others.
pub(crate) fn behind(spec: &Spec, cgroups: &[(String, PathBuf)], empty: &Path) -> Result<Vec<Pair>> {
    let pair = |key: &Path, value: &Path| Pair {
        key: key.to_string_lossy().into_owned(),
        value: value.to_string_lossy().into_owned(),
    };
    let mut pairs =
        vec![pair(Path::new(MASKED_DIRECTORY), empty), pair(Path::new(MASKED_FILE), Path::new("/dev/null"))];
    let table = fs::read_to_string("/proc/self/mountinfo").step(|| "read /proc/self/mountinfo".into())?;
    let own: Vec<PathBuf> = table.lines().filter_map(point).collect();
    for mount in spec.mounts().iter().flatten() {
        let destination = clean(mount.destination());
        match mount.source() {
            Some(source) if is_bind(mount) => {
                pairs.push(pair(&destination, source));
                for below in own.iter().filter_map(|point| point.strip_prefix(source).ok()) {
                    if !below.as_os_str().is_empty() {
                        pairs.push(pair(&destination.join(below), &source.join(below)));
                    }
                }
            }
            _ if mount.typ().as_deref() == Some("cgroup") => {
                let shown = |name: &str| destination.join(name.strip_prefix("name=").unwrap_or(name));
                pairs.extend(cgroups.iter().map(|(name, path)| pair(&shown(name), path)));
            }
            _ => {}
        }
    }
    let devices = spec.linux().as_ref().and_then(|linux| linux.devices().as_ref());
    pairs.extend(devices.into_iter().flatten().map(|device| pair(&clean(device.path()), device.path())));
    Ok(pairs)
}

/// Namespaces that the container shares: CRIU leaves them as they are.
pub(crate) fn shared_namespaces(spec: &Spec) -> Result<Vec<String>> {
    let mut external = Vec::new();
    for (kind, path) in joined(spec).filter(|(kind, _)| key(*kind).is_some()) {
        let data = fs::metadata(path).step(|| format!("inspect the namespace {}", path.display()))?;
        external.push(format!("{}[{}]:{}", short(kind), data.ino(), key(kind).unwrap_or_default()));
    }
    Ok(external)
}

/// For a restore: descriptors of these, and those that CRIU joins itself.
pub(crate) fn join_namespaces(spec: &Spec, options: &mut Options) -> Result<Vec<OwnedFd>> {
    let mut open = Vec::new();
    for (kind, path) in joined(spec) {
        match key(kind) {
            Some(key) => {
                let file = File::open(path).step(|| format!("open the namespace {}", path.display()))?;
                options.inherit_fd.push(InheritFd { key: key.to_owned(), fd: file.as_raw_fd() });
                open.push(file.into());
            }
            None => {
                let file = path.to_string_lossy().into_owned();
                options.join_ns.push(JoinNamespace { kind: short(kind).to_owned(), file });
            }
        }
    }
    Ok(open)
}

fn joined(spec: &Spec) -> impl Iterator<Item = (LinuxNamespaceType, &Path)> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces
        .into_iter()
        .flatten()
        .filter_map(|namespace| Some((namespace.typ(), namespace.path().as_deref()?)))
        .filter(|(_, path)| !path.as_os_str().is_empty())
}

/// CRIU's name of a namespace that it is to leave alone; it can leave two kinds alone.
fn key(kind: LinuxNamespaceType) -> Option<&'static str> {
    match kind {
        LinuxNamespaceType::Network => Some("extRootNetNS"),
        LinuxNamespaceType::Pid => Some("extRootPidNS"),
        _ => None,
    }
}

fn short(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Network => "net",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Mount => "mnt",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Time => "time",
    }
}

/// Where a line of the mount table is mounted.
fn point(line: &str) -> Option<PathBuf> {
    let escaped = line.split(' ').nth(4)?;
    Some(escaped.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\").into())
}

/// Absolute, without `.` and `..`, as the kernel shows it.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        let json = r#"{"ociVersion": "1.3.0", "root": {"path": "rootfs"}, "mounts": [
            {"destination": "/proc", "type": "proc"},
            {"destination": "/data/../data", "type": "bind", "source": "/srv", "options": ["rbind"]},
            {"destination": "/data/own", "type": "tmpfs"},
            {"destination": "/sys/fs/cgroup", "type": "cgroup"}],
            "linux": {"maskedPaths": ["/proc/kcore"], "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}],
            "namespaces": [{"type": "network", "path": "/proc/self/ns/net"}, {"type": "pid"}]}}"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_comes_from_outside_has_a_name() {
        let named = |path: &str| name(std::process::id() as i32, Path::new(path), &spec());
        assert_eq!(named("/proc/kcore").as_deref(), Some(MASKED_FILE));
        for outside in ["/data", "/data/deep", "/sys/fs/cgroup/memory", "/dev/x"] {
            assert_eq!(named(outside).as_deref(), Some(outside));
        }
        for own in ["/", "/proc", "/proc/sys", "/data/own", "/data/own/deep", "/sys/fs/cgroup", "/dev"] {
            assert_eq!(named(own), None, "{own}");
        }
    }

    #[test]
    fn names_stand_for_what_the_configuration_says() {
        let cgroups = [("name=systemd".to_owned(), PathBuf::from("/sys/fs/cgroup/systemd/c"))];
        let pairs = behind(&spec(), &cgroups, Path::new("/empty")).unwrap();
        let value = |key: &str| pairs.iter().find(|pair| pair.key == key).map(|pair| pair.value.as_str());
        assert_eq!(value("/data"), Some("/srv"));
        assert_eq!(value("/sys/fs/cgroup/systemd"), Some("/sys/fs/cgroup/systemd/c"));
        assert_eq!((value(MASKED_DIRECTORY), value(MASKED_FILE)), (Some("/empty"), Some("/dev/null")));
        assert_eq!(value("/dev/x"), Some("/dev/x"));
    }

    #[test]
    fn shared_namespaces_are_left_alone() {
        let external = shared_namespaces(&spec()).unwrap();
        assert!(external[0].starts_with("net[") && external[0].ends_with("]:extRootNetNS"), "{external:?}");
        let mut options = Options::default();
        assert_eq!(join_namespaces(&spec(), &mut options).unwrap().len(), 1);
        assert_eq!(options.inherit_fd[0].key, "extRootNetNS");
    }
}
