//! cgroups, v2 and v1/hybrid, by the file system. No process is ever moved: it is born in its cgroup (v2) or places
//! itself while it is single-threaded (v1).

mod bpf;
mod devices;
mod files;
mod layout;
mod lifetime;
mod own;
mod properties;
mod stats;
mod usage;
mod v1;
mod v2;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use layout::Hierarchy;
pub use own::{is_available, own_part};
pub use properties::{Property, properties};
pub use stats::Stats;
pub use usage::Usage;

/// One container's cgroup: a directory on v2, one per hierarchy on v1.
#[derive(Debug)]
pub struct Cgroup {
    version: Version,
    directories: Vec<Directory>,
    /// Its directory in the unified hierarchy beside v1 ones; made only when somebody asks for it.
    unified: Option<PathBuf>,
}

/// Its place in one hierarchy.
#[derive(Debug)]
struct Directory {
    hierarchy: Hierarchy,
    path: PathBuf,
}

/// Which layout the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Only the unified hierarchy.
    V2,
    /// v1 hierarchies, with or without an empty unified one beside.
    V1,
}

/// How a process gets into the cgroup without being moved by another one (which waits for an RCU grace period).
#[derive(Debug)]
pub enum Entry {
    /// The directory, for `CLONE_INTO_CGROUP`.
    V2(OwnedFd),
    /// The `tasks` file of every hierarchy, open for writing: the single-threaded child writes `0` into each.
    V1(Vec<OwnedFd>),
}

/// The host's layout; a host without any cgroup file system counts as [`Version::V2`], and [`Cgroup::create`] says so.
pub fn version() -> Version {
    layout::layout().map_or(Version::V2, |layout| layout.version)
}

/// Whether limits of this controller (`memory`, `pids`, `hugetlb`, …; v1 names) can be set on this host.
pub fn has_controller(controller: &str) -> bool {
    let Ok(layout) = layout::layout() else { return false };
    match layout.version {
        Version::V1 => layout.hierarchies.iter().any(|hierarchy| hierarchy.has(controller)),
        Version::V2 => v2::has_controller(&layout.hierarchies[0].root, controller),
    }
}

/// Whether swap can be limited, that is, whether this kernel counts it per cgroup.
pub fn accounts_swap() -> bool {
    let Ok(layout) = layout::layout() else { return false };
    let memory = layout.hierarchies.iter().find(|hierarchy| hierarchy.has("memory"));
    match layout.version {
        Version::V1 => memory.is_some_and(|memory| memory.root.join("memory.memsw.limit_in_bytes").exists()),
        // Always, if there is swap in the kernel at all; the root itself has no such file to look for.
        Version::V2 => Path::new("/proc/swaps").exists() && has_controller("memory"),
    }
}

impl Cgroup {
    /// Makes the cgroup `path` (below the root of each hierarchy, e.g. `/kiste/ID`) and its parents.
    ///
    /// An empty cgroup left over under that path is replaced, so no limits of an earlier life remain; one with
    /// processes is an error. Nothing but parents remains when this fails.
    pub fn create(path: &str) -> io::Result<Self> {
        let cgroup = Self::locate(path)?;
        let made = cgroup.make(make_directory);
        if made.is_err() {
            cgroup.directories.iter().for_each(|directory| drop(fs::remove_dir(&directory.path)));
        }
        made.map(|()| cgroup)
    }

    /// The cgroup `path` that a service manager has made and has processes in: what it has left out of it is made.
    pub fn adopt(path: &str) -> io::Result<Self> {
        let cgroup = Self::locate(path)?;
        cgroup.make(keep_directory)?;
        Ok(cgroup)
    }

    /// An existing cgroup.
    pub fn open(path: &str) -> io::Result<Self> {
        let cgroup = Self::locate(path)?;
        match cgroup.directories.iter().any(|directory| directory.path.is_dir()) {
            true => Ok(cgroup),
            false => Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no cgroup {path}"))),
        }
    }

