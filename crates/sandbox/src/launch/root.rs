//! Paths inside the container's root, which an image may have filled with hostile links: everything is resolved by the
//! kernel below one descriptor (`openat2`, RESOLVE_IN_ROOT, no magic links) and handed on as a descriptor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
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
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.open(path, flags) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let mut directory = self.open(Path::new("/"), flags)?;
        let mut prefix = PathBuf::from("/");
        for component in path.components() {
            match component {
                Component::Normal(name) => {
                    prefix.push(name);
                    directory = match self.open(&prefix, flags) {
                        Err(Errno::NOENT) => {
                            rustix::fs::mkdirat(&directory, name, mode)?;
                            self.open(&prefix, flags)?
                        }
                        other => other?,
                    };
                }
                Component::ParentDir => return Err(Errno::INVAL),
                _ => {}
            }
        }
        Ok(directory)
    }

    /// Opens `path` (O_PATH), making an empty file and the directories above where there is nothing.
    pub(super) fn make_file(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
        let directory = self.make_directory(parent, DIRECTORY_MODE)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o644))?;
        self.open(path, OFlags::PATH)
    }
}

/// Of directories that are made because a mount needs them.
pub(super) const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// Whether the descriptor is of a directory.
pub(super) fn is_directory(fd: impl AsFd) -> rustix::io::Result<bool> {
    Ok(rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == rustix::fs::FileType::Directory)
}
