//! `top`: the processes of a container as the host sees them.

use crate::{Engine, Result};

/// A table of processes.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Top {
    /// Column heads.
    pub titles: Vec<String>,
    /// One row a process.
    pub processes: Vec<Vec<String>>,
}

impl Engine {
    /// `arguments` are those of ps(1); empty: `-ef`.
    pub fn top(&self, _name: &str, _arguments: &[String]) -> Result<Top> {
        todo!()
    }
}
