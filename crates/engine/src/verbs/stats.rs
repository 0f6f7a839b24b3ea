//! `stats`: what a container uses now, read from its cgroup.

use std::fs;

use sandbox::cgroup::Cgroup;

use crate::monitor::run;
use crate::verbs::read_plan;
use crate::{Context, Engine, Error, Result, clock};

/// One sample.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// When, in nanoseconds since 1970.
    pub time: i64,
    /// Container id.
    pub id: String,
    /// Container name.
    pub name: String,
    /// CPU time used by the container, nanoseconds.
    pub cpu_total: u64,
    /// CPU time of the whole host, nanoseconds.
    pub system_cpu: u64,
    /// Online CPUs.
    pub online_cpus: u32,
    /// Memory in use without inactive file cache (what `docker stats` shows), bytes.
    pub memory_usage: u64,
    /// Memory limit, or the host's memory, bytes.
    pub memory_limit: u64,
    /// Received and sent bytes over all interfaces but loopback.
    pub network: (u64, u64),
    /// Read and written bytes of block devices.
    pub block: (u64, u64),
    /// Processes and threads.
    pub pids: u64,
}

impl Engine {
    /// One sample now; all zero for a container that does not run.
    pub fn stats(&self, name: &str) -> Result<Stats> {
        let container = self.look_up(name)?;
        let empty =
            Stats { time: clock::now(), id: container.id.clone(), name: container.name.clone(), ..Stats::default() };
        let Ok(status) = self.running(&container) else { return Ok(empty) };
        let path = run::cgroup_path(&read_plan(self.paths(), &container.id)?.spec);
        if !sandbox::cgroup::is_available() {
            return Err(Error::invalid(format!(
                "container {} has no cgroup, which counts what it uses",
                container.name
            ))
            .hinted("see the warnings of `kiste info`"));
        }
        let usage = Cgroup::open(&path).and_then(|cgroup| cgroup.usage()).step(|| format!("read the cgroup {path}"))?;
        Ok(Stats {
            cpu_total: usage.cpu_total,
            system_cpu: system_cpu(),
            online_cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
            memory_usage: usage.memory.saturating_sub(usage.memory_inactive_file),
            memory_limit: usage.memory_limit.into_iter().chain([host_memory()]).min().unwrap_or(0),
            network: network(&fs::read_to_string(format!("/proc/{}/net/dev", status.pid)).unwrap_or_default()),
            block: (usage.block_read, usage.block_write),
            pids: usage.pids,
            ..empty
        })
    }
}

/// CPU time of all processors together, idle time included, in nanoseconds (first line of proc_stat(5)).
pub(super) fn system_cpu() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or("");
    // Guest time (the fields after the eighth) is counted in the user time already.
    let ticks: u64 = line.split_ascii_whitespace().skip(1).take(8).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second())
}

pub(super) fn host_memory() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

/// Received and sent bytes of all interfaces but loopback, from `/proc/PID/net/dev`.
fn network(table: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in table.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else { continue };
        let counters: Vec<u64> = counters.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
        if let (false, [received, _, _, _, _, _, _, _, sent, ..]) = (name.trim() == "lo", counters.as_slice()) {
            sum = (sum.0 + received, sum.1 + sent);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    #[test]
    fn loopback_does_not_count() {
        let table = "Inter-|   Receive\n face |bytes\n    lo: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n";
        assert_eq!(super::network(table), (100, 200));
    }

    #[test]
    fn the_host_has_memory_and_has_used_its_processors() {
        assert!(super::host_memory() > 1 << 20);
        assert!(super::system_cpu() > 0);
    }
}
