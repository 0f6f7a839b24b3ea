//! Inside the container's mount namespace: file systems of its own, everything moved into place under the new root,
//! and the paths that are hidden or read-only.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::mount::{Attributes, attr, clone_tree, set_attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsPickFlags, MoveMountFlags, UnmountFlags, fsconfig_reconfigure, fspick, move_mount, unmount};

use super::binds::filesystem;
use super::devices::{self, Device, SINGLE};
use super::mounts::{Mount, Source};
use super::options::Options;
use super::root::{DIRECTORY_MODE, Root, is_directory};
use super::step::Step;
use super::{Error, binds, copyup};
use crate::cgroup::{self, Cgroup};

/// What the child makes before it leaves the host's tree (the kernel allows new procfs and sysfs mounts in a user
/// namespace only while full ones can be seen): one detached mount for each [`Mount`] that is not the parent's.
pub(super) fn make_own(mounts: &[Mount], own_cgroups: bool, cgroup: Option<&Cgroup>) -> Result<Vec<Made>, Error> {
    mounts.iter().filter(|mount| mount.source.inside()).map(|mount| make(mount, own_cgroups, cgroup)).collect()
}

/// A detached mount and, for v1 cgroups, what goes below it.
pub(super) struct Made {
    /// The mount.
    pub(super) tree: OwnedFd,
    /// A new file system, of which there is nothing on the host.
    fresh: bool,
    /// Names and mounts below it.
    below: Vec<(String, OwnedFd)>,
}

impl From<OwnedFd> for Made {
    fn from(tree: OwnedFd) -> Self {
        Self { tree, fresh: false, below: Vec::new() }
    }
}

fn make(mount: &Mount, own_cgroups: bool, cgroup: Option<&Cgroup>) -> Result<Made, Error> {
    match &mount.source {
        Source::Cgroup => cgroups(mount, own_cgroups, cgroup),
        Source::Inside(kind) => match filesystem(kind, &mount.label, &mount.options) {
            // Network or pid namespace of somebody else: show the host's, read-only, as other engines do.
            Err(_) if matches!(kind.as_str(), "sysfs" | "proc") => {
                let path = if kind == "proc" { "/proc" } else { "/sys" };
                host_tree(Path::new(path), &mount.options).map(Made::from)
            }
            made => made.map(|tree| Made { fresh: true, ..Made::from(tree) }),
        },
        _ => Err(Error::Invalid(format!("{} is not made inside", mount.source.name()))),
    }
}

/// The container's own whole and writable procfs among these mounts, while it is attached nowhere: one less to be made, and
/// to be taken down again, which waits for a grace period.
pub(super) fn own_procfs(mounts: &[Mount], made: &[Made]) -> Option<OwnedFd> {
    let whole = |mount: &Mount| {
        mount.source == Source::Inside("proc".into())
            && mount.options.data.is_empty()
            && mount.options.whole.is_empty()
            && mount.options.set & attr::RDONLY == 0
    };
    let inside = mounts.iter().filter(|mount| mount.source.inside());
    let (_, own) = inside.zip(made).find(|(mount, made)| made.fresh && whole(mount))?;
    rustix::io::fcntl_dupfd_cloexec(&own.tree, 3).ok()
}

/// A procfs for our own use, attached nowhere; the host's where the kernel allows no new one.
pub(super) fn procfs() -> Result<OwnedFd, Error> {
    match filesystem("proc", Path::new("proc"), &Options::default()) {
        Err(_) => host_tree(Path::new("/proc"), &Options::default()),
        made => made,
    }
}

fn host_tree(path: &Path, options: &Options) -> Result<OwnedFd, Error> {
    let attributes = Attributes { set: options.set, propagation: libc::MS_PRIVATE, ..Attributes::default() };
    clone_tree(CWD, path, true, &attributes).step(|| format!("mount the host's {}", path.display()))
}

