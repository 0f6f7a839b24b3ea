//! The memory that a process keeps while it sleeps: a monitor sleeps for weeks, and there is one per container.

use std::io;

use crate::check;

unsafe extern "C" {
    /// First byte of the executable's image, set by the linker.
    static __executable_start: u8;
    /// First byte after its code, set by the linker.
    static etext: u8;
}

/// Bytes of stack below the caller that stay: its own callees may still use them.
const STACK_KEPT: usize = 16 << 10;
/// Bytes of stack that are given back below that; a thread's stack is larger (8 MiB by default).
const STACK_GIVEN: usize = 1 << 20;

/// Gives back what a process does not need while it sleeps: free heap, stack below the present frame, and the mappings
/// of its own code and constants, which come back from the page cache one by one as they are used again.
///
/// Only for single-threaded processes with an ordinary main-thread stack.
pub fn shrink() -> io::Result<()> {
    // SAFETY: no preconditions.
    unsafe { libc::malloc_trim(0) };
    release_stack()?;
    release_code()
}

/// Code and constants are private mappings of a file that are never written (the executable is not position-independent,
/// so nothing in them is relocated): dropping their pages loses nothing.
fn release_code() -> io::Result<()> {
    let start = (&raw const __executable_start) as usize & !0xfff;
    let end = (&raw const etext) as usize & !0xfff;
    advise(start, end - start)
}

/// Pages far below the stack pointer hold only frames that have returned.
fn release_stack() -> io::Result<()> {
    let here = 0u8;
    let end = ((&raw const here) as usize - STACK_KEPT) & !0xfff;
    let Some(start) = mapped_from(end)? else { return Ok(()) };
    let start = start.max(end - STACK_GIVEN);
    if start < end { advise(start, end - start) } else { Ok(()) }
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

fn advise(start: usize, length: usize) -> io::Result<()> {
    // SAFETY: the callers name ranges whose contents nobody needs any more or that come back unchanged from their file.
    check(unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) }.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    fn deep(level: usize) -> usize {
        let frame = [level as u8; 1024];
        if level == 0 { 0 } else { deep(level - 1) + usize::from(black_box(frame)[7]) }
    }

    /// Everything works afterwards, deep stacks and big heaps included.
    #[test]
    fn nothing_is_lost() {
        let before = deep(100);
        let kept = black_box(vec![7u8; 1 << 20]);
        super::shrink().unwrap();
        assert_eq!(deep(100), before);
        assert!(kept.iter().all(|&byte| byte == 7));
    }
}
