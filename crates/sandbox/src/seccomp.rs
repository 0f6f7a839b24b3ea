//! The seccomp compiler: from a profile to a BPF program whose decision path is short.

use oci_spec::runtime::LinuxSeccomp;

/// A compiled filter, ready to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {}

/// The built-in default profile for a container with these effective capabilities (`CAP_…` names).
pub fn default_profile(_capabilities: &[&str]) -> Program {
    todo!()
}

/// Compiles an OCI profile.
pub fn compile(_profile: &LinuxSeccomp) -> Result<Program, String> {
    todo!()
}

/// Reads a profile in Docker's format (`archMap`, `includes`, `excludes`, `minKernel`) and resolves it for these
/// capabilities into an OCI profile.
pub fn from_docker_json(_json: &str, _capabilities: &[&str]) -> Result<LinuxSeccomp, String> {
    todo!()
}
