//! All figures of a cgroup in runc's fields (its `types/events.go`), for callers of the runtime. The few that the engine
//! shows are [`Usage`](super::Usage)'s.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::files::{keyed, read_number};
use super::{Cgroup, Version};

/// What `events --stats` shows of cgroups.
#[derive(Debug, Default, Serialize)]
pub struct Stats {
    cpu: Cpu,
    memory: Memory,
    pids: Pids,
    blkio: BlockIo,
    hugetlb: BTreeMap<String, Entry>,
}

#[derive(Debug, Default, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
}

/// Nanoseconds.
#[derive(Debug, Default, Serialize)]
struct CpuUsage {
    total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu: Vec<u64>,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    periods: u64,
    throttled_periods: u64,
    throttled_time: u64,
}

/// Bytes.
#[derive(Debug, Default, Serialize)]
struct Memory {
    cache: u64,
    usage: Entry,
    swap: Entry,
    kernel: Entry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: Entry,
    raw: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Serialize)]
struct Entry {
    limit: u64,
    usage: u64,
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Default, Serialize)]
struct Pids {
    current: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockIo {
    io_service_bytes_recursive: Vec<BlockEntry>,
    io_serviced_recursive: Vec<BlockEntry>,
}

#[derive(Debug, Serialize, PartialEq)]
struct BlockEntry {
    major: u64,
    minor: u64,
    op: String,
    value: u64,
}

impl Cgroup {
    /// All figures; what is not there is zero.
    pub fn stats(&self) -> Stats {
        match self.version {
            Version::V1 => self.stats_v1(),
            Version::V2 => stats_v2(&self.directories[0].path),
        }
    }

    fn stats_v1(&self) -> Stats {
        let mut stats = Stats::default();
        if let Some(cpuacct) = self.directory("cpuacct") {
            let number = |file: &str| read_number(&cpuacct.join(file)).unwrap_or(0);
            let percpu = text(cpuacct, "cpuacct.usage_percpu");
            stats.cpu.usage = CpuUsage {
                total: number("cpuacct.usage"),
                percpu: percpu.split_whitespace().filter_map(|field| field.parse().ok()).collect(),
                kernel: number("cpuacct.usage_sys"),
                user: number("cpuacct.usage_user"),
            };
        }
        if let Some(cpu) = self.directory("cpu") {
            stats.cpu.throttling = throttling(&text(cpu, "cpu.stat"), "throttled_time", 1);
        }
        if let Some(memory) = self.directory("memory") {
            stats.memory = memory_v1(memory);
        }
        if let Some(pids) = self.directory("pids") {
            stats.pids = pids_of(pids);
        }
        if let Some(blkio) = self.directory("blkio") {
            stats.blkio.io_service_bytes_recursive =
                blocks_v1(&text(blkio, "blkio.throttle.io_service_bytes_recursive"));
            stats.blkio.io_serviced_recursive = blocks_v1(&text(blkio, "blkio.throttle.io_serviced_recursive"));
        }
        if let Some(hugetlb) = self.directory("hugetlb") {
            stats.hugetlb = huge_pages(hugetlb, [".limit_in_bytes", ".usage_in_bytes", ".max_usage_in_bytes"]);
        }
        stats
    }
}

fn stats_v2(directory: &Path) -> Stats {
    let number = |file: &str| read_number(&directory.join(file)).unwrap_or(0);
    let limit = |file: &str| read_number(&directory.join(file)).unwrap_or(u64::MAX);
    let cpu = text(directory, "cpu.stat");
    let nanoseconds = |key: &str| keyed(&cpu, key).unwrap_or(0).saturating_mul(1000);
    let raw = table(&text(directory, "memory.stat"));
    let failures = keyed(&text(directory, "memory.events"), "max").unwrap_or(0);
    let io = text(directory, "io.stat");
    Stats {
        cpu: Cpu {
            usage: CpuUsage {
                total: nanoseconds("usage_usec"),
                percpu: Vec::new(),
                kernel: nanoseconds("system_usec"),
                user: nanoseconds("user_usec"),
            },
            throttling: throttling(&cpu, "throttled_usec", 1000),
        },
        memory: Memory {
            cache: raw.get("file").copied().unwrap_or(0),
            usage: Entry {
                limit: limit("memory.max"),
                usage: number("memory.current"),
                max: number("memory.peak"),
                failcnt: failures,
            },
            swap: Entry {
                limit: limit("memory.swap.max"),
                usage: number("memory.swap.current"),
                max: number("memory.swap.peak"),
                failcnt: 0,
            },
            raw,
            ..Memory::default()
        },
        pids: pids_of(directory),
        blkio: BlockIo {
            io_service_bytes_recursive: blocks_v2(&io, [("rbytes", "Read"), ("wbytes", "Write")]),
            io_serviced_recursive: blocks_v2(&io, [("rios", "Read"), ("wios", "Write")]),
        },
        hugetlb: huge_pages(directory, [".max", ".current", ".current"]),
    }
}

fn throttling(stat: &str, time: &str, unit: u64) -> Throttling {
    let number = |key: &str| keyed(stat, key).unwrap_or(0);
    Throttling {
        periods: number("nr_periods"),
        throttled_periods: number("nr_throttled"),
        throttled_time: number(time).saturating_mul(unit),
    }
}

fn memory_v1(directory: &Path) -> Memory {
    let entry = |name: &str| {
        let number = |file: &str| read_number(&directory.join(format!("memory.{name}{file}"))).unwrap_or(0);
        Entry {
            limit: number("limit_in_bytes"),
            usage: number("usage_in_bytes"),
            max: number("max_usage_in_bytes"),
            failcnt: number("failcnt"),
        }
    };
    let raw = table(&text(directory, "memory.stat"));
    Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry(""),
        swap: entry("memsw."),
        kernel: entry("kmem."),
        kernel_tcp: entry("kmem.tcp."),
        raw,
    }
}

