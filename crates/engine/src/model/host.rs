//! How the host runs a container: namespaces, limits, devices, privileges, life cycle.

use serde::{Deserialize, Serialize};

use super::{Map, Mount};

/// How the host runs the container (`HostConfig`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// `source:target[:options]` of `-v`.
    pub binds: Option<Vec<String>>,
    /// File that got the id.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// Log driver and its options.
    pub log_config: LogConfig,
    /// `default`, `bridge`, `none`, `host`, `container:ID` or a network's name.
    pub network_mode: String,
    /// Published ports by `port/protocol`.
    pub port_bindings: Map<Vec<PortBinding>>,
    /// Whether every exposed port is published.
    pub publish_all_ports: bool,
    /// What happens when the process ends.
    pub restart_policy: RestartPolicy,
    /// Remove the container when it ends.
    pub auto_remove: bool,
    /// Volume driver of `-v NAME:…` volumes.
    pub volume_driver: String,
    /// Containers (`ID[:ro|rw]`) whose volumes are taken over.
    pub volumes_from: Option<Vec<String>>,
    /// `--mount` mounts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Initial rows and columns of the terminal.
    pub console_size: [u32; 2],
    /// Annotations of the OCI configuration.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub annotations: Map<String>,
    /// Capabilities added to the default set.
    pub cap_add: Option<Vec<String>>,
    /// Capabilities taken from the default set.
    pub cap_drop: Option<Vec<String>>,
    /// `host`, `private` or empty (private).
    pub cgroupns_mode: String,
    /// DNS servers.
    pub dns: Vec<String>,
    /// DNS options.
    pub dns_options: Vec<String>,
    /// DNS search domains.
    pub dns_search: Vec<String>,
    /// `name:address` lines of `/etc/hosts`.
    pub extra_hosts: Option<Vec<String>>,
    /// Supplementary groups.
    pub group_add: Option<Vec<String>>,
    /// `private`, `shareable`, `host`, `none`, `container:ID` or empty (private).
    pub ipc_mode: String,
    /// Always empty: there are no cgroup specifications of containers.
    pub cgroup: String,
    /// Linked containers.
    pub links: Option<Vec<String>>,
    /// `oom_score_adj` of the process.
    pub oom_score_adj: i64,
    /// `host`, `container:ID` or empty (private).
    pub pid_mode: String,
    /// Full access to the host's devices and kernel.
    pub privileged: bool,
    /// Read-only root file system.
    pub readonly_rootfs: bool,
    /// `--security-opt` values.
    pub security_opt: Option<Vec<String>>,
    /// Storage options (`size`).
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub storage_opt: Map<String>,
    /// tmpfs mounts: target → options.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub tmpfs: Map<String>,
    /// `host` or empty (private).
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    /// `host`, `auto[:…]`, `keep-id[:…]`, `container:ID` or empty (own range, unless the namespaces asked for exclude it).
    pub userns_mode: String,
    /// Size of `/dev/shm`; 0: 64 MiB.
    pub shm_size: i64,
    /// Kernel parameters of the container's namespaces.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub sysctls: Map<String>,
    /// OCI runtime; only our own.
    pub runtime: String,
    /// Windows only.
    pub isolation: String,
    /// CPU shares (relative weight); 0: default.
    pub cpu_shares: i64,
    /// Memory limit; 0: none.
    pub memory: i64,
    /// CPUs × 10⁹; 0: no limit.
    #[serde(rename = "NanoCpus")]
    pub nano_cpus: i64,
    /// Parent cgroup.
    pub cgroup_parent: String,
    /// Block I/O weight 10–1000; 0: default.
    pub blkio_weight: u16,
    /// Weights by device.
    pub blkio_weight_device: Option<Vec<WeightDevice>>,
    /// Read limits in bytes per second.
    pub blkio_device_read_bps: Option<Vec<ThrottleDevice>>,
    /// Write limits in bytes per second.
    pub blkio_device_write_bps: Option<Vec<ThrottleDevice>>,
    /// Read limits in operations per second.
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Option<Vec<ThrottleDevice>>,
    /// Write limits in operations per second.
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Option<Vec<ThrottleDevice>>,
    /// CFS period in microseconds; 0: default.
    pub cpu_period: i64,
    /// CFS quota in microseconds; 0: none.
    pub cpu_quota: i64,
    /// Real-time period in microseconds.
    pub cpu_realtime_period: i64,
    /// Real-time runtime in microseconds.
    pub cpu_realtime_runtime: i64,
    /// CPUs allowed (`0-3,5`).
    pub cpuset_cpus: String,
    /// Memory nodes allowed.
    pub cpuset_mems: String,
    /// Host devices given to the container.
    pub devices: Option<Vec<DeviceMapping>>,
    /// Rules of the device cgroup (`c 42:* rmw`).
    pub device_cgroup_rules: Option<Vec<String>>,
    /// Requests for devices by kind (`--gpus`).
    pub device_requests: Option<Vec<DeviceRequest>>,
    /// Soft memory limit.
    pub memory_reservation: i64,
    /// Memory plus swap; -1: unlimited swap; 0: twice the memory limit.
    pub memory_swap: i64,
    /// 0–100; absent or -1: the kernel's.
    pub memory_swappiness: Option<i64>,
    /// Whether the OOM killer leaves the container alone.
    pub oom_kill_disable: Option<bool>,
    /// Process limit; absent, 0 or negative: unlimited.
    pub pids_limit: Option<i64>,
    /// Resource limits of the process.
    pub ulimits: Option<Vec<Ulimit>>,
    /// Paths hidden from the container; absent: the default list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masked_paths: Option<Vec<String>>,
    /// Paths that are read-only in the container; absent: the default list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readonly_paths: Option<Vec<String>>,
    /// Run a small init as PID 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
}

/// Log driver and options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// `json-file` (default when empty), `local` or `none`.
    #[serde(rename = "Type")]
    pub driver: String,
    /// `max-size`, `max-file`, `compress`, `labels`, `env`, `tag`, `mode`, `max-buffer-size`.
    pub config: Map<String>,
}

/// One host side of a published port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Host address; empty: all.
    pub host_ip: String,
    /// Host port or range; empty: ephemeral.
    pub host_port: String,
}

/// What happens when the process ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// Empty or `no`, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
    /// Retries of `on-failure`; 0: unlimited.
    pub maximum_retry_count: i64,
}

/// Block I/O weight of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    /// Path of the device node.
    pub path: String,
    /// 10–1000.
    pub weight: u16,
}

/// Rate limit of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    /// Path of the device node.
    pub path: String,
    /// Bytes or operations per second.
    pub rate: u64,
}

/// A host device in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    /// Path on the host.
    pub path_on_host: String,
    /// Path in the container.
    pub path_in_container: String,
    /// Any of `r`, `w`, `m`.
    pub cgroup_permissions: String,
}

/// A request for devices by kind (`--gpus`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceRequest {
    /// Device driver.
    pub driver: String,
    /// How many; -1: all.
    pub count: i64,
    /// Which ones.
    #[serde(rename = "DeviceIDs")]
    pub device_ids: Vec<String>,
    /// Alternatives of required capabilities.
    pub capabilities: Vec<Vec<String>>,
    /// Driver options.
    pub options: Map<String>,
}

/// One resource limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// Name without `RLIMIT_`, lower case.
    pub name: String,
    /// Soft limit; -1: unlimited.
    pub soft: i64,
    /// Hard limit; -1: unlimited.
    pub hard: i64,
}
