//! `/dev`: a small file system with the container's device nodes, made by the parent, because nodes can be made with
//! the host's rights only, and shown through the container's user namespace.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::mount::{Attributes, attr, clone_tree, set_attributes};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{
    AtFlags, CWD, Dev, FileType, Gid, Mode, Stat, Uid, chmodat, chownat, makedev, mkdirat, mknodat, symlinkat,
};
use rustix::io::Errno;

use super::Error;
use super::binds::filesystem;
use super::idmap::IdMap;
use super::mounts::Mount;
use super::options::Options;
use super::step::Step;

/// One device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Where, absolute.
    pub(super) path: PathBuf,
    kind: FileType,
    number: Dev,
    mode: u32,
    owner: (u32, u32),
}

/// What every container has (runtime-spec, config-linux.md, "Default Devices").
const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links that programs expect.
pub(super) const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// The default devices and those of the configuration, which may replace default ones.
pub(super) fn plan(devices: &[LinuxDevice]) -> Result<Vec<Device>, Error> {
    let mut all: Vec<Device> = DEFAULTS.iter().map(default).collect();
    for (index, device) in devices.iter().enumerate() {
        let device = from_oci(index, device)?;
        // Always that of the container's own devpts, whatever is asked for (as in runc).
        if device.path == Path::new("/dev/ptmx") {
            continue;
        }
        all.retain(|other| other.path != device.path);
        all.push(device);
    }
    Ok(all)
}

fn default(&(path, major, minor): &(&str, u32, u32)) -> Device {
    Device {
        path: path.into(),
        kind: FileType::CharacterDevice,
        number: makedev(major, minor),
        mode: 0o666,
        owner: (0, 0),
    }
}

fn from_oci(index: usize, device: &LinuxDevice) -> Result<Device, Error> {
    let path = device.path().clone();
    let invalid = |field: &str, text: &str| {
        Err(Error::Invalid(format!("linux.devices[{index}].{field}: {} {text}", path.display())))
    };
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return invalid("type", "must be b, c, u or p"),
    };
    if !path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
        return invalid("path", "must be an absolute path");
    }
    // A FIFO has no number.
    let number = |number: i64| if kind == FileType::Fifo { Ok(0) } else { u32::try_from(number) };
    let (major, minor) = match (number(device.major()), number(device.minor())) {
        (Ok(major), Ok(minor)) => (major, minor),
        (Err(_), _) => return invalid("major", "has a number that no device can have"),
        _ => return invalid("minor", "has a number that no device can have"),
    };
    let owner = (device.uid().unwrap_or(0), device.gid().unwrap_or(0));
    Ok(Device { path, kind, number: makedev(major, minor), mode: device.file_mode().unwrap_or(0o666) & 0o7777, owner })
}

/// The detached `/dev`. `mount` says how; `terminal` adds the place for `/dev/console`.
pub(super) fn tree(mount: &Mount, devices: &[Device], map: Option<&IdMap>, terminal: bool) -> Result<OwnedFd, Error> {
    // One that is to be read-only becomes so when all is in place: see [`super::place::finish_devices`].
    let mut options = mount.options.clone();
    (options.set, options.set_recursive) = (options.set & !attr::RDONLY, options.set_recursive & !attr::RDONLY);
    let tree = filesystem("tmpfs", &mount.label, &options)?;
    for name in ["pts", "mqueue"] {
        mkdirat(&tree, name, Mode::from_raw_mode(0o755)).step(|| format!("make /dev/{name}"))?;
    }
    for device in devices {
        if let Ok(relative) = device.path.strip_prefix("/dev") {
            make_parents(&tree, relative).step(|| format!("make directories for {}", device.path.display()))?;
            make_node(&tree, relative, device)?;
        }
    }
    for (name, target) in LINKS {
        match symlinkat(target, &tree, name) {
            Err(Errno::EXIST) => {} // a configured device
            other => other.step(|| format!("make link /dev/{name}"))?,
        }
    }
    if terminal {
        let mode = Mode::from_raw_mode(0o600);
        match mknodat(&tree, "console", FileType::RegularFile, mode, 0) {
            Err(Errno::EXIST) => {} // a configured device, which the terminal covers
            other => other.step(|| "make /dev/console".into())?,
        }
    }
    map_owners(&tree, map)?;
    Ok(tree)
}

