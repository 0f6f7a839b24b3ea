//! `rm` and `container prune`.

use crate::model::Map;
use crate::{Engine, Result};

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
    pub fn remove(&self, _name: &str, _options: RemoveOptions) -> Result<()> {
        todo!()
    }

    /// Removes all containers that do not run (filters: `until`, `label`, `label!`).
    pub fn prune_containers(&self, _filters: &Map<Vec<String>>) -> Result<PruneReport> {
        todo!()
    }
}
