//! A container's disk quota (`--storage-opt size=`): its writable directory is on a file system of its own, ext4 in a
//! sparse file, which is mounted through a loop device while it is needed. That works wherever files do; project quotas
//! need file systems and kernels that few machines have.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use linux::loop_device::LoopDevice;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, move_mount, unmount,
};

use crate::log::bytes;
use crate::model::Map;
use crate::table::Container;
use crate::{Context as _, Engine, Error, Paths, Result};

/// Name of the file in the container's directory.
const FILE: &str = "disk.ext4";
/// Less has no room for ext4's own tables and journal.
const SMALLEST: u64 = 16 << 20;

/// Bytes that `--storage-opt` grants; none: as many as there are.
pub(crate) fn size(options: &Map<String>) -> Result<Option<u64>> {
    if let Some(unknown) = options.keys().find(|key| *key != "size") {
        return Err(Error::invalid(format!("unknown option {unknown} (--storage-opt)")).hinted("there is size=BYTES"));
    }
    let Some(value) = options.get("size") else { return Ok(None) };
    match bytes(value) {
        Some(size) if size >= SMALLEST => Ok(Some(size)),
        Some(_) => Err(Error::invalid(format!("--storage-opt size={value}: the smallest is {}m", SMALLEST >> 20))),
        None => Err(Error::invalid(format!("invalid size: '{value}'"))),
    }
}

/// Makes the file system in the container's directory.
pub(crate) fn make(directory: &Path, size: u64) -> Result<()> {
    let path = directory.join(FILE);
    let made = File::options().write(true).create_new(true).open(&path).and_then(|file| file.set_len(size));
    made.step(|| format!("create {}", path.display()))?;
    let output = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&path).stdin(Stdio::null()).output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::invalid("--storage-opt size needs mkfs.ext4, which is not installed")
            .hinted("install the package e2fsprogs"),
        _ => Error::internal(format!("run mkfs.ext4: {error}")),
    })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::internal(format!(
            "mkfs.ext4 {}: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

/// Takes the mount away that a container's state directory may have. Whoever still uses it is not disturbed.
pub(crate) fn release(state: &Path) {
    let point = state.join("disk");
    if unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {
        // What stays is an empty directory, which goes with the one that it is in.
        drop(std::fs::remove_dir(&point));
    }
}

impl Engine {
    /// The directory that a container's `upper` and `work` are in; a disk of its own is mounted if need be.
    pub(crate) fn writable_home(&self, container: &Container) -> Result<PathBuf> {
        match container.host.storage_opt.is_empty() {
            true => Ok(self.paths().container(&container.id)),
            false => mounted(self.paths(), &container.id),
        }
    }
}

fn mounted(paths: &Paths, id: &str) -> Result<PathBuf> {
    let state = paths.container_state(id);
    let point = state.join("disk");
    let device = |path: &Path| std::fs::metadata(path).map(|data| data.dev());
    if device(&point).is_ok_and(|disk| device(&state).is_ok_and(|above| above != disk)) {
        return Ok(point);
    }
    crate::make_directory(&point)?;
    let path = paths.container(id).join(FILE);
    let step = || format!("mount {} on {}", path.display(), point.display());
    let file = File::options().read(true).write(true).open(&path).step(step)?;
    let disk = LoopDevice::attach(&file, false).step(|| format!("{}: loop device", step()))?;
    let fs = fsopen("ext4", FsOpenFlags::FSOPEN_CLOEXEC).step(step)?;
    fsconfig_set_string(&fs, "source", disk.path()).step(step)?;
    fsconfig_create(&fs).step(step)?;
    let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NOSUID).step(step)?;
    move_mount(mount, "", CWD, &point, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).step(step)?;
    Ok(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let of = |key: &str, value: &str| size(&Map::from([(key.to_owned(), value.to_owned())]));
        assert_eq!(of("size", "1g").unwrap(), Some(1 << 30));
        assert_eq!(size(&Map::new()).unwrap(), None);
        assert!(of("size", "1m").unwrap_err().message.contains("smallest"));
        assert!(of("size", "lots").unwrap_err().message.contains("invalid size: 'lots'"));
        assert!(of("dm.basesize", "1g").unwrap_err().message.contains("unknown option dm.basesize"));
    }
}
