//! Directories that a build needs for a while, below `ROOT/build/tmp`. Each is locked while it is needed, so that the next
//! build can remove what a killed one has left.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use engine::Paths;
use rustix::fs::{FlockOperation, flock};

use crate::{Error, Result};

/// A directory that goes with this.
pub(crate) struct Scratch {
    own: PathBuf,
    /// Empty at first.
    pub(crate) path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes one, and removes those that nobody holds any more.
    pub(crate) fn new(paths: &Paths) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let home = paths.root.join("build/tmp");
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let made = (|| {
            DirBuilder::new().recursive(true).mode(0o711).create(&home)?;
            sweep(&home)?;
            let own = home.join(name);
            DirBuilder::new().mode(0o711).create(&own)?;
            let lock = File::create(own.join("lock"))?;
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
            let path = own.join("files");
            DirBuilder::new().mode(0o755).create(&path)?;
            Ok(Scratch { own, path, _lock: lock })
        })();
        made.map_err(|error: io::Error| Error::new(format!("make a directory in {}: {error}", home.display())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is swept by the next build.
        let _ = fs::remove_dir_all(&self.own);
    }
}

/// Removes what no living build holds. One that is being made has no lock yet: it is young.
fn sweep(home: &Path) -> io::Result<()> {
    for entry in fs::read_dir(home)?.flatten() {
        let own = entry.path();
        let alive = match File::open(own.join("lock")) {
            Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err(),
            Err(_) => entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age.as_secs() < 60),
        };
        if !alive {
            let _ = fs::remove_dir_all(&own);
        }
    }
    Ok(())
}
