//! Volumes: directories that outlive containers.

use crate::model::{Map, Volume};
use crate::{Engine, PruneReport, Result};

impl Engine {
    /// Creates a volume; the existing one if it is there with the same driver.
    pub fn create_volume(
        &self,
        _name: Option<&str>,
        _driver: &str,
        _options: &Map<String>,
        _labels: &Map<String>,
    ) -> Result<Volume> {
        todo!()
    }

    /// Filters: dangling driver label name.
    pub fn list_volumes(&self, _filters: &Map<Vec<String>>) -> Result<Vec<Volume>> {
        todo!()
    }

    /// One volume.
    pub fn inspect_volume(&self, _name: &str) -> Result<Volume> {
        todo!()
    }

    /// Removes a volume that no container uses; with `force` a missing one is no error.
    pub fn remove_volume(&self, _name: &str, _force: bool) -> Result<()> {
        todo!()
    }

    /// Removes unused volumes: anonymous ones, with `all` named ones too (filters: `label`, `label!`, `all`).
    pub fn prune_volumes(&self, _filters: &Map<Vec<String>>) -> Result<PruneReport> {
        todo!()
    }
}
