//! Limits in the unified hierarchy: OCI's v1 terms translated to its files, and controllers turned on down the path.

use std::fs;
use std::io;
use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::files::{Setting, read, read_number, write, write_together};
use super::v1::{cpuset_settings, hugetlb_settings, maximum, rdma_settings, refuse_kernel_memory, unsupported};
use super::{bpf, devices};

/// Whether the kernel offers this controller, named as on v1, below this cgroup.
pub(super) fn has_controller(root: &Path, controller: &str) -> bool {
    let name = match controller {
        "blkio" => "io",
        "cpuacct" => "cpu",
        // Part of every unified hierarchy.
        "devices" | "freezer" => return true,
        other => other,
    };
    read(&root.join("cgroup.controllers")).is_ok_and(|offered| offered.split_whitespace().any(|each| each == name))
}

/// Turns every controller of the root on in all ancestors of `path`, unless they already reach it.
pub(super) fn enable_controllers(path: &Path, root: &Path) -> io::Result<()> {
    let offered = read(&root.join("cgroup.controllers"))?;
    if read(&path.join("cgroup.controllers"))?.split_whitespace().count() == offered.split_whitespace().count() {
        return Ok(());
    }
    let mut ancestors: Vec<&Path> = path.ancestors().skip(1).take_while(|parent| parent.starts_with(root)).collect();
    ancestors.reverse();
    ancestors.iter().try_for_each(|ancestor| enable_below(ancestor))
}

/// One by one if not all together: a controller that is busy (real-time processes, an own process in the cgroup) or
/// not delegated must not cost the others. Limits that need a missing one fail when they are set.
fn enable_below(ancestor: &Path) -> io::Result<()> {
    let offered = read(&ancestor.join("cgroup.controllers"))?;
    let wanted: Vec<String> = offered.split_whitespace().map(|name| format!("+{name}")).collect();
    let file = ancestor.join("cgroup.subtree_control");
    if fs::write(&file, wanted.join(" ")).is_err() {
        for name in &wanted {
            // Reported by the limit that needs it, with its own name.
            let _ = fs::write(&file, name);
        }
    }
    Ok(())
}

/// The directory and the files that the kernel says belong to whoever a cgroup is delegated to.
pub(super) fn give_to(directory: &Path, uid: u32) -> io::Result<()> {
    // Before Linux 4.15: those of cgroups(7).
    const OLD: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control";
    let files = fs::read_to_string("/sys/kernel/cgroup/delegate").unwrap_or_else(|_| OLD.to_owned());
    give_files_to(directory, files.lines().filter(|name| !name.contains('/')), uid)
}

fn give_files_to<'a>(directory: &Path, files: impl Iterator<Item = &'a str>, uid: u32) -> io::Result<()> {
    std::os::unix::fs::chown(directory, Some(uid), None)?;
    for file in files {
        match std::os::unix::fs::chown(directory.join(file), Some(uid), None) {
            // A controller that is off here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    Ok(())
}

/// Applies all limits.
pub(super) fn apply(directory: &Path, resources: &LinuxResources) -> io::Result<()> {
    write_together(directory, &settings(directory, resources)?)?;
    if let Some(rules) = resources.devices() {
        bpf::apply(directory, &devices::Policy::of(rules)?)?;
    }
    Ok(())
}

fn settings(directory: &Path, resources: &LinuxResources) -> io::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    if let Some(cpu) = resources.cpu() {
        settings.extend(cpu_settings(directory, cpu)?);
        settings.extend(cpuset_settings(cpu));
    }
    if let Some(memory) = resources.memory() {
        settings.extend(memory_settings(directory, memory)?);
    }
    if let Some(pids) = resources.pids() {
        settings.push(Setting::new("pids.max", maximum(pids.limit())));
    }
    if let Some(block_io) = resources.block_io() {
        settings.extend(block_io_settings(directory, block_io)?);
    }
    if let Some(limits) = resources.hugepage_limits() {
        settings.extend(hugetlb_settings(limits, "max", Some(directory))?);
    }
    if let Some(limits) = resources.rdma() {
        settings.extend(rdma_settings(limits));
    }
    if resources.network().as_ref().is_some_and(|network| {
        network.class_id().is_some_and(|class| class != 0) || network.priorities().iter().flatten().next().is_some()
    }) {
        return Err(unsupported("network classes and priorities are cgroup v1 settings; this host has cgroup v2"));
    }
    // Last: what is said in the host's own terms wins.
    settings.extend(unified_settings(resources.unified().iter().flatten())?);
    Ok(settings)
}

fn cpu_settings(directory: &Path, cpu: &LinuxCpu) -> io::Result<Vec<Setting>> {
    if cpu.realtime_period().unwrap_or(0) != 0 || cpu.realtime_runtime().unwrap_or(0) != 0 {
        return Err(unsupported("real-time CPU limits are cgroup v1 settings; this host has cgroup v2"));
    }
    let mut settings = Vec::new();
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        settings.push(Setting::new("cpu.weight", weight_of_shares(shares)));
    }
    let (quota, period) = (cpu.quota().filter(|quota| *quota != 0), cpu.period().filter(|period| *period != 0));
    if quota.is_some() || period.is_some() {
        settings.push(Setting::new("cpu.max", bandwidth(directory, quota, period)?));
    }
    settings.extend(cpu.burst().map(|burst| Setting::new("cpu.max.burst", burst)));
    settings.extend(cpu.idle().map(|idle| Setting::new("cpu.idle", idle)));
    Ok(settings)
}

