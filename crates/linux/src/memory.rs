//! Memory of the process: giving it back.

/// Returns freed heap memory to the kernel; for processes that become idle for long.
pub fn trim() {
    // SAFETY: no preconditions.
    unsafe { libc::malloc_trim(0) };
}
