//! How a process is scheduled and where its memory comes from: scheduler, I/O priority, CPUs, NUMA policy, execution
//! domain.

use linux::process::Scheduling;
use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, Linux, LinuxMemoryPolicy, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, Process, Scheduler,
};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::Error;
use super::step::Step;

/// Highest number of a CPU or a memory node that is taken.
const HIGHEST: usize = 4095;

/// What can be said before anything is made.
pub(super) fn check(process: &Process, linux: Option<&Linux>) -> Result<(), Error> {
    process.scheduler().as_ref().map_or(Ok(()), check_scheduler)?;
    if let Some(wanted) = process.io_priority()
        && !(0..=7).contains(&wanted.priority())
    {
        return Err(Error::Invalid(format!("process.ioPriority.priority: {} is not 0 to 7", wanted.priority())));
    }
    if let Some(affinity) = process.exec_cpu_affinity() {
        initial(affinity)?;
        last(affinity)?;
    }
    let Some(linux) = linux else { return Ok(()) };
    if let Some(wanted) = linux.personality()
        && let Some(flag) = wanted.flags().iter().flatten().next()
    {
        return Err(Error::Invalid(format!(
            "linux.personality.flags: {flag:?} is not supported; there are no flags yet"
        )));
    }
    linux.memory_policy().as_ref().map_or(Ok(()), |policy| memory_policy(policy).map(drop))
}

/// As sched_setattr(2) wants it, in words.
fn check_scheduler(wanted: &Scheduler) -> Result<(), Error> {
    use LinuxSchedulerPolicy as Policy;
    let policy = *wanted.policy();
    let invalid = |field: &str, text: String| Err(Error::Invalid(format!("process.scheduler.{field}: {text}")));
    let (nice, priority) = (wanted.nice().unwrap_or(0), wanted.priority().unwrap_or(0));
    if matches!(policy, Policy::SchedOther | Policy::SchedBatch) && !(-20..=19).contains(&nice) {
        return invalid("nice", format!("{nice} is not -20 to 19"));
    }
    if priority != 0 && !matches!(policy, Policy::SchedFifo | Policy::SchedRr) {
        return invalid("priority", "only for SCHED_FIFO and SCHED_RR".into());
    }
    if priority < 0 {
        return invalid("priority", format!("{priority} is negative"));
    }
    if policy == Policy::SchedDeadline {
        return check_deadline(wanted);
    }
    let times = [("runtime", wanted.runtime()), ("deadline", wanted.deadline()), ("period", wanted.period())];
    match times.iter().find(|(_, time)| time.unwrap_or(0) != 0) {
        Some((field, _)) => invalid(field, "only for SCHED_DEADLINE".into()),
        None => Ok(()),
    }
}

/// The shortest time that the kernel grants, in nanoseconds (`dl_runtime`, sched(7)).
const SHORTEST: u64 = 1024;

/// runtime ≤ deadline ≤ period, each less than 2^63 ns; no period is one as long as the deadline.
fn check_deadline(wanted: &Scheduler) -> Result<(), Error> {
    let [runtime, deadline, period] =
        [wanted.runtime(), wanted.deadline(), wanted.period()].map(|time| time.unwrap_or(0));
    let too_long = |time: u64| i64::try_from(time).is_err();
    let (field, why) = match () {
        () if runtime == 0 => ("runtime", "SCHED_DEADLINE needs one".to_owned()),
        () if deadline == 0 => ("deadline", "SCHED_DEADLINE needs one".to_owned()),
        () if runtime < SHORTEST => ("runtime", format!("{runtime} ns is less than the shortest, {SHORTEST} ns")),
        () if too_long(runtime) => ("runtime", format!("{runtime} ns is too long")),
        () if too_long(deadline) => ("deadline", format!("{deadline} ns is too long")),
        () if too_long(period) => ("period", format!("{period} ns is too long")),
        () if runtime > deadline => ("runtime", format!("{runtime} ns is longer than the deadline, {deadline} ns")),
        () if period != 0 && deadline > period => {
            ("deadline", format!("{deadline} ns is longer than the period, {period} ns"))
        }
        () => return Ok(()),
    };
    Err(Error::Invalid(format!("process.scheduler.{field}: {why}")))
}

/// Everything but the CPUs. Raising most of it needs privileges, which the process still has.
pub(super) fn set(process: &Process, linux: Option<&Linux>) -> Result<(), Error> {
    if let Some(wanted) = process.scheduler() {
        set_scheduler(wanted)?;
    }
    if let Some(wanted) = process.io_priority() {
        let class = match wanted.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        linux::process::set_io_priority(class, wanted.priority() as u32).step(|| "process.ioPriority".into())?;
    }
    if let Some(wanted) = linux.and_then(|linux| linux.personality().as_ref()) {
        let domain = match wanted.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        };
        linux::process::set_personality(domain).step(|| "linux.personality".into())?;
    }
    if let Some(wanted) = linux.and_then(|linux| linux.memory_policy().as_ref()) {
        let (mode, nodes) = memory_policy(wanted)?;
        linux::process::set_memory_policy(mode, &nodes).step(|| format!("linux.memoryPolicy {}", wanted.mode()))?;
    }
    Ok(())
}

fn set_scheduler(wanted: &Scheduler) -> Result<(), Error> {
    let scheduling = Scheduling {
        policy: policy(*wanted.policy()),
        flags: wanted.flags().iter().flatten().map(|flag| scheduler_flag(*flag)).fold(0, |a, b| a | b),
        nice: wanted.nice().unwrap_or(0),
        priority: wanted.priority().unwrap_or(0) as u32,
        runtime: wanted.runtime().unwrap_or(0),
        deadline: wanted.deadline().unwrap_or(0),
        period: wanted.period().unwrap_or(0),
    };
    linux::process::set_scheduling(scheduling).step(|| format!("process.scheduler {}", wanted.policy()))
}