/// `quota period` for `cpu.max`; what is not given stays as it is.
fn bandwidth(directory: &Path, quota: Option<i64>, period: Option<u64>) -> io::Result<String> {
    let quota = match quota {
        Some(..=0) => "max".to_owned(),
        Some(quota) => quota.to_string(),
        None => read(&directory.join("cpu.max"))?.split_whitespace().next().unwrap_or("max").to_owned(),
    };
    Ok(period.map_or(quota.clone(), |period| format!("{quota} {period}")))
}

/// CPU shares (2 to 262144, usually 1024) as a weight (1 to 10000, usually 100), by the same curve through these three
/// points that runc uses since 1.4 (opencontainers/cgroups, `ConvertCPUSharesToCgroupV2Value`).
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// Block I/O weight (10 to 1000) as the unified hierarchy's (1 to 10000).
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.max(10) - 10) * 9999 / 990
}

fn memory_settings(directory: &Path, memory: &LinuxMemory) -> io::Result<Vec<Setting>> {
    refuse_v1_memory(memory)?;
    if memory.check_before_update() == Some(true) {
        check_usage(directory, memory)?;
    }
    let mut settings = Vec::new();
    if let Some(swap) = swap_only(memory)? {
        let file = directory.join("memory.swap.max");
        // Nothing to switch off where swap is not accounted.
        if file.exists() || !matches!(swap.as_str(), "0" | "max") {
            settings.push(Setting::new("memory.swap.max", swap));
        }
    }
    let bytes = |limit: i64| if limit < 0 { "max".to_owned() } else { limit.to_string() };
    let given = |limit: Option<i64>| limit.filter(|limit| *limit != 0).map(bytes);
    settings.extend(given(memory.limit()).map(|limit| Setting::new("memory.max", limit)));
    settings.extend(given(memory.reservation()).map(|low| Setting::new("memory.low", low)));
    Ok(settings)
}

fn refuse_v1_memory(memory: &LinuxMemory) -> io::Result<()> {
    refuse_kernel_memory(memory)?;
    if memory.disable_oom_killer() == Some(true) {
        return Err(unsupported("the OOM killer can be switched off on cgroup v1 only; this host has cgroup v2"));
    }
    if memory.swappiness().is_some() {
        return Err(unsupported("swappiness per container exists on cgroup v1 only; this host has cgroup v2"));
    }
    #[allow(deprecated, reason = "the specification still has it; a clear answer is due")]
    if memory.kernel_tcp().is_some_and(|limit| limit > 0) {
        return Err(unsupported("a limit of TCP buffers exists on cgroup v1 only; this host has cgroup v2"));
    }
    Ok(())
}

/// OCI's limit is for memory and swap together, this hierarchy's for swap alone.
pub(super) fn swap_only(memory: &LinuxMemory) -> io::Result<Option<String>> {
    let invalid = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    match (memory.limit().unwrap_or(0), memory.swap().unwrap_or(0)) {
        (-1, 0) | (_, -1) => Ok(Some("max".to_owned())),
        (_, 0) => Ok(None),
        (-1, swap) => Ok(Some(swap.to_string())),
        (0, swap) => invalid(format!("memory+swap limit {swap} without a memory limit; hint: set both")),
        (limit, swap) if swap < limit => invalid(format!("memory+swap limit {swap} is below the memory limit {limit}")),
        (limit, swap) => Ok(Some((swap - limit).to_string())),
    }
}

/// Refuses a limit below what is in use, instead of having the kernel kill for it.
fn check_usage(directory: &Path, memory: &LinuxMemory) -> io::Result<()> {
    let used = read_number(&directory.join("memory.current")).unwrap_or(0);
    match memory.limit() {
        Some(limit @ 1..) if (limit as u64) < used => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("memory limit {limit} is below the {used} bytes in use"),
        )),
        _ => Ok(()),
    }
}

