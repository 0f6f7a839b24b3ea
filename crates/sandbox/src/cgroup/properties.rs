//! Limits in the words of the service manager (`systemd.resource-control(5)`), so that what it writes into a cgroup of
//! which it has charge, now or when it reads its configuration again, is what the configuration says. The limits
//! themselves are written by [`Cgroup::apply`](super::Cgroup::apply), also those that it has no word for.

use std::io;

use oci_spec::runtime::{LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxResources};

use super::devices::{Device, Kind, Policy, letters};
use super::{Version, v2, version};

/// A property's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// An unsigned number of 64 bits; the largest is "no limit".
    Number(u64),
    /// A word.
    Word(&'static str),
    /// A set of numbers, one bit each.
    Bits(Vec<u8>),
    /// Device nodes, or groups of them, with some of `rwm`.
    Devices(Vec<(String, String)>),
}

/// `infinity`.
const NO_LIMIT: u64 = u64::MAX;

/// Releases of the manager from which on it knows a property.
const PERIODS: u32 = 242;
const CPUSETS: u32 = 244;
const IDLE: u32 = 252;

/// The properties of a unit with these limits, for a manager of this release; where both are given, the words of
/// `unified` come last and win. Errors name the limit.
pub fn properties(resources: &LinuxResources, release: u32) -> io::Result<Vec<(&'static str, Property)>> {
    of(resources, release, version())
}

fn of(resources: &LinuxResources, release: u32, version: Version) -> io::Result<Vec<(&'static str, Property)>> {
    // No rules at all leave what is in force.
    let mut properties = resources.devices().as_deref().map_or(Ok(Vec::new()), devices)?;
    let mut number = |name: &'static str, value: Option<u64>| {
        properties.extend(value.map(|value| (name, Property::Number(value))));
    };
    if let Some(memory) = resources.memory() {
        memory_numbers(memory, version)?.into_iter().for_each(|(name, value)| number(name, value));
    }
    if let Some(cpu) = resources.cpu() {
        cpu_numbers(cpu, release, version).into_iter().for_each(|(name, value)| number(name, value));
    }
    let weight = resources.block_io().as_ref().and_then(|block_io| block_io.weight()).filter(|weight| *weight != 0);
    match version {
        Version::V1 => number("BlockIOWeight", weight.map(u64::from)),
        Version::V2 => number("IOWeight", weight.map(v2::io_weight)),
    }
    // The manager knows no limit of zero tasks.
    let tasks = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0).unwrap_or(NO_LIMIT);
    number("TasksMax", resources.pids().as_ref().map(|pids| tasks(pids.limit())));
    if release >= CPUSETS
        && let Some(cpu) = resources.cpu()
    {
        let mut bits = |name, list: &Option<String>| -> io::Result<()> {
            if let Some(list) = list.as_deref().filter(|list| !list.trim().is_empty()) {
                properties.push((name, Property::Bits(bits(name, list)?)));
            }
            Ok(())
        };
        bits("AllowedCPUs", cpu.cpus())?;
        bits("AllowedMemoryNodes", cpu.mems())?;
    }
    for (file, value) in resources.unified().iter().flatten() {
        properties.extend(unified(file, value.trim())?);
    }
    Ok(properties)
}

