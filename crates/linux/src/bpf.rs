//! `bpf(2)`, as much of it as device filters of cgroups need: load, attach, replace, detach, list. Programs come ready
//! encoded.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;

/// `BPF_F_ALLOW_MULTI` and `BPF_F_REPLACE`.
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// Most programs that the kernel attaches to one cgroup (`BPF_CGROUP_MAX_PROGS`).
const MAX_PROGRAMS: usize = 64;

/// Leading fields of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// For `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replace: u32,
}

/// For `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// For `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads and writes at most `size_of::<T>()` bytes, all inside `attributes`; every caller keeps
    // the memory that its pointers name alive during the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    crate::check(result).map(|value| value as i32)
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: callers pass what the kernel has just made for them: a fresh descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Loads a device filter: encoded eBPF instructions that get a `struct bpf_cgroup_dev_ctx` and answer 1 (allow) or 0.
pub fn load_device_filter(program: &[u64]) -> io::Result<OwnedFd> {
    let mut attributes = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    bpf(PROG_LOAD, &mut attributes).map(owned)
}

/// The device filters attached to this cgroup (its directory) itself, in the order in which they run.
pub fn device_filters(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut query = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        padding: 0,
    };
    bpf(PROG_QUERY, &mut query)?;
    ids.iter().take(query.count as usize).map(|id| device_filter(*id)).collect()
}

fn device_filter(id: u32) -> io::Result<OwnedFd> {
    bpf(PROG_GET_FD_BY_ID, &mut ById { id, next: 0, flags: 0 }).map(owned)
}

/// Attaches a device filter to a cgroup; given `replace`, an attached one gives way to it in one step.
pub fn attach_device_filter(
    cgroup: BorrowedFd<'_>,
    filter: BorrowedFd<'_>,
    replace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attributes = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: filter.as_raw_fd() as u32,
        kind: CGROUP_DEVICE,
        flags: if replace.is_some() { ALLOW_MULTI | REPLACE } else { ALLOW_MULTI },
        replace: replace.map_or(0, |old| old.as_raw_fd() as u32),
    };
    bpf(PROG_ATTACH, &mut attributes).map(drop)
}

/// Detaches a device filter.
pub fn detach_device_filter(cgroup: BorrowedFd<'_>, filter: BorrowedFd<'_>) -> io::Result<()> {
    let (target, program) = (cgroup.as_raw_fd() as u32, filter.as_raw_fd() as u32);
    bpf(PROG_DETACH, &mut Attach { target, program, kind: CGROUP_DEVICE, flags: 0, replace: 0 }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r0 = value; exit`
    fn constant(value: u64) -> [u64; 2] {
        [0xb7 | value << 32, 0x95]
    }

    #[test]
    fn the_kernel_takes_a_right_program_and_refuses_a_wrong_one() {
        load_device_filter(&constant(1)).unwrap();
        let without_exit = [0xb7];
        assert_eq!(load_device_filter(&without_exit).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn attaching_needs_a_cgroup() {
        let filter = load_device_filter(&constant(1)).unwrap();
        let other = std::fs::File::open("/").unwrap();
        use std::os::fd::AsFd;
        assert!(attach_device_filter(other.as_fd(), filter.as_fd(), None).is_err());
    }
}
