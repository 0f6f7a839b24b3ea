//! System calls that rustix lacks or leaves unsafe, typed and safe. The only crate with `unsafe`; it knows nothing
//! about containers.

pub mod bpf;
pub mod clone;
pub mod exec;
pub mod failpoint;
pub mod file;
pub mod footprint;
pub mod ids;
pub mod loop_device;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod net;
pub mod netlink;
pub mod pidfd;
pub mod process;
pub mod seccomp;
pub mod signal;
pub mod socket;

pub use signal::signalfd;

use std::io;

/// Turns the result of a raw call (-1 and `errno`, or a value) into a `Result`.
fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
