//! Flags about limits: CPU, memory, processes, block I/O.

use engine::model::{CreateRequest, ThrottleDevice, Ulimit, WeightDevice};

use super::units::{bytes, bytes_or_unlimited, nano_cpus};
use super::{invalid, list};
use crate::failure::Result;

/// Flags about limits.
#[derive(clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct Resources {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16")]
    blkio_weight: Option<u16>,
    /// Block IO weight (relative device weight)
    #[arg(long, value_name = "list", value_parser = weight)]
    blkio_weight_device: Vec<WeightDevice>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int")]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int")]
    cpu_quota: Option<i64>,
    /// Limit CPU real-time period in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_period: Option<i64>,
    /// Limit CPU real-time runtime in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int")]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = nano_cpus)]
    cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Limit read rate (bytes per second) from a device
    #[arg(long, value_name = "list", value_parser = bytes_rate)]
    device_read_bps: Vec<ThrottleDevice>,
    /// Limit read rate (IO per second) from a device
    #[arg(long, value_name = "list", value_parser = io_rate)]
    device_read_iops: Vec<ThrottleDevice>,
    /// Limit write rate (bytes per second) to a device
    #[arg(long, value_name = "list", value_parser = bytes_rate)]
    device_write_bps: Vec<ThrottleDevice>,
    /// Limit write rate (IO per second) to a device
    #[arg(long, value_name = "list", value_parser = io_rate)]
    device_write_iops: Vec<ThrottleDevice>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = bytes)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = bytes)]
    memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = bytes_or_unlimited)]
    memory_swap: Option<i64>,
    /// Tune container memory swappiness (0 to 100) (default -1)
    #[arg(long, value_name = "int")]
    memory_swappiness: Option<i64>,
    /// Disable OOM Killer
    #[arg(long)]
    oom_kill_disable: bool,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "int")]
    oom_score_adj: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int")]
    pids_limit: Option<i64>,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", value_parser = bytes)]
    shm_size: Option<i64>,
    /// Ulimit options
    #[arg(long, value_name = "ulimit", value_parser = ulimit)]
    ulimit: Vec<Ulimit>,
}

impl Resources {
    pub(super) fn apply(self, request: &mut CreateRequest) -> Result<()> {
        if let Some(swappiness) = self.memory_swappiness.filter(|n| !(-1..=100).contains(n)) {
            return Err(invalid(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100")));
        }
        let host = &mut request.host;
        host.blkio_weight = self.blkio_weight.unwrap_or(0);
        host.blkio_weight_device = list(self.blkio_weight_device);
        host.blkio_device_read_bps = list(self.device_read_bps);
        host.blkio_device_write_bps = list(self.device_write_bps);
        host.blkio_device_read_iops = list(self.device_read_iops);
        host.blkio_device_write_iops = list(self.device_write_iops);
        host.cpu_period = self.cpu_period.unwrap_or(0);
        host.cpu_quota = self.cpu_quota.unwrap_or(0);
        host.cpu_realtime_period = self.cpu_rt_period.unwrap_or(0);
        host.cpu_realtime_runtime = self.cpu_rt_runtime.unwrap_or(0);
        host.cpu_shares = self.cpu_shares.unwrap_or(0);
        host.nano_cpus = self.cpus.unwrap_or(0);
        host.cpuset_cpus = self.cpuset_cpus.unwrap_or_default();
        host.cpuset_mems = self.cpuset_mems.unwrap_or_default();
        host.memory = self.memory.unwrap_or(0);
        host.memory_reservation = self.memory_reservation.unwrap_or(0);
        host.memory_swap = self.memory_swap.unwrap_or(0);
        host.memory_swappiness = self.memory_swappiness.filter(|n| *n != -1);
        host.oom_kill_disable = Some(self.oom_kill_disable);
        host.oom_score_adj = self.oom_score_adj.unwrap_or(0);
        host.pids_limit = self.pids_limit;
        host.shm_size = self.shm_size.unwrap_or(0);
        // The last one of a name wins, as with every other flag.
        let ulimits: std::collections::BTreeMap<_, _> =
            self.ulimit.into_iter().map(|limit| (limit.name.clone(), limit)).collect();
        host.ulimits = list(ulimits.into_values().collect());
        Ok(())
    }
}

/// `PATH:WEIGHT`.
fn weight(text: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device_path(text)?;
    let invalid = || format!("invalid weight for device: {text}");
    let weight: u16 = weight.parse().map_err(|_| invalid())?;
    if weight != 0 && !(10..=1000).contains(&weight) {
        return Err(invalid());
    }
    Ok(WeightDevice { path, weight })
}

/// `PATH:RATE` in bytes.
fn bytes_rate(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_path(text)?;
    let rate = bytes(rate).map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a \
             positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(ThrottleDevice { path, rate: rate.unsigned_abs() })
}

/// `PATH:RATE` in operations.
fn io_rate(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_path(text)?;
    let rate = rate.parse().map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )
    })?;
    Ok(ThrottleDevice { path, rate })
}

fn device_path(text: &str) -> Result<(String, &str), String> {
    let (path, value) =
        text.split_once(':').filter(|(path, _)| !path.is_empty()).ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path.to_owned(), value))
}

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `NAME=SOFT[:HARD]`; -1: unlimited.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |part: &str| {
        part.parse::<i64>().ok().filter(|n| *n >= -1).ok_or_else(|| format!("invalid ulimit value: {text}"))
    };
    if value.split(':').count() > 2 {
        return Err(format!("too many limit value arguments - {value}, can only have up to two, `soft[:hard]`"));
    }
    let (soft, hard) = match value.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(value)?, number(value)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}
