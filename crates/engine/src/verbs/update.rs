//! `update`: changes limits and restart policy of a container, live.

use crate::{Engine, Result};

/// What to change; absent: leave.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "the same fields, with the same units, as in HostConfig")]
pub struct UpdateRequest {
    pub blkio_weight: Option<u16>,
    pub cpu_period: Option<i64>,
    pub cpu_quota: Option<i64>,
    pub cpu_realtime_period: Option<i64>,
    pub cpu_realtime_runtime: Option<i64>,
    pub cpu_shares: Option<i64>,
    pub nano_cpus: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    pub memory: Option<i64>,
    pub memory_reservation: Option<i64>,
    pub memory_swap: Option<i64>,
    pub pids_limit: Option<i64>,
    pub restart_policy: Option<crate::model::RestartPolicy>,
}

impl Engine {
    /// Applies the changes to the record and, if it runs, to the cgroup; warnings.
    pub fn update(&self, _name: &str, _request: &UpdateRequest) -> Result<Vec<String>> {
        todo!()
    }
}
