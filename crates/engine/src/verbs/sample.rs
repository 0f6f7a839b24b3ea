//! One sample of what a container uses, as the Engine API shows it (`ContainerStatsResponse`): every counter that its
//! cgroup and its network namespace have. The short form for people is `stats`.

use std::fs;
use std::path::{Path, PathBuf};

use sandbox::cgroup::{Cgroup, Usage, Version};
use serde_json::{Map, Value, json};

use super::stats::{host_memory, system_cpu};
use crate::monitor::run;
use crate::verbs::read_plan;
use crate::{Context, Engine, Result, clock};

impl Engine {
    /// A sample now, without what Docker repeats from the sample before; only id and name if it does not run.
    pub fn sample(&self, name: &str) -> Result<Value> {
        let container = self.look_up(name)?;
        let mut document = json!({ "name": format!("/{}", container.name), "id": container.id });
        let Ok(status) = self.running(&container) else { return Ok(document) };
        let Ok(plan) = read_plan(self.paths(), &container.id) else { return Ok(document) };
        let path = run::cgroup_path(&plan.spec);
        let step = || format!("read the cgroup {path}");
        let cgroup = Cgroup::open(&path).step(step)?;
        let usage = match cgroup.usage() {
            // It has ended a moment ago.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(document),
            usage => usage.step(step)?,
        };
        let files = Files::of(&cgroup);
        document["read"] = json!(clock::rfc3339(clock::now()));
        document["pids_stats"] = pids(&usage);
        document["blkio_stats"] = files.block_io();
        document["num_procs"] = json!(0);
        document["storage_stats"] = json!({});
        document["cpu_stats"] = files.cpu(&usage);
        document["memory_stats"] = files.memory(&usage);
        if let Ok(table) = fs::read_to_string(format!("/proc/{}/net/dev", status.pid)) {
            let networks = networks(&table);
            if !networks.is_empty() {
                document["networks"] = Value::Object(networks);
            }
        }
        Ok(document)
    }
}

fn pids(usage: &Usage) -> Value {
    json!({ "current": usage.pids, "limit": usage.pids_limit.unwrap_or(u64::MAX) })
}

/// Received and sent bytes, packets, errors and drops of all interfaces but loopback, from `/proc/PID/net/dev`.
fn networks(table: &str) -> Map<String, Value> {
    let mut all = Map::new();
    for line in table.lines().skip(2) {
        let Some((name, counters)) = line.split_once(':') else { continue };
        let n: Vec<u64> = counters.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
        if name.trim() != "lo" && n.len() >= 12 {
            let document = json!({
                "rx_bytes": n[0], "rx_packets": n[1], "rx_errors": n[2], "rx_dropped": n[3],
                "tx_bytes": n[8], "tx_packets": n[9], "tx_errors": n[10], "tx_dropped": n[11],
            });
            all.insert(name.trim().to_owned(), document);
        }
    }
    all
}

/// A cgroup's directories by controller.
struct Files {
    version: Version,
    directories: Vec<(String, PathBuf)>,
}

impl Files {
    fn of(cgroup: &Cgroup) -> Self {
        Files { version: sandbox::cgroup::version(), directories: cgroup.directories() }
    }

    fn is_v1(&self) -> bool {
        self.version == Version::V1
    }

    /// What a file of a controller says; empty if it is not there.
    fn text(&self, controller: &str, file: &str) -> String {
        let has = |name: &str| !self.is_v1() || name.split(',').any(|part| part == controller);
        let directory = self.directories.iter().find(|(name, _)| has(name)).map(|(_, path)| path.as_path());
        fs::read_to_string(directory.unwrap_or(Path::new("/nonexistent")).join(file)).unwrap_or_default()
    }

    fn number(&self, controller: &str, file: &str) -> u64 {
        self.text(controller, file).trim().parse().unwrap_or(0)
    }

