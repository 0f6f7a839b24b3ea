//! `pause` and `resume`: stops all processes of a container for a while.

use super::Call;
use crate::arguments::only_id;
use crate::container::{Container, Status};
use crate::error::Step;
use crate::record::Store;
use crate::{Error, Result};

pub(super) fn pause(call: Call<'_>) -> Result<u8> {
    let id = only_id(call.words, "pause")?;
    let container = Container::open(&Store::new(&call.globals.root), &id)?;
    match container.status() {
        Status::Running | Status::Created => {
            container.required_cgroup()?.freeze(true).step(|| "pause the container".into())?;
            Ok(0)
        }
        _ => Err(Error::new("container not running")),
    }
}

pub(super) fn resume(call: Call<'_>) -> Result<u8> {
    let id = only_id(call.words, "resume")?;
    let container = Container::open(&Store::new(&call.globals.root), &id)?;
    match container.status() {
        Status::Paused => {
            container.required_cgroup()?.freeze(false).step(|| "resume the container".into())?;
            Ok(0)
        }
        _ => Err(Error::new("container not paused")),
    }
}
