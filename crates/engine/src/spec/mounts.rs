//! The mounts of the OCI configuration: the kernel's file systems as Docker mounts them, the files that every container
//! gets (`hosts`, `hostname`, `resolv.conf`), and the container's own mount points.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::{Space, propagation};
use crate::model::HostConfig;
use crate::table::MountRecord;
use crate::{Engine, Error, Result};

/// Mode and size of a container's `/dev`.
const DEV: &[&str] = &["nosuid", "strictatime", "mode=755", "size=65536k"];

fn mount(kind: &str, source: &str, target: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(target.into());
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source.into()));
    mount.set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

/// Which of the host's namespaces show through the kernel's file systems.
pub(super) struct Sharing<'a> {
    pub(super) host: &'a HostConfig,
    pub(super) mapped: bool,
    pub(super) writable_cgroups: bool,
    /// Whether the group exists to which Docker gives terminals (`tty`, 5).
    pub(super) terminal_group: bool,
    /// Directory that holds `/dev/shm` of a container whose IPC namespace others may join.
    pub(super) shm: Option<PathBuf>,
}

/// `/proc`, `/dev`, `/sys` and what is below them. A file system that shows a namespace of the host can only be mounted
/// anew by the host's root: a container with an own user namespace gets the host's mount of it instead.
pub(super) fn kernel(sharing: &Sharing<'_>) -> Vec<Mount> {
    let host = sharing.host;
    let shares = |mode: &str| mode == "host" && sharing.mapped;
    let read_only = |options: &[&'static str], writable: bool| {
        let access = if writable { "rw" } else { "ro" };
        options.iter().copied().chain([access]).collect::<Vec<_>>()
    };
    let secure = ["nosuid", "noexec", "nodev"];
    let mut mounts = Vec::with_capacity(12);
    mounts.push(if shares(&host.pid_mode) {
        mount("bind", "/proc", "/proc", &["rbind", "nosuid", "noexec", "nodev"])
    } else {
        mount("proc", "proc", "/proc", &secure)
    });
    mounts.push(mount("tmpfs", "tmpfs", "/dev", DEV));
    let terminals = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let terminals = if sharing.terminal_group { &terminals[..] } else { &terminals[..5] };
    mounts.push(mount("devpts", "devpts", "/dev/pts", terminals));
    mounts.push(if shares(&host.network_mode) {
        mount("bind", "/sys", "/sys", &["rbind", "nosuid", "noexec", "nodev", "rro"])
    } else {
        mount("sysfs", "sysfs", "/sys", &read_only(&secure, host.privileged))
    });
    let mut cgroup = read_only(&secure, sharing.writable_cgroups);
    cgroup.push("relatime");
    mounts.push(mount("cgroup", "cgroup", "/sys/fs/cgroup", &cgroup));
    mounts.extend(match shares(&host.ipc_mode) {
        false => Some(mount("mqueue", "mqueue", "/dev/mqueue", &secure)),
        // A host that has not mounted its queues has none to show.
        true if !Path::new("/dev/mqueue").exists() => None,
        true => Some(mount("bind", "/dev/mqueue", "/dev/mqueue", &["bind", "nosuid", "noexec", "nodev"])),
    });
    mounts.extend(shm(sharing));
    mounts
}

/// `/dev/shm`: the host's, another container's, one that others can join, or (as a rule) a tmpfs of its own.
fn shm(sharing: &Sharing<'_>) -> Option<Mount> {
    let options = ["rbind", "nosuid", "noexec", "nodev", "rprivate"];
    let bind = |source: &Path| {
        let mut shm = mount("bind", "", "/dev/shm", &options);
        shm.set_source(Some(source.to_owned()));
        if sharing.mapped {
            push_option(&mut shm, "ridmap");
        }
        shm
    };
    match sharing.host.ipc_mode.as_str() {
        "none" => None,
        "host" => Some(bind(Path::new("/dev/shm"))),
        _ => Some(match &sharing.shm {
            Some(directory) => bind(directory),
            None => {
                let size = format!("size={}", sharing.host.shm_size);
                mount("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", &size])
            }
        }),
    }
}

fn push_option(mount: &mut Mount, option: &str) {
    if let Some(options) = mount.options_mut() {
        options.push(option.to_owned());
    }
}

/// The three files, from `directory`, except where the container has a mount of its own there.
pub(super) fn files(directory: &Path, records: &[MountRecord], space: &Space, read_only: bool) -> Vec<Mount> {
    let mut mounts = Vec::with_capacity(3);
    for name in ["resolv.conf", "hostname", "hosts"] {
        let target = format!("/etc/{name}");
        if records.iter().any(|record| record.point.destination == target) {
            continue;
        }
        let mut file = mount("bind", "", &target, &["bind", "rprivate"]);
        file.set_source(Some(directory.join(name)));
        if space.is_mapped() {
            push_option(&mut file, "idmap");
        }
        if read_only {
            push_option(&mut file, "ro");
        }
        mounts.push(file);
    }
    mounts
}

/// The container's own mount points.
pub(super) fn own(engine: &Engine, records: &[MountRecord], space: &Space) -> Result<Vec<Mount>> {
    records.iter().map(|record| one(engine, record, space)).collect()
}

