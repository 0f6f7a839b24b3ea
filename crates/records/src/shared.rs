//! SQLite maps the index of its log (`-shm`) into memory after writing one byte in each page of 4 KiB. On a file system with
//! smaller blocks the rest of the page is a hole; filling it on a full disk ends the process by SIGBUS. So the file gets
//! all its blocks as soon as it is there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::{Error, reserve};

/// What SQLite believes to be the size of a block (`pgsz` in `unixShmMap`).
const PAGE: i64 = 4096;
/// Bytes of the index: it grows in steps of 32 KiB, each for some 4,000 pages of log, of which there are seldom 300.
const INDEX: u64 = 64 << 10;

/// Before the index is made: frees a little space if there is none. Whether the file system has small blocks.
pub(crate) fn prepare(database: &Path) -> bool {
    let Some(directory) = database.parent() else { return false };
    let small = rustix::fs::statfs(directory).is_ok_and(|system| system.f_bsize < PAGE);
    if small {
        reserve::balance(directory);
    }
    small
}

/// Gives the index its blocks.
pub(crate) fn allocate(database: &Path) -> Result<(), Error> {
    let path = index(database);
    match linux::file::allocate_open(&path, INDEX) {
        // File systems that cannot allocate ahead have no holes to fill either.
        Err(source) if source.kind() != std::io::ErrorKind::Unsupported => {
            Err(Error::Io { path: path.display().to_string(), source })
        }
        _ => Ok(()),
    }
}

/// Where it is, as the kernel names it.
fn index(database: &Path) -> PathBuf {
    let real = database.canonicalize().unwrap_or_else(|_| database.to_owned());
    let mut name = OsString::from(real);
    name.push("-shm");
    name.into()
}
