//! Reads what a cgroup uses. A file that is not there (its controller is off) leaves its figures zero.

use std::fs;
use std::io;
use std::path::Path;

use super::files::{keyed, read_number};
use super::{Cgroup, Version};

/// What `stats`, `explain` and the OOM check read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, nanoseconds.
    pub cpu_total: u64,
    /// CPU time in user mode, nanoseconds.
    pub cpu_user: u64,
    /// CPU time in the kernel, nanoseconds.
    pub cpu_system: u64,
    /// Periods throttled by the quota.
    pub cpu_throttled_periods: u64,
    /// Memory charged, bytes.
    pub memory: u64,
    /// Inactive file cache within it, bytes.
    pub memory_inactive_file: u64,
    /// Memory limit; `None`: none.
    pub memory_limit: Option<u64>,
    /// How often the kernel killed for want of memory.
    pub oom_kills: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Their limit; `None`: none.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub block_read: u64,
    /// Bytes written to block devices.
    pub block_write: u64,
}

/// v1 says "no limit" with the largest multiple of the page size that fits; no page is larger than 1 MiB.
const V1_UNLIMITED: u64 = i64::MAX as u64 - (1 << 20);

impl Cgroup {
    /// What it uses now.
    pub fn usage(&self) -> io::Result<Usage> {
        let directory = &self.directories[0].path;
        if !directory.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no cgroup {}", directory.display())));
        }
        Ok(match self.version {
            Version::V1 => self.usage_v1(),
            Version::V2 => usage_v2(directory),
        })
    }

    /// How often the kernel killed a process in it for want of memory; cheaper than [`Cgroup::usage`].
    pub fn oom_kills(&self) -> u64 {
        match self.version {
            Version::V1 => self.directory("memory").map_or(0, v1_oom_kills),
            Version::V2 => keyed(&text(&self.directories[0].path, "memory.events"), "oom_kill").unwrap_or(0),
        }
    }

    fn usage_v1(&self) -> Usage {
        let mut usage = Usage::default();
        if let Some(cpuacct) = self.directory("cpuacct") {
            let number = |file: &str| read_number(&cpuacct.join(file)).unwrap_or(0);
            usage.cpu_total = number("cpuacct.usage");
            usage.cpu_user = number("cpuacct.usage_user");
            usage.cpu_system = number("cpuacct.usage_sys");
        }
        if let Some(cpu) = self.directory("cpu") {
            usage.cpu_throttled_periods = keyed(&text(cpu, "cpu.stat"), "nr_throttled").unwrap_or(0);
        }
        if let Some(memory) = self.directory("memory") {
            let number = |file: &str| read_number(&memory.join(file));
            usage.memory = number("memory.usage_in_bytes").unwrap_or(0);
            usage.memory_limit = number("memory.limit_in_bytes").filter(|limit| *limit < V1_UNLIMITED);
            usage.memory_inactive_file = keyed(&text(memory, "memory.stat"), "total_inactive_file").unwrap_or(0);
            usage.oom_kills = v1_oom_kills(memory);
        }
        if let Some(pids) = self.directory("pids") {
            usage.pids = read_number(&pids.join("pids.current")).unwrap_or(0);
            usage.pids_limit = read_number(&pids.join("pids.max"));
        }
        if let Some(blkio) = self.directory("blkio") {
            (usage.block_read, usage.block_write) = v1_block_io(blkio);
        }
        usage
    }
}

fn usage_v2(directory: &Path) -> Usage {
    let number = |file: &str| read_number(&directory.join(file));
    let cpu = text(directory, "cpu.stat");
    let microseconds = |key: &str| keyed(&cpu, key).unwrap_or(0).saturating_mul(1000);
    let (block_read, block_write) = v2_block_io(&text(directory, "io.stat"));
    Usage {
        cpu_total: microseconds("usage_usec"),
        cpu_user: microseconds("user_usec"),
        cpu_system: microseconds("system_usec"),
        cpu_throttled_periods: keyed(&cpu, "nr_throttled").unwrap_or(0),
        memory: number("memory.current").unwrap_or(0),
        memory_inactive_file: keyed(&text(directory, "memory.stat"), "inactive_file").unwrap_or(0),
        memory_limit: number("memory.max"),
        oom_kills: keyed(&text(directory, "memory.events"), "oom_kill").unwrap_or(0),
        pids: number("pids.current").unwrap_or(0),
        pids_limit: number("pids.max"),
        block_read,
        block_write,
    }
}

fn text(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).unwrap_or_default()
}

/// v1 counts a kill only where the victim was, so children that the container made are asked too.
fn v1_oom_kills(memory: &Path) -> u64 {
    let tree = super::files::tree(memory).unwrap_or_default();
    tree.iter().filter_map(|directory| keyed(&text(directory, "memory.oom_control"), "oom_kill")).sum()
}

/// Sums the lines `8:0 Read 4096` and `8:0 Write 4096`.
fn v1_block_io(blkio: &Path) -> (u64, u64) {
    let table = text(blkio, "blkio.throttle.io_service_bytes_recursive");
    let table = if table.is_empty() { text(blkio, "blkio.throttle.io_service_bytes") } else { table };
    let sum = |what: &str| {
        let fields = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let amounts = fields.filter(|fields| fields.len() == 3 && fields[1] == what);
        amounts.filter_map(|fields| fields[2].parse::<u64>().ok()).sum()
    };
    (sum("Read"), sum("Write"))
}

/// Sums the fields `rbytes=` and `wbytes=` of all devices.
fn v2_block_io(table: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let amounts = table.split_whitespace().filter_map(|field| field.strip_prefix(key));
        amounts.filter_map(|amount| amount.parse::<u64>().ok()).sum()
    };
    (sum("rbytes="), sum("wbytes="))
}
