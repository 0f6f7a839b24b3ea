//! Events of one container, as the monitor tells them.

use crate::model::Map;
use crate::plan::Plan;
use crate::verbs::read_plan;
use crate::{Paths, events};

/// Knows what every event of the container carries.
pub(super) struct Teller {
    paths: Paths,
    id: String,
    name: String,
    image: String,
    labels: Map<String>,
    /// Whether it is in networks.
    networked: bool,
}

impl Teller {
    pub(super) fn new(paths: &Paths, plan: &Plan) -> Self {
        let (id, name, image) = (plan.id.clone(), plan.name.clone(), plan.image.clone());
        Teller { paths: paths.clone(), id, name, image, labels: plan.labels.clone(), networked: plan.network.is_some() }
    }

    /// The container has another name now.
    pub(super) fn renamed(&mut self, name: String) {
        self.name = name;
    }

    /// Its networks have it now.
    pub(super) fn connected(&self, plan: &Plan) {
        events::tell_networks(&self.paths, &self.id, plan.network.as_ref(), "connect");
    }

    /// Its networks have lost it: those that it was in last.
    pub(super) fn disconnected(&self) {
        if !self.networked {
            return;
        }
        if let Ok(plan) = read_plan(&self.paths, &self.id) {
            events::tell_networks(&self.paths, &self.id, plan.network.as_ref(), "disconnect");
        }
    }

    /// Appends an event. The container matters more than its history: a full disk is not its problem.
    pub(super) fn tell(&self, action: &str, more: &[(&str, String)]) {
        let event = events::container_event(&self.id, &self.name, &self.image, &self.labels, action, more);
        drop(events::append(&self.paths, &event));
    }
}
