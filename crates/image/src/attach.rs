//! Mounts EROFS images, detached: from files where the kernel can (Linux 6.12, and a file system that reads by pages),
//! through loop devices elsewhere.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::loop_device::LoopDevice;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use crate::error::{Result, Step};

/// What an image is mounted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// The file itself.
    File,
    /// A loop device over it.
    Loop,
}

/// What asks for one of them: `file` or `loop`.
pub(crate) const VARIABLE: &str = "KISTE_EROFS_BACKING";

/// Longest value that `fsconfig` takes.
const LONGEST: usize = 255;

/// A detached read-only mount of the image, whose devices are `archives` in order.
pub(crate) fn image(image: &Path, archives: &[PathBuf]) -> Result<(OwnedFd, Backing)> {
    let what = || format!("mount the EROFS image {}", image.display());
    let open = |path: &Path| File::open(path).step(|| format!("open {}", path.display()));
    let files = std::iter::once(image).chain(archives.iter().map(PathBuf::as_path));
    let opened = files.clone().map(open).collect::<Result<Vec<File>>>()?;
    let names = files.zip(&opened).map(|(path, file)| name(path, file)).collect::<Vec<_>>();
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    if asked != "loop" {
        match mount(&names) {
            Ok(mount) => return Ok((mount, Backing::File)),
            Err(Errno::NOTBLK | Errno::INVAL | Errno::NODEV | Errno::OPNOTSUPP) if asked != "file" => {}
            Err(error) => return Err(error).step(what),
        }
    }
    let devices = opened.iter().map(|file| LoopDevice::attach(file, true));
    let devices = devices.collect::<std::io::Result<Vec<_>>>().step(|| format!("{}: loop device", what()))?;
    let names: Vec<PathBuf> = devices.iter().map(|device| device.path().to_owned()).collect();
    Ok((mount(&names).step(what)?, Backing::Loop))
}

/// A name for the kernel: the path, or that of the descriptor if it is too long.
fn name(path: &Path, file: &File) -> PathBuf {
    match path.as_os_str().len() {
        ..=LONGEST => path.to_owned(),
        _ => format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
    }
}

fn mount(names: &[PathBuf]) -> rustix::io::Result<OwnedFd> {
    let fs = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (index, name) in names.iter().enumerate() {
        fsconfig_set_string(&fs, if index == 0 { "source" } else { "device" }, name)?;
    }
    fsconfig_set_flag(&fs, "ro")?;
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}
