//! `events`: what happened, from the event log on disk, and what happens next.

use crate::model::{Event, Map};
use crate::{Engine, Result};

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct EventsRequest {
    /// Nanoseconds since 1970: replay from here; absent: only new ones.
    pub since: Option<i64>,
    /// Nanoseconds since 1970: stop there; absent: never.
    pub until: Option<i64>,
    /// `key` → values: config container daemon event image label network node plugin scope secret service type volume.
    pub filters: Map<Vec<String>>,
}

impl Engine {
    /// Calls `each` for every event until it returns false.
    pub fn events(&self, _request: &EventsRequest, _each: &mut dyn FnMut(Event) -> bool) -> Result<()> {
        todo!()
    }
}
