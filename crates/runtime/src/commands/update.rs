//! `update`: changes the limits of a container.

use std::io::Read;

use lexopt::{Arg, Parser};
use oci_spec::runtime::{LinuxIntelRdt, LinuxResources, Spec};
use serde_json::{Map, Value};

use super::Call;
use crate::arguments::{bad, number, required, take_id, text, unexpected};
use crate::bundle;
use crate::container::{Container, Status};
use crate::error::Step;
use crate::log::Log;
use crate::record::Store;
use crate::systemd::Manager;
use crate::{Error, Result};

pub(super) const HELP: &str = "\
  -r, --resources FILE    limits as JSON (linux.resources); - is standard input
  --blkio-weight N        --cpu-period N          --cpu-quota N
  --cpu-burst N           --cpu-share N           --cpu-rt-period N
  --cpu-rt-runtime N      --cpu-idle N            --cpuset-cpus LIST
  --cpuset-mems LIST      --memory BYTES          --memory-reservation BYTES
  --memory-swap BYTES     --pids-limit N
  --l3-cache-schema TEXT  --mem-bw-schema TEXT
";

/// Largest document on standard input, in bytes.
const LIMIT: u64 = 1 << 20;

/// Flags and where their values belong in `linux.resources`.
const NUMBERS: [(&str, &str, &str); 9] = [
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("cpu-idle", "cpu", "idle"),
    ("pids-limit", "pids", "limit"),
    ("blkio-weight", "blockIO", "weight"),
];
const SIZES: [(&str, &str); 3] = [("memory", "limit"), ("memory-reservation", "reservation"), ("memory-swap", "swap")];
const LISTS: [(&str, &str); 2] = [("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")];
/// Accepted by runc and without effect for years: the kernel has no such limits any more.
const GONE: [&str; 2] = ["kernel-memory", "kernel-memory-tcp"];

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let mut parser = Parser::from_args(call.words);
    let (mut changes, mut id) = (Map::new(), None);
    let mut schemata = Schemata::default();
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Long("resources") | Arg::Short('r') => changes = read(&text(&mut parser)?)?,
            Arg::Long("l3-cache-schema") => schemata.l3_cache = Some(schema(&mut parser, "L3:")?),
            Arg::Long("mem-bw-schema") => schemata.memory_bandwidth = Some(schema(&mut parser, "MB:")?),
            Arg::Long(flag) => {
                let flag = flag.to_owned();
                apply(&flag, &mut parser, &mut changes, call.log)?;
            }
            Arg::Value(value) => take_id(&mut id, value, "update")?,
            other => return Err(unexpected(other)),
        }
    }
    let container = Container::open(&Store::new(&call.globals.root), &required(id, "update")?)?;
    if container.status() == Status::Stopped {
        return Err(Error::new("container not running"));
    }
    let resources: LinuxResources = serde_json::from_value(Value::Object(changes)).step(|| "parse resources".into())?;
    if let Some(unit) = &container.record.unit {
        Manager::connect(unit)?.set(&resources)?;
    }
    schemata.apply(&container)?;
    container.required_cgroup()?.apply(&resources).step(|| "update the limits".into())?;
    keep(&container, &resources, &schemata)?;
    Ok(0)
}

/// What is asked of the container's class of service (Intel RDT).
#[derive(Default)]
struct Schemata {
    l3_cache: Option<String>,
    memory_bandwidth: Option<String>,
}

fn schema(parser: &mut Parser, start: &str) -> Result<String> {
    let line = text(parser)?;
    match line.starts_with(start) && !line.contains('\n') {
        true => Ok(line),
        false => Err(Error::new(format!("invalid schema {line:?}: must be one line that starts with {start:?}"))),
    }
}

impl Schemata {
    fn apply(&self, container: &Container) -> Result<()> {
        let lines: Vec<&str> = self.l3_cache.iter().chain(&self.memory_bandwidth).map(String::as_str).collect();
        if lines.is_empty() {
            return Ok(());
        }
        let spec = container.spec()?;
        let rdt = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref());
        let rdt = rdt.ok_or_else(|| Error::new("Intel RDT: the container has no linux.intelRdt"))?;
        sandbox::resctrl::change(rdt, &container.record.id, &lines).step(|| "Intel RDT".into())
    }

    fn keep(&self, rdt: &mut LinuxIntelRdt) {
        if self.l3_cache.is_some() {
            rdt.set_l3_cache_schema(self.l3_cache.clone());
        }
        if self.memory_bandwidth.is_some() {
            rdt.set_mem_bw_schema(self.memory_bandwidth.clone());
        }
    }
}

