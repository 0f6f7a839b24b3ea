//! A container's state on disk: a directory named like it below the state root, with `state.json` (replaced in one step),
//! a copy of its configuration, and the socket at which it waits for its start.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::Step;
use crate::systemd::Unit;
use crate::{Error, Result};

/// Name of the socket; there until the container has been started.
pub(crate) const GATE: &str = "start.sock";
const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";
/// Not a possible id: the empty directory that hides others in all containers.
const EMPTY: &str = "@empty";

/// What is written down about a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Record {
    /// Its id.
    pub(crate) id: String,
    /// Its first process; 0 while it is being made.
    pub(crate) pid: i32,
    /// When that process started, in clock ticks since boot: with `pid` its identity.
    pub(crate) start_time: u64,
    /// Absolute path of the bundle.
    pub(crate) bundle: PathBuf,
    /// Absolute path of the root file system.
    pub(crate) rootfs: PathBuf,
    /// RFC 3339.
    pub(crate) created: String,
    /// Path below the root of each hierarchy; none: it stays in its caller's cgroup.
    pub(crate) cgroup: Option<String>,
    /// The service manager's unit, if it has made the cgroup.
    pub(crate) unit: Option<Unit>,
    /// From the configuration.
    pub(crate) annotations: HashMap<String, String>,
}

/// All containers of one state root.
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    /// Does not touch the disk.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Makes the directory of a new container.
    pub(crate) fn create(&self, id: &str) -> Result<Directory> {
        check_id(id)?;
        let path = self.root.join(id);
        let made = rustix::fs::mkdir(&path, Mode::RWXU).or_else(|errno| match errno {
            Errno::NOENT => {
                make_private(&self.root)?;
                rustix::fs::mkdir(&path, Mode::RWXU).map_err(io::Error::from)
            }
            other => Err(other.into()),
        });
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::new(format!("container with given ID already exists: {id}")))
            }
            other => other.step(|| format!("make the state directory {}", path.display())),
        }?;
        Directory::open(path)
    }

    /// The directory of a container that exists.
    pub(crate) fn open(&self, id: &str) -> Result<Directory> {
        check_id(id)?;
        let path = self.root.join(id);
        match path.is_dir() {
            true => Directory::open(path),
            false => Err(Error::new(format!("container does not exist: {id}"))),
        }
    }

    /// Whether there is a directory, whatever its state.
    pub(crate) fn has(&self, id: &str) -> bool {
        check_id(id).is_ok() && self.root.join(id).is_dir()
    }

    /// All ids, sorted.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let what = || format!("read the state root {}", self.root.display());
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.step(what)?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.step(what)?.file_name().to_string_lossy().into_owned();
            ids.extend(Some(name).filter(|name| check_id(name).is_ok()));
        }
        ids.sort();
        Ok(ids)
    }

    /// The ids that a regular expression matches somewhere (crun's `--regex`).
    pub(crate) fn matching(&self, expression: &str) -> Result<Vec<String>> {
        let expression = regex::Regex::new(expression).step(|| format!("regular expression {expression:?}"))?;
        Ok(self.ids()?.into_iter().filter(|id| expression.is_match(id)).collect())
    }

    /// An empty directory, which a container's root can reach but not change.
    pub(crate) fn empty(&self) -> Result<PathBuf> {
        let path = self.root.join(EMPTY);
        match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o555)) {
            Ok(()) | Err(Errno::EXIST) => Ok(path),
            Err(errno) => Err(errno).step(|| format!("make {}", path.display())),
        }
    }
}

/// The root and what is missing above it. Only its owner may enter: the state directories have sockets and secrets.
fn make_private(root: &Path) -> io::Result<()> {
    if let Some(parent) = root.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o711).create(parent)?;
    }
    match rustix::fs::mkdir(root, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Ids are names of directories: letters, digits and `_+-.` (as in runc), not beginning with a dot (as in crun).
pub(crate) fn check_id(id: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    match id {
        "" => Err(Error::new("container id cannot be empty")),
        _ if id.starts_with('.') || id.len() > 255 || !id.bytes().all(plain) => Err(Error::new(format!(
            "invalid container ID format: {id:?}: invalid character in container ID, or longer than 255: \
             it has letters, digits, `_`, `+`, `-` and, but not first, `.`"
        ))),
        _ => Ok(()),
    }
}

/// One container's directory.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    fd: OwnedFd,
}