fn block_io_settings(directory: &Path, block_io: &LinuxBlockIo) -> io::Result<Vec<Setting>> {
    let per_device = block_io.weight_device().iter().flatten();
    if block_io.leaf_weight().is_some_and(|weight| weight != 0)
        || per_device.clone().any(|device| device.leaf_weight().is_some_and(|weight| weight != 0))
    {
        return Err(unsupported("leaf weights are cgroup v1 settings; this host has cgroup v2"));
    }
    // BFQ takes the weight as it is, the io.cost model translated.
    let bfq = directory.join("io.bfq.weight").exists();
    let (file, weigh) = match bfq {
        true => ("io.bfq.weight", u64::from as fn(u16) -> u64),
        false => ("io.weight", io_weight as fn(u16) -> u64),
    };
    let mut settings = Vec::new();
    settings.extend(block_io.weight().filter(|weight| *weight != 0).map(|weight| Setting::new(file, weigh(weight))));
    for device in per_device {
        let weight = device.weight().filter(|weight| *weight != 0);
        settings.extend(
            weight.map(|weight| Setting::new(file, format!("{}:{} {}", device.major(), device.minor(), weigh(weight)))),
        );
    }
    throttle(&mut settings, "rbps", block_io.throttle_read_bps_device());
    throttle(&mut settings, "wbps", block_io.throttle_write_bps_device());
    throttle(&mut settings, "riops", block_io.throttle_read_iops_device());
    throttle(&mut settings, "wiops", block_io.throttle_write_iops_device());
    Ok(settings)
}

/// A rate of zero takes the limit away.
fn throttle(settings: &mut Vec<Setting>, key: &str, devices: &Option<Vec<LinuxThrottleDevice>>) {
    settings.extend(devices.iter().flatten().map(|device| {
        let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
        Setting::new("io.max", format!("{}:{} {key}={rate}", device.major(), device.minor()))
    }));
}

/// File names and values verbatim; only plain names, so that nothing outside the cgroup is written.
fn unified_settings<'a>(unified: impl Iterator<Item = (&'a String, &'a String)>) -> io::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for (file, value) in unified {
        let plain = file.contains('.') && !file.starts_with('.') && !file.contains('/');
        if !plain || file.starts_with("cgroup.") {
            let text = format!("invalid unified resource {file:?}; hint: a file of a controller, as `memory.high`");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        settings.extend(value.lines().map(|line| Setting::new(file, line)));
    }
    settings.sort_by(|left, right| left.file.cmp(&right.file));
    Ok(settings)
}

/// Whether the freezer has reached the state, from the text of `cgroup.events`.
pub(super) fn is_frozen(directory: &Path, frozen: bool) -> io::Result<bool> {
    let events = read(&directory.join("cgroup.events"))?;
    Ok(super::files::keyed(&events, "frozen") == Some(u64::from(frozen)))
}