type Numbers = Vec<(&'static str, Option<u64>)>;

fn memory_numbers(memory: &LinuxMemory, version: Version) -> io::Result<Numbers> {
    let bytes =
        |limit: Option<i64>| limit.filter(|limit| *limit != 0).map(|limit| u64::try_from(limit).unwrap_or(NO_LIMIT));
    Ok(match version {
        Version::V1 => vec![("MemoryLimit", bytes(memory.limit()))],
        Version::V2 => {
            let swap = v2::swap_only(memory)?.map(|swap| swap.parse().unwrap_or(NO_LIMIT));
            let (limit, low) = (bytes(memory.limit()), bytes(memory.reservation()));
            vec![("MemoryMax", limit), ("MemoryLow", low), ("MemorySwapMax", swap)]
        }
    })
}

fn cpu_numbers(cpu: &LinuxCpu, release: u32, version: Version) -> Numbers {
    let shares = cpu.shares().filter(|shares| *shares != 0);
    let mut numbers = match version {
        Version::V1 => vec![("CPUShares", shares)],
        // A weight of zero is the idle class.
        Version::V2 if cpu.idle() == Some(1) && release >= IDLE => vec![("CPUWeight", Some(0))],
        Version::V2 => vec![("CPUWeight", shares.map(v2::weight_of_shares))],
    };
    let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
    numbers.extend(bandwidth(quota, period, release));
    numbers
}

/// CPU time per second, rounded up to the whole percent in which the manager counts.
fn bandwidth(quota: i64, period: u64, release: u32) -> Numbers {
    const PERCENT: u128 = 10_000;
    const DEFAULT_PERIOD: u64 = 100_000;
    if quota == 0 && period == 0 {
        return Vec::new();
    }
    let within = if period == 0 { DEFAULT_PERIOD } else { period };
    let per_second = match u64::try_from(quota) {
        Ok(quota @ 1..) => (u128::from(quota) * 1_000_000 / u128::from(within)).next_multiple_of(PERCENT),
        _ => u128::from(NO_LIMIT),
    };
    let period = (period != 0 && release >= PERIODS).then_some(period);
    vec![("CPUQuotaPeriodUSec", period), ("CPUQuotaPerSecUSec", Some(per_second.min(u128::from(NO_LIMIT)) as u64))]
}

/// One file of the unified hierarchy, if there is a property for it.
fn unified(file: &str, value: &str) -> io::Result<Option<(&'static str, Property)>> {
    let wrong = || invalid(format!("unified: {file}={value}: not a number and not `max`"));
    let amount = || match value {
        "max" => Ok(NO_LIMIT),
        _ => value.parse().map_err(|_| wrong()),
    };
    let name = match file {
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "cpu.weight" => "CPUWeight",
        "pids.max" => "TasksMax",
        "cpuset.cpus" => return Ok(Some(("AllowedCPUs", Property::Bits(bits(file, value)?)))),
        "cpuset.mems" => return Ok(Some(("AllowedMemoryNodes", Property::Bits(bits(file, value)?)))),
        _ => return Ok(None),
    };
    Ok(Some((name, Property::Number(amount()?.max(u64::from(name == "TasksMax"))))))
}

/// A list as `0-3,7`, lowest bit of the first byte first.
fn bits(name: &str, list: &str) -> io::Result<Vec<u8>> {
    /// More than any machine has.
    const MOST: usize = 1 << 16;
    let wrong = || invalid(format!("{name}: {list:?} is not a list of numbers as 0-3,7"));
    let mut bits = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number < MOST).ok_or_else(wrong);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        bits.resize(bits.len().max(last / 8 + 1), 0u8);
        (first..=last).for_each(|bit| bits[bit / 8] |= 1 << (bit % 8));
    }
    Ok(bits)
}

/// The manager lists what is allowed, and nothing else. What it has no word for (everything but some; one minor number
/// of any device) is left to the rules that are in force besides, all of which must allow an access.
fn devices(rules: &[LinuxDeviceCgroup]) -> io::Result<Vec<(&'static str, Property)>> {
    let policy = Policy::of(rules)?;
    // An empty list first takes back what an earlier one has allowed.
    let mut properties = vec![("DeviceAllow", Property::Devices(Vec::new()))];
    let word = |device: &Device| device.major.is_some() || device.minor.is_none();
    if policy.allow || !policy.exceptions.keys().all(word) {
        properties.push(("DevicePolicy", Property::Word("auto")));
        return Ok(properties);
    }
    let allowed = policy.exceptions.iter().map(|(device, access)| (name(device), letters(*access)));
    properties.push(("DevicePolicy", Property::Word("strict")));
    properties.push(("DeviceAllow", Property::Devices(allowed.collect())));
    Ok(properties)
}

