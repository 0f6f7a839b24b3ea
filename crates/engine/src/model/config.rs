//! What a container is made from, independent of the host.

use serde::{Deserialize, Serialize};

use super::{Map, Set, is_zero};

/// What a container is made from, independent of the host (`Config` of `POST /containers/create`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// Host name; empty: the first 12 characters of the id.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `user[:group]` by name or number; empty: the image's, else root.
    pub user: String,
    /// Whether the creating client attaches standard input.
    pub attach_stdin: bool,
    /// Whether the creating client attaches standard output.
    pub attach_stdout: bool,
    /// Whether the creating client attaches standard error.
    pub attach_stderr: bool,
    /// `port/protocol` that the container says it listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<Set>,
    /// Whether the process gets a terminal.
    pub tty: bool,
    /// Whether standard input stays open.
    pub open_stdin: bool,
    /// Whether standard input is closed when the first attached client goes.
    pub stdin_once: bool,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Arguments of the entry point, or the command itself.
    pub cmd: Option<Vec<String>>,
    /// Health check; `Test` of `["NONE"]` disables the image's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The image as the user named it.
    pub image: String,
    /// Paths that get an anonymous volume.
    pub volumes: Option<Set>,
    /// Working directory of the process.
    pub working_dir: String,
    /// Entry point; `Some(vec![])` or `[""]` clears the image's.
    pub entrypoint: Option<Vec<String>>,
    /// Whether the container has no network at all (API only).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub network_disabled: bool,
    /// User labels.
    pub labels: Map<String>,
    /// Signal that asks the process to end, as given (`SIGTERM`, `15`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds before `stop` kills; negative waits for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell of `CMD-SHELL` health checks and shell-form commands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// A health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `[]` inherits, `["NONE"]` disables, `["CMD", …]` runs, `["CMD-SHELL", line]` runs in the shell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Nanoseconds between checks; 0: 30 s.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Nanoseconds before a check counts as failed; 0: 30 s.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Nanoseconds in which failures do not count; 0: none.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Nanoseconds between checks in the start period; 0: 5 s.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Consecutive failures until unhealthy; 0: 3.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}
