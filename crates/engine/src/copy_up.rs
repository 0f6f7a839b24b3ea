//! Copy-up: what an image has at the place of a new, empty volume is copied into the volume, with owners, modes, times
//! and extended attributes. Image content is hostile: every step goes by descriptors, links are copied and never
//! followed out of the image.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::mount::set_overlay_notes;
use linux::namespace::is_rootless;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, XattrFlags, chownat, fchmod,
    fgetxattr, flistxattr, fsetxattr, linkat, mkdirat, mknodat, openat, openat2, readlinkat, statat, symlinkat,
    utimensat,
};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

use crate::{Context as _, Error, Result};

/// Nesting of directories, at most: more would exhaust the stack, and no real image has it.
const MAX_DEPTH: u32 = 512;

/// A read-only view of an image's files.
pub(crate) struct View(OwnedFd);

impl View {
    /// The layers (topmost first) as one tree, mounted nowhere.
    pub(crate) fn open(layers: &[PathBuf]) -> Result<Self> {
        let directory = |path: &Path| {
            openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .step(|| format!("open layer {}", path.display()))
        };
        if let [layer] = layers {
            return Ok(View(directory(layer)?));
        }
        let opened = layers.iter().map(|layer| directory(layer)).collect::<Result<Vec<_>>>()?;
        overlay(&opened).map(View).step(|| format!("mount {} layers to copy from them", layers.len()))
    }

    /// Its root directory.
    pub(crate) fn root(&self) -> &OwnedFd {
        &self.0
    }

    /// The directory at `path`, links resolved inside the image; none if the image has none there.
    pub(crate) fn directory(&self, path: &str) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.0, path, flags, Mode::empty(), resolve) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(Error::internal(format!("open {path} in the image: {errno}"))),
        }
    }
}

/// Layers by descriptor, since a parameter of fsconfig(2) holds 255 bytes at most.
fn overlay(layers: &[OwnedFd]) -> rustix::io::Result<OwnedFd> {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    set_overlay_notes(&fs, is_rootless()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
    for layer in layers {
        fsconfig_set_string(&fs, "lowerdir+", format!("/proc/self/fd/{}", layer.as_raw_fd()))?;
    }
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Whether a directory has no entries.
pub(crate) fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// Copies the content and the attributes of `from` to the directory `to`.
pub(crate) fn copy(from: &OwnedFd, to: &Path) -> Result<()> {
    let target =
        openat(CWD, to, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty());
    let target = target.step(|| format!("open {}", to.display()))?;
    let mut copier = Copier::default();
    copier.directory(from.as_fd(), target.as_fd(), 0).map_err(|errno| {
        let hint = if errno == Errno::NOSPC { "free some disk space" } else { "volume-nocopy leaves the volume empty" };
        Error::internal(format!("copy the image's files to {}: {errno}", to.display())).hinted(hint)
    })
}

/// A file that occurs several times, to be linked again: by device and inode.
#[derive(Default)]
struct Copier {
    seen: std::collections::HashMap<(u64, u64), OwnedFd>,
}

impl Copier {
    fn directory(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> rustix::io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(Errno::LOOP);
        }
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                self.entry(from, to, name, depth)?;
            }
        }
        attributes(from, to)
    }

    fn entry(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> rustix::io::Result<()> {
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let source = openat(from, name, read | OFlags::DIRECTORY, Mode::empty())?;
                let target = openat(to, name, read | OFlags::DIRECTORY, Mode::empty())?;
                self.directory(source.as_fd(), target.as_fd(), depth + 1)
            }
            FileType::RegularFile => self.file(from, to, name, &stat),
            FileType::Symlink => {
                let link: CString = readlinkat(from, name, Vec::new())?;
                symlinkat(&link, to, name)?;
                owner_and_times(to, name, &stat)
            }
            kind => {
                mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)?;
                owner_and_times(to, name, &stat)
            }
        }
    }

    fn file(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
        let key = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.seen.get(&key) {
            return linkat(CWD, format!("/proc/self/fd/{}", first.as_raw_fd()), to, name, AtFlags::SYMLINK_FOLLOW);
        }
        let source = openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let make = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = openat(to, name, make, Mode::from_raw_mode(0o600))?;
        let (mut source, mut target) = (File::from(source), File::from(target));
        std::io::copy(&mut source, &mut target).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
        attributes(source.as_fd(), target.as_fd())?;
        if stat.st_nlink > 1 {
            self.seen.insert(key, target.into());
        }
        Ok(())
    }
}

/// Owner first: changing it clears set-id bits and file capabilities.
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    let (user, group) = owner(&stat);
    rustix::fs::fchown(to, user, group)?;
    extended_attributes(from, to)?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    rustix::fs::futimens(to, &times(&stat))
}

fn owner_and_times(directory: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> rustix::io::Result<()> {
    let (user, group) = owner(stat);
    chownat(directory, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
    utimensat(directory, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn owner(stat: &Stat) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    (Some(rustix::fs::Uid::from_raw(stat.st_uid)), Some(rustix::fs::Gid::from_raw(stat.st_gid)))
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// User attributes, access lists and file capabilities; overlay's own stay behind.
fn extended_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let mut names = vec![0u8; 65536];
    let length = match flistxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let wanted = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
            || name.starts_with(b"system.posix_acl_")
            || name == b"security.capability";
        if !wanted {
            continue;
        }
        let mut value = vec![0u8; 65536];
        let length = fgetxattr(from, name, &mut value)?;
        match fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    /// Runs as root on a real overlay: two layers, with a link that leads out of the image.
    #[test]
    fn layers_are_merged_and_attributes_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (top, bottom, to) =
            (directory.path().join("top"), directory.path().join("bottom"), directory.path().join("to"));
        fs::create_dir_all(top.join("data/sub")).unwrap();
        fs::create_dir_all(bottom.join("data")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(bottom.join("data/low"), "low").unwrap();
        fs::hard_link(bottom.join("data/low"), bottom.join("data/same")).unwrap();
        fs::write(top.join("data/sub/high"), "high").unwrap();
        fs::set_permissions(top.join("data/sub/high"), fs::Permissions::from_mode(0o4755)).unwrap();
        symlink("/etc", top.join("out")).unwrap();
        symlink("../data", top.join("in")).unwrap();
        std::os::unix::fs::chown(top.join("data"), Some(33), Some(34)).unwrap();

        let view = View::open(&[top, bottom]).unwrap();
        assert!(view.directory("/out/ssl").unwrap().is_none(), "links do not lead out");
        let from = view.directory("/in").unwrap().expect("a link inside is followed");
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("low")).unwrap(), "low");
        assert_eq!(fs::read_to_string(to.join("sub/high")).unwrap(), "high");
        assert_eq!(fs::metadata(to.join("sub/high")).unwrap().mode() & 0o7777, 0o4755);
        let data = fs::metadata(&to).unwrap();
        assert_eq!((data.uid(), data.gid()), (33, 34));
        assert_eq!(fs::metadata(to.join("low")).unwrap().ino(), fs::metadata(to.join("same")).unwrap().ino());
        assert!(!is_empty(&to));
    }
}
