//! The seccomp compiler: from a profile to a BPF program whose decision path is short. Attaching it is the kernel's
//! ([`linux::seccomp`]); which profile a container gets is decided elsewhere.

mod abi;
mod default;
mod docker;
mod filter;
mod profile;
#[rustfmt::skip]
mod table;
#[cfg(test)]
mod tests;

use std::io;

use linux::seccomp::Instruction;
use oci_spec::runtime::LinuxSeccomp;

pub use docker::from_docker_json;

/// A compiled filter, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
    flags: u32,
}

impl Program {
    /// Attaches the filter to the calling thread, for good. Needs `no_new_privs` or `CAP_SYS_ADMIN`. Allocates nothing.
    pub fn load(&self) -> io::Result<()> {
        linux::seccomp::load(&self.instructions, self.flags).map(drop)
    }

    /// The BPF instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

/// The built-in default profile for a container with these effective capabilities (`CAP_…` names). Only the native ABI
/// is let in: 32-bit programs are killed (`SIGSYS`).
pub fn default_profile(capabilities: &[&str]) -> Program {
    let instructions = filter::program(&default::tables(capabilities, false));
    Program { instructions, flags: linux::seccomp::SPEC_ALLOW }
}

/// Like [`default_profile`], but lets in all ABIs that this kind of machine can execute, for images of such an
/// architecture (`linux/386` on x86-64, `linux/arm` on AArch64).
pub fn default_profile_all_abis(capabilities: &[&str]) -> Program {
    let instructions = filter::program(&default::tables(capabilities, true));
    Program { instructions, flags: linux::seccomp::SPEC_ALLOW }
}

/// Compiles an OCI profile.
pub fn compile(profile: &LinuxSeccomp) -> Result<Program, String> {
    let (tables, flags) = profile::tables(profile)?;
    let instructions = filter::program(&tables);
    if instructions.len() > linux::seccomp::MAX_INSTRUCTIONS {
        return Err(format!(
            "the seccomp profile makes {} instructions, the kernel takes {}; hint: fewer argument conditions",
            instructions.len(),
            linux::seccomp::MAX_INSTRUCTIONS
        ));
    }
    Ok(Program { instructions, flags })
}