/// Limits as JSON, from a file or standard input.
fn read(file: &str) -> Result<Map<String, Value>> {
    let mut json = Vec::new();
    match file {
        "-" => drop(std::io::stdin().take(LIMIT).read_to_end(&mut json).step(|| "read standard input".into())?),
        _ => json = bundle::read(file.as_ref())?,
    }
    match serde_json::from_slice(&json).step(|| format!("parse resources from {file}"))? {
        Value::Object(object) => Ok(object),
        _ => Err(Error::new(format!("parse resources from {file}: not an object"))),
    }
}

/// One flag's value into the document.
fn apply(flag: &str, parser: &mut Parser, changes: &mut Map<String, Value>, log: &Log) -> Result<()> {
    if let Some((_, group, field)) = NUMBERS.iter().find(|(name, ..)| *name == flag) {
        let value: i64 = number(parser, flag)?;
        return set(changes, group, field, Value::from(value));
    }
    if let Some((_, field)) = SIZES.iter().find(|(name, _)| *name == flag) {
        let text = text(parser)?;
        let size = size(&text).ok_or_else(|| Error::new(format!("invalid value for {flag}: {text:?}")))?;
        return set(changes, "memory", field, Value::from(size));
    }
    if let Some((_, field)) = LISTS.iter().find(|(name, _)| *name == flag) {
        return set(changes, "cpu", field, Value::from(text(parser)?));
    }
    if GONE.contains(&flag) {
        text(parser)?;
        log.warn(&format!("--{flag} has no effect: the kernel has no such limit any more"));
        return Ok(());
    }
    Err(Error::new(format!("flag provided but not defined: -{flag}")))
}

fn set(changes: &mut Map<String, Value>, group: &str, field: &str, value: Value) -> Result<()> {
    let group = changes.entry(group).or_insert_with(|| Value::Object(Map::new()));
    let group = group.as_object_mut().ok_or_else(|| Error::new("resources: not an object"))?;
    group.insert(field.to_owned(), value);
    Ok(())
}

/// Bytes; `k`, `m`, `g`, `t` in powers of 1024; -1 takes a limit away.
fn size(text: &str) -> Option<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, shift) = match lower.as_bytes().last()? {
        b'k' => (&lower[..lower.len() - 1], 10),
        b'm' => (&lower[..lower.len() - 1], 20),
        b'g' => (&lower[..lower.len() - 1], 30),
        b't' => (&lower[..lower.len() - 1], 40),
        _ => (lower, 0),
    };
    let number: i64 = digits.parse().ok()?;
    if number == -1 { (shift == 0).then_some(-1) } else { number.checked_mul(1 << shift).filter(|size| *size >= 0) }
}

/// Writes the new limits into the kept configuration, so that it says what is true.
fn keep(container: &Container, resources: &LinuxResources, schemata: &Schemata) -> Result<()> {
    let step = || "keep the new limits".to_owned();
    let mut spec: Spec = container.spec()?;
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut kept = serde_json::to_value(linux.resources()).step(step)?;
    merge(&mut kept, serde_json::to_value(resources).step(step)?);
    linux.set_resources(serde_json::from_value(kept).step(step)?);
    if let Some(mut rdt) = linux.intel_rdt().clone() {
        schemata.keep(&mut rdt);
        linux.set_intel_rdt(Some(rdt));
    }
    spec.set_linux(Some(linux));
    container.directory.keep_config(&serde_json::to_vec(&spec).step(step)?)
}

/// Lays `new` over `old`, object by object.
fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            new.into_iter().for_each(|(key, value)| merge(old.entry(key).or_insert(Value::Null), value));
        }
        (_, Value::Null) => {}
        (old, new) => *old = new,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("1", 1), ("2k", 2048), ("32M", 32 << 20), ("1gb", 1 << 30), ("1GiB", 1 << 30), ("-1", -1)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "x", "-2", "-1k", "9999999999t", "1.5g"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn new_limits_lie_over_old_ones() {
        let mut old = serde_json::json!({"cpu": {"shares": 1, "quota": 2}, "pids": {"limit": 3}});
        merge(&mut old, serde_json::json!({"cpu": {"shares": 9}, "memory": {"limit": 5}}));
        let wanted =
            serde_json::json!({"cpu": {"shares": 9, "quota": 2}, "pids": {"limit": 3}, "memory": {"limit": 5}});
        assert_eq!(old, wanted);
    }
}
