//! From an OCI runtime configuration to a running process and back: namespaces, cgroups, root file system, seccomp,
//! capabilities, devices, terminal. Knows nothing of images, networks, HTTP and databases.

pub mod cgroup;
pub mod config;
mod executable;
pub mod hooks;
pub mod launch;
pub mod resctrl;
pub mod rootless;
pub mod seccomp;

/// The version of runtime-spec that is carried out.
pub const OCI_VERSION: &str = "1.3.0";

pub use executable::{executable, run_sealed};
