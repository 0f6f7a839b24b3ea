//! The launch plan: everything that the monitor needs to start, watch and end one container, computed by `start` from
//! the container's record and written to the state directory, so that the monitor needs neither database nor image
//! store. Knows no kernel call: the sandbox carries the plan out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{Healthcheck, LogConfig, Map, RestartPolicy};

/// What the monitor carries out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Container id.
    pub id: String,
    /// Container name, for events.
    pub name: String,
    /// Image as the user named it, for events.
    pub image: String,
    /// User labels, for events.
    pub labels: Map<String>,
    /// The OCI configuration of the container.
    pub spec: oci_spec::runtime::Spec,
    /// `user[:group]` still to be looked up in the container's own `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// Supplementary groups by name or number, looked up like `user`.
    pub groups: Vec<String>,
    /// Its networks and published ports, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<network::Attachment>,
    /// What its name server knows, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<Questions>,
    /// The root file system.
    pub rootfs: Rootfs,
    /// The seccomp filter.
    pub seccomp: Seccomp,
    /// Keep standard input open.
    pub open_stdin: bool,
    /// Close standard input after the first client.
    pub stdin_once: bool,
    /// Run the built-in init as PID 1.
    pub init: bool,
    /// Log driver.
    pub log: LogConfig,
    /// Where the log goes.
    pub log_path: PathBuf,
    /// Health check, if any.
    pub health: Option<Healthcheck>,
    /// Shell of `CMD-SHELL` health checks.
    pub shell: Vec<String>,
    /// What happens when the process ends.
    pub restart: RestartPolicy,
    /// Remove the container when it ends for good.
    pub auto_remove: bool,
    /// Signal that asks the process to end.
    pub stop_signal: i32,
    /// Seconds before `stop` kills; negative waits for ever.
    pub stop_timeout: i64,
}

impl Plan {
    /// Whether the host's root has no id in the container's user namespace.
    pub(crate) fn is_apart(&self) -> bool {
        let mappings = self.spec.linux().as_ref().and_then(|linux| linux.uid_mappings().as_ref());
        mappings.is_some_and(|list| !list.is_empty() && list.iter().all(|mapping| mapping.host_id() != 0))
    }
}

/// What a container's name server knows beside the names in its networks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Questions {
    /// Servers that are asked about everything else; none: the host's.
    pub servers: Vec<String>,
    /// The user has set `ndots`.
    pub ndots: bool,
}

/// How the root file system is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rootfs {
    /// Overlay: read-only layers, topmost first, under one writable directory.
    Overlay {
        /// Layer directories, topmost first.
        lower: Vec<PathBuf>,
        /// What the container changes.
        upper: PathBuf,
        /// Overlay's own work directory.
        work: PathBuf,
        /// Paths inside that are hidden behind an empty read-only directory (`host:` images: our own root and state).
        hidden: Vec<PathBuf>,
        /// The changes go with the container (`--rm`), so nothing is synced.
        volatile: bool,
    },
    /// A directory as it is.
    Directory(PathBuf),
}

/// Which seccomp filter the process gets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Seccomp {
    /// The built-in default profile for the container's capabilities.
    Default,
    /// None.
    Unconfined,
    /// The profile in the OCI configuration (`linux.seccomp`).
    Profile,
}