/// Writes to `cgroup.kill` (Linux 5.14); false if there is none.
pub(super) fn kill(directory: &Path) -> io::Result<bool> {
    match directory.join("cgroup.kill") {
        file if file.exists() => write(&file, "1").map(|()| true),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would be written into a cgroup with these files: `file=value`, in order.
    fn written(files: &[(&str, &str)], json: &str) -> Result<Vec<String>, String> {
        let directory = tempfile::tempdir().unwrap();
        files.iter().for_each(|(file, content)| fs::write(directory.path().join(file), content).unwrap());
        let settings = settings(directory.path(), &serde_json::from_str(json).unwrap());
        let lines = |settings: Vec<Setting>| settings.into_iter().map(|each| format!("{}={}", each.file, each.value));
        settings.map(|settings| lines(settings).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn shares_become_weights_through_the_three_fixed_points() {
        let cases = [(1, 1), (2, 1), (1024, 100), (262_144, 10_000), (512, 59), (2048, 174)];
        for (shares, weight) in cases {
            assert_eq!(weight_of_shares(shares), weight, "shares {shares}");
        }
        let curve: Vec<u64> = (2..5000).map(weight_of_shares).collect();
        assert!(curve.is_sorted());
    }

    #[test]
    fn a_delegated_cgroup_has_its_files_and_no_limits() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        ["cgroup.procs", "memory.max"].iter().for_each(|name| fs::write(file(name), "").unwrap());
        give_files_to(directory.path(), ["cgroup.procs", "cgroup.threads"].into_iter(), 1234).unwrap();
        let owner = |path: &Path| fs::metadata(path).unwrap().uid();
        let owners = [owner(directory.path()), owner(&file("cgroup.procs")), owner(&file("memory.max"))];
        assert_eq!(owners, [1234, 1234, rustix::process::geteuid().as_raw()]);
    }

    #[test]
    fn block_weights_span_the_whole_range() {
        assert_eq!([10, 500, 1000, 0].map(io_weight), [1, 4950, 10_000, 1]);
    }

    #[test]
    fn swap_is_counted_without_memory() {
        let file = [("memory.swap.max", "max")];
        let cases = [
            (r#"{"limit": 100, "swap": 150}"#, &["memory.swap.max=50", "memory.max=100"][..]),
            (r#"{"limit": 100, "swap": 100}"#, &["memory.swap.max=0", "memory.max=100"]),
            (r#"{"limit": 100, "swap": -1}"#, &["memory.swap.max=max", "memory.max=100"]),
            (r#"{"limit": -1}"#, &["memory.swap.max=max", "memory.max=max"]),
            (r#"{"limit": -1, "swap": 70}"#, &["memory.swap.max=70", "memory.max=max"]),
            (r#"{"limit": 100, "reservation": 60}"#, &["memory.max=100", "memory.low=60"]),
        ];
        for (memory, expected) in cases {
            assert_eq!(written(&file, &format!(r#"{{"memory": {memory}}}"#)).unwrap(), expected, "{memory}");
        }
        for memory in [r#"{"swap": 100}"#, r#"{"limit": 100, "swap": 99}"#] {
            assert!(written(&file, &format!(r#"{{"memory": {memory}}}"#)).is_err(), "{memory}");
        }
    }

    #[test]
    fn no_swap_is_switched_off_where_none_is_accounted() {
        let same = r#"{"memory": {"limit": 100, "swap": 100}}"#;
        assert_eq!(written(&[], same).unwrap(), ["memory.max=100"]);
        let some = r#"{"memory": {"limit": 100, "swap": 150}}"#;
        assert_eq!(written(&[], some).unwrap()[0], "memory.swap.max=50", "and the kernel refuses it");
    }

    #[test]
    fn bandwidth_keeps_what_is_not_given() {
        let file = [("cpu.max", "25000 50000\n")];
        let cases = [
            (r#"{"quota": 10000, "period": 20000}"#, "cpu.max=10000 20000"),
            (r#"{"quota": 10000}"#, "cpu.max=10000"),
            (r#"{"quota": -1}"#, "cpu.max=max"),
            (r#"{"period": 20000}"#, "cpu.max=25000 20000"),
        ];
        for (cpu, expected) in cases {
            assert_eq!(written(&file, &format!(r#"{{"cpu": {cpu}}}"#)).unwrap(), [expected], "{cpu}");
        }
    }

    #[test]
    fn block_io_goes_to_the_scheduler_that_is_there() {
        let json = r#"{"blockIO": {"weight": 1000, "weightDevice": [{"major": 8, "minor": 1, "weight": 10}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 0}]}}"#;
        let limits = ["io.max=8:0 rbps=5", "io.max=8:0 wiops=max"];
        let bfq = written(&[("io.bfq.weight", "")], json).unwrap();
        assert_eq!(bfq, [&["io.bfq.weight=1000", "io.bfq.weight=8:1 10"][..], &limits].concat());
        let cost = written(&[], json).unwrap();
        assert_eq!(cost, [&["io.weight=10000", "io.weight=8:1 1"][..], &limits].concat());
    }

    #[test]
    fn huge_pages_limit_reservations_where_the_kernel_can() {
        let json = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#;
        assert_eq!(written(&[], json).unwrap(), ["hugetlb.2MB.max=4194304"]);
        let both = written(&[("hugetlb.2MB.rsvd.max", "max")], json).unwrap();
        assert_eq!(both, ["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"]);
    }

    #[test]
    fn unified_resources_are_plain_files_of_controllers_and_come_last() {
        let json = r#"{"pids": {"limit": 0}, "unified": {"memory.high": "5", "io.max": "8:0 rbps=1\n8:16 rbps=2"}}"#;
        let expected = ["pids.max=1", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=5"];
        assert_eq!(written(&[], json).unwrap(), expected);
        for file in ["../memory.high", "cgroup.procs", "memory", ".memory", "a/b.c"] {
            assert!(written(&[], &format!(r#"{{"unified": {{"{file}": "1"}}}}"#)).is_err(), "{file}");
        }
    }

    #[test]
    fn what_only_v1_has_is_refused_by_name() {
        let cases = [
            (r#"{"memory": {"disableOOMKiller": true}}"#, "OOM"),
            (r#"{"memory": {"swappiness": 10}}"#, "swappiness"),
            (r#"{"memory": {"kernelTCP": 10}}"#, "TCP"),
            (r#"{"cpu": {"realtimeRuntime": 1}}"#, "real-time"),
            (r#"{"network": {"classID": 1}}"#, "network"),
            (r#"{"blockIO": {"leafWeight": 10}}"#, "leaf"),
        ];
        for (json, word) in cases {
            let error = written(&[], json).unwrap_err();
            assert!(error.contains(word) && error.contains("cgroup v"), "{error}");
        }
        assert_eq!(written(&[], r#"{"memory": {"disableOOMKiller": false}}"#).unwrap(), [""; 0]);
    }
}
