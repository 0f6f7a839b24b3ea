//! What the parent mounts with the host's rights: parts of the host's tree and file systems on devices, detached and
//! with all their attributes before the container can see them.

use std::os::fd::OwnedFd;
use std::path::Path;

use linux::mount::{Attributes, attr, clone_tree, set_attributes};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use super::Error;
use super::idmap::IdMap;
use super::mounts::Mount;
use super::options::{IVERSION, Options};
use super::overlay::{self, not_mappable};
use super::step::Step;

/// A detached bind mount of `path` as the options say.
pub(super) fn bind(path: &Path, mount: &Mount, map: Option<&IdMap>) -> Result<OwnedFd, Error> {
    let options = &mount.options;
    let wanted = || format!("mount {} on {}", path.display(), mount.destination.display());
    let private = if options.propagation == 0 { libc::MS_PRIVATE } else { options.propagation };
    let private = Attributes { propagation: private, ..Attributes::default() };
    let tree = match options.no_links {
        true => clone_tree(open_without_links(path).step(wanted)?, Path::new(""), options.recursive, &private),
        false => clone_tree(CWD, path, options.recursive, &private),
    };
    let tree = tree.step(wanted)?;
    if let Some(map) = map.filter(|_| options.idmap) {
        set_attributes(&tree, options.idmap_recursive && options.recursive, &map.attributes()).map_err(|error| {
            unmappable_below(path, options, map)
                .unwrap_or_else(|| not_mappable(if path.is_dir() { "directory" } else { "file" }, path, &error))
        })?;
    }
    apply(&tree, options).step(wanted)?;
    Ok(tree)
}

/// Opens a path in which no component may be a symbolic link.
fn open_without_links(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

/// The error that names which mount below `path` cannot be id-mapped, if one of those is what stands in the way.
fn unmappable_below(path: &Path, options: &Options, map: &IdMap) -> Option<Error> {
    if !(options.recursive && options.idmap_recursive) {
        return None;
    }
    let path = path.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let below = mounts.lines().filter_map(|line| {
        let target = line.split(' ').nth(4)?;
        let kind = line.split_once(" - ")?.1.split(' ').next()?;
        Some((Path::new(target), kind)).filter(|(target, _)| target.starts_with(&path) && *target != path)
    });
    let refuses = |target: &Path| clone_tree(CWD, target, false, &map.attributes()).is_err();
    let (target, kind) = below.into_iter().find(|(target, _)| refuses(target))?;
    Some(Error::Step(format!(
        "id-mapped mount of directory {}: {} ({kind}) below it cannot be id-mapped; \
         use --userns=host, or leave out what is mounted below it: --mount type=bind,bind-recursive=disabled,…",
        path.display(),
        target.display()
    )))
}

/// A detached mount of a file system that is on a device or a server.
/// `empty` is an empty directory.
pub(super) fn device(
    kind: &str,
    device: &Path,
    mount: &Mount,
    empty: &Path,
    map: Option<&IdMap>,
) -> Result<OwnedFd, Error> {
    if let Some(layers) = overlay::layers(kind, &mount.options) {
        return overlay::read_only(&layers, &mount.options, empty, map.filter(|_| mount.options.idmap));
    }
    let mut options = mount.options.clone();
    if options.set & attr::RDONLY != 0 {
        // The device too: it may be one that cannot be written.
        options.whole.push("ro");
    }
    let tree = filesystem(kind, device, &options)?;
    if let Some(map) = map.filter(|_| mount.options.idmap) {
        set_attributes(&tree, false, &map.attributes()).map_err(|error| not_mappable("device", device, &error))?;
    }
    Ok(tree)
}

/// A detached mount of a new instance of a file system; also used inside.
pub(super) fn filesystem(kind: &str, source: &Path, options: &Options) -> Result<OwnedFd, Error> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).step(|| format!("open file system {kind}"))?;
    fsconfig_set_string(&fs, "source", source).step(|| format!("{kind}: set source"))?;
    configure(&fs, kind, options)?;
    fsconfig_create(&fs).step(|| format!("mount {kind}"))?;
    let flags = MountAttrFlags::from_bits_retain((options.set | options.set_recursive) as u32);
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, flags).step(|| format!("mount {kind}"))
}

/// Tells a file system its options.
pub(super) fn configure(fs: &OwnedFd, kind: &str, options: &Options) -> Result<(), Error> {
    for word in &options.data {
        match word.split_once('=') {
            Some((key, value)) => fsconfig_set_string(fs, key, value),
            None => fsconfig_set_flag(fs, word.as_str()),
        }
        .step(|| format!("{kind}: mount option {word:?}"))?;
    }
    for word in &options.whole {
        match set_whole(fs, word) {
            Err(Errno::INVAL) if *word == IVERSION => {}
            other => other.step(|| format!("{kind}: mount option {word:?}"))?,
        }
    }
    Ok(())
}

/// Sets a word about a file system as a whole; one of them has two names.
fn set_whole(fs: &OwnedFd, word: &str) -> rustix::io::Result<()> {
    match fsconfig_set_flag(fs, word) {
        Err(Errno::INVAL) if word == IVERSION => fsconfig_set_flag(fs, "i_version"),
        other => other,
    }
}

/// Sets the attributes that the options name, on the mount and, for the recursive ones, on everything below it.
pub(super) fn apply(tree: &OwnedFd, options: &Options) -> std::io::Result<()> {
    let own = Attributes { set: options.set, clear: options.clear, ..Attributes::default() };
    if !own.is_empty() {
        set_attributes(tree, false, &own)?;
    }
    let all = Attributes { set: options.set_recursive, clear: options.clear_recursive, ..Attributes::default() };
    if !all.is_empty() {
        set_attributes(tree, true, &all)?;
    }
    if options.propagate_recursive && options.recursive {
        let propagation = Attributes { propagation: options.propagation, ..Attributes::default() };
        set_attributes(tree, true, &propagation)?;
    }
    Ok(())
}
