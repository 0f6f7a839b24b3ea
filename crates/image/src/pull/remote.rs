//! The places where a reference's image may be, best first, each connected to when it is needed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Reference;
use crate::error::{Error, Result};
use crate::remote::{Endpoint, Registry, Right, Settings};

/// All places of one repository.
pub(crate) struct Remote {
    settings: Arc<Settings>,
    shown: String,
    endpoints: Vec<(Endpoint, OnceLock<Registry>)>,
    chosen: AtomicUsize,
}

impl Remote {
    pub(crate) fn new(settings: &Arc<Settings>, reference: &Reference) -> Result<Self> {
        let endpoints = Endpoint::for_pull(settings, reference)?;
        Ok(Remote {
            settings: Arc::clone(settings),
            shown: reference.familiar_name(),
            endpoints: endpoints.into_iter().map(|endpoint| (endpoint, OnceLock::new())).collect(),
            chosen: AtomicUsize::new(0),
        })
    }

    /// How many places there are.
    pub(crate) fn places(&self) -> usize {
        self.endpoints.len()
    }

    /// The place that has the image.
    pub(crate) fn chosen(&self) -> usize {
        self.chosen.load(Ordering::Relaxed)
    }

    /// The registry at a place.
    pub(crate) fn at(&self, place: usize) -> Result<&Registry> {
        let missing = || Error::Registry(format!("{}: no more places to look", self.shown));
        let (endpoint, slot) = self.endpoints.get(place).ok_or_else(missing)?;
        if let Some(registry) = slot.get() {
            return Ok(registry);
        }
        let registry = Registry::connect(&self.settings, endpoint, &self.shown, Right::Pull)?;
        Ok(slot.get_or_init(|| registry))
    }

    /// The registry that has the image.
    pub(crate) fn registry(&self) -> Result<&Registry> {
        self.at(self.chosen())
    }

    /// Asks one place after the other; the one that answers is chosen. The last one's error counts: the others only copy.
    pub(crate) fn choose<T>(&self, ask: impl Fn(&Registry) -> Result<T>) -> Result<T> {
        let mut outcome = Err(Error::Registry(format!("{}: no place to look", self.shown)));
        for place in 0..self.places() {
            outcome = self.at(place).and_then(&ask);
            if outcome.is_ok() {
                self.chosen.store(place, Ordering::Relaxed);
                break;
            }
        }
        outcome
    }
}
