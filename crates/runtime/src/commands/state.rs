//! `state`: what a container is doing, as JSON (runtime-spec, runtime.md "State", and what runc adds).

use std::collections::HashMap;

use serde::Serialize;

use super::{Call, print};
use crate::Result;
use crate::arguments::only_id;
use crate::container::{self, Container, Status};
use crate::error::Step;
use crate::record::Store;

/// In runc's order and words; `list` shows the same.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    oci_version: &'static str,
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) status: &'static str,
    pub(super) bundle: String,
    rootfs: String,
    pub(super) created: String,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: HashMap<String, String>,
    pub(super) owner: String,
}

impl State {
    /// Of a container, now.
    pub(super) fn of(container: Container) -> Self {
        let status = container.status();
        let record = container.record;
        Self {
            oci_version: sandbox::OCI_VERSION,
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status: status.name(),
            bundle: record.bundle.to_string_lossy().into_owned(),
            rootfs: record.rootfs.to_string_lossy().into_owned(),
            created: record.created,
            annotations: record.annotations,
            owner: container::owner(&container.directory),
            id: record.id,
        }
    }
}

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let id = only_id(call.words, "state")?;
    let state = State::of(Container::open(&Store::new(&call.globals.root), &id)?);
    let json = serde_json::to_string_pretty(&state).step(|| "encode the state".into())?;
    print(&(json + "\n")).map(|()| 0)
}