/// `/sys/fs/cgroup`: on v2 the hierarchy as the cgroup namespace shows it; on v1 the container's own directory of each
/// hierarchy below a small `tmpfs`.
fn cgroups(mount: &Mount, own: bool, cgroup: Option<&Cgroup>) -> Result<Made, Error> {
    let options = &mount.options;
    if cgroup::version() == cgroup::Version::V2 {
        let bare = Options { set: options.set, ..Options::default() };
        let tree = match filesystem("cgroup2", Path::new("cgroup"), &bare) {
            Err(_) if !own => host_tree(Path::new("/sys/fs/cgroup"), options)?,
            other => other?,
        };
        return Ok(tree.into());
    }
    let Some(cgroup) = cgroup else {
        return host_tree(Path::new("/sys/fs/cgroup"), options).map(Made::from);
    };
    let data = vec!["mode=755".to_owned(), "size=64k".to_owned()];
    let writable = Options { set: options.set & !attr::RDONLY, data, ..Options::default() };
    let tree = filesystem("tmpfs", Path::new("cgroup"), &writable)?;
    let attributes = Attributes { set: options.set, propagation: libc::MS_PRIVATE, ..Attributes::default() };
    let mut below = Vec::new();
    for (name, path) in cgroup.directories() {
        let bind = clone_tree(CWD, &path, false, &attributes).step(|| format!("mount cgroup {}", path.display()))?;
        below.push((name.strip_prefix("name=").unwrap_or(&name).to_owned(), bind));
    }
    Ok(Made { tree, fresh: true, below })
}

/// Cuts the new mount namespace off from the host's, so that nothing of what follows shows up there; what the host
/// mounts later still shows up here. A namespace that belongs to a new user namespace is born so.
pub(super) fn leave_peers(new_user: bool) -> Result<(), Error> {
    if new_user {
        return Ok(());
    }
    let slave = Attributes { propagation: libc::MS_SLAVE, ..Attributes::default() };
    set_attributes(host_root()?, true, &slave).step(|| "cut the mounts off from the host's".into())
}

fn host_root() -> Result<OwnedFd, Error> {
    rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .step(|| "open the host's root".into())
}

/// Shows `tree` at the path of the root file system, where hooks expect it.
pub(super) fn attach_root(tree: &OwnedFd, path: &Path) -> Result<(), Error> {
    let what = || format!("attach the root file system to {}", path.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::open(path, flags, Mode::empty()).step(what)?;
    attach(tree, target).step(what)
}

/// Without `pivot_root` the host's tree stays below the container's, and a full procfs or sysfs in it would let user
/// namespaces of the container mount one without the hidden paths (mount_namespaces(7), "Restrictions"). So they go, or are
/// covered where they cannot. `rootfs`: where the container's own is attached already, if it is.
pub(super) fn hide_hosts_views(rootfs: Option<&Path>) -> Result<(), Error> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").step(|| "read the mount table".into())?;
    let is_own = |path: &PathBuf| rootfs.is_some_and(|rootfs| path.starts_with(rootfs));
    // Read as a whole before /proc goes; the last mounted first.
    for path in table.lines().rev().filter_map(kernel_view).filter(|path| !is_own(path)) {
        let what = || format!("hide the host's {}", path.display());
        match unmount(&path, UnmountFlags::DETACH) {
            Err(Errno::INVAL | Errno::PERM) => {
                let cover = filesystem("tmpfs", Path::new("tmpfs"), &Options::default())?;
                let target = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(what)?;
                attach(&cover, target).step(what)?;
            }
            other => other.step(what)?,
        }
    }
    Ok(())
}

/// The place of a whole procfs or sysfs, of a line of `mountinfo` (proc_pid_mountinfo(5)).
fn kernel_view(line: &str) -> Option<PathBuf> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, place) = (fields.next()?, fields.next()?);
    let whole = root == "/" && matches!(filesystem.split(' ').next()?, "proc" | "sysfs");
    whole.then(|| place.replace("\\040", " ").into())
}

/// Makes `tree` the root of the mount namespace and lets go of the host's. `attached`: it is already part of the
/// host's tree. `no_pivot`: puts it over the host's, which stays below.
pub(super) fn enter_root(tree: &OwnedFd, attached: bool, no_pivot: bool) -> Result<(), Error> {
    if no_pivot && attached {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(tree, "", host_root()?, "", flags).step(|| "move the root file system over /".into())?;
    } else if !attached {
        attach(tree, host_root()?).step(|| "attach the root file system".into())?;
    }
    rustix::process::fchdir(tree).step(|| "enter the root file system".into())?;
    if no_pivot {
        return rustix::process::chroot(".").step(|| "chroot into the root file system".into());
    }
    rustix::process::pivot_root(".", ".").step(|| "pivot_root".into())?;
    // The old root now lies on top of the new one; it is no peer of the host's any more, so only our copy goes.
    unmount(".", UnmountFlags::DETACH).step(|| "unmount the host's root".into())?;
    rustix::process::chdir("/").step(|| "enter the new root".into())
}

