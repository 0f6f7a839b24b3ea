//! Identities of the calling thread beyond rustix: file-system ids, the session keyring.

use std::io;

use crate::check;

/// File-system user and group ids; the old ones return when the guard is dropped.
#[derive(Debug)]
pub struct FsIds {
    uid: u32,
    gid: u32,
}

/// Makes the calling thread create and own files as `uid`:`gid` until the guard is dropped. Leaving uid 0 takes the
/// file capabilities out of the effective set (capabilities(7)); raising them again is the caller's business.
pub fn set_fs_ids(uid: u32, gid: u32) -> io::Result<FsIds> {
    let old = FsIds { gid: set_fs_gid(gid), uid: set_fs_uid(uid) };
    // These calls report no errors: asking with an impossible id returns the present one.
    if set_fs_uid(u32::MAX) == uid && set_fs_gid(u32::MAX) == gid {
        return Ok(old);
    }
    Err(io::Error::from_raw_os_error(libc::EPERM))
}

impl Drop for FsIds {
    fn drop(&mut self) {
        set_fs_uid(self.uid);
        set_fs_gid(self.gid);
    }
}

fn set_fs_uid(uid: u32) -> u32 {
    // SAFETY: no memory is passed; affects the calling thread only.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) as u32 }
}

fn set_fs_gid(gid: u32) -> u32 {
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) as u32 }
}

/// Gives the process a new, empty session keyring, so that it cannot see its starter's keys. ENOSYS where the kernel
/// has no keyrings, EDQUOT where the user has too many.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0) }).map(drop)
}
