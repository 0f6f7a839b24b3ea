//! Finds the host's cgroup hierarchies, once per process: the conventional places below `/sys/fs/cgroup` for what
//! `/proc/self/cgroup` names, the mount table only if nothing is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::Version;

/// `CGROUP_SUPER_MAGIC` and `CGROUP2_SUPER_MAGIC` of `linux/magic.h`.
const V1_MAGIC: i64 = 0x0027_e0eb;
const V2_MAGIC: i64 = 0x6367_7270;

const BASE: &str = "/sys/fs/cgroup";

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Its name as in `/proc/self/cgroup`: `memory`, `cpu,cpuacct`, `name=systemd`; empty for the unified one.
    pub(super) name: String,
    /// Where it is mounted.
    pub(super) root: PathBuf,
}

impl Hierarchy {
    /// Whether this controller is bound to it.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.name.split(',').any(|name| name == controller)
    }
}

/// What the host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) version: Version,
    /// All v1 hierarchies, or the single unified one.
    pub(super) hierarchies: Vec<Hierarchy>,
    /// The unified hierarchy beside v1 ones, without controllers, if somebody sorts processes into it: a service manager,
    /// which would take a container there for a part of what started it.
    pub(super) unified: Option<PathBuf>,
}

/// The host's layout.
pub(super) fn layout() -> io::Result<&'static Layout> {
    static LAYOUT: OnceLock<Layout> = OnceLock::new();
    if let Some(layout) = LAYOUT.get() {
        return Ok(layout);
    }
    let found = discover(Path::new(BASE), &fs::read_to_string("/proc/self/cgroup")?, magic, || {
        fs::read_to_string("/proc/self/mountinfo")
    })?;
    Ok(LAYOUT.get_or_init(|| found))
}

fn magic(path: &Path) -> i64 {
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
    rustix::fs::statfs(path).map_or(0, |stat| stat.f_type as i64)
}

fn discover(
    base: &Path,
    memberships: &str,
    magic: impl Fn(&Path) -> i64,
    mountinfo: impl FnOnce() -> io::Result<String>,
) -> io::Result<Layout> {
    if magic(base) == V2_MAGIC {
        let unified = Hierarchy { name: String::new(), root: base.to_owned() };
        return Ok(Layout { version: Version::V2, hierarchies: vec![unified], unified: None });
    }
    let names: Vec<&str> = memberships.lines().filter_map(|line| line.split(':').nth(1)).collect();
    let found: Vec<Hierarchy> = names.iter().filter_map(|name| conventional(base, name, &magic)).collect();
    // Some found, some not: those are mounted nowhere, or in somebody's private namespace.
    let found = match found.is_empty() {
        false => found,
        true => {
            let mounts = mountinfo()?;
            names.iter().filter_map(|name| from_mountinfo(&mounts, name)).collect()
        }
    };
    let mut layout = arrange(found)?;
    layout.unified = layout.unified.filter(|_| !memberships.lines().any(|line| line == "0::/"));
    Ok(layout)
}

/// The place where distributions mount it: `/sys/fs/cgroup/cpu,cpuacct` (with a link `cpu`, should the names be in
/// another order), `…/systemd`, `…/unified`.
fn conventional(base: &Path, name: &str, magic: impl Fn(&Path) -> i64) -> Option<Hierarchy> {
    let (directory, expected) = match name {
        "" => ("unified", V2_MAGIC),
        _ => (name.trim_start_matches("name="), V1_MAGIC),
    };
    let first = directory.split(',').next().unwrap_or(directory);
    let root =
        [directory, first].map(|directory| base.join(directory)).into_iter().find(|root| magic(root) == expected);
    root.map(|root| Hierarchy { name: name.to_owned(), root })
}

/// Looks a hierarchy up in the mount table (`man 5 proc`, `/proc/pid/mountinfo`).
fn from_mountinfo(mounts: &str, name: &str) -> Option<Hierarchy> {
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let root = unescape(mount.split(' ').nth(4)?);
        let mut fields = filesystem.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        let options: Vec<&str> = options.split(',').collect();
        let right = match name {
            "" => kind == "cgroup2",
            _ => kind == "cgroup" && name.split(',').all(|controller| options.contains(&controller)),
        };
        right.then(|| Hierarchy { name: name.to_owned(), root: root.into() })
    })
}

