//! `ps`: the list of containers, with Docker's filters.

use crate::model::{Map, MountPoint, Status};
use crate::{Engine, Result};

/// Which containers.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Also those that do not run.
    pub all: bool,
    /// Only the newest N, whatever their state.
    pub last: Option<usize>,
    /// Compute sizes.
    pub size: bool,
    /// `key` → values: ancestor before exited expose health id is-task label name network publish since status volume.
    pub filters: Map<Vec<String>>,
}

/// One container of the list.
#[derive(Clone, Debug, Default)]
pub struct ContainerRow {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Name without the slash.
    pub name: String,
    /// Image as named at creation.
    pub image: String,
    /// Image id.
    pub image_id: String,
    /// Entry point and arguments in one line.
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    /// State.
    pub status: Status,
    /// Docker's phrase: `Up 3 minutes (healthy)`, `Exited (0) 2 days ago`.
    pub status_text: String,
    /// Exit code of the last run.
    pub exit_code: i64,
    /// Ports in `ps` form.
    pub ports: String,
    /// Labels.
    pub labels: Map<String>,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
    /// Network names.
    pub networks: Vec<String>,
    /// Bytes changed, and bytes in all (only with `size`).
    pub sizes: Option<(u64, u64)>,
}

impl Engine {
    /// Newest first.
    pub fn list(&self, _request: &ListRequest) -> Result<Vec<ContainerRow>> {
        todo!()
    }
}
