//! Digests of files of contexts, remembered between builds, so that a context of which nothing has changed is recognised
//! without being read. A file is known by device, inode, size, and the times of its last changes, as git's index does it.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::files::{Found, Stamp, Tree, show};
use crate::{Error, Result};

/// Bytes of a record: five numbers and a digest.
const RECORD: usize = 5 * 8 + 32;
/// Most files that are remembered; when there are more, it starts anew.
const MOST: usize = 1 << 20;
/// A file that was changed less than this before it was read may be changed again within one tick of the clock.
const SETTLED: i64 = 1_000_000_000;

/// The memory, open.
pub(crate) struct Digests {
    path: PathBuf,
    known: HashMap<Stamp, [u8; 32]>,
    changed: bool,
    now: i64,
    buffer: Vec<u8>,
    /// Read when the first file of a context is asked for.
    read: bool,
}

impl Digests {
    /// Opens that of a root directory.
    pub(crate) fn open(root: &Path) -> Self {
        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let path = root.join("build/digests");
        Digests { path, known: HashMap::new(), changed: false, now, buffer: Vec::new(), read: false }
    }

    /// SHA-256 of a file's content.
    pub(crate) fn digest(&mut self, tree: &Tree, found: &Found) -> Result<[u8; 32]> {
        if tree.is_context() {
            self.load();
            if let Some(digest) = self.known.get(&found.stamp) {
                return Ok(*digest);
            }
        }
        let digest = self.hash(tree, found)?;
        if tree.is_context() && found.stamp.changed.max(found.stamp.modified) + SETTLED < self.now {
            self.known.insert(found.stamp, digest);
            self.changed = true;
        }
        Ok(digest)
    }

    fn hash(&mut self, tree: &Tree, found: &Found) -> Result<[u8; 32]> {
        let mut file = tree.read(found)?;
        let mut hash = Sha256::new();
        self.buffer.resize(256 << 10, 0);
        loop {
            let got = file
                .read(&mut self.buffer)
                .map_err(|error| Error::new(format!("read {}: {error}", show(&found.real))))?;
            if got == 0 {
                tree.check_unchanged(found, &file)?;
                return Ok(hash.finalize().into());
            }
            hash.update(&self.buffer[..got]);
        }
    }

    fn load(&mut self) {
        if std::mem::replace(&mut self.read, true) {
            return;
        }
        // Without it everything is read anew.
        let Ok(bytes) = fs::read(&self.path) else { return };
        self.known.reserve(bytes.len() / RECORD);
        for record in bytes.chunks_exact(RECORD) {
            let number = |index: usize| u64::from_le_bytes(*record[index * 8..].first_chunk().unwrap_or(&[0; 8]));
            let stamp = Stamp {
                device: number(0),
                inode: number(1),
                size: number(2),
                modified: number(3) as i64,
                changed: number(4) as i64,
            };
            self.known.insert(stamp, *record[40..].first_chunk().unwrap_or(&[0; 32]));
        }
    }

    /// Writes it down if there is anything new. It is only a memory: what cannot be written is forgotten.
    pub(crate) fn keep(self) {
        if !self.changed || self.known.len() > MOST {
            if self.known.len() > MOST {
                let _ = fs::remove_file(&self.path);
            }
            return;
        }
        let mut bytes = Vec::with_capacity(self.known.len() * RECORD);
        for (stamp, digest) in &self.known {
            for number in [stamp.device, stamp.inode, stamp.size, stamp.modified as u64, stamp.changed as u64] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(digest);
        }
        let thread = format!("{:?}", std::thread::current().id());
        let new = self.path.with_extension(format!("{}-{}", std::process::id(), thread.replace(['(', ')'], "")));
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let written = fs::create_dir_all(directory)
            .and_then(|()| fs::write(&new, &bytes))
            .and_then(|()| fs::rename(&new, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&new);
        }
    }
}
