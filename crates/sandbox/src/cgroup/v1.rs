//! Limits on v1 hierarchies: which setting goes to which file, in which order.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxRdma, LinuxResources,
    LinuxThrottleDevice,
};

use super::files::{Setting, read, write, write_together};
use super::{Cgroup, devices};

/// Gives a new cpuset its parent's CPUs and memory nodes: without them no process may enter.
pub(super) fn inherit_cpuset(path: &Path, root: &Path) -> io::Result<()> {
    // Usually already done by the kernel, because the parent has `cgroup.clone_children`.
    if path == root || !read(&path.join("cpuset.mems"))?.trim().is_empty() {
        return Ok(());
    }
    let Some(parent) = path.parent() else { return Ok(()) };
    inherit_cpuset(parent, root)?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = read(&parent.join(file))?;
        write(&path.join(file), value.trim())?;
    }
    Ok(())
}

/// Applies all limits.
pub(super) fn apply(cgroup: &Cgroup, resources: &LinuxResources) -> io::Result<()> {
    if let Some(cpu) = resources.cpu() {
        set(cgroup, "cpu", &cpu_settings(cpu))?;
        set(cgroup, "cpuset", &cpuset_settings(cpu))?;
    }
    if let Some(memory) = resources.memory() {
        set(cgroup, "memory", &memory_settings(memory)?)?;
    }
    if let Some(pids) = resources.pids() {
        set(cgroup, "pids", &[Setting::new("pids.max", maximum(pids.limit()))])?;
    }
    if let Some(block_io) = resources.block_io() {
        set(cgroup, "blkio", &block_io_settings(block_io, cgroup.directory("blkio")))?;
    }
    if let Some(limits) = resources.hugepage_limits() {
        set(cgroup, "hugetlb", &hugetlb_settings(limits, "limit_in_bytes", cgroup.directory("hugetlb"))?)?;
    }
    if let Some(network) = resources.network() {
        set(cgroup, "net_cls", &class_settings(network))?;
        set(cgroup, "net_prio", &priority_settings(network))?;
    }
    if let Some(limits) = resources.rdma() {
        set(cgroup, "rdma", &rdma_settings(limits))?;
    }
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        return Err(unsupported("unified resources are for cgroup v2; this host has v1 hierarchies"));
    }
    if let Some(rules) = resources.devices() {
        devices::apply_v1(cgroup.directory("devices"), rules)?;
    }
    Ok(())
}

fn set(cgroup: &Cgroup, controller: &str, settings: &[Setting]) -> io::Result<()> {
    let Some(first) = settings.first() else { return Ok(()) };
    let Some(directory) = cgroup.directory(controller) else {
        return Err(unsupported(&format!(
            "cannot set {} to {}: this host has no `{controller}` cgroup controller mounted",
            first.file, first.value
        )));
    };
    write_together(directory, settings)
}