    fn cpu(&self, usage: &Usage) -> Value {
        let stat = keyed(&self.text("cpu", "cpu.stat"));
        let time = stat.get("throttled_time").and_then(Value::as_u64);
        let time = time.or_else(|| Some(stat.get("throttled_usec")?.as_u64()?.saturating_mul(1000)));
        let mut cpu = json!({
            "total_usage": usage.cpu_total,
            "usage_in_kernelmode": usage.cpu_system,
            "usage_in_usermode": usage.cpu_user,
        });
        if self.is_v1() {
            let all = self.text("cpuacct", "cpuacct.usage_percpu");
            let each: Vec<u64> = all.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
            cpu["percpu_usage"] = json!(each);
        }
        json!({
            "cpu_usage": cpu,
            "system_cpu_usage": system_cpu(),
            "online_cpus": std::thread::available_parallelism().map_or(1, usize::from),
            "throttling_data": {
                "periods": stat.get("nr_periods").cloned().unwrap_or_else(|| json!(0)),
                "throttled_periods": stat.get("nr_throttled").cloned().unwrap_or_else(|| json!(0)),
                "throttled_time": time.unwrap_or(0),
            },
        })
    }

    fn memory(&self, usage: &Usage) -> Value {
        let mut memory = json!({
            "usage": usage.memory,
            "stats": keyed(&self.text("memory", "memory.stat")),
            "limit": usage.memory_limit.into_iter().chain([host_memory()]).min(),
        });
        if self.is_v1() {
            memory["max_usage"] = json!(self.number("memory", "memory.max_usage_in_bytes"));
            let failures = self.number("memory", "memory.failcnt");
            if failures > 0 {
                memory["failcnt"] = json!(failures);
            }
        }
        memory
    }

    fn block_io(&self) -> Value {
        let (bytes, operations) = match self.version {
            Version::V1 => {
                let table = |file: &str| v1_block(&self.text("blkio", file));
                (table("blkio.throttle.io_service_bytes_recursive"), table("blkio.throttle.io_serviced_recursive"))
            }
            Version::V2 => (v2_block(&self.text("io", "io.stat")), Vec::new()),
        };
        let shown = |list: Vec<Value>| if list.is_empty() { Value::Null } else { Value::Array(list) };
        json!({
            "io_service_bytes_recursive": shown(bytes),
            "io_serviced_recursive": shown(operations),
            "io_queue_recursive": null,
            "io_service_time_recursive": null,
            "io_wait_time_recursive": null,
            "io_merged_recursive": null,
            "io_time_recursive": null,
            "sectors_recursive": null,
        })
    }
}

/// Lines of a word and a number.
fn keyed(text: &str) -> Map<String, Value> {
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(key, value)| Some((key.to_owned(), json!(value.trim().parse::<u64>().ok()?)))).collect()
}

fn entry(device: &str, operation: &str, value: u64) -> Option<Value> {
    let (major, minor) = device.split_once(':')?;
    let (major, minor): (u64, u64) = (major.parse().ok()?, minor.parse().ok()?);
    Some(json!({ "major": major, "minor": minor, "op": operation.to_ascii_lowercase(), "value": value }))
}

/// Lines like `8:0 Read 4096`.
fn v1_block(table: &str) -> Vec<Value> {
    let line = |line: &str| match line.split(' ').collect::<Vec<_>>().as_slice() {
        [device, operation, value] => entry(device, operation, value.parse().ok()?),
        _ => None,
    };
    table.lines().filter_map(line).collect()
}

/// Lines like `8:0 rbytes=4096 wbytes=0 …`.
fn v2_block(table: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for line in table.lines() {
        let mut fields = line.split(' ');
        let device = fields.next().unwrap_or_default();
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            let operation = match key {
                "rbytes" => "read",
                "wbytes" => "write",
                _ => continue,
            };
            all.extend(value.parse().ok().and_then(|value| entry(device, operation, value)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_devices_of_both_versions() {
        let wanted = json!([{ "major": 8, "minor": 0, "op": "read", "value": 4096 }]);
        assert_eq!(json!(v1_block("8:0 Read 4096\nTotal 4096\n")), wanted);
        assert_eq!(json!(v2_block("8:0 rbytes=4096 rios=1\n")), wanted);
    }

    #[test]
    fn interfaces_but_loopback() {
        let table = "a\nb\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n  eth0: 100 2 0 1 0 0 0 0 200 3 0 4 0 0 0 0\n";
        let all = networks(table);
        assert_eq!(all.len(), 1);
        assert_eq!((&all["eth0"]["tx_bytes"], &all["eth0"]["tx_dropped"]), (&json!(200), &json!(4)));
    }
}
