//! `explain`: what a container really is: its namespaces, ids, limits, layers, mounts and privileges, read from the
//! kernel.

use crate::{Engine, Result};

/// The whole story as data; the command line makes text of it.
pub type Explanation = serde_json::Value;

impl Engine {
    /// Reads what the kernel knows about the container now (or, for one that does not run, what is on record).
    pub fn explain(&self, _name: &str) -> Result<Explanation> {
        todo!()
    }
}
