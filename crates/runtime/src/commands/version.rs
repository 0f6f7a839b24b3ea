//! `--version`, in the lines that callers read: runc's, and crun's line of features.

use super::print;
use crate::Result;

pub(super) fn run() -> Result<u8> {
    let name = std::env::args_os().next().map(std::path::PathBuf::from).unwrap_or_default();
    // dockerd and podman look for a name that they know in the first line.
    let name = match name.file_name().and_then(|name| name.to_str()) {
        Some(name @ ("runc" | "crun")) => name.to_owned(),
        _ => "kiste-runtime".to_owned(),
    };
    let text =
        format!("{name} version {}\nspec: {}\n+CAP +SECCOMP +EBPF\n", env!("CARGO_PKG_VERSION"), sandbox::OCI_VERSION);
    print(&text).map(|()| 0)
}
