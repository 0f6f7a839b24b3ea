//! Checks of resource limits, with Docker's minima and messages (`verifyPlatformContainerResources`); `create` and
//! `update` share them.

use crate::model::{HostConfig, ThrottleDevice, WeightDevice};
use crate::{Error, Result};

/// The smallest memory limit that leaves room to start anything: Docker's.
const MINIMUM_MEMORY: i64 = 6 << 20;

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::invalid(message())) }
}

/// Checks every limit.
pub(crate) fn check(host: &HostConfig) -> Result<()> {
    check_memory(host)?;
    check_cpu(host)?;
    check_cpuset(&host.cpuset_cpus, "cpus", "CPUs", "/sys/devices/system/cpu/online")?;
    check_cpuset(&host.cpuset_mems, "mems", "memory nodes", "/sys/devices/system/node/online")?;
    check_block_io(host)?;
    ensure((-1000..=1000).contains(&host.oom_score_adj), || {
        format!("Invalid value {}, range for oom score adj is [-1000, 1000]", host.oom_score_adj)
    })?;
    ensure(host.shm_size >= 0, || "SHM size can not be less than 0".to_owned())
}

fn check_memory(host: &HostConfig) -> Result<()> {
    let (memory, swap, reservation) = (host.memory, host.memory_swap, host.memory_reservation);
    ensure(memory >= 0, || format!("invalid memory limit: {memory}"))?;
    ensure(memory == 0 || memory >= MINIMUM_MEMORY, || "Minimum memory limit allowed is 6MB".to_owned())?;
    ensure(memory == 0 || swap <= 0 || swap >= memory, || {
        "Minimum memoryswap limit should be larger than memory limit, see usage".to_owned()
    })?;
    ensure(memory != 0 || swap <= 0, || {
        "You should always set the Memory limit when using Memoryswap limit, see usage".to_owned()
    })?;
    ensure(swap >= -1, || format!("invalid memory-swap limit: {swap}, use -1 for unlimited swap"))?;
    let swappiness = host.memory_swappiness.unwrap_or(-1);
    ensure((-1..=100).contains(&swappiness), || {
        format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    })?;
    ensure(reservation == 0 || reservation >= MINIMUM_MEMORY, || {
        "Minimum memory reservation allowed is 6MB".to_owned()
    })?;
    ensure(memory == 0 || reservation == 0 || memory >= reservation, || {
        "Minimum memory limit can not be less than memory reservation limit, see usage".to_owned()
    })
}

/// Drops a limit of swap that this kernel cannot keep; Docker's warning about it.
pub(crate) fn drop_unkept_swap(host: &mut HostConfig, is_kept: impl FnOnce() -> bool) -> Option<String> {
    if host.memory_swap <= 0 || is_kept() {
        return None;
    }
    host.memory_swap = -1;
    let warning = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited \
        without swap.";
    Some(warning.to_owned())
}

