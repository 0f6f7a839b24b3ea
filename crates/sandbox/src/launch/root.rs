//! Paths inside the container's root, which an image may have filled with hostile links: everything is resolved by the
//! kernel below one descriptor (`openat2`, RESOLVE_IN_ROOT, no magic links) and handed on as a descriptor.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The root directory of a container, seen from inside or outside.
pub(super) struct Root(OwnedFd);

impl Root {
    /// Takes the root's own descriptor.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// The file system root of the calling process.
    pub(super) fn of_process() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open("/", flags, Mode::empty())?))
    }

    /// Its descriptor.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Opens `path` as if the root were `/`: links, absolute ones too, stay inside.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlags::empty())
    }

    /// Likewise, but a symbolic link anywhere on the way is ELOOP.
    pub(super) fn open_unlinked(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlags::NO_SYMLINKS)
    }

    fn resolve(&self, path: &Path, flags: OFlags, more: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        let path = if path.as_os_str().is_empty() { Path::new("/") } else { path };
        // EAGAIN: something was renamed meanwhile and the kernel could not be sure; it asks to try again.
        for _ in 0..64 {
            match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens the directory `path`, making what is missing of it with `mode`.
    pub(super) fn make_directory(&self, path: &Path, mode: Mode) -> rustix::io::Result<OwnedFd> {
        match self.open(path, DIRECTORY) {
            Err(Errno::NOENT) => self.make_resolved(&self.follow(path)?, mode),
            other => other,
        }
    }

    /// Likewise for a path without links.
    fn make_resolved(&self, path: &Path, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let mut directory = self.open(Path::new("/"), DIRECTORY)?;
        let mut prefix = PathBuf::from("/");
        for name in path.components().filter(|component| matches!(component, Component::Normal(_))) {
            prefix.push(name);
            directory = match self.open(&prefix, DIRECTORY) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&directory, name.as_os_str(), mode)?;
                    self.open(&prefix, DIRECTORY)?
                }
                other => other?,
            };
        }
        Ok(directory)
    }

    /// Opens `path` (O_PATH), making an empty file and the directories above where there is nothing.
    pub(super) fn make_file(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let path = self.follow(path)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
        let directory = self.make_resolved(parent, DIRECTORY_MODE)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o644))?;
        self.open(&path, OFlags::PATH)
    }

    /// Where `path` leads, links to nothing included (`/etc/resolv.conf` of images often is one): absolute, without
    /// links and `..`. Only says what to make: whoever makes it resolves the answer below the root again.
    fn follow(&self, path: &Path) -> rustix::io::Result<PathBuf> {
        let mut resolved = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = path.iter().map(OsString::from).collect();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            match name.as_bytes() {
                b"/" => resolved = PathBuf::from("/"),
                b".." => drop(resolved.pop()),
                _ => match self.read_link(&resolved, &name)? {
                    None => resolved.push(name),
                    Some(_) if links == MAX_LINKS => return Err(Errno::LOOP),
                    Some(target) => {
                        links += 1;
                        target.iter().rev().for_each(|part| rest.push_front(part.to_owned()));
                    }
                },
            }
        }
        Ok(resolved)
    }

    /// The target of the link `name` in `directory`, if it is one.
    fn read_link(&self, directory: &Path, name: &OsStr) -> rustix::io::Result<Option<PathBuf>> {
        let directory = match self.open(directory, DIRECTORY) {
            Err(Errno::NOENT) => return Ok(None),
            other => other?,
        };
        match rustix::fs::readlinkat(&directory, name, Vec::new()) {
            Ok(target) => Ok(Some(OsStr::from_bytes(target.as_bytes()).into())),
            Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

/// As many links as the kernel follows (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// Of directories that are made because a mount needs them.
pub(super) const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// Whether the descriptor is of a directory.
pub(super) fn is_directory(fd: impl AsFd) -> rustix::io::Result<bool> {
    Ok(rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == rustix::fs::FileType::Directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_to_nothing_are_followed_inside() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        let root = Root::new(std::fs::File::open(directory.path()).unwrap().into());
        std::fs::create_dir_all(at("etc")).unwrap();
        symlink("../run/systemd/resolv.conf", at("etc/resolv.conf")).unwrap();
        symlink("/../../nowhere/./deep", at("link")).unwrap();
        symlink("loop", at("loop")).unwrap();
        assert_eq!(root.follow(Path::new("/link/x")).unwrap(), Path::new("/nowhere/deep/x"));
        root.make_file(Path::new("/etc/resolv.conf")).unwrap();
        assert!(at("run/systemd/resolv.conf").is_file());
        root.make_directory(Path::new("/link/sub"), DIRECTORY_MODE).unwrap();
        assert!(at("nowhere/deep/sub").is_dir());
        assert_eq!(root.make_file(Path::new("/loop")).unwrap_err(), Errno::LOOP);
        assert_eq!(root.follow(Path::new("/loop/x")).unwrap_err(), Errno::LOOP);
        assert_eq!(root.make_directory(Path::new("/etc/resolv.conf/x"), DIRECTORY_MODE).unwrap_err(), Errno::NOTDIR);
    }
}
