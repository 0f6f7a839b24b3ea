//! What an empty field of the host part means: filled in at `create`, so that the record and `inspect` say it.

use crate::model::{Config, HostConfig};

/// Size of `/dev/shm` in bytes when none is given (Docker's).
pub(crate) const SHM_SIZE: i64 = 64 << 20;

/// Processes allowed when no limit is given: enough for real programs, too few to take the host down.
pub(crate) const PIDS_LIMIT: i64 = 4096;

/// Paths hidden from containers: what Docker 28 hides.
pub(crate) const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that containers may only read: Docker's.
pub(crate) const READONLY_PATHS: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// `thermal_throttle` of every CPU, which Docker 28 hides too; none where the first CPU has none (virtual machines). CPUs
/// that come later are missing from it, as with Docker.
fn thermal_throttles() -> impl Iterator<Item = String> {
    let path = |cpu: i64| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle");
    let cpus = if std::path::Path::new(&path(0)).exists() { super::limits::online_cpus() } else { 0 };
    (0..cpus).map(path)
}

fn or(value: &mut String, default: &str) {
    if value.is_empty() {
        *value = default.to_owned();
    }
}

/// Fills in the host part.
pub(crate) fn fill_host(host: &mut HostConfig) {
    or(&mut host.network_mode, "bridge");
    if host.network_mode == "default" {
        "bridge".clone_into(&mut host.network_mode);
    }
    or(&mut host.ipc_mode, "private");
    or(&mut host.cgroupns_mode, "private");
    or(&mut host.runtime, "kiste");
    or(&mut host.restart_policy.name, "no");
    or(&mut host.log_config.driver, "json-file");
    if host.shm_size == 0 {
        host.shm_size = SHM_SIZE;
    }
    host.pids_limit = host.pids_limit.or(Some(PIDS_LIMIT));
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
}

/// The hidden and the read-only paths of a container; none for a privileged one or with `systempaths=unconfined`. They
/// are worked out whenever they are needed and not kept in the record, of which they would be the larger half.
pub(crate) fn paths(host: &HostConfig) -> (Vec<String>, Vec<String>) {
    let unconfined = host.security_opt.iter().flatten().any(|option| option == "systempaths=unconfined");
    if host.privileged || unconfined {
        return (Vec::new(), Vec::new());
    }
    let own = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let masked = host.masked_paths.clone();
    let masked = masked.unwrap_or_else(|| own(MASKED_PATHS).into_iter().chain(thermal_throttles()).collect());
    (masked, host.readonly_paths.clone().unwrap_or_else(|| own(READONLY_PATHS)))
}

/// Fills in the host-independent part: the host name is the short id, unless the namespace is another's.
pub(crate) fn fill_config(config: &mut Config, host: &HostConfig, id: &str) {
    if config.hostname.is_empty() {
        config.hostname = if host.uts_mode == "host" || host.network_mode == "host" {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            id[..12].to_owned()
        };
    }
}
