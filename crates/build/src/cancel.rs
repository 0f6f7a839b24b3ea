//! Stopping a build from another thread: what runs is killed, what waits gives up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Error, Result};

type Action = Box<dyn Fn() + Send>;

/// Stops a build; clones stop the same one.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    cancelled: AtomicBool,
    actions: Mutex<(u64, BTreeMap<u64, Action>)>,
}

impl Cancel {
    /// Stops the build: its processes are killed now.
    pub fn cancel(&self) {
        if !self.0.cancelled.swap(true, Ordering::SeqCst) {
            let actions = self.0.actions.lock().unwrap_or_else(PoisonError::into_inner);
            actions.1.values().for_each(|action| action());
        }
    }

    /// Whether it was stopped.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// An error if it was.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Does this when the build is stopped, at once if it was already, until the answer is dropped.
    pub(crate) fn on_cancel(&self, action: impl Fn() + Send + 'static) -> Hook {
        let mut actions = self.0.actions.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_cancelled() {
            action();
        }
        actions.0 += 1;
        let number = actions.0;
        actions.1.insert(number, Box::new(action));
        Hook { cancel: self.clone(), number }
    }
}

/// An action that goes with this.
pub(crate) struct Hook {
    cancel: Cancel,
    number: u64,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.cancel.0.actions.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn what_is_hooked_is_done_once() {
        let (cancel, count) = (Cancel::default(), Arc::new(AtomicUsize::new(0)));
        let counting = |count: &Arc<AtomicUsize>| {
            let count = count.clone();
            move || {
                count.fetch_add(1, Ordering::SeqCst);
            }
        };
        let kept = cancel.on_cancel(counting(&count));
        drop(cancel.on_cancel(counting(&count)));
        assert!(cancel.check().is_ok());
        cancel.cancel();
        cancel.cancel();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        let _late = cancel.on_cancel(counting(&count));
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert!(cancel.check().unwrap_err().cancelled);
        drop(kept);
    }
}
