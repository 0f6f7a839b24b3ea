//! Directories in which clients' files stay from one build to the next, so that only what has changed is transferred. They
//! lie among the caches of builds (`ROOT/build/cache`) in the same form, and are pruned with them.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use engine::Paths;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

/// A directory in use.
pub(crate) struct Slot {
    /// Where the files are.
    pub(crate) path: PathBuf,
    _lock: File,
}

impl Slot {
    /// Takes the one of a key; if it is in use, another one.
    pub(crate) fn take(paths: &Paths, key: &str) -> io::Result<Self> {
        let hash = Sha256::digest(format!("client\0{key}"));
        let name: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let home = paths.root.join("build/cache");
        let mut attempt = 0;
        loop {
            let own = home.join(if attempt == 0 { name.clone() } else { format!("{name}-{attempt}") });
            DirBuilder::new().recursive(true).mode(0o711).create(&own)?;
            let lock = match File::options().create(true).append(true).mode(0o600).open(own.join("lock")) {
                // Pruned just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                lock => lock?,
            };
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if own.join("lock").exists() => {
                    let path = own.join("data");
                    match DirBuilder::new().mode(0o700).create(&path) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                        _ => return Ok(Slot { path, _lock: lock }),
                    }
                }
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Empties one that a failed transfer may have left in any state.
    pub(crate) fn clear(&self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
