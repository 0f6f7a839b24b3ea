//! `update`: changes limits and restart policy of a container, live.

use records::Durability;
use sandbox::cgroup::Cgroup;

use super::exec::read_plan;
use crate::model::{HostConfig, RestartPolicy};
use crate::monitor::protocol::Request;
use crate::request::{limits, validate};
use crate::spec::{cgroup_path, resources};
use crate::table::{self, Container, Intent};
use crate::{Context as _, Engine, Error, Result};

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
    pub restart_policy: Option<RestartPolicy>,
}

impl Engine {
    /// Applies the changes to the record and, if it runs, to the cgroup; warnings.
    pub fn update(&self, name: &str, request: &UpdateRequest) -> Result<Vec<String>> {
        let container = self.look_up(name)?;
        if matches!(container.state, Intent::Removing | Intent::Dead) {
            return Err(cannot(&container, "Container is marked for removal and cannot be \"update\"."));
        }
        let host = changed(&container.host, request);
        if request.memory_swap.is_none() && host.memory_swap > 0 && host.memory > host.memory_swap {
            return Err(cannot(
                &container,
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
            ));
        }
        if self.bounds().confined {
            crate::confinement::check_host(&host)?;
        }
        limits::check(&host)?;
        check_policy(&host)?;
        // First what the kernel may refuse; the record follows it.
        let undo = self.apply_limits(&container, &host)?;
        let recorded = self.record_update(&container, request);
        if recorded.is_err() && undo {
            // Best effort: the error that matters is the record's.
            drop(self.apply_limits(&container, &container.host));
        }
        recorded?;
        self.update_plan(&container, &host)?;
        if request.restart_policy.is_some() {
            // None: it does not run, and the next monitor reads it from the record.
            self.ask(&container, &Request::UpdateRestart(host.restart_policy))?;
        }
        self.container_event(&container, "update", &[])?;
        Ok(Vec::new())
    }

    /// Changes the limits of a running container; whether there was something to change.
    fn apply_limits(&self, container: &Container, host: &HostConfig) -> Result<bool> {
        if container.state != Intent::Running || *host == container.host {
            return Ok(false);
        }
        let path = cgroup_path(&host.cgroup_parent, &container.id);
        // Between two runs of a restart policy there may be none: the next run gets its limits from the record.
        let Ok(cgroup) = Cgroup::open(&path) else { return Ok(false) };
        let resources = resources::limits(host)?;
        cgroup.apply(&resources).map_err(|e| cannot(container, &e.to_string()))?;
        Ok(true)
    }

    /// Writes the limits into the plan of the present run too: its monitor reads it again for every restart.
    fn update_plan(&self, container: &Container, host: &HostConfig) -> Result<()> {
        let Ok(mut plan) = read_plan(self.paths(), &container.id) else { return Ok(()) };
        let Some(linux) = plan.spec.linux_mut() else { return Ok(()) };
        let mut new = resources::limits(host)?;
        new.set_devices(linux.resources().as_ref().and_then(|old| old.devices().clone()));
        linux.set_resources(Some(new));
        plan.restart = host.restart_policy.clone();
        let directory = self.paths().container_state(&container.id);
        let json = serde_json::to_vec(&plan).step(|| "encode the plan".to_owned())?;
        let new = directory.join("plan.json.new");
        crate::status::write_private(&new, &json)
            .and_then(|()| std::fs::rename(&new, directory.join("plan.json")))
            .step(|| format!("write {}", new.display()))
    }

    /// Writes the changes on top of what is on record by now: two updates at once both count.
    fn record_update(&self, container: &Container, request: &UpdateRequest) -> Result<()> {
        self.write(Durability::Power, |transaction| {
            let now = table::find(transaction, &container.id)?;
            table::set_host(transaction, &now.id, &changed(&now.host, request))
        })
    }
}

fn cannot(container: &Container, cause: &str) -> Error {
    Error::conflict(format!("Cannot update container {}: {cause}", container.id))
}

fn check_policy(host: &HostConfig) -> Result<()> {
    if host.auto_remove && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err(Error::invalid("Restart policy cannot be updated because AutoRemove is enabled for the container"));
    }
    validate::check_restart_policy(&host.restart_policy)
}

/// The host part after the update.
fn changed(host: &HostConfig, request: &UpdateRequest) -> HostConfig {
    let mut host = host.clone();
    fn set<T: Clone>(field: &mut T, value: &Option<T>) {
        if let Some(value) = value {
            field.clone_from(value);
        }
    }
    set(&mut host.blkio_weight, &request.blkio_weight);
    set(&mut host.cpu_period, &request.cpu_period);
    set(&mut host.cpu_quota, &request.cpu_quota);
    set(&mut host.cpu_realtime_period, &request.cpu_realtime_period);
    set(&mut host.cpu_realtime_runtime, &request.cpu_realtime_runtime);
    set(&mut host.cpu_shares, &request.cpu_shares);
    set(&mut host.nano_cpus, &request.nano_cpus);
    set(&mut host.cpuset_cpus, &request.cpuset_cpus);
    set(&mut host.cpuset_mems, &request.cpuset_mems);
    set(&mut host.memory, &request.memory);
    set(&mut host.memory_reservation, &request.memory_reservation);
    set(&mut host.restart_policy, &request.restart_policy);
    if let Some(limit) = request.pids_limit {
        host.pids_limit = Some(limit);
    }
    match (request.memory, request.memory_swap) {
        (_, Some(swap)) => host.memory_swap = swap,
        (Some(memory), None) if host.memory_swap == 0 => host.memory_swap = memory.saturating_mul(2),
        _ => {}
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_given_changes() {
        let host = HostConfig { memory: 64 << 20, memory_swap: 128 << 20, cpu_shares: 5, ..HostConfig::default() };
        let request = UpdateRequest { memory: Some(32 << 20), ..UpdateRequest::default() };
        let new = changed(&host, &request);
        assert_eq!((new.memory, new.memory_swap, new.cpu_shares), (32 << 20, 128 << 20, 5));
        assert_eq!(changed(&host, &UpdateRequest::default()), host);
    }
}
