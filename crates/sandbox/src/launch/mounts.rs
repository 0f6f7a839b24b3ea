//! The plan of a container's mounts: from the configuration's words to who makes which file system, checked before
//! anything is made.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, Mount as OciMount};

use super::Error;
use super::check::id_ranges;
use super::options::Options;

/// One planned mount.
pub(super) struct Mount {
    /// Where, absolute.
    pub(super) destination: PathBuf,
    /// What.
    pub(super) source: Source,
    /// What mount tables show as its source.
    pub(super) label: PathBuf,
    /// How.
    pub(super) options: Options,
    /// Its own id mappings (users, groups), if it has some.
    pub(super) mappings: Option<Mappings>,
}

/// Mappings of users and of groups.
pub(super) type Mappings = (Vec<LinuxIdMapping>, Vec<LinuxIdMapping>);

/// What is mounted, and who makes it: the child, in the container's namespaces, or the parent, with the host's rights.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Child: `proc`, `sysfs`, `mqueue`, `tmpfs`, `devpts`, `ramfs`.
    Inside(String),
    /// Child: the container's cgroups.
    Cgroup,
    /// Parent: a `tmpfs` with the container's devices.
    Devices,
    /// Parent: part of the host's tree.
    Bind(PathBuf),
    /// Child: nothing new, but other options for what is mounted there.
    Remount,
    /// Parent: a file system from a device or a server.
    Device {
        /// `ext4`, `nfs`, …
        kind: String,
        /// The kernel's `source`.
        device: PathBuf,
    },
}

impl Source {
    /// Whether the parent makes it.
    pub(super) fn outside(&self) -> bool {
        !matches!(self, Self::Inside(_) | Self::Cgroup | Self::Remount)
    }

    /// Whether the child makes it.
    pub(super) fn inside(&self) -> bool {
        matches!(self, Self::Inside(_) | Self::Cgroup)
    }

    /// What errors call it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Inside(kind) => kind.clone(),
            Self::Cgroup => "cgroup".into(),
            Self::Devices => "devices".into(),
            Self::Remount => "again".into(),
            Self::Bind(path) => path.display().to_string(),
            Self::Device { kind, device } => format!("{} ({kind})", device.display()),
        }
    }
}

/// Plans all mounts of the configuration, in its order. `label` is an option for new file systems that can have it.
pub(super) fn plan(mounts: &[OciMount], label: Option<&str>) -> Result<Vec<Mount>, Error> {
    let labelled = |source: &Source| match source {
        Source::Inside(kind) => !matches!(kind.as_str(), "proc" | "sysfs"),
        other => *other == Source::Devices,
    };
    let plan = |mount| {
        let mut mount = plan_one(mount)?;
        mount.options.data.extend(label.filter(|_| labelled(&mount.source)).map(str::to_owned));
        Ok(mount)
    };
    mounts.iter().map(plan).collect()
}

fn plan_one(mount: &OciMount) -> Result<Mount, Error> {
    let destination = destination(mount.destination())?;
    let mut options = Options::parse(mount.options().as_deref().unwrap_or_default());
    let kind = mount.typ().as_deref().unwrap_or(if options.bind { "bind" } else { "none" });
    let path = || {
        let source = mount.source().clone().filter(|source| !source.as_os_str().is_empty());
        source.ok_or_else(|| Error::Invalid(format!("mount {}: no source", destination.display())))
    };
    let source = match kind {
        _ if options.remount => Source::Remount,
        _ if kind == "bind" || options.bind => Source::Bind(path()?),
        "cgroup" | "cgroup2" => Source::Cgroup,
        "tmpfs" if destination == Path::new("/dev") => Source::Devices,
        "proc" | "sysfs" | "mqueue" | "tmpfs" | "devpts" | "ramfs" => Source::Inside(kind.to_owned()),
        "none" => return Err(Error::Invalid(format!("mount {}: no type", destination.display()))),
        _ => Source::Device { kind: kind.to_owned(), device: path()? },
    };
    if let (Source::Bind(_), Some(word)) = (&source, options.data.first()) {
        return Err(Error::Invalid(format!(
            "mount {}: unknown option {word:?} for a bind mount",
            destination.display()
        )));
    }
    if options.copy_up && source != Source::Inside("tmpfs".into()) {
        return Err(Error::Invalid(format!("mount {}: tmpcopyup is for tmpfs only", destination.display())));
    }
    let overlay = matches!(&source, Source::Device { kind, .. } if kind == "overlay");
    if options.subpath.is_some() && !overlay {
        return Err(Error::Invalid(format!("mount {}: a subpath is for overlay only", destination.display())));
    }
    check_proc(&destination, &source)?;
    let mappings = mappings(&destination, mount)?;
    // As for runc: the mappings alone say it too.
    options.idmap |= mappings.is_some();
    if options.idmap && !matches!(source, Source::Bind(_) | Source::Device { .. }) {
        let text =
            format!("mount {}: id-mapped mounts are only supported for bind mounts and devices", destination.display());
        return Err(Error::Invalid(text));
    }
    let label = mount.source().clone().filter(|source| !source.as_os_str().is_empty());
    let label = label.unwrap_or_else(|| PathBuf::from(kind));
    Ok(Mount { destination, source, label, options, mappings })
}