    /// The cgroup `below` this one; on v1, hierarchies that have no such directory stay where they are, and with
    /// `controllers` all others do too.
    pub fn below(&self, below: &str, controllers: &[&str]) -> io::Result<Self> {
        let relative = checked(&format!("/{}", below.trim_matches('/')))?.to_owned();
        let mut found = false;
        let mut directory = |own: &Directory| {
            let path = own.path.join(&relative);
            let meant = controllers.is_empty() || controllers.iter().any(|controller| own.hierarchy.has(controller));
            let there = meant && path.is_dir();
            found |= there;
            Directory { hierarchy: own.hierarchy.clone(), path: if there { path } else { own.path.clone() } }
        };
        let directories = self.directories.iter().map(&mut directory).collect();
        match found {
            true => Ok(Cgroup { version: self.version, directories, unified: None }),
            false => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("there is no cgroup {below} below the container's"),
            )),
        }
    }

    fn locate(path: &str) -> io::Result<Self> {
        let relative = checked(path)?;
        let layout = layout::layout()?;
        let directory =
            |hierarchy: &Hierarchy| Directory { hierarchy: hierarchy.clone(), path: hierarchy.root.join(relative) };
        Ok(Cgroup {
            version: layout.version,
            directories: layout.hierarchies.iter().map(directory).collect(),
            unified: layout.unified.as_ref().map(|root| root.join(relative)),
        })
    }

    fn make(&self, directory: fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
        for Directory { hierarchy, path } in &self.directories {
            directory(path, &hierarchy.root)?;
            match self.version {
                Version::V1 if hierarchy.has("cpuset") => v1::inherit_cpuset(path, &hierarchy.root)?,
                Version::V1 => {}
                Version::V2 => v2::enable_controllers(path, &hierarchy.root)?,
            }
        }
        Ok(())
    }

    /// What the container's first process needs to be born inside.
    pub fn entry(&self) -> io::Result<Entry> {
        match self.version {
            Version::V2 => Ok(Entry::V2(open_directory(&self.directories[0].path)?)),
            Version::V1 => self.directories.iter().map(open_tasks).collect::<io::Result<_>>().map(Entry::V1),
        }
    }

    /// On hybrid hosts with a service manager, the directory of the same name in the unified hierarchy, made if need be,
    /// for `CLONE_INTO_CGROUP` beside [`Entry::V1`]: the manager, which tracks processes there, then sees a container
    /// of its own and does not end it with the session or service that started it. `None` on every other host.
    pub fn unified_entry(&self) -> io::Result<Option<OwnedFd>> {
        let Some(path) = &self.unified else { return Ok(None) };
        let root = &layout::layout()?.unified;
        make_directory(path, root.as_deref().unwrap_or(path))?;
        open_directory(path).map(Some)
    }

    /// Gives it (v2) to a user of the host, who can then make others below it, but not change its limits.
    pub fn give_to(&self, uid: u32) -> io::Result<()> {
        match self.version {
            Version::V1 => Ok(()),
            Version::V2 => v2::give_to(&self.directories[0].path, uid),
        }
    }

    /// Applies limits; also to a running container. Errors name file, value and the minimum where one is known.
    pub fn apply(&self, resources: &LinuxResources) -> io::Result<()> {
        match self.version {
            Version::V1 => v1::apply(self, resources),
            Version::V2 => v2::apply(&self.directories[0].path, resources),
        }
    }

    /// The directories, by controller (v2: one, named empty), for `explain` and for mounting `/sys/fs/cgroup`. Names
    /// are those of `/proc/self/cgroup`: `memory`, `cpu,cpuacct`, `name=systemd`.
    pub fn directories(&self) -> Vec<(String, PathBuf)> {
        self.directories.iter().map(|directory| (directory.hierarchy.name.clone(), directory.path.clone())).collect()
    }

    /// Its directory in the hierarchy of this v1 controller.
    fn directory(&self, controller: &str) -> Option<&Path> {
        let found = self.directories.iter().find(|directory| directory.hierarchy.has(controller));
        found.map(|directory| directory.path.as_path())
    }
}

/// Paths come from configurations: only plain absolute ones below the root are taken.
fn checked(path: &str) -> io::Result<&str> {
    let relative = path.strip_prefix('/').unwrap_or_default();
    let plain = |part: &str| !matches!(part, "" | "." | "..") && part.len() < 256 && !part.contains(char::is_control);
    match relative.split('/').all(plain) {
        true => Ok(relative),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("invalid cgroup path {path:?}: it must be absolute, not the root, and without `.` and `..`"),
        )),
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    fs::File::open(path).map(OwnedFd::from).map_err(|error| named("open", path, &error))
}

fn open_tasks(directory: &Directory) -> io::Result<OwnedFd> {
    let path = directory.path.join("tasks");
    let file = OpenOptions::new().write(true).open(&path);
    file.map(OwnedFd::from).map_err(|error| named("open", &path, &error))
}

/// Makes a fresh directory, and parents as needed.
fn make_directory(path: &Path, root: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => replace_directory(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_parents(path, root)?;
            fs::create_dir(path).map_err(|error| named("make cgroup", path, &error))
        }
        Err(error) => Err(named("make cgroup", path, &error)),
    }
}

/// Likewise, but one that is there is the right one.
fn keep_directory(path: &Path, root: &Path) -> io::Result<()> {
    match path.is_dir() {
        true => Ok(()),
        false => make_directory(path, root),
    }
}

fn replace_directory(path: &Path) -> io::Result<()> {
    for directory in files::tree(path).map_err(|error| named("list cgroup", path, &error))? {
        match fs::remove_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let text =
                    format!("container's cgroup is not empty: {} exists and has processes: {error}", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            _ => {}
        }
    }
    fs::create_dir(path).map_err(|error| named("make cgroup", path, &error))
}

/// Makes the missing ancestors of `path` below `root`; others may be doing the same.
fn make_parents(path: &Path, root: &Path) -> io::Result<()> {
    let mut missing: Vec<&Path> = path.ancestors().skip(1).take_while(|parent| *parent != root).collect();
    missing.reverse();
    for parent in missing {
        match fs::create_dir(parent) {
            // A v1 cpuset copies its parent's CPUs and nodes into new children if asked to: once here saves a copy
            // by hand for every container. Only cpuset looks at it.
            Ok(()) => drop(fs::write(parent.join("cgroup.clone_children"), "1")),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(named("make cgroup", parent, &error)),
        }
    }
    Ok(())
}

fn named(action: &str, path: &Path, error: &io::Error) -> io::Error {
    let hint = match error.raw_os_error() {
        Some(libc::EROFS) => "; hint: mount it read-write, or run with `--privileged` if this is inside a container",
        Some(libc::EACCES | libc::EPERM) => "; hint: this needs root or a delegated cgroup",
        _ => "",
    };
    io::Error::new(error.kind(), format!("{action} {}: {error}{hint}", path.display()))
}
