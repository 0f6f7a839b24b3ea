//! Space set aside beside the database, so that on a full disk what frees space (`stop`, `rm`, `rmi`, `prune`) can still
//! be recorded. A little of it is given back before each transaction that finds the disk full, all of it taken again
//! when there is plenty.

use std::fs::File;
use std::path::Path;

use rustix::fs::{CWD, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

const NAME: &str = "kiste.reserve";
/// Bytes set aside.
const SIZE: u64 = 1 << 20;
/// Bytes given back at a time: a transaction needs some pages of 4 KiB, and a container that fills the disk takes the rest.
const STEP: u64 = 64 << 10;
/// Free bytes below which the disk counts as full: log and index of a transaction must fit.
const FULL: u64 = 256 << 10;
/// Free bytes above which the reserve is taken.
const PLENTY: u64 = 64 << 20;

/// Gives some of the reserve in `directory` back or takes it, as the file system's free space demands. Does what it can
/// and never fails: without a reserve, a full disk shows in the transaction.
pub(crate) fn balance(directory: &Path) {
    let Ok(system) = rustix::fs::statvfs(directory) else { return };
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if free < FULL {
        give_back_if_full(directory);
    } else if free > PLENTY {
        take(directory);
    }
}

/// The numbers do not tell what root may still use of the blocks that a file system keeps for itself; trying does.
fn give_back_if_full(directory: &Path) {
    let Ok(file) = open(directory, OFlags::RDWR) else { return };
    let size = file.metadata().map_or(0, |data| data.len());
    let full = rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, size, FULL) == Err(Errno::NOSPC);
    let _ = file.set_len(if full { size.saturating_sub(STEP) } else { size });
}

fn take(directory: &Path) {
    let size = rustix::fs::stat(directory.join(NAME)).map_or(0, |stat| stat.st_size as u64);
    if size >= SIZE {
        return;
    }
    if let Ok(file) = open(directory, OFlags::RDWR | OFlags::CREATE) {
        // File systems that cannot allocate ahead have no reserve.
        let _ = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SIZE);
    }
}

fn open(directory: &Path, flags: OFlags) -> rustix::io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, directory.join(NAME), flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn taken_and_kept_while_there_is_room() {
        let directory = tempfile::tempdir().unwrap();
        let size = || std::fs::metadata(directory.path().join(NAME)).unwrap();
        take(directory.path());
        assert_eq!(size().len(), SIZE);
        assert!(size().blocks() * 512 >= SIZE, "it holds space, not only a length");
        give_back_if_full(directory.path());
        assert_eq!((size().len(), size().blocks() * 512), (SIZE, SIZE));
    }
}