fn pids_of(directory: &Path) -> Pids {
    let number = |file: &str| read_number(&directory.join(file));
    Pids { current: number("pids.current").unwrap_or(0), limit: number("pids.max") }
}

fn huge_pages(directory: &Path, [limit, usage, max]: [&str; 3]) -> BTreeMap<String, Entry> {
    let names =
        fs::read_dir(directory).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let sizes = names.filter_map(|name| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(limit)?;
        (!size.contains('.')).then(|| size.to_owned())
    });
    let number = |size: &str, file: &str| read_number(&directory.join(format!("hugetlb.{size}{file}"))).unwrap_or(0);
    sizes
        .map(|size| {
            let entry =
                Entry { limit: number(&size, limit), usage: number(&size, usage), max: number(&size, max), failcnt: 0 };
            (size, entry)
        })
        .collect()
}

/// Lines `key value`.
fn table(text: &str) -> BTreeMap<String, u64> {
    let entry = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}

/// Lines `8:0 Read 4096`.
fn blocks_v1(text: &str) -> Vec<BlockEntry> {
    let entry = |line: &str| {
        let mut fields = line.split_whitespace();
        let (major, minor) = fields.next()?.split_once(':')?;
        let (op, value) = (fields.next()?.to_owned(), fields.next()?.parse().ok()?);
        Some(BlockEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, op, value })
    };
    text.lines().filter_map(entry).collect()
}

/// Lines `8:0 rbytes=4096 wbytes=0 …`.
fn blocks_v2(text: &str, wanted: [(&str, &str); 2]) -> Vec<BlockEntry> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let device = fields.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(major, minor)| (major.parse(), minor.parse())) else {
            continue;
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let op = wanted.iter().find(|(name, _)| *name == key).map(|(_, op)| (*op).to_owned());
            entries.extend(op.zip(value.parse().ok()).map(|(op, value)| BlockEntry { major, minor, op, value }));
        }
    }
    entries
}

fn text(directory: &Path, file: &str) -> String {
    fs::read_to_string(directory.join(file)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_tables() {
        let read = BlockEntry { major: 8, minor: 16, op: "Read".into(), value: 4096 };
        assert_eq!(blocks_v1("8:16 Read 4096\nTotal 4096\n"), [read]);
        let entries = blocks_v2("8:16 rbytes=4096 wbytes=1 rios=2 wios=3\n", [("rios", "Read"), ("wios", "Write")]);
        assert_eq!(entries.iter().map(|entry| entry.value).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn the_fields_are_those_of_runc() {
        let json = serde_json::to_value(Stats::default()).unwrap();
        assert_eq!(json["memory"]["usage"]["failcnt"], 0);
        assert_eq!(json["memory"]["kernelTCP"]["limit"], 0);
        assert_eq!(json["cpu"]["throttling"]["throttledPeriods"], 0);
        assert!(json["blkio"]["ioServiceBytesRecursive"].is_array());
    }
}
