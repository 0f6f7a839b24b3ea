//! Builds that `POST /build/cancel` can stop, by the ids that their clients gave them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use build::Cancel;

/// All that run.
#[derive(Clone, Default)]
pub(crate) struct Cancels(Arc<Mutex<HashMap<String, Cancel>>>);

/// A build that can be stopped as long as this lives.
pub(crate) struct Guard {
    cancels: Cancels,
    id: Option<String>,
}

impl Cancels {
    /// Registers a build; one without an id cannot be named.
    pub(crate) fn watch(&self, id: Option<String>, cancel: &Cancel) -> Guard {
        if let Some(id) = &id {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), cancel.clone());
        }
        Guard { cancels: self.clone(), id }
    }

    /// Stops the build of an id, if there is one.
    pub(crate) fn cancel(&self, id: &str) {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(cancel) = found {
            cancel.cancel();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(id) = &self.id {
            self.cancels.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
    }
}
