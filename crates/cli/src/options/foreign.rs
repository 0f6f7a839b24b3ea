//! Docker's flags that mean nothing here: Windows-only ones and ones that need a daemon. They are known, so that the
//! answer says why, and hidden from the help.

use super::invalid;
use crate::failure::Result;

/// Flags that are answered with an error.
#[derive(clap::Args)]
pub(super) struct Foreign {
    /// CPU count (Windows only)
    #[arg(long, hide = true, value_name = "int")]
    cpu_count: Option<i64>,
    /// CPU percent (Windows only)
    #[arg(long, hide = true, value_name = "int")]
    cpu_percent: Option<i64>,
    /// Skip image verification
    #[arg(long, hide = true, default_value = "true")]
    disable_content_trust: bool,
    /// Maximum IO bandwidth limit for the system drive (Windows only)
    #[arg(long, hide = true, value_name = "bytes")]
    io_maxbandwidth: Option<String>,
    /// Maximum IOps limit for the system drive (Windows only)
    #[arg(long, hide = true, value_name = "uint")]
    io_maxiops: Option<u64>,
    /// Kernel memory limit
    #[arg(long, hide = true, value_name = "bytes")]
    kernel_memory: Option<String>,
    /// Bind mount the API socket
    #[arg(long, hide = true)]
    use_api_socket: bool,
}

impl Foreign {
    /// An error for the first flag that was given.
    pub(super) fn refuse(&self) -> Result<()> {
        let windows = "there is such a limit on Windows only";
        let given = [
            (self.cpu_count.is_some(), "--cpu-count", windows),
            (self.cpu_percent.is_some(), "--cpu-percent", windows),
            (self.io_maxbandwidth.is_some(), "--io-maxbandwidth", windows),
            (self.io_maxiops.is_some(), "--io-maxiops", windows),
            (self.kernel_memory.is_some(), "--kernel-memory", "the kernel has no such limit any more"),
            (self.use_api_socket, "--use-api-socket", "there is no daemon whose socket could be shared"),
            (!self.disable_content_trust, "--disable-content-trust=false", "there is no notary to ask for signatures"),
        ];
        match given.iter().find(|(given, ..)| *given) {
            Some((_, flag, why)) => Err(invalid(format!("{flag}: {why}"))),
            None => Ok(()),
        }
    }
}
