//! What has come of a layer so far, kept as it came below `partial/`, so that a pull that was interrupted, by whatever, goes
//! on where it stopped. The file's lock makes concurrent pulls of the same layer wait for each other instead of both
//! fetching it.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Result, Step};
use crate::{Digest, Store};

/// What nobody has gone on with for so long is dropped.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

/// One layer's beginning. It is ours alone until it is dropped.
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    length: u64,
    /// Whether what comes is still worth keeping: not on a full disk.
    keeps: bool,
}

impl Partial {
    /// Takes the layer over; calls `waiting` if somebody else has it, and waits for him.
    pub(crate) fn claim(store: &Store, blob: &Digest, waiting: impl FnOnce()) -> Result<Self> {
        let directory = directory(store);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .step(|| format!("make {}", directory.display()))?;
        let path = directory.join(blob.hex());
        let what = || format!("lock {}", path.display());
        let mut waiting = Some(waiting);
        loop {
            let file = File::options().create(true).read(true).append(true).mode(0o600).open(&path).step(what)?;
            if let Err(Errno::WOULDBLOCK) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
                waiting.take().into_iter().for_each(|waiting| waiting());
                flock(&file, FlockOperation::LockExclusive).step(what)?;
            }
            // Whoever had it may have finished and removed it.
            let found = file.metadata().step(what)?;
            if std::fs::metadata(&path).is_ok_and(|named| named.ino() == found.ino()) {
                return Ok(Partial { path, file, length: found.len(), keeps: true });
            }
        }
    }

    /// Bytes that are here.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Reads what is here.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let rest = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        self.file.read_at(&mut buffer[..rest], offset)
    }

    /// Keeps more. Where there is no room for it, the pull goes on without.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        if !self.keeps {
            return;
        }
        match std::io::Write::write_all(&mut self.file, bytes) {
            Ok(()) => self.length += bytes.len() as u64,
            Err(_) => {
                self.empty();
                self.keeps = false;
            }
        }
    }

    /// Forgets the content, but stays its owner.
    pub(crate) fn empty(&mut self) {
        // What cannot be emptied is found out by its digest.
        let _ = self.file.set_len(0);
        self.length = 0;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.length == 0 {
            // An empty file that stays does no harm.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn directory(store: &Store) -> PathBuf {
    store.root.join("partial")
}

impl Store {
    /// Bytes of interrupted downloads that wait to be gone on with.
    pub fn interrupted_downloads(&self) -> u64 {
        entries(&directory(self)).filter_map(|path| Some(std::fs::metadata(path).ok()?.len())).sum()
    }

    /// Drops interrupted downloads that nobody is busy with; the bytes that were freed.
    pub fn drop_interrupted_downloads(&self) -> u64 {
        drop_older(&directory(self), Duration::ZERO)
    }
}

/// Drops what was abandoned.
pub(crate) fn sweep(store: &Store) {
    drop_older(&directory(store), ABANDONED);
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn drop_older(directory: &Path, age: Duration) -> u64 {
    let old = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        let since = found.modified().ok()?.elapsed().unwrap_or_default();
        let file = File::open(path).ok().filter(|_| since >= age)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        std::fs::remove_file(path).ok()?;
        Some(found.len())
    };
    entries(directory).filter_map(|path| old(&path)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_resumed_and_dropped() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        let blob = Digest::of(b"x");
        let mut one = Partial::claim(&store, &blob, || panic!("nobody has it")).unwrap();
        one.append(b"abc");
        one.append(b"def");
        assert_eq!(store.drop_interrupted_downloads(), 0, "somebody is busy with it");
        drop(one);
        let mut again = Partial::claim(&store, &blob, || panic!("nobody has it")).unwrap();
        let mut buffer = [0; 10];
        assert_eq!((again.length(), again.read_at(&mut buffer, 2).unwrap(), &buffer[..4]), (6, 4, &b"cdef"[..]));
        again.empty();
        drop(again);
        assert_eq!(entries(&directory(&store)).count(), 0);
    }

    #[test]
    fn the_second_waits_for_the_first() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        let blob = Digest::of(b"x");
        let first = Partial::claim(&store, &blob, || ()).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| Partial::claim(&store, &blob, || sender.send(()).unwrap()).map(drop));
            receiver.recv().unwrap();
            drop(first);
            second.join().unwrap().unwrap();
        });
    }
}