fn one(engine: &Engine, record: &MountRecord, space: &Space) -> Result<Mount> {
    let point = &record.point;
    let mut options: Vec<&str> = record.options.iter().map(String::as_str).collect();
    match point.kind.as_str() {
        "tmpfs" => {
            // A tmpfs belongs to whoever mounts it: the container's root. Its mode is Docker's unless given.
            if !options.iter().any(|option| option.starts_with("mode=")) {
                options.push("mode=1777");
            }
            return Ok(mount("tmpfs", "tmpfs", &point.destination, &options));
        }
        "image" => return image(engine, record, space),
        _ => {}
    }
    if !point.rw && !options.iter().any(|option| matches!(*option, "ro" | "rro")) {
        options.push("rro");
    }
    if space.is_mapped() {
        options.push(if options.contains(&"rbind") { "ridmap" } else { "idmap" });
    }
    let source = inside(Path::new(&point.source), &record.subpath)?;
    propagation::check(&source, &point.propagation)?;
    if !record.subpath.is_empty() {
        options.push(sandbox::launch::NO_LINKS);
    }
    let mut bind = mount("bind", "", &point.destination, &options);
    bind.set_source(Some(source));
    Ok(bind)
}

/// A path inside a volume or layer that its contents cannot lead out of: links are followed within it only. The answer
/// has none; whoever mounts it must see to it that this still holds.
pub(crate) fn inside(root: &Path, subpath: &str) -> Result<PathBuf> {
    if subpath.is_empty() {
        return Ok(root.to_owned());
    }
    let fail = |cause: String| Error::invalid(format!("cannot access path {}/{subpath}: {cause}", root.display()));
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, directory, Mode::empty()).map_err(|e| fail(e.to_string()))?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(&root, subpath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        .map_err(|e| fail(e.to_string()))?;
    // The path as the kernel has it, free of links.
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found));
    std::fs::read_link(link).map_err(|e| fail(e.to_string()))
}

/// `--mount type=image`: the image's one layer, or a read-only overlay of its layers.
fn image(engine: &Engine, record: &MountRecord, space: &Space) -> Result<Mount> {
    let point = &record.point;
    let image = engine.read(|connection| Ok(engine.images().resolve(connection, &point.source)?));
    let image = image.map_err(|error| Error { message: format!("mount {}: {error}", point.destination), ..error })?;
    let layers = engine.images().mount(&image)?;
    if let [layer] = layers.as_slice() {
        let mut options = vec!["bind", "rprivate", "ro", "nosuid", "nodev"];
        if space.is_mapped() {
            options.push("idmap");
        }
        let mut bind = mount("bind", "", &point.destination, &options);
        bind.set_source(Some(inside(layer, &record.subpath)?));
        return Ok(bind);
    }
    let lower: Vec<String> = layers.iter().map(|layer| format!("lowerdir+={}", layer.display())).collect();
    let mut options = vec!["ro", "nosuid", "nodev"];
    if space.is_mapped() {
        options.push("idmap");
    }
    let subpath = format!("{}{}", sandbox::launch::SUBPATH, record.subpath);
    if !record.subpath.is_empty() {
        options.push(&subpath);
    }
    options.extend(lower.iter().map(String::as_str));
    Ok(mount("overlay", "overlay", &point.destination, &options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(mounts: &[Mount], target: &str) -> Option<(String, Vec<String>)> {
        let found = mounts.iter().find(|mount| mount.destination() == Path::new(target))?;
        Some((found.typ().clone().unwrap(), found.options().clone().unwrap()))
    }

    fn of(host: &HostConfig, mapped: bool) -> Vec<Mount> {
        kernel(&Sharing { host, mapped, writable_cgroups: false, terminal_group: true, shm: None })
    }

    #[test]
    fn default_mounts_are_dockers() {
        let host = HostConfig { shm_size: 1 << 20, ..HostConfig::default() };
        let mounts = of(&host, true);
        let targets: Vec<_> = mounts.iter().map(|mount| mount.destination().to_str().unwrap().to_owned()).collect();
        assert_eq!(targets, ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"]);
        assert!(find(&mounts, "/sys").unwrap().1.contains(&"ro".to_owned()));
        assert!(find(&mounts, "/dev/shm").unwrap().1.contains(&"size=1048576".to_owned()));
    }

    #[test]
    fn a_mapped_container_cannot_mount_what_shows_the_host() {
        let host = HostConfig {
            network_mode: "host".into(),
            pid_mode: "host".into(),
            ipc_mode: "host".into(),
            ..HostConfig::default()
        };
        for target in ["/proc", "/sys", "/dev/shm"] {
            assert_eq!(find(&of(&host, true), target).unwrap().0, "bind", "{target}");
        }
        assert!(find(&of(&host, true), "/dev/mqueue").is_none_or(|(kind, _)| kind == "bind"));
        assert_eq!(find(&of(&host, false), "/proc").unwrap().0, "proc");
        let none = HostConfig { ipc_mode: "none".into(), ..HostConfig::default() };
        assert!(find(&of(&none, true), "/dev/shm").is_none());
    }

    #[test]
    fn subpaths_stay_inside() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("a")).unwrap();
        std::os::unix::fs::symlink("/etc", directory.path().join("out")).unwrap();
        assert!(inside(directory.path(), "a").unwrap().ends_with("a"));
        assert!(inside(directory.path(), "out/passwd").is_err());
        assert!(inside(directory.path(), "missing").is_err());
    }
}
