//! Events of one container, as the monitor tells them.

use crate::model::Map;
use crate::plan::Plan;
use crate::{Paths, events};

/// Knows what every event of the container carries.
pub(super) struct Teller {
    paths: Paths,
    id: String,
    name: String,
    image: String,
    labels: Map<String>,
}

impl Teller {
    pub(super) fn new(paths: &Paths, plan: &Plan) -> Self {
        let (id, name, image) = (plan.id.clone(), plan.name.clone(), plan.image.clone());
        Teller { paths: paths.clone(), id, name, image, labels: plan.labels.clone() }
    }

    /// The container has another name now.
    pub(super) fn renamed(&mut self, name: String) {
        self.name = name;
    }

    /// Appends an event. The container matters more than its history: a full disk is not its problem.
    pub(super) fn tell(&self, action: &str, more: &[(&str, String)]) {
        let event = events::container_event(&self.id, &self.name, &self.image, &self.labels, action, more);
        drop(events::append(&self.paths, &event));
    }
}