/// Moves a detached mount onto an open directory or file.
pub(super) fn attach(tree: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags)
}

/// Changes what is mounted at the destination already (`remount`): the mount's attributes and, unless it is a bind mount,
/// what the options say about its file system.
pub(super) fn remount(root: &Root, mount: &Mount) -> Result<(), Error> {
    let what = || format!("remount {}", mount.destination.display());
    let options = &mount.options;
    let target = root.open(&mount.destination, OFlags::PATH).step(what)?;
    binds::apply(&target, options).step(what)?;
    if options.bind || (options.data.is_empty() && options.whole.is_empty()) {
        return Ok(());
    }
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_NO_AUTOMOUNT;
    let fs = fspick(&target, "", flags).step(what)?;
    binds::configure(&fs, "remount", options)?;
    fsconfig_reconfigure(&fs).step(what)
}

/// Moves one planned mount to its destination, making the mount point where it is missing.
pub(super) fn place(root: &Root, mount: &Mount, made: &Made) -> Result<(), Error> {
    let path = &mount.destination;
    let what = || format!("mount {} on {}", mount.source.name(), path.display());
    // As runc: a tmpfs looks like the directory that it covers, if there is one.
    let covers = || root.open(path, OFlags::PATH | OFlags::DIRECTORY).ok();
    let covered = (mount.source == Source::Inside("tmpfs".into()) && !names_mode(mount)).then(covers).flatten();
    let target = match &mount.source {
        Source::Inside(kind) if kind == "proc" || kind == "sysfs" => ordinary_directory(root, path, kind)?,
        Source::Devices => ordinary_directory(root, path, "tmpfs")?,
        _ if is_directory(&made.tree).step(what)? => match root.make_directory(path, DIRECTORY_MODE) {
            Err(Errno::NOTDIR) => return Err(not_of_one_kind(&what())),
            other => other.step(what)?,
        },
        _ => root.make_file(path).step(what)?,
    };
    if mount.options.copy_up {
        copyup::copy(&target, &made.tree, !names_mode(mount))
            .step(|| format!("copy {} into its tmpfs", path.display()))?;
    }
    if let Some(covered) = covered {
        let mode = rustix::fs::fstat(covered).step(what)?.st_mode;
        rustix::fs::fchmod(
            rustix::fs::openat(&made.tree, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step(what)?,
            Mode::from_raw_mode(mode & 0o7777),
        )
        .step(what)?;
    }
    match attach(&made.tree, &target) {
        // What mount(2) calls ENOTDIR is EINVAL to move_mount(2).
        Err(Errno::NOTDIR | Errno::INVAL) if differ(&made.tree, &target) => Err(not_of_one_kind(&what())),
        other => other.step(what),
    }?;
    if !made.below.is_empty() {
        place_cgroups(mount, made)?;
    }
    Ok(())
}

/// Makes a `/dev` of our own read-only, if it is to be, once everything is mounted below it.
pub(super) fn finish_devices(root: &Root, mounts: &[Mount]) -> Result<(), Error> {
    let read_only = |mount: &&Mount| {
        mount.source == Source::Devices && (mount.options.set | mount.options.set_recursive) & attr::RDONLY != 0
    };
    let Some(mount) = mounts.iter().find(read_only) else { return Ok(()) };
    let what = || format!("make {} read-only", mount.destination.display());
    let target = root.open(&mount.destination, OFlags::PATH).step(what)?;
    let recursive = mount.options.set_recursive & attr::RDONLY != 0;
    set_attributes(&target, recursive, &Attributes { set: attr::RDONLY, ..Attributes::default() }).step(what)
}

fn names_mode(mount: &Mount) -> bool {
    mount.options.data.iter().any(|word| word.starts_with("mode="))
}

fn not_of_one_kind(what: &str) -> Error {
    Error::Step(format!(
        "{what}: not a directory: are you trying to mount a directory onto a file (or vice-versa)? \
         Check if the specified host path exists and is the expected type"
    ))
}

/// Whether one is a directory and the other is none.
fn differ(tree: &OwnedFd, target: &OwnedFd) -> bool {
    is_directory(tree).ok() != is_directory(target).ok()
}

/// Shows the one node of `tree` at the device's path. The kernel clones only what is attached, so the tree is put over
/// the root, where no path leads to it, for that moment.
pub(super) fn place_device(root: &Root, device: &Device, tree: &OwnedFd) -> Result<(), Error> {
    let what = || format!("mount device {}", device.path.display());
    if let Ok(present) = root.open(&device.path, OFlags::PATH) {
        match device.check_present(&rustix::fs::fstat(present).step(what)?) {
            // On a `/dev` of the image's own, where nobody asked for it.
            Err(_) if device.is_default() => return Ok(()),
            other => other?,
        }
    }
    let target = root.make_file(&device.path).step(what)?;
    attach(tree, root.fd()).step(what)?;
    let node = clone_tree(tree, Path::new(SINGLE), false, &Attributes::default()).step(what)?;
    attach(node, target).step(what)?;
    rustix::process::fchdir(tree).step(what)?;
    unmount(".", UnmountFlags::DETACH).step(what)?;
    rustix::process::chdir("/").step(what)
}

/// Shows a node of the host at the device's path.
pub(super) fn place_node(root: &Root, device: &Device, node: &OwnedFd) -> Result<(), Error> {
    let what = || format!("mount device {}", device.path.display());
    let target = root.make_file(&device.path).step(what)?;
    attach(node, target).step(what)
}

/// The links that programs expect, in the image's own `/dev`. That must be a directory: a link would lead devices
/// elsewhere (CVE-2026-41579).
pub(super) fn link_devices(root: &Root) -> Result<(), Error> {
    let directory = ordinary_directory(root, Path::new("/dev"), "devices")?;
    for (name, target) in devices::LINKS {
        match rustix::fs::symlinkat(target, &directory, name) {
            Err(Errno::EXIST) => {}
            other => other.step(|| format!("make link /dev/{name}"))?,
        }
    }
    Ok(())
}

/// The mount point of a kernel file system must be what it seems: an image with `/proc` as a link is refused.
fn ordinary_directory(root: &Root, path: &Path, kind: &str) -> Result<OwnedFd, Error> {
    let what = || format!("filesystem {kind:?} must be mounted on ordinary directory {}", path.display());
    match root.open_unlinked(path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => {
            root.make_directory(path, DIRECTORY_MODE).step(what)?;
            root.open_unlinked(path, OFlags::PATH | OFlags::DIRECTORY).step(what)
        }
        other => other.step(what),
    }
}

fn place_cgroups(mount: &Mount, made: &Made) -> Result<(), Error> {
    for (name, bind) in &made.below {
        let what = || format!("mount cgroup {name}");
        rustix::fs::mkdirat(&made.tree, name, DIRECTORY_MODE).step(what)?;
        let target = rustix::fs::openat(&made.tree, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(what)?;
        attach(bind, &target).step(what)?;
        for alias in name.split(',').filter(|alias| *alias != name) {
            rustix::fs::symlinkat(name, &made.tree, alias).step(what)?;
        }
    }
    let own = Attributes { set: mount.options.set & attr::RDONLY, ..Attributes::default() };
    if own.is_empty() {
        return Ok(());
    }
    set_attributes(&made.tree, false, &own).step(|| "make /sys/fs/cgroup read-only".into())
}

/// What hides paths: an empty directory and `/dev/null`, both the host's, as detached mounts.
pub(super) struct Covers {
    directory: OwnedFd,
    file: OwnedFd,
}

impl Covers {
    /// How many descriptors [`Covers::make`] makes.
    pub(super) const COUNT: usize = 2;

    /// Parent: makes them, because the container's root may not even look up the way to `empty`.
    pub(super) fn make(empty: &Path) -> Result<[OwnedFd; Self::COUNT], Error> {
        let attributes = Attributes { set: attr::RDONLY, propagation: libc::MS_PRIVATE, ..Attributes::default() };
        let directory = clone_tree(CWD, empty, false, &attributes)
            .step(|| format!("open {}, which hides masked directories", empty.display()))?;
        let file = clone_tree(CWD, Path::new("/dev/null"), false, &attributes).step(|| "open /dev/null".into())?;
        let stat = rustix::fs::fstat(&file).step(|| "inspect /dev/null".into())?;
        if stat.st_rdev != rustix::fs::makedev(1, 3) {
            return Err(Error::Step("the host's /dev/null is not the null device".into()));
        }
        Ok([directory, file])
    }

    /// Child: what the parent has made.
    pub(super) fn new(directory: OwnedFd, file: OwnedFd) -> Self {
        Self { directory, file }
    }

    /// Hides paths, so far as they exist. The first of each kind is the cover itself, the others are clones of it.
    pub(super) fn hide<'a>(self, root: &Root, paths: impl Iterator<Item = &'a Path>) -> Result<(), Error> {
        let mut used = [false; 2];
        for path in paths {
            let what = || format!("hide {}", path.display());
            let Some(target) = existing(root, path)? else { continue };
            let directory = is_directory(&target).step(what)?;
            let cover = if directory { &self.directory } else { &self.file };
            match std::mem::replace(&mut used[usize::from(directory)], true) {
                false => attach(cover, &target).step(what)?,
                true => {
                    let again = clone_tree(cover, Path::new(""), false, &Attributes::default()).step(what)?;
                    attach(again, &target).step(what)?;
                }
            }
        }
        Ok(())
    }
}

/// Makes paths read-only, so far as they exist, with everything mounted below them.
pub(super) fn make_readonly(root: &Root, paths: &[String]) -> Result<(), Error> {
    let attributes = Attributes { set: attr::RDONLY, ..Attributes::default() };
    for path in paths.iter().map(Path::new) {
        let what = || format!("make {} read-only", path.display());
        if let Some(target) = existing(root, path)? {
            let tree = clone_tree(&target, Path::new(""), true, &attributes).step(what)?;
            attach(tree, target).step(what)?;
        }
    }
    Ok(())
}

fn existing(root: &Root, path: &Path) -> Result<Option<OwnedFd>, Error> {
    match root.open(path, OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error).step(|| format!("open {}", path.display())),
    }
}