impl Directory {
    fn open(path: PathBuf) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).step(|| format!("open {}", path.display()))?;
        Ok(Self { path, fd })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The state root that it is in.
    pub(crate) fn root(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Its descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes the first record of a container that is being made. As long as its maker lives, it holds the returned file
    /// locked: whoever finds the record unlocked and without a process knows that nobody goes on making it.
    pub(crate) fn begin(&self, record: &Record) -> Result<File> {
        let file = self.write(RECORD, record)?;
        fcntl_lock(&file, FlockOperation::LockExclusive).step(|| "lock the container's state".into())?;
        Ok(file)
    }

    /// Replaces the record.
    pub(crate) fn replace(&self, record: &Record) -> Result<()> {
        const NEW: &str = "state.json.new";
        self.write(NEW, record)?;
        rustix::fs::renameat(&self.fd, NEW, &self.fd, RECORD).step(|| "replace the container's state".into())
    }

    fn write(&self, name: &str, record: &Record) -> Result<File> {
        let json = serde_json::to_vec(record).step(|| "encode the container's state".into())?;
        self.write_file(name, &json)
    }

    /// Keeps the configuration: the bundle may change or go.
    pub(crate) fn keep_config(&self, json: &[u8]) -> Result<()> {
        self.write_file(CONFIG, json).map(drop)
    }

    fn write_file(&self, name: &str, bytes: &[u8]) -> Result<File> {
        let what = || format!("write {}", self.path.join(name).display());
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR).step(what)?);
        file.write_all(bytes).step(what)?;
        Ok(file)
    }

    /// The record, if there is a whole one.
    pub(crate) fn record(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.path.join(RECORD)).ok()?).ok()
    }

    /// Whether somebody is still making the container.
    pub(crate) fn is_being_made(&self) -> bool {
        let Ok(file) = File::options().read(true).write(true).open(self.path.join(RECORD)) else { return false };
        matches!(fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive), Err(Errno::AGAIN | Errno::ACCESS))
    }

    /// The kept configuration.
    pub(crate) fn config(&self) -> Result<Vec<u8>> {
        let path = self.path.join(CONFIG);
        fs::read(&path).step(|| format!("read {}", path.display()))
    }

    /// Whether the container still waits for its start.
    pub(crate) fn has_gate(&self) -> bool {
        rustix::fs::accessat(&self.fd, GATE, rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok()
    }

    /// From now on it does not.
    pub(crate) fn remove_gate(&self) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, GATE, rustix::fs::AtFlags::empty()).step(|| format!("remove {GATE}"))
    }

    /// Lets one process at a time start the container; nobody waits.
    pub(crate) fn lock_for_start(&self) -> Result<()> {
        match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err(Error::new("the container is already being started")),
            other => other.step(|| "lock the container's state".into()),
        }
    }

    /// Removes it with all that is in it.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.step(|| format!("remove {}", self.path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_names() {
        for good in ["a", "A.b_c+d-1", &"x".repeat(255)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "../a", "a b", "a\n", "ä", "@empty", &"x".repeat(256)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn half_written_records_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let made = store.create("c").unwrap();
        assert!(made.record().is_none());
        fs::write(made.path().join(RECORD), "{\"id\": \"c\", \"pid\":").unwrap();
        assert!(made.record().is_none());
        assert!(store.create("c").unwrap_err().text.contains("already exists"));
        assert_eq!(store.ids().unwrap(), ["c"]);
        made.remove().unwrap();
        assert!(store.open("c").err().unwrap().text.contains("does not exist"));
    }
}
