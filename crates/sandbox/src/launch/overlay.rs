//! The root file system: overlay over layers, each shown through the container's user namespace, made as a detached
//! mount by the parent. Nothing is chowned: on disk, layers and upper directory hold the container's own ids.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::mount::{Attributes, attr, clone_tree, set_overlay_notes};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use rustix::thread::{CapabilitySets, capabilities, set_capabilities};

use super::idmap::IdMap;
use super::options::Options;
use super::root::Root;
use super::stage::{self, Stage};
use super::step::Step;
use super::{Error, Held};

/// The directories that take the changes; siblings on one file system.
pub(super) struct Writable<'a> {
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
    /// See [`Rootfs::Overlay`](super::Rootfs::Overlay).
    pub(super) volatile: bool,
    /// Overlay keeps its notes in attributes that root of a user namespace may write too.
    pub(super) rootless: bool,
}

/// A detached overlay over `lower` (topmost first). `empty` is an empty directory. `held` takes mounts that were needed
/// on the way.
pub(super) fn overlay(
    lower: &[PathBuf],
    writable: &Writable<'_>,
    empty: &Path,
    map: Option<&IdMap>,
    held: &mut Held,
) -> Result<OwnedFd, Error> {
    match map {
        Some(_) => stage::with(empty, |stage| make(lower, writable, map, Some(stage), held)),
        None => make(lower, writable, None, None, held),
    }
}

/// A detached read-only overlay over `lower` (topmost first), without a place for changes: at least two layers.
pub(super) fn read_only(
    lower: &[PathBuf],
    options: &Options,
    empty: &Path,
    map: Option<&IdMap>,
) -> Result<OwnedFd, Error> {
    let make = |stage: Option<&Stage>| {
        let layers = lower.iter().map(|layer| open_layer(layer, map)).collect::<Result<Vec<_>, _>>()?;
        stage.map_or(Ok(()), |stage| layers.iter().try_for_each(|tree| stage.hold(tree)))?;
        let fs = over_layers(&layers, lower, linux::namespace::is_rootless())?;
        create_as(&fs, map)?;
        let attributes = MountAttrFlags::from_bits_retain((options.set | attr::RDONLY) as u32);
        let tree = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).step(|| "mount overlay".into())?;
        match (&options.subpath, stage) {
            (Some(path), Some(stage)) => part(tree, path, stage),
            _ => Ok(tree),
        }
    };
    match (&options.subpath, map) {
        (Some(_), _) => stage::in_own_namespace(empty, |stage| make(Some(stage))),
        (None, Some(_)) => stage::with(empty, |stage| make(Some(stage))),
        (None, None) => make(None),
    }
}

/// What `path` leads to inside of `tree`, as a mount of its own. Only what is attached can be cloned in part.
fn part(tree: OwnedFd, path: &Path, stage: &Stage) -> Result<OwnedFd, Error> {
    stage.hold(&tree)?;
    let what = || format!("cannot access path {}", path.display());
    let found = Root::new(tree).open(path, OFlags::PATH).step(what)?;
    let private = Attributes { propagation: libc::MS_PRIVATE, ..Attributes::default() };
    clone_tree(&found, Path::new(""), false, &private).step(what)
}

/// The layers of an overlay that is to be id-mapped, which each of them is, because an overlay as a whole cannot be; or
/// of which only a part is wanted.
pub(super) fn layers(kind: &str, options: &Options) -> Option<Vec<PathBuf>> {
    let layers = options.data.iter().map(|word| word.strip_prefix("lowerdir+=").map(PathBuf::from));
    (kind == "overlay" && (options.idmap || options.subpath.is_some())).then(|| layers.collect())?
}

/// An overlay to be, with its layers.
fn over_layers(layers: &[OwnedFd], paths: &[PathBuf], rootless: bool) -> Result<OwnedFd, Error> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).step(|| "open overlay file system".into())?;
    fsconfig_set_string(&fs, "source", "overlay").step(|| "overlay: set source".into())?;
    set_overlay_notes(&fs, rootless).step(|| "overlay: decide about its notes".into())?;
    for (layer, path) in layers.iter().zip(paths) {
        set_directory(&fs, "lowerdir+", layer).step(|| format!("overlay: add layer {}", path.display()))?;
    }
    Ok(fs)
}

fn make(
    lower: &[PathBuf],
    writable: &Writable<'_>,
    map: Option<&IdMap>,
    stage: Option<&Stage>,
    held: &mut Held,
) -> Result<OwnedFd, Error> {
    let layers = lower.iter().map(|layer| open_layer(layer, map)).collect::<Result<Vec<_>, _>>()?;
    // The mount that both are on lives as long as its own descriptor.
    let [tree, upper, work] = open_writable(writable.upper, writable.work, map)?;
    if let Some(stage) = stage {
        layers.iter().chain([&tree]).try_for_each(|tree| stage.hold(tree))?;
    }
    let fs = over_layers(&layers, lower, writable.rootless)?;
    set_directory(&fs, "upperdir", &upper).step(|| "overlay: set upper directory".into())?;
    set_directory(&fs, "workdir", &work).step(|| "overlay: set work directory".into())?;
    if writable.volatile {
        fsconfig_set_flag(&fs, "volatile").step(|| "overlay: set volatile".into())?;
    }
    set_plain(&fs, writable.rootless)?;
    create_as(&fs, map)?;
    if map.is_some() {
        held.0.extend(layers);
        held.0.push(tree);
    }
    let made = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).step(|| "mount overlay".into())?;
    check_writable(&made, writable.upper)?;
    Ok(made)
}

