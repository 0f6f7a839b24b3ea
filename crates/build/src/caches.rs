//! Directories of `RUN --mount=type=cache`: they outlive builds, below `ROOT/build/cache`. While a step uses one it holds
//! the lock beside it, alone or with others, as `sharing` says.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use engine::Paths;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::cancel::Cancel;
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

/// Takes the cache of an id, making it if there is none. Of a private one that is in use, another one is taken. `fill`
/// puts something into a new one.
pub(crate) fn take(
    paths: &Paths,
    id: &str,
    mount: &Mount,
    cancel: &Cancel,
    fill: &dyn Fn(&Path) -> Result<()>,
) -> Result<Cache> {
    let name = &hex(&Sha256::digest(format!("{id}\0{:?}\0{:?}", mount.uid, mount.gid)))[..32];
    let how = match mount.sharing.unwrap_or_default() {
        Sharing::Shared => FlockOperation::NonBlockingLockShared,
        Sharing::Locked | Sharing::Private => FlockOperation::NonBlockingLockExclusive,
    };
    let waits = mount.sharing.unwrap_or_default() != Sharing::Private;
    let mut attempt = 0;
    loop {
        let own = home(paths).join(if attempt == 0 { name.to_owned() } else { format!("{name}-{attempt}") });
        let failed = |error: io::Error| Error::new(format!("make the cache {}: {error}", own.display()));
        let data = own.join("data");
        cancel.check()?;
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&own).map_err(failed)?;
        let lock = match lock_file(&own) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            lock => lock.map_err(failed)?,
        };
        match flock(&lock, how) {
            // Somebody may have removed it while we waited.
            Ok(()) if own.join("lock").exists() => {
                make(&own, &data, mount, fill)?;
                // When it was used last.
                lock.set_modified(SystemTime::now()).map_err(failed)?;
                return Ok(Cache { data, _lock: lock });
            }
            Ok(()) => {}
            // flock(2) cannot wait for the lock and for the build's end at once.
            Err(Errno::WOULDBLOCK) if waits => std::thread::sleep(std::time::Duration::from_millis(10)),
            Err(Errno::WOULDBLOCK) => attempt += 1,
            Err(error) => return Err(failed(error.into())),
        }
    }
}

fn lock_file(own: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(own.join("lock"))
}

/// Makes the data's directory whole before it gets its name: others may make it at the same time.
fn make(own: &Path, data: &Path, mount: &Mount, fill: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if data.is_dir() {
        return Ok(());
    }
    let new = own.join(format!("new-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let failed = |error: io::Error| Error::new(format!("make the cache {}: {error}", own.display()));
    fs::DirBuilder::new().mode(0o700).create(&new).map_err(failed)?;
    let made = fill(&new).and_then(|()| {
        std::os::unix::fs::chown(&new, Some(mount.uid.unwrap_or(0)), Some(mount.gid.unwrap_or(0))).map_err(failed)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(mount.mode.unwrap_or(0o755))).map_err(failed)
    });
    let named = || renameat_with(CWD, &new, CWD, data, RenameFlags::NOREPLACE);
    match made.map(|()| named()) {
        Ok(Ok(())) => Ok(()),
        // Another one was faster.
        Ok(Err(Errno::EXIST)) => fs::remove_dir_all(&new).map_err(failed),
        Ok(Err(error)) => Err(failed(error.into())),
        Err(error) => {
            let _ = fs::remove_dir_all(&new);
            Err(error)
        }
    }
}

/// Removes all caches that no build uses; how many bytes they had.
pub fn prune(paths: &Paths) -> Result<u64> {
    prune_unused_since(paths, None)
}

/// The same for those that no build has used since a time.
pub fn prune_unused_since(paths: &Paths, since: Option<SystemTime>) -> Result<u64> {
    let failed = |error: io::Error| Error::new(format!("prune {}: {error}", home(paths).display()));
    let entries = match fs::read_dir(home(paths)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(failed)?,
    };
    let mut bytes = 0;
    for entry in entries {
        let own = entry.map_err(failed)?.path();
        let lock = lock_file(&own).map_err(failed)?;
        let used = lock.metadata().and_then(|data| data.modified()).map_err(failed)?;
        let old = since.is_none_or(|since| used < since);
        if old && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
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