/// Runs the caller on the CPUs on which further processes are made: before they enter the container's cgroup.
pub(super) fn initial_cpus(process: &Process) -> Result<(), Error> {
    match process.exec_cpu_affinity().as_ref().map(initial).transpose()?.flatten() {
        Some(cpus) => sched_setaffinity(None, &cpus).step(|| "process.execCPUAffinity.initial".into()),
        None => Ok(()),
    }
}

/// And on those on which they stay.
pub(super) fn final_cpus(process: &Process) -> Result<(), Error> {
    match process.exec_cpu_affinity().as_ref().map(last).transpose()?.flatten() {
        Some(cpus) => sched_setaffinity(None, &cpus).step(|| "process.execCPUAffinity.final".into()),
        None => Ok(()),
    }
}

fn initial(affinity: &ExecCPUAffinity) -> Result<Option<CpuSet>, Error> {
    cpus("initial", affinity.initial().as_deref())
}

fn last(affinity: &ExecCPUAffinity) -> Result<Option<CpuSet>, Error> {
    cpus("final", affinity.cpu_affinity_final().as_deref())
}

fn cpus(field: &str, list: Option<&str>) -> Result<Option<CpuSet>, Error> {
    let Some(list) = list.filter(|list| !list.is_empty()) else { return Ok(None) };
    let field = format!("process.execCPUAffinity.{field}");
    let mut set = CpuSet::new();
    for number in numbers(&field, list)? {
        if number >= CpuSet::MAX_CPU {
            return Err(Error::Invalid(format!("{field}: there can be no CPU {number}")));
        }
        set.set(number);
    }
    Ok(Some(set))
}

/// Mode with flags, and the nodes as the kernel's bit mask.
fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<(u32, Vec<u64>), Error> {
    use MemoryPolicyModeType as Mode;
    // `linux/mempolicy.h`
    let mode = match policy.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let flag = |flag: &MemoryPolicyFlagType| match flag {
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
    };
    let flags = policy.flags().iter().flatten().map(flag).fold(0, |a: u32, b| a | b);
    let mut mask = Vec::new();
    for node in numbers("linux.memoryPolicy.nodes", policy.nodes().as_deref().unwrap_or_default())? {
        mask.resize(mask.len().max(node / 64 + 1), 0u64);
        mask[node / 64] |= 1 << (node % 64);
    }
    Ok((mode | flags, mask))
}

/// The numbers of a list such as `0-3,7`.
fn numbers(field: &str, list: &str) -> Result<Vec<usize>, Error> {
    let invalid = || Error::Invalid(format!("{field}: {list:?} is no list of numbers such as 0-3,7"));
    let mut all = Vec::new();
    for part in list.split(',').map(str::trim).filter(|_| !list.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|number| *number <= HIGHEST);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => all.extend(first..=last),
            _ => return Err(invalid()),
        }
    }
    Ok(all)
}

fn policy(policy: LinuxSchedulerPolicy) -> u32 {
    match policy {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    }
}

fn scheduler_flag(flag: LinuxSchedulerFlag) -> u64 {
    match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_json(process: &str, linux: &str) -> String {
        let process = format!(r#"{{"user": {{}}, "cwd": "/", {process}}}"#);
        let (process, linux) = (serde_json::from_str(&process).unwrap(), serde_json::from_str(linux).unwrap());
        check(&process, Some(&linux)).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn contradictions_name_the_field() {
        let cases = [
            (r#""scheduler": {"policy": "SCHED_OTHER", "nice": 20}"#, "scheduler.nice"),
            (r#""scheduler": {"policy": "SCHED_OTHER", "priority": 1}"#, "scheduler.priority"),
            (r#""scheduler": {"policy": "SCHED_FIFO", "priority": -1}"#, "scheduler.priority"),
            (r#""scheduler": {"policy": "SCHED_RR", "runtime": 5}"#, "scheduler.runtime"),
            (r#""ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}"#, "ioPriority.priority"),
            (r#""execCPUAffinity": {"initial": "3-1"}"#, "execCPUAffinity.initial"),
            (r#""execCPUAffinity": {"final": "0,4000"}"#, "execCPUAffinity.final"),
            (r#""scheduler": {"policy": "SCHED_FIFO", "priority": 10}"#, ""),
        ];
        for (process, field) in cases {
            let error = check_json(process, "{}");
            assert!(error.contains(field) && error.is_empty() == field.is_empty(), "{process}: {error}");
        }
        let flags = r#"{"personality": {"domain": "LINUX32", "flags": ["ADDR_NO_RANDOMIZE"]}}"#;
        assert!(check_json(r#""args": []"#, flags).contains("personality.flags"));
        for nodes in ["x", "1-", "5-4", "0-99999999999"] {
            let policy = format!(r#"{{"memoryPolicy": {{"mode": "MPOL_BIND", "nodes": "{nodes}"}}}}"#);
            assert!(check_json(r#""args": []"#, &policy).contains("memoryPolicy.nodes"), "{nodes}");
        }
    }

    #[test]
    fn nodes_become_a_mask() {
        let policy = r#"{"mode": "MPOL_INTERLEAVE", "nodes": "0-2,65", "flags": ["MPOL_F_STATIC_NODES"]}"#;
        let (mode, mask) = memory_policy(&serde_json::from_str(policy).unwrap()).unwrap();
        assert_eq!((mode, mask), (3 | 1 << 15, vec![7, 2]));
    }
}
