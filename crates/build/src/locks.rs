//! Several builds at once share work: who makes a step holds a lock named by the step's key, and whoever wants the same
//! step waits and then finds it in the cache.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::cancel::Cancel;
use crate::{Error, Result};

/// Between two looks at a lock that somebody else holds: flock(2) cannot wait for it and for the build's end at once.
const PAUSE: Duration = Duration::from_millis(10);

/// A step that is being made here.
pub(crate) struct StepLock {
    path: PathBuf,
    _file: File,
}

impl StepLock {
    /// Waits until nobody else makes the step of this key.
    pub(crate) fn take(root: &Path, key: &str, cancel: &Cancel) -> Result<Self> {
        let home = root.join("build/locks");
        let path = home.join(key);
        let failed = |error: io::Error| Error::new(format!("lock {}: {error}", path.display()));
        DirBuilder::new().recursive(true).mode(0o711).create(&home).map_err(failed)?;
        loop {
            cancel.check()?;
            let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Who had it has removed the name on the way out.
                Ok(()) if is_named(&file, &path) => return Ok(StepLock { path, _file: file }),
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => std::thread::sleep(PAUSE),
                Err(error) => return Err(failed(error.into())),
            }
        }
    }
}

fn is_named(file: &File, path: &Path) -> bool {
    let numbers = |data: io::Result<fs::Metadata>| data.ok().map(|data| (data.dev(), data.ino()));
    numbers(fs::metadata(path)).is_some_and(|named| Some(named) == numbers(file.metadata()))
}

impl Drop for StepLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