pub(super) fn unsupported(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// A number of processes; a negative one means no limit.
pub(super) fn maximum(limit: i64) -> String {
    match limit {
        ..0 => "max".to_owned(),
        // Nothing could be started in a cgroup of no process.
        _ => limit.max(1).to_string(),
    }
}

/// Adds a setting if there is a value; zero means unset for all that use it, as in runc.
fn add<T: ToString + PartialEq + Default>(settings: &mut Vec<Setting>, file: &str, value: Option<T>) {
    if let Some(value) = value.filter(|value| *value != T::default()) {
        settings.push(Setting::new(file, value));
    }
}

fn cpu_settings(cpu: &LinuxCpu) -> Vec<Setting> {
    let mut settings = Vec::new();
    add(&mut settings, "cpu.shares", cpu.shares());
    add(&mut settings, "cpu.cfs_period_us", cpu.period());
    add(&mut settings, "cpu.cfs_quota_us", cpu.quota());
    // Zero is a real value for the next two: it takes the burst or the idle class back.
    settings.extend(cpu.burst().map(|burst| Setting::new("cpu.cfs_burst_us", burst)));
    settings.extend(cpu.idle().map(|idle| Setting::new("cpu.idle", idle)));
    add(&mut settings, "cpu.rt_period_us", cpu.realtime_period());
    add(&mut settings, "cpu.rt_runtime_us", cpu.realtime_runtime());
    settings
}

pub(super) fn cpuset_settings(cpu: &LinuxCpu) -> Vec<Setting> {
    let mut settings = Vec::new();
    add(&mut settings, "cpuset.cpus", cpu.cpus().clone());
    add(&mut settings, "cpuset.mems", cpu.mems().clone());
    settings
}

fn memory_settings(memory: &LinuxMemory) -> io::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    add(&mut settings, "memory.limit_in_bytes", memory.limit());
    // Taking the memory limit away takes the one for memory+swap away, unless another is asked for.
    let unlimited = memory.limit() == Some(-1) && memory.swap().unwrap_or(0) == 0;
    add(&mut settings, "memory.memsw.limit_in_bytes", if unlimited { Some(-1) } else { memory.swap() });
    add(&mut settings, "memory.soft_limit_in_bytes", memory.reservation());
    settings.extend(memory.swappiness().map(|swappiness| Setting::new("memory.swappiness", swappiness)));
    let disabled = memory.disable_oom_killer();
    settings.extend(disabled.map(|disabled| Setting::new("memory.oom_control", u8::from(disabled))));
    refuse_kernel_memory(memory)?;
    #[allow(deprecated, reason = "the specification still has it, and v1 kernels take it")]
    add(&mut settings, "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp());
    Ok(settings)
}

/// No kernel since 5.16 accepts a limit of kernel memory alone.
pub(super) fn refuse_kernel_memory(memory: &LinuxMemory) -> io::Result<()> {
    if memory.use_hierarchy() == Some(false) {
        return Err(unsupported("memory.useHierarchy cannot be switched off: kernels since 5.11 count hierarchically"));
    }
    #[allow(deprecated, reason = "the specification still has it; a clear answer is due")]
    match memory.kernel() {
        None | Some(0 | -1) => Ok(()),
        Some(limit) => Err(unsupported(&format!(
            "cannot limit kernel memory to {limit}: kernels since 5.16 count it as memory; hint: use the memory limit"
        ))),
    }
}

fn block_io_settings(block_io: &LinuxBlockIo, directory: Option<&Path>) -> Vec<Setting> {
    // The CFQ scheduler's files went with Linux 5.0; BFQ has its own.
    let prefix = match directory.is_some_and(|directory| directory.join("blkio.weight").exists()) {
        true => "blkio",
        false => "blkio.bfq",
    };
    let mut settings = Vec::new();
    add(&mut settings, &format!("{prefix}.weight"), block_io.weight());
    add(&mut settings, "blkio.leaf_weight", block_io.leaf_weight());
    for device in block_io.weight_device().iter().flatten() {
        let line = |weight: u16| format!("{}:{} {weight}", device.major(), device.minor());
        add(&mut settings, &format!("{prefix}.weight_device"), device.weight().map(line));
        add(&mut settings, "blkio.leaf_weight_device", device.leaf_weight().map(line));
    }
    throttle(&mut settings, "read_bps", block_io.throttle_read_bps_device());
    throttle(&mut settings, "write_bps", block_io.throttle_write_bps_device());
    throttle(&mut settings, "read_iops", block_io.throttle_read_iops_device());
    throttle(&mut settings, "write_iops", block_io.throttle_write_iops_device());
    settings
}

/// A rate of zero takes the limit away.
fn throttle(settings: &mut Vec<Setting>, what: &str, devices: &Option<Vec<LinuxThrottleDevice>>) {
    settings.extend(devices.iter().flatten().map(|device| {
        let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
        Setting::new(format!("blkio.throttle.{what}_device"), value)
    }));
}

/// Limits per page size, and of reservations where the kernel (5.7 on) has them, so that `mmap` fails instead of a
/// later page fault killing the process.
pub(super) fn hugetlb_settings(
    limits: &[LinuxHugepageLimit],
    file: &str,
    directory: Option<&Path>,
) -> io::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for limit in limits {
        let size = limit.page_size();
        if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let text =
                format!("invalid huge page size {size:?}; hint: one of those in /sys/kernel/mm/hugepages, as 2MB");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        settings.push(Setting::new(format!("hugetlb.{size}.{file}"), limit.limit()));
        let reserved = format!("hugetlb.{size}.rsvd.{file}");
        if directory.is_some_and(|directory| directory.join(&reserved).exists()) {
            settings.push(Setting::new(reserved, limit.limit()));
        }
    }
    Ok(settings)
}

fn class_settings(network: &LinuxNetwork) -> Vec<Setting> {
    let mut settings = Vec::new();
    add(&mut settings, "net_cls.classid", network.class_id());
    settings
}

fn priority_settings(network: &LinuxNetwork) -> Vec<Setting> {
    let line = |entry: &oci_spec::runtime::LinuxInterfacePriority| {
        Setting::new("net_prio.ifpriomap", format!("{} {}", entry.name(), entry.priority()))
    };
    network.priorities().iter().flatten().map(line).collect()
}

