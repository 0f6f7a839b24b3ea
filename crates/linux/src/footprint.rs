//! The memory that a process keeps while it sleeps: a monitor sleeps for weeks, and there is one per container.

use std::ffi::c_void;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::mm::Advice;

unsafe extern "C" {
    /// First byte of the executable's image, set by the linker.
    static __executable_start: u8;
    /// First byte after its code, set by the linker.
    static etext: u8;
}

/// Bytes of stack below the caller that stay: its own callees may still use them.
const STACK_KEPT: usize = 8 << 10;
/// Bytes of stack that are given back below that; a thread's stack is larger (8 MiB by default).
const STACK_GIVEN: usize = 1 << 20;

/// Gives back what a process does not need while it sleeps, and sleeps until `wake` is readable or `timeout` has passed:
/// free heap, stack below the present frame, and the mappings of its own code and constants, which come back from the
/// page cache as they are used again. The last two steps stand side by side in this one function because the kernel maps
/// 64 KiB around every instruction that runs after the first of them.
///
/// Only for single-threaded processes with an ordinary main-thread stack.
#[inline(never)]
pub fn sleep(wake: BorrowedFd<'_>, timeout: Option<&Timespec>) -> io::Result<()> {
    crate::memory::trim();
    release_stack()?;
    let (start, length) = code();
    let mut wake = [PollFd::from_borrowed_fd(wake, PollFlags::IN)];
    // SAFETY: code and constants are private mappings of a file that are never written (the executable is not
    // position-independent, so nothing in them is relocated): dropping their pages loses nothing.
    unsafe { rustix::mm::madvise(start, length, Advice::LinuxDontNeed)? };
    match rustix::event::poll(&mut wake, timeout) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The executable's mappings that are never written.
fn code() -> (*mut c_void, usize) {
    let start = (&raw const __executable_start) as usize & !0xfff;
    let end = (&raw const etext) as usize & !0xfff;
    (start as *mut c_void, end - start)
}

/// Pages far below the stack pointer hold only frames that have returned.
fn release_stack() -> io::Result<()> {
    let here = 0u8;
    let end = ((&raw const here) as usize - STACK_KEPT) & !0xfff;
    let Some(start) = mapped_from(end)? else { return Ok(()) };
    let start = start.max(end - STACK_GIVEN);
    if start < end {
        // SAFETY: nobody refers to these pages: they are below every live frame, red zone included.
        unsafe { rustix::mm::madvise(start as *mut c_void, end - start, Advice::LinuxDontNeed)? };
    }
    Ok(())
}

/// The beginning of the mapping that contains `address`; the stack grows downwards to it.
fn mapped_from(address: usize) -> io::Result<Option<usize>> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    Ok(maps.lines().find_map(|line| {
        let (start, rest) = line.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(rest.split_once(' ')?.0, 16).ok()?;
        (start <= address && address < end).then_some(start)
    }))
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::os::fd::AsFd;

    use rustix::event::Timespec;

    fn deep(level: usize) -> usize {
        let frame = [level as u8; 1024];
        if level == 0 { 0 } else { deep(level - 1) + usize::from(black_box(frame)[7]) }
    }

    /// Everything works afterwards, deep stacks and big heaps included.
    #[test]
    fn nothing_is_lost() {
        let before = deep(100);
        let kept = black_box(vec![7u8; 1 << 20]);
        let (never, _writer) = rustix::pipe::pipe().unwrap();
        let moment = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        super::sleep(never.as_fd(), Some(&moment)).unwrap();
        assert_eq!(deep(100), before);
        assert!(kept.iter().all(|&byte| byte == 7));
    }
}