/// Turns off what a kernel may have on by default: with an index, a container could not be started again before its last
/// overlay is gone; files that were copied up in part, or moved by reference, are no layer that others understand.
fn set_plain(fs: &OwnedFd, rootless: bool) -> Result<(), Error> {
    let all = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow")];
    let options = if rootless { &all[..2] } else { &all[..] };
    options.iter().try_for_each(|(option, value)| {
        fsconfig_set_string(fs, *option, *value).step(|| format!("overlay: set {option} to {value}"))
    })
}

/// Where overlay cannot prepare its work directory, it does not fail but turns read-only.
fn check_writable(overlay: &OwnedFd, upper: &Path) -> Result<(), Error> {
    let read_only = rustix::fs::fstatvfs(overlay).step(|| "inspect overlay".into())?;
    if !read_only.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let full = rustix::fs::statvfs(upper).is_ok_and(|system| system.f_bavail == 0 || system.f_favail == 0);
    let cause = if full { Errno::NOSPC } else { Errno::ROFS };
    Err(cause).step(|| format!("prepare the work directory beside {}", upper.display()))
}

/// One read-only layer.
fn open_layer(path: &Path, map: Option<&IdMap>) -> Result<OwnedFd, Error> {
    match map {
        Some(map) => {
            let attributes = Attributes { set: attr::RDONLY, propagation: libc::MS_PRIVATE, ..map.attributes() };
            clone_tree(CWD, path, false, &attributes).map_err(|error| not_mappable("layer", path, &error))
        }
        None => open_path(CWD, path).step(|| format!("open layer {}", path.display())),
    }
}

/// The mount on which upper and work directory are (one for both, as overlay demands), and they themselves.
fn open_writable(upper: &Path, work: &Path, map: Option<&IdMap>) -> Result<[OwnedFd; 3], Error> {
    let invalid = || Error::Invalid(format!("{} and {} must be siblings", upper.display(), work.display()));
    let (Some(parent), Some(upper_name), Some(work_name)) = (upper.parent(), upper.file_name(), work.file_name())
    else {
        return Err(invalid());
    };
    if work.parent() != Some(parent) {
        return Err(invalid());
    }
    let tree = match map {
        Some(map) => {
            let attributes = Attributes { propagation: libc::MS_PRIVATE, ..map.attributes() };
            clone_tree(CWD, parent, false, &attributes).map_err(|error| not_mappable("directory", parent, &error))?
        }
        None => open_path(CWD, parent).step(|| format!("open {}", parent.display()))?,
    };
    let open = |name| open_path(&tree, Path::new(name)).step(|| format!("open {}", parent.join(name).display()));
    let (upper, work) = (open(upper_name)?, open(work_name)?);
    Ok([tree, upper, work])
}

fn open_path(dir: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(dir, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Hands overlay a directory by descriptor; before Linux 6.13, which takes no such ones, by the descriptor's name in
/// `/proc`.
pub(crate) fn set_directory(fs: &OwnedFd, key: &str, directory: &OwnedFd) -> rustix::io::Result<()> {
    match fsconfig_set_fd(fs, key, directory) {
        Err(Errno::INVAL | Errno::BADF) => {
            fsconfig_set_string(fs, key, format!("/proc/self/fd/{}", directory.as_raw_fd()))
        }
        other => other,
    }
}

/// Makes the superblock as the container's root: overlay acts on the layers with its maker's identity, which must exist
/// in their id map, or it turns read-only. The maker's capabilities stay the host's.
fn create_as(fs: &OwnedFd, map: Option<&IdMap>) -> Result<(), Error> {
    let hint = || "mount overlay (upper and work directory must be on one file system that supports overlay)".into();
    let Some(map) = map else { return fsconfig_create(fs).step(hint) };
    let capable = capabilities(None).step(|| "read own capabilities".into())?;
    let ids = linux::ids::set_fs_ids(map.root.0, map.root.1).step(|| "become the container's root".into())?;
    let restore = |sets: CapabilitySets| set_capabilities(None, sets).step(|| "raise capabilities again".into());
    let created = restore(capable).and_then(|()| fsconfig_create(fs).step(hint));
    drop(ids);
    restore(capable)?;
    created
}

/// Why a tree could not be shown through a user namespace.
pub(super) fn not_mappable(what: &str, path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::EPERM) => Error::Step(format!(
            "id-mapped mount of {what} {path}: its file system cannot be id-mapped; \
             use --userns=host, or a directory on another file system (ext4, xfs, btrfs, tmpfs)"
        )),
        _ => Error::Step(format!("mount {what} {path}: {}", super::step::describe(error))),
    }
}

/// A directory as the root, bind-mounted with everything below it. `receives`: what the host mounts there later too.
pub(super) fn directory(path: &Path, receives: bool, map: Option<&IdMap>) -> Result<OwnedFd, Error> {
    let propagation = if receives { libc::MS_SLAVE } else { libc::MS_PRIVATE };
    let attributes = Attributes { propagation, ..Attributes::default() };
    let tree = clone_tree(CWD, path, true, &attributes).step(|| format!("mount {} as root", path.display()))?;
    if let Some(map) = map {
        linux::mount::set_attributes(&tree, false, &map.attributes())
            .map_err(|error| not_mappable("root", path, &error))?;
    }
    Ok(tree)
}
