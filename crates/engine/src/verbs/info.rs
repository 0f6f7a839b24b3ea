//! `info` and `version`, in Docker's JSON.

use crate::{Engine, Result};

impl Engine {
    /// Docker's `SystemInfo` document.
    pub fn info(&self) -> Result<serde_json::Value> {
        todo!()
    }

    /// Docker's `SystemVersion` document.
    pub fn version(&self) -> serde_json::Value {
        todo!()
    }
}
