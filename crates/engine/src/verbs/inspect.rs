//! `inspect`: everything about one container in Docker's JSON.

use crate::{Engine, Result};

/// Docker's `ContainerInspect` document.
pub type ContainerInspect = serde_json::Value;

impl Engine {
    /// Everything about one container.
    pub fn inspect_container(&self, _name: &str, _size: bool) -> Result<ContainerInspect> {
        todo!()
    }

    /// `port`: (`80/tcp`, `0.0.0.0:8080`) pairs.
    pub fn ports(&self, _name: &str) -> Result<Vec<(String, String)>> {
        todo!()
    }
}
