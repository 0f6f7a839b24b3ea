//! `explain`: what a container really is: its namespaces, ids, limits, layers, mounts and privileges, read from the
//! kernel and not from the configuration wherever it runs. Making readable text of it is the command line's business.

mod files;
mod process;

use serde::Serialize;

use crate::model::MountPoint;
use crate::status::{self, RunStatus};
use crate::table::{self, Container};
use crate::{Engine, Result};

use files::Files;
use process::{IdMap, Mount, Namespace, Privileges};

/// The whole story as data. Absent parts: the container does not run, so the kernel knows nothing of it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Explanation {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Image as named at creation.
    pub image: String,
    /// Docker's word for its state.
    pub status: String,
    /// Entry point and arguments.
    pub command: Vec<String>,
    /// The first process.
    pub process: Option<Process>,
    /// The kernel, which is the host's.
    pub kernel: Kernel,
    /// Each kind of namespace beside the host's.
    pub namespaces: Vec<Namespace>,
    /// User ids as mapped; empty: not mapped or not running.
    pub uid_map: Vec<IdMap>,
    /// Group ids as mapped.
    pub gid_map: Vec<IdMap>,
    /// Its cgroup.
    pub cgroup: Option<Cgroup>,
    /// Layers and what it changed on top of them.
    pub files: Files,
    /// What was asked to be mounted.
    pub volumes: Vec<MountPoint>,
    /// Everything that is mounted in it, as the kernel lists it.
    pub mounts: Vec<Mount>,
    /// What its first process may do.
    pub privileges: Option<Privileges>,
    /// The process that owns it.
    pub monitor: Option<Monitor>,
}

/// The first process of a container.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Process {
    /// As the host numbers it.
    pub host_pid: i32,
    /// As the container numbers it.
    pub container_pid: i32,
    /// User id on the host.
    pub host_uid: u32,
}

/// The kernel that host and containers share.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// `uname -v`.
    pub version: String,
    /// `uname -m`.
    pub machine: String,
}

/// Limits and present use. Sizes in bytes; absent limits: none.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Cgroup {
    /// 1 or 2.
    pub version: u8,
    /// Directory of each controller (v2: one, unnamed).
    pub directories: Vec<(String, String)>,
    /// Memory charged.
    pub memory: u64,
    /// Memory limit.
    pub memory_limit: Option<u64>,
    /// CPU time used, nanoseconds.
    pub cpu_time: u64,
    /// CPUs it may use at most, in billionths.
    pub cpu_limit: Option<i64>,
    /// Relative weight against other cgroups; absent: the kernel's 1024.
    pub cpu_shares: Option<i64>,
    /// CPUs that it may run on; empty: all.
    pub cpuset: String,
    /// Processes and threads.
    pub pids: u64,
    /// Their limit.
    pub pids_limit: Option<u64>,
    /// Bytes read from and written to block devices.
    pub block: (u64, u64),
    /// How often the kernel killed a process in it for want of memory.
    pub oom_kills: u64,
}

/// The process that owns a container.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Monitor {
    /// As the host numbers it.
    pub pid: i32,
    /// Its proportional memory, bytes; absent: it could not be read.
    pub memory: Option<u64>,
}

impl Engine {
    /// Reads what the kernel knows about the container now (or, for one that does not run, what is on record).
    pub fn explain(&self, name: &str) -> Result<Explanation> {
        let container = self.read(|connection| table::find(connection, name))?;
        let run = status::read(self.paths(), &container.id).filter(RunStatus::process_alive);
        let mut story = Explanation {
            id: container.id.clone(),
            name: container.name.clone(),
            image: container.image.clone(),
            status: run.as_ref().map_or(container.state.as_str(), |run| run.status.as_str()).to_owned(),
            command: command(&container),
            kernel: kernel(),
            files: files::read(self, &container)?,
            volumes: container.mounts.iter().map(|mount| mount.point.clone()).collect(),
            ..Explanation::default()
        };
        if let Some(run) = run {
            running(&mut story, &container, &run)?;
        }
        Ok(story)
    }
}

/// Adds what only a living process has.
fn running(story: &mut Explanation, container: &Container, run: &RunStatus) -> Result<()> {
    story.namespaces = process::namespaces(run.pid)?;
    story.uid_map = process::id_map(run.pid, "uid_map")?;
    story.gid_map = process::id_map(run.pid, "gid_map")?;
    story.mounts = process::mounts(run.pid)?;
    let status = process::read_status(run.pid)?;
    story.process = Some(status.process(run.pid));
    story.privileges = Some(status.privileges(run.pid));
    story.cgroup = cgroup(container);
    story.monitor = Some(Monitor { pid: run.monitor_pid, memory: process::proportional_memory(run.monitor_pid) });
    Ok(())
}

fn command(container: &Container) -> Vec<String> {
    let parts = [&container.config.entrypoint, &container.config.cmd];
    parts.into_iter().flatten().flatten().cloned().collect()
}

fn kernel() -> Kernel {
    let name = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Kernel { release: text(name.release()), version: text(name.version()), machine: text(name.machine()) }
}

/// The cgroup as the kernel has it; none where it cannot be opened (it is just being removed).
fn cgroup(container: &Container) -> Option<Cgroup> {
    let cgroup =
        sandbox::cgroup::Cgroup::open(&crate::spec::cgroup_path(&container.host.cgroup_parent, &container.id)).ok()?;
    let usage = cgroup.usage().ok()?;
    let host = &container.host;
    Some(Cgroup {
        version: if sandbox::cgroup::version() == sandbox::cgroup::Version::V2 { 2 } else { 1 },
        directories: cgroup.directories().into_iter().map(|(name, path)| (name, path.display().to_string())).collect(),
        memory: usage.memory,
        memory_limit: usage.memory_limit,
        cpu_time: usage.cpu_total,
        cpu_limit: cpu_limit(host),
        cpu_shares: (host.cpu_shares != 0).then_some(host.cpu_shares),
        cpuset: host.cpuset_cpus.clone(),
        pids: usage.pids,
        pids_limit: usage.pids_limit,
        block: (usage.block_read, usage.block_write),
        oom_kills: usage.oom_kills,
    })
}

/// `--cpus`, or quota over period (100 ms where only the quota is given), in billionths of a CPU.
fn cpu_limit(host: &crate::model::HostConfig) -> Option<i64> {
    let period = if host.cpu_period > 0 { host.cpu_period } else { 100_000 };
    match (host.nano_cpus, host.cpu_quota) {
        (nano, _) if nano > 0 => Some(nano),
        (_, quota) if quota > 0 => quota.checked_mul(1_000_000_000).map(|n| n / period),
        _ => None,
    }
}
