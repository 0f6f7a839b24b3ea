//! Becoming another program, with the exact error if that fails.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Null-terminated strings as `execve` wants them, prepared before the moment when memory or time is short.
pub struct Strings(Vec<CString>);

impl Strings {
    /// Refuses strings with a NUL inside; the error names the string.
    pub fn new<T: AsRef<[u8]>>(strings: impl IntoIterator<Item = T>) -> io::Result<Self> {
        strings.into_iter().map(|s| c_string(s.as_ref())).collect::<io::Result<_>>().map(Self)
    }

    fn pointers(&self) -> Vec<*const libc::c_char> {
        self.0.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    }
}

/// A path or an argument as the kernel takes it.
pub fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| {
        let text = String::from_utf8_lossy(bytes).replace('\0', "\\0");
        io::Error::new(io::ErrorKind::InvalidInput, format!("\"{text}\" contains a null byte"))
    })
}

/// Executes `path`; returns only the reason why it could not.
pub fn execve(path: &CStr, args: &Strings, env: &Strings) -> io::Error {
    let (args, env) = (args.pointers(), env.pointers());
    // SAFETY: all three are null-terminated and live until the call returns, if it does.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Executes the file behind a descriptor; returns only the reason why it could not.
pub fn fexecve(file: BorrowedFd<'_>, args: &Strings, env: &Strings) -> io::Error {
    let (args, env) = (args.pointers(), env.pointers());
    // SAFETY: as in `execve`; the empty path with AT_EMPTY_PATH means the borrowed, hence open, descriptor.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
