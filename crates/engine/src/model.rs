//! The engine's data, in the field names and shapes of Docker's Engine API (`Config`, `HostConfig`, …), because that is
//! what `inspect` shows, what templates address and what HTTP clients send. Plain data: no behaviour beyond defaults.
//! Units: sizes in bytes, durations in nanoseconds, as Docker has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A map with string keys that keeps a stable order.
pub type Map<V> = BTreeMap<String, V>;
/// Docker's "set" encoding: `{"80/tcp": {}}`.
pub type Set = BTreeMap<String, Empty>;

/// The empty object that stands as the value of a [`Set`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

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

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// How the host runs the container (`HostConfig`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl Default for HostConfig {
    fn default() -> Self {
        // An empty object has every field's own default, which is what `serde(default)` needs anyway.
        HostConfig {
            binds: None,
            container_id_file: String::new(),
            log_config: LogConfig::default(),
            network_mode: String::new(),
            port_bindings: Map::new(),
            publish_all_ports: false,
            restart_policy: RestartPolicy::default(),
            auto_remove: false,
            volume_driver: String::new(),
            volumes_from: None,
            mounts: Vec::new(),
            console_size: [0, 0],
            annotations: Map::new(),
            cap_add: None,
            cap_drop: None,
            cgroupns_mode: String::new(),
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            extra_hosts: None,
            group_add: None,
            ipc_mode: String::new(),
            cgroup: String::new(),
            links: None,
            oom_score_adj: 0,
            pid_mode: String::new(),
            privileged: false,
            readonly_rootfs: false,
            security_opt: None,
            storage_opt: Map::new(),
            tmpfs: Map::new(),
            uts_mode: String::new(),
            userns_mode: String::new(),
            shm_size: 0,
            sysctls: Map::new(),
            runtime: String::new(),
            isolation: String::new(),
            cpu_shares: 0,
            memory: 0,
            nano_cpus: 0,
            cgroup_parent: String::new(),
            blkio_weight: 0,
            blkio_weight_device: None,
            blkio_device_read_bps: None,
            blkio_device_write_bps: None,
            blkio_device_read_iops: None,
            blkio_device_write_iops: None,
            cpu_period: 0,
            cpu_quota: 0,
            cpu_realtime_period: 0,
            cpu_realtime_runtime: 0,
            cpuset_cpus: String::new(),
            cpuset_mems: String::new(),
            devices: None,
            device_cgroup_rules: None,
            device_requests: None,
            memory_reservation: 0,
            memory_swap: 0,
            memory_swappiness: None,
            oom_kill_disable: None,
            pids_limit: None,
            ulimits: None,
            masked_paths: None,
            readonly_paths: None,
            init: None,
        }
    }
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

/// One `--mount`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// `bind`, `volume`, `tmpfs` or `image`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Host path, volume name or image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// Whether it is read-only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Ignored on Linux by Docker too.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consistency: String,
    /// Options of bind mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// Options of volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// Options of image mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_options: Option<ImageOptions>,
    /// Options of tmpfs mounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// Options of a bind mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// `rprivate` (default), `private`, `rshared`, `shared`, `rslave`, `slave`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub propagation: String,
    /// Leave submounts out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub non_recursive: bool,
    /// Create a missing source directory.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub create_mountpoint: bool,
    /// Only the top mount becomes read-only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only_non_recursive: bool,
    /// Fail where submounts cannot be made read-only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only_force_recursive: bool,
}

/// Options of a volume mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    /// Do not fill an empty volume from the image.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_copy: bool,
    /// Labels of a volume that is created on the way.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub labels: Map<String>,
    /// Driver of a volume that is created on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<DriverConfig>,
    /// Path inside the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
}

/// A volume driver with options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverConfig {
    /// `local`.
    pub name: String,
    /// Driver options.
    pub options: Map<String>,
}

/// Options of an image mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageOptions {
    /// Path inside the image.
    pub subpath: String,
}

/// Options of a tmpfs mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// Size in bytes; 0: the kernel's default.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: i64,
    /// Permission bits; 0: 1777.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub mode: u32,
    /// Further mount options as `[key]` or `[key, value]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Vec<String>>,
}

fn is_zero_u32(n: &u32) -> bool {
    *n == 0
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

/// Settings of the container's endpoint in one network (`EndpointSettings`, the part that a client sets).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Static addresses.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpam>,
    /// Legacy links.
    pub links: Option<Vec<String>>,
    /// Further names in this network.
    pub aliases: Option<Vec<String>>,
    /// MAC address.
    pub mac_address: String,
    /// Driver options.
    pub driver_opts: Option<Map<String>>,
    /// Priority as default gateway.
    pub gw_priority: i64,
}

/// Static addresses of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointIpam {
    /// IPv4 address.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// IPv6 address.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
    /// Link-local addresses.
    #[serde(rename = "LinkLocalIPs")]
    pub link_local_ips: Vec<String>,
}

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

/// A container's life-cycle state, as Docker names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Between two runs of a restart policy.
    Restarting,
    /// `rm` is at work, or was interrupted.
    Removing,
    /// Its process has ended.
    Exited,
    /// `rm` failed half-way.
    Dead,
}

impl Status {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Removing => "removing",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }
}

/// `State` of `inspect`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    /// Life-cycle state.
    pub status: Status,
    /// True also while paused and between restarts.
    pub running: bool,
    /// Frozen.
    pub paused: bool,
    /// Waiting for the next start.
    pub restarting: bool,
    /// The kernel killed it for want of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Removal failed half-way.
    pub dead: bool,
    /// Process id on the host; 0 when not running.
    pub pid: i64,
    /// Exit code of the last run.
    pub exit_code: i64,
    /// Why the last start failed.
    pub error: String,
    /// RFC 3339 with nanoseconds; `0001-01-01T00:00:00Z`: never.
    pub started_at: String,
    /// RFC 3339 with nanoseconds; `0001-01-01T00:00:00Z`: never.
    pub finished_at: String,
    /// Health, where a check is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// Result of the health checks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
    /// The last five checks.
    pub log: Vec<HealthLog>,
}

/// One health check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthLog {
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
    /// 0 healthy, 1 unhealthy, -1 the check itself failed.
    pub exit_code: i64,
    /// At most 4096 bytes.
    pub output: String,
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
}

/// One mount point as `inspect` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs` or `image`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Name of the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Volume driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// `-v` options as given.
    pub mode: String,
    /// Writable.
    #[serde(rename = "RW")]
    pub rw: bool,
    /// Propagation of bind mounts.
    pub propagation: String,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// RFC 3339.
    pub created_at: String,
    /// `local`.
    pub driver: String,
    /// User labels.
    pub labels: Map<String>,
    /// Path of its data on the host.
    pub mountpoint: String,
    /// Unique name.
    pub name: String,
    /// Driver options.
    pub options: Option<Map<String>>,
    /// `local`.
    pub scope: String,
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `container`, `image`, `volume` or `network`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `start`, `die`, …
    #[serde(rename = "Action")]
    pub action: String,
    /// What it happened to.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// `local`.
    pub scope: String,
    /// Seconds since 1970.
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// The object of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Name, image, labels and what the action adds.
    #[serde(rename = "Attributes")]
    pub attributes: Map<String>,
}
