//! What files can do beyond rustix.

use std::os::fd::{AsFd, AsRawFd};

/// Asks the kernel to begin writing what it holds of the file to the disk, and does not wait (`sync_file_range(2)`).
/// A hint: where it cannot be heeded, nothing happens.
pub fn begin_write_back(file: impl AsFd) {
    // SAFETY: takes numbers only.
    unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
