//! The seccomp compiler: from a profile to a BPF program whose decision path is short. Attaching it is the kernel's
//! ([`linux::seccomp`]); which profile a container gets is decided elsewhere.

mod abi;
mod cache;
mod default;
mod docker;
mod filter;
mod listener;

mod profile;
#[rustfmt::skip]
mod table;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use std::io;

use std::os::fd::OwnedFd;

use linux::seccomp::{Instruction, NEW_LISTENER};
use oci_spec::runtime::LinuxSeccomp;

pub use cache::compile_cached;
pub use docker::from_docker_json;
pub use listener::Listener;

/// A compiled filter, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
    flags: u32,
}

impl Program {
    /// Attaches the filter to the calling thread, for good. Needs `no_new_privs` or `CAP_SYS_ADMIN`. Allocates nothing.
    /// A filter that [notifies](Self::notifies) gives the descriptor of its listener.
    pub fn load(&self) -> io::Result<Option<OwnedFd>> {
        linux::seccomp::load(&self.instructions, self.flags)
    }

    /// Whether some calls wait for the answer of a [`Listener`].
    pub fn notifies(&self) -> bool {
        self.flags & NEW_LISTENER != 0
    }

    /// The BPF instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

/// The default profile's word on x32 calls that are not let in: as on the many kernels without them.
const NO_X32: u32 = filter::ERRNO | libc::ENOSYS as u32;

/// The built-in default profile for a container with these effective capabilities (`CAP_…` names). Only the native ABI
/// is let in: 32-bit programs are killed (`SIGSYS`).
pub fn default_profile(capabilities: &[&str]) -> Program {
    let instructions = filter::program(abi::NATIVE, &default::tables(capabilities, false), NO_X32);
    Program { instructions, flags: linux::seccomp::SPEC_ALLOW }
}

/// Like [`default_profile`], but lets in all ABIs that this kind of machine can execute, for images of such an
/// architecture (`linux/386` on x86-64, `linux/arm` on AArch64).
pub fn default_profile_all_abis(capabilities: &[&str]) -> Program {
    let instructions = filter::program(abi::NATIVE, &default::tables(capabilities, true), NO_X32);
    Program { instructions, flags: linux::seccomp::SPEC_ALLOW }
}

/// Compiles an OCI profile. Errors name the field below `linux.seccomp`.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program, String> {
    compile_for(abi::NATIVE, profile)
}

/// Compiles for a machine with this native ABI.
fn compile_for(native: abi::Abi, profile: &LinuxSeccomp) -> Result<Program, String> {
    let (tables, flags) = profile::tables(profile, native)?;
    let instructions = filter::program(native, &tables, filter::KILL_PROCESS);
    if instructions.len() > linux::seccomp::MAX_INSTRUCTIONS {
        return Err(format!(
            "the seccomp profile makes {} instructions, the kernel takes {}; hint: fewer argument conditions",
            instructions.len(),
            linux::seccomp::MAX_INSTRUCTIONS
        ));
    }
    Ok(Program { instructions, flags })
}
