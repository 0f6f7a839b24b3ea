//! The engine's data, in the field names and shapes of Docker's Engine API (`Config`, `HostConfig`, …), because that is
//! what `inspect` shows, what templates address and what HTTP clients send. Plain data: no behaviour beyond defaults.
//! Units: sizes in bytes, durations in nanoseconds, as Docker has them.

mod config;
mod host;
mod mounts;
mod network;
mod state;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use config::{Config, Healthcheck};
pub use host::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, PortBinding, RestartPolicy, ThrottleDevice, Ulimit,
    WeightDevice,
};
pub use mounts::{BindOptions, DriverConfig, ImageOptions, Mount, MountPoint, TmpfsOptions, Volume, VolumeOptions};
pub use network::{EndpointIpam, EndpointSettings, Ipam, IpamConfig, NetworkRequest};
pub use state::{Actor, Event, Health, HealthLog, State, Status};

/// A map with string keys that keeps a stable order.
pub type Map<V> = BTreeMap<String, V>;
/// Docker's "set" encoding: `{"80/tcp": {}}`.
pub type Set = BTreeMap<String, Empty>;

/// The empty object that stands as the value of a [`Set`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Everything that `create` needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CreateRequest {
    /// Wanted name; absent: a generated one.
    pub name: Option<String>,
    /// Wanted platform (`linux/amd64`).
    pub platform: Option<String>,
    /// Host-independent part, as the user gave it (the image's values are merged in by `create`).
    pub config: Config,
    /// Host part.
    pub host: HostConfig,
    /// Endpoints by network name.
    pub endpoints: Map<EndpointSettings>,
}

/// Answer of `create`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Created {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Things the user should know; not errors.
    pub warnings: Vec<String>,
}

/// What `exec` runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecConfig {
    /// Give it a terminal.
    pub tty: bool,
    /// Connect standard input.
    pub attach_stdin: bool,
    /// Connect standard output.
    pub attach_stdout: bool,
    /// Connect standard error.
    pub attach_stderr: bool,
    /// All capabilities, no seccomp filter.
    pub privileged: bool,
    /// `user[:group]`; empty: the container's.
    pub user: String,
    /// Working directory; empty: the container's.
    pub working_dir: String,
    /// Added to the container's environment.
    pub env: Vec<String>,
    /// Program and arguments.
    pub cmd: Vec<String>,
    /// Initial rows and columns of the terminal.
    pub console_size: [u32; 2],
    /// What detaches a client with a terminal; empty: the default. (docker-py writes it like that.)
    #[serde(alias = "detachKeys")]
    pub detach_keys: String,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}
