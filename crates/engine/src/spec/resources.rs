//! From Docker's limits to the OCI configuration's `linux.resources`; `start` and `update` share it.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
    LinuxWeightDeviceBuilder,
};

use crate::model::{HostConfig, ThrottleDevice};
use crate::request::limits::device_number;
use crate::{Context as _, Result};

/// Scheduler period of `--cpus` in microseconds (Docker's).
const PERIOD: i64 = 100_000;

fn given<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// Every limit but the device rules.
pub(crate) fn limits(host: &HostConfig) -> Result<LinuxResources> {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    resources.set_memory(Some(memory(host)));
    resources.set_cpu(Some(cpu(host)));
    resources.set_pids(pids(host));
    resources.set_block_io(block_io(host)?);
    Ok(resources)
}

fn memory(host: &HostConfig) -> LinuxMemory {
    let mut memory = LinuxMemory::default();
    memory.set_limit(given(host.memory));
    memory.set_reservation(given(host.memory_reservation));
    // "Unlimited" needs no file where swap is not counted.
    memory.set_swap(given(host.memory_swap).filter(|swap| *swap != -1 || sandbox::cgroup::accounts_swap()));
    memory.set_swappiness(host.memory_swappiness.and_then(|value| u64::try_from(value).ok()));
    memory.set_disable_oom_killer(host.oom_kill_disable.filter(|disable| *disable));
    memory
}

fn cpu(host: &HostConfig) -> LinuxCpu {
    let mut cpu = LinuxCpu::default();
    let (mut period, mut quota) = (host.cpu_period, host.cpu_quota);
    if host.nano_cpus > 0 {
        // N CPUs are N × period of running time in every period.
        (period, quota) = (PERIOD, host.nano_cpus / (1_000_000_000 / PERIOD));
    }
    cpu.set_shares(given(host.cpu_shares as u64));
    cpu.set_period(given(period as u64));
    cpu.set_quota(given(quota));
    cpu.set_realtime_period(given(host.cpu_realtime_period as u64));
    cpu.set_realtime_runtime(given(host.cpu_realtime_runtime));
    cpu.set_cpus(given(host.cpuset_cpus.clone()));
    cpu.set_mems(given(host.cpuset_mems.clone()));
    cpu
}

fn pids(host: &HostConfig) -> Option<LinuxPids> {
    let limit = host.pids_limit?;
    let mut pids = LinuxPids::default();
    pids.set_limit(if limit > 0 { limit } else { -1 });
    Some(pids)
}

fn block_io(host: &HostConfig) -> Result<Option<LinuxBlockIo>> {
    let mut io = LinuxBlockIo::default();
    let mut weights = Vec::new();
    for device in host.blkio_weight_device.iter().flatten() {
        let (major, minor) = device_number(&device.path)?;
        let weight = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(device.weight).build();
        weights.push(weight.step(|| format!("describe device {}", device.path))?);
    }
    io.set_weight(given(host.blkio_weight));
    io.set_weight_device(given(weights));
    io.set_throttle_read_bps_device(throttles(host.blkio_device_read_bps.as_ref())?);
    io.set_throttle_write_bps_device(throttles(host.blkio_device_write_bps.as_ref())?);
    io.set_throttle_read_iops_device(throttles(host.blkio_device_read_iops.as_ref())?);
    io.set_throttle_write_iops_device(throttles(host.blkio_device_write_iops.as_ref())?);
    Ok((io != LinuxBlockIo::default()).then_some(io))
}

fn throttles(devices: Option<&Vec<ThrottleDevice>>) -> Result<Option<Vec<LinuxThrottleDevice>>> {
    let mut throttles = Vec::new();
    for device in devices.into_iter().flatten() {
        let (major, minor) = device_number(&device.path)?;
        let throttle = LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(device.rate).build();
        throttles.push(throttle.step(|| format!("describe device {}", device.path))?);
    }
    Ok(given(throttles))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_period_and_quota() {
        let host = HostConfig { nano_cpus: 1_500_000_000, ..HostConfig::default() };
        let resources = limits(&host).unwrap();
        let cpu = resources.cpu().as_ref().unwrap();
        assert_eq!((cpu.period(), cpu.quota()), (Some(100_000), Some(150_000)));
    }

    #[test]
    fn nothing_asked_is_nothing_set() {
        let resources = limits(&HostConfig::default()).unwrap();
        assert_eq!(resources.memory().as_ref().unwrap(), &LinuxMemory::default());
        assert!(resources.block_io().is_none() && resources.pids().is_none());
    }

    #[test]
    fn throttles_name_devices_by_number() {
        let device = ThrottleDevice { path: "/dev/null".to_owned(), rate: 7 };
        let host = HostConfig { blkio_device_read_bps: Some(vec![device]), ..HostConfig::default() };
        let io = limits(&host).unwrap().block_io().clone().unwrap();
        let throttle = &io.throttle_read_bps_device().as_ref().unwrap()[0];
        assert_eq!((throttle.major(), throttle.minor(), throttle.rate()), (1, 3, 7));
    }
}
