//! `system start`: after a boot, starts what restart policies want to run, as Docker's daemon does when it starts.

use super::StartOptions;
use crate::table::{self, Container, Intent};
use crate::{Engine, ErrorKind, Result};

impl Engine {
    /// Makes the records of all containers true, then starts those that have run before and whose restart policy wants
    /// them to run: `always`; `unless-stopped` if `stop` or `kill` did not end it; `on-failure` if it failed or nobody saw
    /// its end, as long as it has attempts left. Does nothing for those that run. Containers whose namespaces others
    /// join come first. Each name, with the error if its start failed.
    pub fn start_all(&self) -> Result<Vec<(String, Result<()>)>> {
        let mut containers = self.settle_all(self.read(table::all)?);
        containers.sort_by_key(|container| (joins(container), container.created_at));
        let mut report = Vec::new();
        for container in containers {
            if !self.is_due(&container)? {
                continue;
            }
            match self.start(&container.id, &StartOptions::default()) {
                // Somebody else has started or removed it meanwhile.
                Err(error) if matches!(error.kind, ErrorKind::NotModified | ErrorKind::NotFound) => {}
                started => report.push((container.name, started.map(drop))),
            }
        }
        Ok(report)
    }

    fn is_due(&self, container: &Container) -> Result<bool> {
        let policy = &container.host.restart_policy;
        let attempts = policy.maximum_retry_count;
        let stopped = || self.read(|connection| table::was_stopped(connection, &container.id));
        Ok(container.state == Intent::Exited
            && match policy.name.as_str() {
                "always" => true,
                "unless-stopped" => !stopped()?,
                "on-failure" => container.exit_code != 0 && (attempts <= 0 || container.restart_count < attempts),
                _ => false,
            })
    }
}

/// Whether it needs another container to be there first.
fn joins(container: &Container) -> bool {
    let host = &container.host;
    [&host.network_mode, &host.ipc_mode, &host.pid_mode, &host.userns_mode]
        .iter()
        .any(|mode| mode.starts_with("container:"))
}