/// Drops every limit, because there is no cgroup to set one in; Docker's warnings about those that were `asked` for.
pub(crate) fn drop_all(host: &mut HostConfig, asked: &HostConfig) -> Vec<String> {
    let none = HostConfig::default();
    let set = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let throttled = [&asked.blkio_device_read_bps, &asked.blkio_device_write_bps]
        .into_iter()
        .chain([&asked.blkio_device_read_iops, &asked.blkio_device_write_iops])
        .any(set);
    let dropped = [
        (asked.memory > 0, "memory limit capabilities", "Limitation discarded."),
        (asked.memory_reservation > 0, "memory soft limit capabilities", "Limitation discarded."),
        (asked.oom_kill_disable == Some(true), "OomKillDisable", "OomKillDisable discarded."),
        (asked.pids_limit.is_some_and(|limit| limit > 0), "PIDs limit capabilities", "PIDs limit discarded."),
        (asked.nano_cpus > 0 || asked.cpu_quota > 0, "CPU CFS scheduler", "Quota discarded."),
        (asked.cpu_period > 0, "CPU CFS scheduler", "Period discarded."),
        (asked.cpu_shares > 0, "CPU shares", "Shares discarded."),
        (!asked.cpuset_cpus.is_empty() || !asked.cpuset_mems.is_empty(), "cpuset", "Cpuset discarded."),
        (
            asked.cpu_realtime_runtime > 0 || asked.cpu_realtime_period > 0,
            "CPU real-time scheduler",
            "Runtime discarded.",
        ),
        (!asked.cgroup_parent.is_empty(), "parent cgroups", "Parent discarded."),
        (asked.blkio_weight > 0, "Block I/O weight", "Weight discarded."),
        (throttled, "Block I/O throttling", "Limits discarded."),
    ];
    *host = HostConfig {
        memory: none.memory,
        memory_reservation: none.memory_reservation,
        memory_swap: none.memory_swap,
        memory_swappiness: none.memory_swappiness,
        oom_kill_disable: none.oom_kill_disable,
        pids_limit: none.pids_limit,
        nano_cpus: none.nano_cpus,
        cpu_quota: none.cpu_quota,
        cpu_period: none.cpu_period,
        cpu_shares: none.cpu_shares,
        cpu_realtime_runtime: none.cpu_realtime_runtime,
        cpu_realtime_period: none.cpu_realtime_period,
        cpuset_cpus: none.cpuset_cpus,
        cpuset_mems: none.cpuset_mems,
        cgroup_parent: none.cgroup_parent,
        blkio_weight: none.blkio_weight,
        blkio_weight_device: none.blkio_weight_device,
        blkio_device_read_bps: none.blkio_device_read_bps,
        blkio_device_write_bps: none.blkio_device_write_bps,
        blkio_device_read_iops: none.blkio_device_read_iops,
        blkio_device_write_iops: none.blkio_device_write_iops,
        ..host.clone()
    };
    let warning = |(_, what, end): &(bool, &str, &str)| {
        format!("Your kernel does not support {what} or the cgroup is not mounted. {end}")
    };
    dropped.iter().filter(|(was_set, ..)| *was_set).map(warning).collect()
}

fn check_cpu(host: &HostConfig) -> Result<()> {
    let nano = host.nano_cpus;
    ensure(nano == 0 || host.cpu_period == 0, || {
        "Conflicting options: Nano CPUs and CPU Period cannot both be set.".to_owned()
    })?;
    ensure(nano == 0 || host.cpu_quota == 0, || {
        "Conflicting options: Nano CPUs and CPU Quota cannot both be set.".to_owned()
    })?;
    if nano != 0 {
        let cpus = online_cpus();
        ensure((10_000_000..=cpus * 1_000_000_000).contains(&nano), || {
            format!("range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")
        })?;
    }
    ensure(host.cpu_shares >= 0, || {
        format!("invalid CPU shares ({}): value must be a positive integer", host.cpu_shares)
    })?;
    // The kernel would change other values silently.
    ensure(host.cpu_shares == 0 || host.cpu_shares >= 2, || "the minimum allowed cpu-shares is 2".to_owned())?;
    ensure(host.cpu_shares <= 262_144, || "the maximum allowed cpu-shares is 262144".to_owned())?;
    ensure(host.cpu_period == 0 || (1000..=1_000_000).contains(&host.cpu_period), || {
        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)".to_owned()
    })?;
    ensure(host.cpu_quota <= 0 || host.cpu_quota >= 1000, || {
        "CPU cfs quota can not be less than 1ms (i.e. 1000)".to_owned()
    })?;
    let (period, runtime) = (host.cpu_realtime_period, host.cpu_realtime_runtime);
    ensure(period >= 0 && runtime >= 0, || "cpu real-time period and runtime cannot be negative".to_owned())?;
    ensure(period == 0 || runtime <= period, || {
        "cpu real-time runtime cannot be higher than cpu real-time period".to_owned()
    })
}

/// CPUs that are online.
pub(crate) fn online_cpus() -> i64 {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    parse_list(online.trim()).map_or(1, |list| list.len().max(1) as i64)
}

/// The numbers of a kernel list such as `0-3,5`; none if it is malformed or absurdly long.
pub(crate) fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= 8192 {
            return None;
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

fn check_cpuset(list: &str, field: &str, what: &str, online: &str) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let Some(wanted) = parse_list(list) else {
        return Err(Error::invalid(format!("Invalid value {list} for cpuset {field}")));
    };
    let available = std::fs::read_to_string(online).unwrap_or_else(|_| "0".to_owned());
    let available = available.trim();
    let have = parse_list(available).unwrap_or_default();
    ensure(wanted.iter().all(|number| have.contains(number)), || {
        format!("Requested {what} are not available - requested {list}, available: {available}")
    })
}

