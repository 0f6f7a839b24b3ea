//! `rm` and `container prune`. A removal is marked in the record first, so that one that was interrupted is finished by
//! the next command; the record goes last.

use crate::filters::Filters;
use crate::model::{Map, Status};
use crate::status::{self, RunLock};
use crate::table::{self, Container, Intent};
use crate::{Engine, Error, ErrorKind, Result, events, tree};

/// Options of `rm`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RemoveOptions {
    /// Kill it first.
    pub force: bool,
    /// Remove its anonymous volumes too.
    pub volumes: bool,
}

/// What a prune removed.
#[derive(Clone, Debug, Default)]
pub struct PruneReport {
    /// Ids or names.
    pub removed: Vec<String>,
    /// Bytes.
    pub reclaimed: u64,
}

impl Engine {
    /// Removes a container and everything that it owns.
    pub fn remove(&self, name: &str, options: RemoveOptions) -> Result<()> {
        let container = self.look_up(name)?;
        match self.remove_found(name, &container, options) {
            // It removed itself meanwhile, which is what was wanted.
            Err(error) if error.kind == ErrorKind::NotFound && container.host.auto_remove => Ok(()),
            done => done,
        }
    }

    fn remove_found(&self, name: &str, container: &Container, options: RemoveOptions) -> Result<()> {
        let _lock = loop {
            if let Some(lock) = RunLock::try_take(self.paths(), &container.id)? {
                break lock;
            }
            self.make_way(name, container, options)?;
        };
        self.remove_locked(&container.id, options.volumes).inspect_err(|error| {
            if error.kind == ErrorKind::NotFound {
                // Taking the lock made the state directory again. What stays is swept by a later command.
                drop(tree::remove(&self.paths().container_state(&container.id)));
            }
        })
    }

    /// Somebody is responsible for the container's run: an error, or with `force` the end of the run.
    fn make_way(&self, name: &str, container: &Container, options: RemoveOptions) -> Result<()> {
        let run = status::read(self.paths(), &container.id).map(|run| run.status);
        let refuse = |what: &str| Err(Error::conflict(format!("cannot remove container \"{name}\": {what}")));
        match run {
            Some(Status::Running | Status::Paused | Status::Restarting) if options.force => {
                match self.stop(&container.id, Some("KILL"), Some(0)) {
                    // It ended by itself meanwhile, perhaps for ever.
                    Err(error) if matches!(error.kind, ErrorKind::NotModified | ErrorKind::NotFound) => Ok(()),
                    stopped => stopped,
                }
            }
            Some(Status::Paused) => refuse("container is paused and must be unpaused first"),
            Some(Status::Running) => refuse("container is running: stop the container before removing or force remove"),
            Some(Status::Restarting) => {
                refuse("container is restarting: stop the container before removing or force remove")
            }
            _ => {
                // Starting, ending or being removed by another command: a matter of milliseconds.
                std::thread::sleep(std::time::Duration::from_millis(1));
                self.read(|connection| table::find(connection, &container.id)).map(drop)
            }
        }
    }

    /// Removes all containers that do not run (filters: `until`, `label`, `label!`).
    pub fn prune_containers(&self, filters: &Map<Vec<String>>) -> Result<PruneReport> {
        let filters = Filters::new(filters, &["until", "label", "label!"])?;
        let until = filters.until()?;
        let mut report = PruneReport::default();
        for container in self.settle_all(self.read(table::all)?) {
            let wanted = matches!(container.state, Intent::Created | Intent::Exited | Intent::Dead)
                && until.is_none_or(|until| container.created_at < until)
                && filters.labels(&container.config.labels)
                && self.check_reach(&container, &container.id).is_ok();
            if !wanted {
                continue;
            }
            let bytes = tree::size(&self.writable_home(&container)?.join("upper"));
            let Some(_lock) = RunLock::try_take(self.paths(), &container.id)? else { continue };
            match self.remove_locked(&container.id, false) {
                Ok(()) => {
                    report.reclaimed += bytes;
                    report.removed.push(container.id);
                }
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if !report.removed.is_empty() {
            let attributes = Map::from([("reclaimed".to_owned(), report.reclaimed.to_string())]);
            events::append(self.paths(), &events::event("container", "prune", "", attributes))?;
        }
        Ok(report)
    }

    /// Finishes removals that were interrupted; the other containers.
    pub(crate) fn finish_removals(&self, containers: Vec<Container>) -> Result<Vec<Container>> {
        let mut rest = Vec::with_capacity(containers.len());
        for container in containers {
            let lock = match container.state {
                Intent::Removing => RunLock::try_take(self.paths(), &container.id)?,
                _ => None,
            };
            // Without a lock somebody is at work on it.
            let Some(_lock) = lock else {
                rest.push(container);
                continue;
            };
            match self.remove_locked(&container.id, container.host.auto_remove) {
                Err(error) if error.kind != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(rest)
    }
}
