//! Directories of `RUN --mount=type=cache`: they outlive builds, below `ROOT/build/cache`. While a step uses one it holds
//! the lock beside it, alone or with others, as `sharing` says.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use engine::Paths;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::copying::hex;
use crate::dockerfile::{Mount, Sharing};
use crate::{Error, Result};

/// A cache in use.
pub(crate) struct Cache {
    /// The directory that is mounted.
    pub(crate) data: PathBuf,
    _lock: File,
}

fn home(paths: &Paths) -> PathBuf {
    paths.root.join("build/cache")
}

/// Takes the cache of an id, making it if there is none. Of a private one that is in use, another one is taken.
pub(crate) fn take(paths: &Paths, id: &str, mount: &Mount) -> Result<Cache> {
    let name = &hex(&Sha256::digest(format!("{id}\0{:?}\0{:?}", mount.uid, mount.gid)))[..32];
    let how = match mount.sharing.unwrap_or_default() {
        Sharing::Shared => FlockOperation::LockShared,
        Sharing::Locked => FlockOperation::LockExclusive,
        Sharing::Private => FlockOperation::NonBlockingLockExclusive,
    };
    let mut attempt = 0;
    loop {
        let own = home(paths).join(if attempt == 0 { name.to_owned() } else { format!("{name}-{attempt}") });
        let failed = |error: io::Error| Error::new(format!("make the cache {}: {error}", own.display()));
        let data = own.join("data");
        make(&own, &data, mount).map_err(failed)?;
        let lock = lock_file(&own).map_err(failed)?;
        match flock(&lock, how) {
            // Somebody may have removed it while we waited.
            Ok(()) if data.is_dir() => return Ok(Cache { data, _lock: lock }),
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => attempt += 1,
            Err(error) => return Err(failed(error.into())),
        }
    }
}

fn lock_file(own: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(own.join("lock"))
}

fn make(own: &Path, data: &Path, mount: &Mount) -> io::Result<()> {
    if data.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o711).create(own)?;
    match fs::DirBuilder::new().mode(0o700).create(data) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        made => made?,
    }
    std::os::unix::fs::chown(data, Some(mount.uid.unwrap_or(0)), Some(mount.gid.unwrap_or(0)))?;
    fs::set_permissions(data, fs::Permissions::from_mode(mount.mode.unwrap_or(0o755)))
}

/// Removes all caches that no build uses; how many bytes they had.
pub fn prune(paths: &Paths) -> Result<u64> {
    let failed = |error: io::Error| Error::new(format!("prune {}: {error}", home(paths).display()));
    let entries = match fs::read_dir(home(paths)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(failed)?,
    };
    let mut bytes = 0;
    for entry in entries {
        let own = entry.map_err(failed)?.path();
        let lock = lock_file(&own).map_err(failed)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            bytes += size(&own.join("data"));
            fs::remove_dir_all(&own).map_err(failed)?;
        }
    }
    Ok(bytes)
}

/// Bytes on the disk below a directory.
fn size(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let sizes = entries.flatten().map(|entry| {
        let Ok(data) = entry.metadata() else { return 0 };
        data.blocks() * 512 + if data.is_dir() { size(&entry.path()) } else { 0 }
    });
    sizes.sum()
}