fn check_block_io(host: &HostConfig) -> Result<()> {
    let weight_is_good = |weight: u16| weight == 0 || (10..=1000).contains(&weight);
    ensure(weight_is_good(host.blkio_weight), || "Range of blkio weight is from 10 to 1000".to_owned())?;
    for WeightDevice { path, weight } in host.blkio_weight_device.iter().flatten() {
        ensure(weight_is_good(*weight), || format!("Range of blkio weight is from 10 to 1000 (device {path})"))?;
        device_number(path)?;
    }
    let throttles = [
        &host.blkio_device_read_bps,
        &host.blkio_device_write_bps,
        &host.blkio_device_read_iops,
        &host.blkio_device_write_iops,
    ];
    for ThrottleDevice { path, .. } in throttles.into_iter().flatten().flatten() {
        device_number(path)?;
    }
    Ok(())
}

/// Major and minor number of a device node on the host.
pub(crate) fn device_number(path: &str) -> Result<(i64, i64)> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let data = std::fs::metadata(path).map_err(|e| Error::invalid(format!("device {path}: {e}")))?;
    if !data.file_type().is_block_device() && !data.file_type().is_char_device() {
        return Err(Error::invalid(format!("{path} is not a device node")));
    }
    let number = data.rdev();
    Ok((i64::from(rustix::fs::major(number)), i64::from(rustix::fs::minor(number))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut HostConfig)) -> String {
        let mut host = HostConfig::default();
        change(&mut host);
        check(&host).unwrap_err().message
    }

    #[test]
    fn limits_below_the_minimum_are_refused_with_dockers_words() {
        assert_eq!(refused(|h| h.memory = 4 << 20), "Minimum memory limit allowed is 6MB");
        assert!(refused(|h| h.memory_swap = 64 << 20).starts_with("You should always set the Memory limit"));
        assert!(refused(|h| (h.memory, h.memory_swap) = (64 << 20, 32 << 20)).starts_with("Minimum memoryswap"));
        assert!(refused(|h| h.nano_cpus = 1).starts_with("range of CPUs is from 0.01"));
        assert!(refused(|h| (h.nano_cpus, h.cpu_quota) = (10_000_000, 5000)).starts_with("Conflicting options"));
        assert!(refused(|h| h.cpuset_cpus = "0-".to_owned()).starts_with("Invalid value 0- for cpuset cpus"));
        assert!(refused(|h| h.cpuset_cpus = "4000".to_owned()).starts_with("Requested CPUs are not available"));
        assert_eq!(refused(|h| h.cpu_shares = 1), "the minimum allowed cpu-shares is 2");
        assert_eq!(refused(|h| h.cpu_shares = 300_000), "the maximum allowed cpu-shares is 262144");
        assert!(refused(|h| h.blkio_weight = 5).starts_with("Range of blkio weight"));
        assert!(refused(|h| h.oom_score_adj = 2000).starts_with("Invalid value 2000"));
    }

    #[test]
    fn swap_is_limited_only_where_it_is_counted() {
        let limited = HostConfig { memory: 64 << 20, memory_swap: 128 << 20, ..HostConfig::default() };
        let mut host = limited.clone();
        assert_eq!(drop_unkept_swap(&mut host, || true), None);
        assert_eq!(host, limited);
        assert!(drop_unkept_swap(&mut host, || false).unwrap().contains("without swap"));
        assert_eq!((host.memory, host.memory_swap), (64 << 20, -1));
    }

    #[test]
    fn without_cgroups_every_limit_goes_with_a_word() {
        let asked = HostConfig { memory: 64 << 20, cpuset_cpus: "0".to_owned(), ..HostConfig::default() };
        let mut host = HostConfig { pids_limit: Some(4096), memory_swap: 128 << 20, init: Some(true), ..asked.clone() };
        let warnings = drop_all(&mut host, &asked);
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("Your kernel does not support memory limit capabilities"), "{warnings:?}");
        assert_eq!(host, HostConfig { init: Some(true), ..HostConfig::default() });
    }

    #[test]
    fn usual_limits_pass() {
        let host = HostConfig { memory: 64 << 20, memory_swap: -1, nano_cpus: 500_000_000, ..HostConfig::default() };
        check(&host).unwrap();
        assert_eq!(parse_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_list("2-1"), None);
        assert_eq!(device_number("/dev/null").unwrap(), (1, 3));
        assert!(device_number("/etc/passwd").is_err());
    }
}
