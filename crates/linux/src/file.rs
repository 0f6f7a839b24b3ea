//! What files can do beyond rustix.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use crate::check;

/// Asks the kernel to begin writing what it holds of the file to the disk, and does not wait (`sync_file_range(2)`).
/// A hint: where it cannot be heeded, nothing happens.
pub fn begin_write_back(file: impl AsFd) {
    // SAFETY: takes numbers only.
    unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Waits until what the kernel holds of the file's content is on its way through (`sync_file_range(2)`). No substitute for
/// fsync(2): neither the file's size nor the disk's own cache are cared for. A hint, too.
pub fn finish_write_back(file: impl AsFd) {
    let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: takes numbers only.
    unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, all) };
}

/// Gives blocks to the first `length` bytes of a file that this process has open under `path`, through that very
/// descriptor: closing another one would drop the process' POSIX locks on the file. Whether it is open.
pub fn allocate_open(path: &Path, length: u64) -> io::Result<bool> {
    for entry in std::fs::read_dir("/proc/self/fd")?.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(fd) = number.filter(|_| std::fs::read_link(entry.path()).is_ok_and(|link| link == path)) {
            // SAFETY: takes numbers only; a descriptor that was closed meanwhile is an error.
            check(unsafe { libc::fallocate(fd, 0, 0, length as libc::off_t) }.into())?;
            return Ok(true);
        }
    }
    Ok(false)
}