/// Makes the root itself read-only (`--read-only`); mounts on it keep their own state.
pub(super) fn make_root_readonly(root: &Root) -> Result<(), Error> {
    let attributes = Attributes { set: attr::RDONLY, ..Attributes::default() };
    set_attributes(root.fd(), false, &attributes).step(|| "make the root file system read-only".into())
}

/// How later mounts inside spread between the container and mount namespaces made in it (`rootfsPropagation`). Towards
/// the host nothing spreads but what a bind mount says for itself.
pub(super) fn propagate(root: &Root, word: Option<&str>) -> Result<(), Error> {
    let (propagation, recursive) = match word {
        None | Some("" | "private" | "rprivate" | "slave" | "rslave") => return Ok(()),
        Some("shared") => (libc::MS_SHARED, false),
        Some("rshared") => (libc::MS_SHARED, true),
        Some("unbindable") => (libc::MS_UNBINDABLE, false),
        Some("runbindable") => (libc::MS_UNBINDABLE, true),
        Some(other) => return Err(Error::Invalid(format!("linux.rootfsPropagation: unknown value {other:?}"))),
    };
    let attributes = Attributes { propagation, ..Attributes::default() };
    set_attributes(root.fd(), recursive, &attributes).step(|| "set the root's propagation".into())
}

/// Makes the working directory (as the container's root user, as other engines do) where it is missing.
pub(super) fn make_workdir(root: &Root, path: &Path) -> Result<(), Error> {
    let what = || format!("make working directory {}", path.display());
    check_workdir(path)?;
    match root.make_directory(path, DIRECTORY_MODE) {
        Ok(_) => Ok(()),
        // Not visible or not writable for root: entering it as the final user decides.
        Err(Errno::ACCESS | Errno::ROFS) => Ok(()),
        Err(error) => Err(error).step(what),
    }
}

/// A relative working directory would be one of the caller's.
pub(super) fn check_workdir(path: &Path) -> Result<(), Error> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(Error::Invalid(format!("working directory {:?} must be an absolute path", path.display())))
}

/// Absolute paths as the configuration lists them.
pub(super) fn paths(list: &[String]) -> impl Iterator<Item = &Path> {
    list.iter().map(Path::new)
}

/// Hidden directories of a `host:` image.
pub(super) fn hidden(list: &[PathBuf]) -> impl Iterator<Item = &Path> {
    list.iter().map(PathBuf::as_path)
}
