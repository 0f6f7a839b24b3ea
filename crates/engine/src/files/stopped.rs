//! The files of a container that does not run: its overlay with its volumes and bind mounts on top, in a mount namespace
//! of its own that lasts as long as somebody holds it. Ids are those on disk, which are the container's own.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use linux::mount::{Attributes, attr, clone_tree, set_attributes, set_overlay_notes};
use linux::namespace::{Kinds, is_rootless, unshare};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    move_mount,
};

use crate::spec::inside;
use crate::table::{Container, MountRecord};
use crate::{Context as _, Engine, Error, Result};

/// A mount namespace and what a container's root directory is in it.
pub(crate) struct Mounts {
    root: OwnedFd,
    _namespace: File,
}

impl Mounts {
    /// The root directory.
    pub(crate) fn root(&self) -> Result<OwnedFd> {
        self.root.try_clone().step(|| "duplicate a descriptor".to_owned())
    }
}

/// What is to be mounted.
struct Plan {
    lower: Vec<PathBuf>,
    directory: PathBuf,
    /// An existing directory to mount on; its content is hidden in the namespace only.
    place: PathBuf,
    mounts: Vec<MountRecord>,
    read_only: bool,
}

/// Mounts everything. The caller holds the container's run lock.
pub(super) fn mount(engine: &Engine, container: &Container) -> Result<Mounts> {
    let image = engine.image_of(container)?;
    engine.mount_volumes(container, &[])?;
    let plan = Plan {
        lower: engine.images().mount(&image)?,
        directory: engine.paths().container(&container.id),
        place: engine.paths().container_state(&container.id),
        mounts: container.mounts.clone(),
        read_only: container.host.readonly_rootfs,
    };
    // A thread can have a mount namespace of its own, which a descriptor keeps when the thread has gone.
    let made = std::thread::Builder::new().name("mounts".to_owned()).spawn(move || make(&plan));
    let made = made.step(|| "start a thread".to_owned())?;
    made.join().unwrap_or_else(|_| Err(Error::internal("the thread that mounts has died")))
}

fn make(plan: &Plan) -> Result<Mounts> {
    let step = || format!("mount the files in {}", plan.directory.display());
    unshare(Kinds::MOUNT).step(step)?;
    let open = |path: &Path| openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let private = Attributes { propagation: PRIVATE, ..Attributes::default() };
    set_attributes(open(Path::new("/")).step(step)?, true, &private).step(step)?;
    let overlay = overlay(plan).step(step)?;
    attach(&overlay, &open(&plan.place).step(step)?).step(step)?;
    let root = open(&plan.place).step(step)?;
    for record in &plan.mounts {
        place(&root, record, plan.read_only)
            .map_err(|error| Error { message: format!("mount {}: {error}", record.point.destination), ..error })?;
    }
    let namespace = File::open("/proc/thread-self/ns/mnt").step(step)?;
    Ok(Mounts { root, _namespace: namespace })
}

/// `MS_PRIVATE` of mount(2).
const PRIVATE: u64 = 1 << 18;

fn overlay(plan: &Plan) -> rustix::io::Result<OwnedFd> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    set_overlay_notes(&fs, is_rootless()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    // By descriptor, since a parameter of fsconfig(2) holds 255 bytes at most.
    let open = |path: &Path| openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let mut opened = Vec::with_capacity(plan.lower.len() + 2);
    for (key, path) in plan
        .lower
        .iter()
        .map(|layer| ("lowerdir+", layer.clone()))
        .chain([("upperdir", plan.directory.join("upper")), ("workdir", plan.directory.join("work"))])
    {
        let directory = open(&path)?;
        fsconfig_set_string(&fs, key, format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
        opened.push(directory);
    }
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

/// Puts one mount of the container's in its place, which is made where it is missing. What lives in memory only (tmpfs)
/// has nothing to show.
fn place(root: &OwnedFd, record: &MountRecord, read_only: bool) -> Result<()> {
    let point = &record.point;
    if !matches!(point.kind.as_str(), "bind" | "volume") {
        return Ok(());
    }
    let source = inside(Path::new(&point.source), &record.subpath)?;
    let is_directory = source.is_dir();
    let target = match target(root, &point.destination) {
        Err(Errno::NOENT) if read_only => return Ok(()),
        Err(Errno::NOENT) => create(root, Path::new(&point.destination), is_directory),
        target => target,
    };
    let target = target.step(|| "open the place".to_owned())?;
    let set = if point.rw { 0 } else { attr::RDONLY };
    let attributes = Attributes { set, propagation: PRIVATE, ..Attributes::default() };
    let tree = clone_tree(CWD, &source, true, &attributes).step(|| format!("open {}", source.display()))?;
    attach(&tree, &target).step(|| "attach".to_owned())
}

fn target(root: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let rules = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), rules)
}

/// Makes a place with its parents, as the start of the container would.
fn create(root: &OwnedFd, path: &Path, is_directory: bool) -> rustix::io::Result<OwnedFd> {
    let text = path.to_str().ok_or(Errno::INVAL)?;
    match target(root, text) {
        Err(Errno::NOENT) => {}
        found => return found,
    }
    let name = path.file_name().ok_or(Errno::NOENT)?;
    let parent = create(root, path.parent().ok_or(Errno::NOENT)?, true)?;
    match is_directory {
        true => mkdirat(&parent, name, Mode::from_raw_mode(0o755))?,
        false => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            drop(openat(&parent, name, flags, Mode::from_raw_mode(0o644))?);
        }
    }
    target(root, text)
}

fn attach(tree: &OwnedFd, target: &OwnedFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", target, "", flags)
}