/// The mount's own id mappings, of which both or none must be there (runtime-spec, config.md "POSIX-platform Mounts").
fn mappings(destination: &Path, mount: &OciMount) -> Result<Option<Mappings>, Error> {
    let list = |list: &Option<Vec<LinuxIdMapping>>| list.clone().unwrap_or_default();
    let (uids, gids) = (list(mount.uid_mappings()), list(mount.gid_mappings()));
    let field = |name: &str| format!("mount {}: {name}", destination.display());
    id_ranges(&field("uidMappings"), &uids)?;
    id_ranges(&field("gidMappings"), &gids)?;
    match (uids.is_empty(), gids.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some((uids, gids))),
        _ => Err(Error::Invalid(field("id-mapped mounts must have both uidMappings and gidMappings"))),
    }
}

/// The destination as an absolute path without `..`; relative ones count from the root (runtime-spec 1.2).
fn destination(path: &Path) -> Result<PathBuf, Error> {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                return Err(Error::Invalid(format!("mount destination {} must not contain \"..\"", path.display())));
            }
            _ => {}
        }
    }
    if clean == Path::new("/") {
        return Err(Error::Invalid("a mount's destination must not be the root".into()));
    }
    Ok(clean)
}

/// Files below `/proc` that resource views (lxcfs and the like) may replace; as runc's `checkProcMount` has them.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
    "/proc/net/dev",
];

/// Nothing but a procfs may cover `/proc`, or programs inside (and our own checks) would believe files that lie.
fn check_proc(destination: &Path, source: &Source) -> Result<(), Error> {
    let allowed = match source {
        _ if !destination.starts_with("/proc") => true,
        Source::Inside(kind) => destination == Path::new("/proc") && kind == "proc",
        Source::Bind(path) if destination == Path::new("/proc") => path == Path::new("/proc"),
        Source::Bind(_) => PROC_FILES.iter().any(|file| destination == Path::new(file)),
        _ => false,
    };
    if allowed {
        return Ok(());
    }
    let text = format!("{} cannot be mounted to {} because it is inside /proc", source.name(), destination.display());
    Err(Error::Invalid(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::MountBuilder;

    fn one(kind: &str, source: &str, destination: &str, options: &[&str]) -> Result<Mount, Error> {
        let options: Vec<String> = options.iter().map(|word| word.to_string()).collect();
        plan_one(
            &MountBuilder::default()
                .typ(kind)
                .source(source)
                .destination(destination)
                .options(options)
                .build()
                .unwrap(),
        )
    }

    #[test]
    fn kinds() {
        assert_eq!(one("tmpfs", "tmpfs", "/dev", &[]).unwrap().source, Source::Devices);
        assert_eq!(one("bind", "/a", "/b", &["rbind"]).unwrap().source, Source::Bind("/a".into()));
        assert_eq!(one("proc", "proc", "/proc", &[]).unwrap().source, Source::Inside("proc".into()));
    }

    #[test]
    fn nothing_may_cover_proc() {
        assert!(one("bind", "/tmp", "/proc/self", &["bind"]).is_err());
        assert!(one("tmpfs", "tmpfs", "/proc", &[]).is_err());
        assert!(one("bind", "/tmp/stat", "/proc/stat", &["bind"]).is_ok());
    }

    #[test]
    fn dot_dot_and_root_are_refused() {
        assert!(one("bind", "/a", "/b/../../c", &["bind"]).is_err());
        assert!(one("tmpfs", "tmpfs", "/b", &["idmap"]).is_err());
        assert!(one("bind", "/a", "/", &["bind"]).is_err());
    }
}