/// Undoes the octal escapes of blanks and backslashes in mount points.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn arrange(found: Vec<Hierarchy>) -> io::Result<Layout> {
    let (unified, mut legacy): (Vec<_>, Vec<_>) = found.into_iter().partition(|hierarchy| hierarchy.name.is_empty());
    // All controllers are in the unified hierarchy, and a service manager keeps a v1 one for its own books.
    if !unified.is_empty() && legacy.iter().all(|hierarchy| hierarchy.name.starts_with("name=")) {
        legacy.clear();
    }
    match (legacy.is_empty(), unified.is_empty()) {
        (true, true) => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no cgroup hierarchy is mounted; hint: `mount -t cgroup2 none /sys/fs/cgroup`",
        )),
        (true, false) => Ok(Layout { version: Version::V2, hierarchies: unified, unified: None }),
        (false, _) => Ok(Layout {
            version: Version::V1,
            hierarchies: legacy,
            unified: unified.into_iter().next().map(|hierarchy| hierarchy.root),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v1(path: &Path) -> i64 {
        match path.to_str().unwrap() {
            "/b/memory" | "/b/cpu,cpuacct" | "/b/systemd" => V1_MAGIC,
            "/b/unified" => V2_MAGIC,
            _ => 0,
        }
    }

    fn names(layout: &Layout) -> Vec<(&str, &str)> {
        layout.hierarchies.iter().map(|h| (h.name.as_str(), h.root.to_str().unwrap())).collect()
    }

    #[test]
    fn hybrid_needs_no_mount_table() {
        let memberships = "4:memory:/x\n3:cpu,cpuacct:/\n2:name=systemd:/\n0::/user.slice\n";
        let layout = discover(Path::new("/b"), memberships, v1, || panic!("read the mount table")).unwrap();
        assert_eq!(layout.version, Version::V1);
        assert_eq!(
            names(&layout),
            [("memory", "/b/memory"), ("cpu,cpuacct", "/b/cpu,cpuacct"), ("name=systemd", "/b/systemd")]
        );
        assert_eq!(layout.unified.as_deref(), Some(Path::new("/b/unified")));
    }

    #[test]
    fn a_unified_hierarchy_that_nobody_uses_is_left_alone() {
        let layout = discover(Path::new("/b"), "4:memory:/x\n0::/\n", v1, || panic!("read the mount table")).unwrap();
        assert_eq!(layout.unified, None);
    }

    #[test]
    fn unconventional_places_come_from_the_mount_table() {
        let mounts = "1 2 0:3 / /odd\\040place rw - cgroup cgroup rw,pids\n1 2 0:4 / /sys rw - sysfs sysfs rw\n";
        let layout = discover(Path::new("/c"), "9:pids:/\n8:rdma:/\n", v1, || Ok(mounts.to_owned())).unwrap();
        assert_eq!(names(&layout), [("pids", "/odd place")]);
        assert_eq!(layout.unified, None);
    }

    #[test]
    fn what_is_mounted_nowhere_is_left_out_and_order_of_names_does_not_matter() {
        let magic = |path: &Path| if path == Path::new("/b/cpuacct") { V1_MAGIC } else { 0 };
        let layout =
            discover(Path::new("/b"), "9:hugetlb:/\n8:cpuacct,cpu:/\n", magic, || panic!("read the mount table"));
        assert_eq!(names(&layout.unwrap()), [("cpuacct,cpu", "/b/cpuacct")]);
    }

    #[test]
    fn a_v1_hierarchy_without_controllers_makes_no_v1_host() {
        let memberships = "1:name=systemd:/init.scope\n0::/init.scope\n";
        let layout = discover(Path::new("/b"), memberships, v1, || panic!("read the mount table")).unwrap();
        assert_eq!((layout.version, names(&layout)), (Version::V2, vec![("", "/b/unified")]));
    }

    #[test]
    fn pure_v2() {
        let layout = discover(Path::new("/b"), "0::/\n", |_| V2_MAGIC, || panic!("read the mount table")).unwrap();
        assert_eq!((layout.version, names(&layout)), (Version::V2, vec![("", "/b")]));
    }

    #[test]
    fn nothing_mounted_is_an_error_with_a_hint() {
        let error = discover(Path::new("/b"), "0::/\n", |_| 0, || Ok(String::new())).unwrap_err();
        assert!(error.to_string().contains("hint"), "{error}");
    }

    #[test]
    fn this_host_has_one() {
        let layout = layout().unwrap();
        assert!(layout.hierarchies.iter().all(|hierarchy| hierarchy.root.join("cgroup.procs").exists()), "{layout:?}");
    }
}
