//! `seccomp(2)`: attaches classic BPF filters. What a filter decides is its maker's business.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// One classic BPF instruction (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation and addressing mode.
    pub code: u16,
    /// How many instructions to skip if the condition holds.
    pub jt: u8,
    /// How many to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Most instructions that the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `SECCOMP_FILTER_FLAG_TSYNC`: all threads of the process.
pub const TSYNC: u32 = 1;
/// `SECCOMP_FILTER_FLAG_LOG`: log all actions but "allow".
pub const LOG: u32 = 2;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: no speculative store bypass mitigation.
pub const SPEC_ALLOW: u32 = 4;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: hand back a descriptor for user notifications.
pub const NEW_LISTENER: u32 = 8;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: only fatal signals interrupt a received notification (Linux 5.19).
pub const WAIT_KILLABLE_RECV: u32 = 32;

const SET_MODE_FILTER: libc::c_ulong = 1;
const GET_ACTION_AVAIL: libc::c_ulong = 2;

/// Attaches a filter to the calling thread, for good; inherited by children and kept over `execve`.
///
/// Needs `no_new_privs` or `CAP_SYS_ADMIN` (else `EACCES`). With [`NEW_LISTENER`] the answer is the listener's
/// descriptor. Allocates nothing.
pub fn load(program: &[Instruction], flags: u32) -> io::Result<Option<OwnedFd>> {
    if program.is_empty() || program.len() > MAX_INSTRUCTIONS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // `Instruction` has the layout of `sock_filter`; the kernel only reads through the pointer.
    let descriptor = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `descriptor` and the instructions that it points to outlive the call, and its length is theirs.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags as libc::c_ulong, &descriptor) };
    let fd = crate::check(result)?;
    if flags & NEW_LISTENER == 0 {
        // With TSYNC a positive number names the thread that could not follow.
        return if fd == 0 { Ok(None) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    }
    // SAFETY: with NEW_LISTENER the kernel answers with a fresh descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

/// Whether this kernel knows the action (`SECCOMP_RET_…` without data).
pub fn knows_action(action: u32) -> bool {
    // SAFETY: the kernel reads one `u32` through the pointer, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0 as libc::c_ulong, &action) };
    result == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
        assert_eq!(std::mem::offset_of!(Instruction, k), std::mem::offset_of!(libc::sock_filter, k));
    }

    #[test]
    fn refuses_empty_and_endless_programs_before_the_kernel_sees_them() {
        let instruction = Instruction { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 };
        for program in [vec![], vec![instruction; MAX_INSTRUCTIONS + 1]] {
            assert_eq!(load(&program, 0).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn knows_the_oldest_action_and_no_nonsense() {
        assert!(knows_action(0x7fff_0000) && !knows_action(0x1234_0000));
    }
}
