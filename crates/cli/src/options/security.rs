//! Flags about privileges and namespaces.

use engine::model::CreateRequest;

use super::{invalid, list};
use crate::failure::Result;

/// Flags about privileges and namespaces.
#[derive(clap::Args)]
#[command(next_help_heading = "Isolation")]
pub(super) struct Security {
    /// Add Linux capabilities
    #[arg(long, value_name = "list")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list")]
    cap_drop: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "string")]
    cgroup_parent: Option<String>,
    /// Cgroup namespace to use (host|private)
    #[arg(long, value_name = "string", value_parser = |text: &str| mode(text, &["", "host", "private"], false, "invalid CGROUP mode"))]
    cgroupns: Option<String>,
    /// IPC mode to use
    #[arg(long, value_name = "string", value_parser = |text: &str| mode(text, &["", "host", "private", "none", "shareable"], true, "invalid IPC mode"))]
    ipc: Option<String>,
    /// Container isolation technology
    #[arg(long, value_name = "string")]
    isolation: Option<String>,
    /// PID namespace to use
    #[arg(long, value_name = "string", value_parser = |text: &str| mode(text, &["", "host"], true, "invalid PID mode"))]
    pid: Option<String>,
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Runtime to use for this container
    #[arg(long, value_name = "string")]
    runtime: Option<String>,
    /// Security Options
    #[arg(long, value_name = "list")]
    security_opt: Vec<String>,
    /// Sysctl options
    #[arg(long, value_name = "map", value_parser = super::units::strict_pair)]
    sysctl: Vec<(String, String)>,
    /// User namespace to use (auto|host|keep-id|container:<name|id>)
    #[arg(long, value_name = "string")]
    userns: Option<String>,
    /// UTS namespace to use
    #[arg(long, value_name = "string", value_parser = |text: &str| mode(text, &["", "host"], false, "invalid UTS mode"))]
    uts: Option<String>,
}

impl Security {
    pub(super) fn apply(self, request: &mut CreateRequest) -> Result<()> {
        let host = &mut request.host;
        let mut options = Vec::new();
        for option in self.security_opt {
            match option.as_str() {
                // These two lists empty mean what `systempaths=unconfined` says.
                "systempaths=unconfined" => {
                    (host.masked_paths, host.readonly_paths) = (Some(Vec::new()), Some(Vec::new()))
                }
                _ => options.push(security_option(option)?),
            }
        }
        host.security_opt = list(options);
        host.cap_add = list(self.cap_add);
        host.cap_drop = list(self.cap_drop);
        host.cgroup_parent = self.cgroup_parent.unwrap_or_default();
        host.cgroupns_mode = self.cgroupns.unwrap_or_default();
        host.ipc_mode = self.ipc.unwrap_or_default();
        host.isolation = self.isolation.unwrap_or_default();
        host.pid_mode = self.pid.unwrap_or_default();
        host.privileged = self.privileged;
        host.runtime = self.runtime.unwrap_or_default();
        host.sysctls = self.sysctl.into_iter().collect();
        host.userns_mode = self.userns.unwrap_or_default();
        host.uts_mode = self.uts.unwrap_or_default();
        Ok(())
    }
}

/// A namespace mode: one of `words`, or `container:NAME` where that exists.
fn mode(text: &str, words: &[&str], container: bool, error: &str) -> Result<String, String> {
    let joined = container && text.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    if joined || words.contains(&text) { Ok(text.to_owned()) } else { Err(error.to_owned()) }
}

/// One `--security-opt`; the file of `seccomp=FILE` is read here and sent as its JSON, because the engine may see
/// another file system than we do.
fn security_option(option: String) -> Result<String> {
    let Some((name, value)) = option.split_once('=').or_else(|| option.split_once(':')) else {
        return if option == "no-new-privileges" {
            Ok(option)
        } else {
            Err(invalid(format!("invalid --security-opt: {option:?}")))
        };
    };
    if name != "seccomp" || matches!(value, "unconfined" | "builtin") {
        return Ok(format!("{name}={value}"));
    }
    let bytes =
        std::fs::read(value).map_err(|error| invalid(format!("opening seccomp profile ({value}) failed: {error}")))?;
    let profile: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|error| invalid(format!("compacting json for seccomp profile ({value}) failed: {error}")))?;
    Ok(format!("seccomp={profile}"))
}
