//! `stats`: what a container uses now, read from its cgroup.

use crate::{Engine, Result};

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
    pub fn stats(&self, _name: &str) -> Result<Stats> {
        todo!()
    }
}
