//! Looks at the free disk space in time, so that a layer is refused before it fills the disk to the brim.

use std::os::fd::AsFd;

use crate::error::{Error, NO_SPACE, Result, Step};
use crate::limits;

/// Bytes between two looks.
pub(crate) const EVERY: u64 = 64 << 20;

/// An error if the file system of `file` has too little left.
pub(crate) fn check(file: impl AsFd) -> Result<()> {
    let state = rustix::fs::fstatvfs(file).step(|| "look at the free disk space".into())?;
    let free = state.f_bavail.saturating_mul(state.f_frsize);
    if free < limits::FREE_RESERVE {
        let cause = format!("{NO_SPACE}: {} MiB left", free >> 20);
        return Err(Error::Step { step: "unpack a layer".into(), cause });
    }
    Ok(())
}
