//! A directory tree being filled from a hostile archive: every lookup is one `openat2` beneath the tree's root, so that
//! no link, `..` or mount leads out of it, whatever the tree holds already.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result, Step};
use crate::unpack::{is_whiteout, set_opaque};

/// The tree, with the directory that was used last (entries of a directory follow each other).
pub(crate) struct Tree {
    root: OwnedFd,
    last: Option<(PathBuf, Rc<OwnedFd>)>,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Tree {
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let flags = DIRECTORY | OFlags::NOFOLLOW;
        let root = fs::open(directory, flags, Mode::empty()).step(|| format!("open {}", directory.display()))?;
        Ok(Tree { root, last: None })
    }

    pub(crate) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The directory that `path` is in; what is missing is made (0755, root's).
    pub(crate) fn parent(&mut self, path: &Path) -> Result<Rc<OwnedFd>> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some(found) = self.cached(parent) {
            return Ok(found);
        }
        let found = match self.resolve(parent) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make(parent)?,
            other => other.map_err(|error| refused(parent, error))?,
        };
        Ok(self.remember(parent, found))
    }

    /// The same, but nothing is made.
    pub(crate) fn existing_parent(&mut self, path: &Path) -> Result<Option<Rc<OwnedFd>>> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some(found) = self.cached(parent) {
            return Ok(Some(found));
        }
        match self.resolve(parent) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            other => {
                let found = other.map_err(|error| refused(parent, error))?;
                Ok(Some(self.remember(parent, found)))
            }
        }
    }

    /// Opens a directory of the tree.
    pub(crate) fn open_directory(&self, path: &Path) -> Result<OwnedFd> {
        self.resolve(path).map_err(|error| refused(path, error))
    }

    /// What is at this name, itself, not what it points to.
    pub(crate) fn lookup(&self, parent: &OwnedFd, name: &OsStr) -> Result<Option<Stat>> {
        match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).step(|| format!("look at {name:?}")),
        }
    }

    /// Makes the name free: a later entry of an archive replaces an earlier one.
    pub(crate) fn clear(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        if self.lookup(parent, name)?.is_some() { self.remove(parent, name) } else { Ok(()) }
    }

    /// Removes whatever is at this name.
    pub(crate) fn remove(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        self.last = None;
        let removed = match fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                // The standard library removes a tree by descriptors and follows no link on the way.
                let path = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
                std::fs::remove_dir_all(path)
            }
            other => other.map_err(Into::into),
        };
        removed.step(|| format!("replace {name:?}"))
    }

    fn cached(&self, directory: &Path) -> Option<Rc<OwnedFd>> {
        self.last.as_ref().filter(|(path, _)| path == directory).map(|(_, found)| Rc::clone(found))
    }

    fn remember(&mut self, directory: &Path, found: OwnedFd) -> Rc<OwnedFd> {
        let found = Rc::new(found);
        self.last = Some((directory.to_owned(), Rc::clone(&found)));
        found
    }

    fn resolve(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let rules = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        fs::openat2(&self.root, path, DIRECTORY, Mode::empty(), rules)
    }

    /// Makes a directory with all its parents, one component at a time.
    fn make(&mut self, directory: &Path) -> Result<OwnedFd> {
        let mut above = self.open_directory(Path::new("."))?;
        let mut done = PathBuf::new();
        for component in directory.components() {
            let Component::Normal(name) = component else { continue };
            done.push(name);
            above = match self.resolve(&done) {
                Ok(found) => found,
                Err(Errno::NOENT | Errno::NOTDIR) => self.make_one(&above, name, &done)?,
                Err(error) => return Err(refused(&done, error)),
            };
        }
        Ok(above)
    }

    fn make_one(&mut self, above: &OwnedFd, name: &OsStr, path: &Path) -> Result<OwnedFd> {
        let hidden = match self.lookup(above, name)? {
            None => false,
            Some(found) if is_whiteout(&found) => {
                self.remove(above, name)?;
                true
            }
            Some(found) => {
                let kind = FileType::from_raw_mode(found.st_mode);
                let text = if kind == FileType::Symlink { "a symbolic link to nowhere" } else { "no directory" };
                return Err(Error::untrusted(format!("{path:?} is {text}")));
            }
        };
        fs::mkdirat(above, name, Mode::from_raw_mode(0o755)).step(|| format!("make the directory {path:?}"))?;
        let made = self.open_directory(path)?;
        // Making it must not depend on the umask.
        fs::fchmod(&made, Mode::from_raw_mode(0o755)).step(|| format!("set the mode of {path:?}"))?;
        if hidden {
            set_opaque(&made)?;
        }
        Ok(made)
    }
}

fn refused(path: &Path, error: Errno) -> Error {
    match error {
        Errno::XDEV | Errno::LOOP => Error::untrusted(format!("{path:?} leads out of the layer through a link")),
        Errno::NOTDIR | Errno::NOENT => Error::untrusted(format!("{path:?} is no directory")),
        _ => Error::Step { step: format!("open {path:?} in the layer"), cause: error.to_string() },
    }
}
