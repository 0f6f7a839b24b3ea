//! `--version`, in the lines that callers read: runc's, and crun's line of features.

use super::print;
use crate::Result;

pub(super) fn run() -> Result<u8> {
    // dockerd and podman look for a name that they know in the first line.
    let name = crate::program_name().replace(' ', "-");
    let text = format!(
        "{name} version {}\nspec: {}\n+SYSTEMD +CAP +SECCOMP +EBPF +CRIU\n",
        env!("CARGO_PKG_VERSION"),
        sandbox::OCI_VERSION
    );
    print(&text).map(|()| 0)
}
