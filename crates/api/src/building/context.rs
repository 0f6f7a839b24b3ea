//! The context of a build in a directory of the server: an archive is unpacked there, by descriptor, so that nothing in
//! it leads out. The directory goes with its guard, and one whose server was killed with the next build.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use engine::{Error, Paths, Result};
use rustix::fs::{FlockOperation, flock};

/// A directory of one build's own.
pub(crate) struct Scratch {
    directory: PathBuf,
    /// Held as long as the directory is in use.
    _lock: File,
}

impl Scratch {
    /// Makes one, and removes those that nobody uses any more.
    pub(crate) fn new(paths: &Paths) -> Result<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let home = paths.root.join("build/contexts");
        let failed = |error: io::Error| Error::internal(format!("make a directory in {}: {error}", home.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(&home).map_err(failed)?;
        // One at a time: a fresh lock file that is not locked yet looks like one that nobody holds.
        let turn = File::options().create(true).append(true).mode(0o600).open(home.join(".lock")).map_err(failed)?;
        flock(&turn, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
        sweep(&home);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let directory = home.join(format!("{}-{number}-{:x}", std::process::id(), unique()));
        let lock = lock_file(&directory).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed(error.into()))?;
        DirBuilder::new().mode(0o700).create(&directory).map_err(failed)?;
        Ok(Scratch { directory, _lock: lock })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// Unpacks an archive into it.
    pub(crate) fn unpack(&self, archive: &mut dyn Read) -> Result<()> {
        let opened = File::open(&self.directory)
            .map_err(|error| Error::internal(format!("open {}: {error}", self.directory.display())))?;
        engine::unpack_archive(archive, &OwnedFd::from(opened))
            .map_err(|error| Error { message: format!("Error processing tar file: {}", error.message), ..error })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is swept by the next build.
        let _ = fs::remove_dir_all(&self.directory);
        let _ = fs::remove_file(lock_path(&self.directory));
    }
}

fn unique() -> u64 {
    let mut bytes = [0; 8];
    // A name that is taken is an error when the directory is made.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_le_bytes(bytes)
}

fn lock_path(directory: &Path) -> PathBuf {
    directory.with_extension("lock")
}

fn lock_file(directory: &Path) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o600).open(lock_path(directory))
}

/// Removes directories whose lock nobody holds.
fn sweep(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none() {
            continue;
        }
        let directory = path.with_extension("");
        let Ok(lock) = lock_file(&directory) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(&directory);
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_swept() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths { root: root.path().to_owned(), state: root.path().join("state") };
        let kept = Scratch::new(&paths).unwrap();
        let left = kept.path().with_file_name("left");
        fs::create_dir_all(left.join("inner")).unwrap();
        fs::write(lock_path(&left), "").unwrap();
        let other = Scratch::new(&paths).unwrap();
        assert!(kept.path().is_dir() && !left.exists() && !lock_path(&left).exists());
        let gone = other.path().to_owned();
        drop(other);
        assert!(!gone.exists());
    }
}