pub(super) fn rdma_settings(limits: &HashMap<String, LinuxRdma>) -> Vec<Setting> {
    let amount = |limit: Option<u32>| limit.map_or("max".to_owned(), |limit| limit.to_string());
    let line = |(device, limit): (&String, &LinuxRdma)| {
        let (handles, objects) = (amount(limit.hca_handles()), amount(limit.hca_objects()));
        Setting::new("rdma.max", format!("{device} hca_handle={handles} hca_object={objects}"))
    };
    limits.iter().map(line).collect()
}

/// Whether this freezer has reached the state.
pub(super) fn is_frozen(directory: &Path, frozen: bool) -> io::Result<bool> {
    let state = fs::read_to_string(directory.join("freezer.state"))?;
    Ok(state.trim() == if frozen { "FROZEN" } else { "THAWED" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(settings: &[Setting]) -> Vec<String> {
        settings.iter().map(|each| format!("{}={}", each.file, each.value)).collect()
    }

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_cpu_knob_has_its_file() {
        let json = r#"{"cpu": {"shares": 2, "quota": -1, "period": 5000, "burst": 0, "idle": 1,
            "realtimePeriod": 7, "realtimeRuntime": 6, "cpus": "0-1", "mems": "0"}}"#;
        let cpu = resources(json).cpu().clone().unwrap();
        let expected = [
            "cpu.shares=2",
            "cpu.cfs_period_us=5000",
            "cpu.cfs_quota_us=-1",
            "cpu.cfs_burst_us=0",
            "cpu.idle=1",
            "cpu.rt_period_us=7",
            "cpu.rt_runtime_us=6",
        ];
        assert_eq!(lines(&cpu_settings(&cpu)), expected);
        assert_eq!(lines(&cpuset_settings(&cpu)), ["cpuset.cpus=0-1", "cpuset.mems=0"]);
        let nothing = LinuxCpu::default();
        assert!(cpu_settings(&nothing).is_empty() && cpuset_settings(&nothing).is_empty());
    }

    #[test]
    fn every_memory_knob_has_its_file() {
        let json = r#"{"memory": {"limit": 9, "swap": 10, "reservation": 8, "swappiness": 0, "disableOOMKiller": true,
            "kernelTCP": 3}}"#;
        let expected = [
            "memory.limit_in_bytes=9",
            "memory.memsw.limit_in_bytes=10",
            "memory.soft_limit_in_bytes=8",
            "memory.swappiness=0",
            "memory.oom_control=1",
            "memory.kmem.tcp.limit_in_bytes=3",
        ];
        assert_eq!(lines(&memory_settings(&resources(json).memory().unwrap()).unwrap()), expected);
        let lifted = resources(r#"{"memory": {"limit": -1}}"#).memory().unwrap();
        let expected = ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"];
        assert_eq!(lines(&memory_settings(&lifted).unwrap()), expected);
    }

    #[test]
    fn block_weights_go_to_the_scheduler_that_is_there() {
        let json = r#"{"blockIO": {"weight": 300, "leafWeight": 200,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 400, "leafWeight": 100}]}}"#;
        let block_io = resources(json).block_io().clone().unwrap();
        let bfq = [
            "blkio.bfq.weight=300",
            "blkio.leaf_weight=200",
            "blkio.bfq.weight_device=8:0 400",
            "blkio.leaf_weight_device=8:0 100",
        ];
        assert_eq!(lines(&block_io_settings(&block_io, None)), bfq);
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("blkio.weight"), "").unwrap();
        let cfq = lines(&block_io_settings(&block_io, Some(directory.path())));
        assert_eq!((cfq[0].as_str(), cfq[2].as_str()), ("blkio.weight=300", "blkio.weight_device=8:0 400"));
    }

    #[test]
    fn network_and_rdma_knobs_have_their_files() {
        let json = r#"{"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3}}}"#;
        let resources = resources(json);
        let network = resources.network().clone().unwrap();
        assert_eq!(lines(&class_settings(&network)), ["net_cls.classid=1048577"]);
        assert_eq!(lines(&priority_settings(&network)), ["net_prio.ifpriomap=eth0 5"]);
        let rdma = rdma_settings(resources.rdma().as_ref().unwrap());
        assert_eq!(lines(&rdma), ["rdma.max=mlx5_1 hca_handle=3 hca_object=max"]);
    }
}
