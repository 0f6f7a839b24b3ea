//! cgroups, v2 and v1/hybrid, by the file system. No process is ever moved: it is born in its cgroup (v2) or places
//! itself while it is single-threaded (v1).

use std::io;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;

/// One container's cgroup: a directory on v2, one per hierarchy on v1.
pub struct Cgroup {}

/// What `stats`, `explain` and the OOM check read.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// CPU time, nanoseconds.
    pub cpu_total: u64,
    /// CPU time in user mode, nanoseconds.
    pub cpu_user: u64,
    /// CPU time in the kernel, nanoseconds.
    pub cpu_system: u64,
    /// Periods throttled by the quota.
    pub cpu_throttled_periods: u64,
    /// Memory charged, bytes.
    pub memory: u64,
    /// Inactive file cache within it, bytes.
    pub memory_inactive_file: u64,
    /// Memory limit; `None`: none.
    pub memory_limit: Option<u64>,
    /// How often the kernel killed for want of memory.
    pub oom_kills: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Their limit; `None`: none.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub block_read: u64,
    /// Bytes written to block devices.
    pub block_write: u64,
}

/// Which layout the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Only the unified hierarchy.
    V2,
    /// v1 hierarchies, with or without an empty unified one beside.
    V1,
}

/// The host's layout.
pub fn version() -> Version {
    todo!()
}

impl Cgroup {
    /// Makes the cgroup `path` (below the root of each hierarchy, e.g. `/kiste/ID`) and its parents.
    pub fn create(_path: &str) -> io::Result<Self> {
        todo!()
    }

    /// An existing cgroup.
    pub fn open(_path: &str) -> io::Result<Self> {
        todo!()
    }

    /// Applies limits; also to a running container. Errors name file, value and the minimum where one is known.
    pub fn apply(&self, _resources: &LinuxResources) -> io::Result<()> {
        todo!()
    }

    /// Freezes (or thaws) all processes and waits until they are.
    pub fn freeze(&self, _frozen: bool) -> io::Result<()> {
        todo!()
    }

    /// Kills every process in it and below.
    pub fn kill(&self) -> io::Result<()> {
        todo!()
    }

    /// Every process in it and below, as the host numbers them.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        todo!()
    }

    /// What it uses now.
    pub fn usage(&self) -> io::Result<Usage> {
        todo!()
    }

    /// The directories, by controller (v2: one, named empty), for `explain` and for mounting `/sys/fs/cgroup`.
    pub fn directories(&self) -> Vec<(String, PathBuf)> {
        todo!()
    }

    /// Removes it with everything below; processes still in it are killed first.
    pub fn remove(self) -> io::Result<()> {
        todo!()
    }
}