fn name(device: &Device) -> String {
    let kind = if device.kind == Kind::Block { "block" } else { "char" };
    match (device.major, device.minor) {
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (Some(major), None) => format!("{kind}-{major}"),
        (None, _) => format!("{kind}-*"),
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(json: &str, release: u32, version: Version) -> Vec<String> {
        let resources = serde_json::from_str(json).unwrap();
        let properties = of(&resources, release, version).unwrap();
        let show = |(name, value)| match value {
            Property::Number(NO_LIMIT) => format!("{name}=infinity"),
            Property::Number(number) => format!("{name}={number}"),
            Property::Word(word) => format!("{name}={word}"),
            Property::Bits(bits) => format!("{name}={bits:?}"),
            Property::Devices(devices) => format!("{name}={devices:?}"),
        };
        properties.into_iter().map(show).collect()
    }

    const ALL: &str = r#"{"memory": {"limit": 100, "swap": 150, "reservation": 50},
        "cpu": {"shares": 1024, "quota": 1234, "period": 100000, "cpus": "0-1,9", "mems": "0"},
        "pids": {"limit": 7}, "blockIO": {"weight": 1000}}"#;

    #[test]
    fn limits_have_the_words_of_their_hierarchy() {
        let unified = [
            "MemoryMax=100",
            "MemoryLow=50",
            "MemorySwapMax=50",
            "CPUWeight=100",
            "CPUQuotaPeriodUSec=100000",
            "CPUQuotaPerSecUSec=20000",
            "IOWeight=10000",
            "TasksMax=7",
            "AllowedCPUs=[3, 2]",
            "AllowedMemoryNodes=[1]",
        ];
        assert_eq!(properties(ALL, 252, Version::V2), unified);
        let legacy =
            ["MemoryLimit=100", "CPUShares=1024", "CPUQuotaPerSecUSec=20000", "BlockIOWeight=1000", "TasksMax=7"];
        assert_eq!(properties(ALL, 239, Version::V1), legacy);
    }

    #[test]
    fn limits_are_taken_away() {
        let none = r#"{"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}}"#;
        let expected =
            ["MemoryMax=infinity", "MemorySwapMax=infinity", "CPUQuotaPerSecUSec=infinity", "TasksMax=infinity"];
        assert_eq!(properties(none, 252, Version::V2), expected);
        assert_eq!(properties(r#"{"cpu": {"idle": 1, "shares": 5}}"#, 252, Version::V2), ["CPUWeight=0"]);
    }

    #[test]
    fn unified_words_come_last() {
        let json = r#"{"memory": {"limit": 100}, "unified": {"memory.max": "200", "misc.max": "x"}}"#;
        assert_eq!(properties(json, 252, Version::V2), ["MemoryMax=100", "MemoryMax=200"]);
        let wrong = serde_json::from_str(r#"{"unified": {"pids.max": "many"}}"#).unwrap();
        assert!(of(&wrong, 252, Version::V2).unwrap_err().to_string().contains("pids.max"));
    }

    #[test]
    fn lists_that_are_none_are_refused() {
        for list in ["1-", "x", "3-1", "0-4294967295", "99999999999999999999"] {
            assert!(bits("AllowedCPUs", list).is_err(), "{list}");
        }
    }

    #[test]
    fn devices_are_a_list_of_what_is_allowed() {
        let rules = |json: &str| devices(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap()).unwrap();
        let strict = rules(
            r#"[{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"},
            {"allow": true, "type": "b", "access": "m"}, {"allow": true, "type": "c", "major": 136, "access": "r"}]"#,
        );
        let pair = |name: &str, access: &str| (name.to_owned(), access.to_owned());
        let list = vec![pair("block-*", "m"), pair("/dev/char/1:3", "rw"), pair("char-136", "r")];
        assert_eq!(strict[1], ("DevicePolicy", Property::Word("strict")));
        assert_eq!(strict[2], ("DeviceAllow", Property::Devices(list)));
        let any = rules(r#"[{"allow": true, "access": "rwm"}]"#);
        assert_eq!(any[1], ("DevicePolicy", Property::Word("auto")));
    }
}
