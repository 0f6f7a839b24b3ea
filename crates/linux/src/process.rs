//! The calling process: its descriptors, scheduling, execution domain.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::check;

/// Closes every descriptor from `first` to `last`, inclusive. For a process that is about to become another one:
/// whoever owns a closed descriptor must not be used any more.
///
/// Descriptors are owned by values, so this is only for a copied process that forgets all of them: it never returns to
/// code that owned one.
pub fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    range(first, last, 0)
}

/// Marks every descriptor from `first` on as closed by the next `execve`.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    range(first, RawFd::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Whether a descriptor is open and stays so over `execve`.
pub fn survives_exec(descriptor: RawFd) -> bool {
    // SAFETY: no memory is passed, nothing changes; one that is not open is an error.
    check(unsafe { libc::fcntl(descriptor, libc::F_GETFD) }.into()).is_ok_and(|flags| flags & 1 == 0)
}

/// Lets the next `execve` keep a descriptor open.
pub fn keep_on_exec(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: no memory is passed; nobody is deprived of the descriptor, and one that is not open is an error.
    check(unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) }.into()).map(drop)
}

/// Takes over the first `count` descriptors behind standard error, which whoever started this process left open for it
/// (sd_listen_fds(3)); those that are not open are left out. They are taken once: a second call gets none.
pub fn inherited(count: u32) -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Vec::new();
    }
    let end = 3_i32.saturating_add(i32::try_from(count).unwrap_or(0));
    // What this process has opened itself is closed by `execve`; what it was given is not, and so still unowned.
    let given: Vec<RawFd> = (3..end).filter(|number| survives_exec(*number)).collect();
    given
        .into_iter()
        .map(|number| {
            // SAFETY: it is open and came from outside, so no value of this process owns it; it is handed out once.
            let owned = unsafe { OwnedFd::from_raw_fd(number) };
            // Best effort: one that leaks into a child is no harm that closing would mend.
            let _ = rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC);
            owned
        })
        .collect()
}

fn range(first: RawFd, last: RawFd, flags: libc::c_uint) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: no memory is passed. Closing descriptors that values own is the documented effect, see above.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// When a process started, in clock ticks since boot: with its number its identity. None if it does not live; a zombie
/// does not.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the command's name, which may hold anything: fields 3 (state) and 22 (proc_pid_stat(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(18)?.parse().ok(),
    }
}

/// Where the process's command line is in its memory: what `ps` shows of it.
pub struct Title {
    start: usize,
    length: usize,
}

impl Title {
    /// Asks the kernel; the host's `/proc` must still be there.
    pub fn find() -> io::Result<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        // After the command's name, which may hold anything: fields 3 (state) and on; 48 and 49 are the area (proc(5)).
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        let mut area = fields.skip(45).map(|field| field.parse::<usize>().unwrap_or(0));
        match (area.next(), area.next()) {
            (Some(start), Some(end)) if start != 0 && end > start => Ok(Self { start, length: end - start }),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Overwrites it, for a copied process that must not show its maker's arguments.
    pub fn set(&self, text: &str) {
        let length = text.len().min(self.length - 1);
        // SAFETY: the kernel put the arguments' strings there when it executed the program, on the writable stack, and
        // never moves them; no Rust reference to them exists (std copies arguments when asked). The copy of a process
        // has the same layout. The last byte stays zero.
        unsafe {
            let start = std::ptr::with_exposed_provenance_mut::<u8>(self.start);
            std::ptr::write_bytes(start, 0, self.length);
            std::ptr::copy_nonoverlapping(text.as_ptr(), start, length);
        }
    }
}

/// Scheduling attributes as `sched_setattr(2)` takes them; times in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scheduling {
    /// `SCHED_…`
    pub policy: u32,
    /// `SCHED_FLAG_…`
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// For SCHED_DEADLINE.
    pub runtime: u64,
    /// For SCHED_DEADLINE.
    pub deadline: u64,
    /// For SCHED_DEADLINE.
    pub period: u64,
}

/// `struct sched_attr` (`include/uapi/linux/sched/types.h`), first published size.
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets how the calling thread is scheduled.
pub fn set_scheduling(wanted: Scheduling) -> io::Result<()> {
    let Scheduling { policy, flags, nice, priority, runtime, deadline, period } = wanted;
    let size = size_of::<SchedAttr>() as u32;
    let attributes = SchedAttr { size, policy, flags, nice, priority, runtime, deadline, period };
    // SAFETY: the structure is valid for the size that it names.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

/// Sets the I/O priority of the calling thread: class 1 real time, 2 best effort, 3 idle; level 0 (highest) to 7.
pub fn set_io_priority(class: u32, level: u32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, (class << 13) | level) }).map(drop)
}

/// Sets the execution domain (`PER_LINUX`, `PER_LINUX32`).
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::personality(domain.into()) }.into()).map(drop)
}

/// Sets where the calling thread's memory comes from (set_mempolicy(2)): `MPOL_…` with flags, and a bit mask of nodes.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // The kernel reads one bit less than it is told.
    let (mask, bits) = match nodes {
        [] => (std::ptr::null(), 0),
        _ => (nodes.as_ptr(), nodes.len() * 64 + 1),
    };
    // SAFETY: the mask has as many bits as the kernel reads, and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}