/// A detached file system with one node, for a place that is not on our `/dev`; see [`super::place::place_device`].
pub(super) fn single(device: &Device, map: Option<&IdMap>) -> Result<OwnedFd, Error> {
    let tree = filesystem("tmpfs", Path::new("tmpfs"), &Options::default())?;
    make_node(&tree, Path::new(SINGLE), device)?;
    map_owners(&tree, map)?;
    Ok(tree)
}

/// A detached mount of the host's own node of that number, for who may make none.
pub(super) fn hosts(device: &Device) -> Result<OwnedFd, Error> {
    let what = || format!("find device {} on the host", device.path.display());
    let path = hosts_path(device).ok_or(Errno::NOENT).step(what)?;
    let node = clone_tree(CWD, &path, false, &Attributes::default()).step(what)?;
    let stat = rustix::fs::fstat(&node).step(what)?;
    match FileType::from_raw_mode(stat.st_mode) == device.kind && stat.st_rdev == device.number {
        true => Ok(node),
        false => Err(Errno::NXIO).step(what),
    }
}

/// Where the host has it: under the same name, or where its kernel says (`DEVNAME`).
fn hosts_path(device: &Device) -> Option<PathBuf> {
    let is_it = |path: &Path| rustix::fs::stat(path).is_ok_and(|stat| stat.st_rdev == device.number);
    if is_it(&device.path) {
        return Some(device.path.clone());
    }
    let kind = if device.kind == FileType::BlockDevice { "block" } else { "char" };
    let (major, minor) = (rustix::fs::major(device.number), rustix::fs::minor(device.number));
    let event = std::fs::read_to_string(format!("/sys/dev/{kind}/{major}:{minor}/uevent")).ok()?;
    Some(Path::new("/dev").join(event.lines().find_map(|line| line.strip_prefix("DEVNAME="))?))
}

/// Name of the node there.
pub(super) const SINGLE: &str = "node";

fn map_owners(tree: &OwnedFd, map: Option<&IdMap>) -> Result<(), Error> {
    match map {
        Some(map) => set_attributes(tree, false, &map.attributes()).step(|| "id-map /dev".into()),
        None => Ok(()),
    }
}

fn make_parents(tree: &OwnedFd, relative: &Path) -> rustix::io::Result<()> {
    let Some(parent) = relative.parent() else { return Ok(()) };
    let mut made = PathBuf::new();
    for part in parent.components() {
        made.push(part);
        match mkdirat(tree, &made, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The node with exactly the wanted mode and owner, whatever the umask.
fn make_node(tree: impl AsFd, path: &Path, device: &Device) -> Result<(), Error> {
    let mode = Mode::from_raw_mode(device.mode);
    let (uid, gid) = device.owner;
    mknodat(&tree, path, device.kind, mode, device.number)
        .and_then(|()| chmodat(&tree, path, mode, AtFlags::empty()))
        .and_then(|()| match device.owner {
            (0, 0) => Ok(()),
            _ => chownat(&tree, path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::empty()),
        })
        .step(|| format!("make device {}", device.path.display()))
}

impl Device {
    /// Whether this device may be shown in the place of a file that is there already: the same device or an empty file, a
    /// mount point (runtime-spec, config-linux.md "Devices").
    pub(super) fn check_present(&self, present: &Stat) -> Result<(), Error> {
        let kind = FileType::from_raw_mode(present.st_mode);
        let same = kind == self.kind && (kind == FileType::Fifo || present.st_rdev == self.number);
        match same || (kind == FileType::RegularFile && present.st_size == 0) {
            true => Ok(()),
            false => Err(Error::Invalid(format!(
                "linux.devices: {} exists in the root file system and is not this device",
                self.path.display()
            ))),
        }
    }

    /// Whether every container has it.
    pub(super) fn is_default(&self) -> bool {
        DEFAULTS.iter().any(|wanted| default(wanted) == *self)
    }
}
