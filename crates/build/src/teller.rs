//! Numbers the steps of a build and tells of them, from any thread.

use std::sync::mpsc::Sender;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use crate::Result;
use crate::copying::hex;
use crate::event::Event;

/// Tells whoever watches.
pub(crate) struct Teller {
    sender: Mutex<Sender<Event>>,
    last: Mutex<usize>,
}

impl Teller {
    pub(crate) fn new(sender: Sender<Event>) -> Self {
        Teller { sender: Mutex::new(sender), last: Mutex::new(0) }
    }

    pub(crate) fn tell(&self, event: Event) {
        // Nobody may be listening any more; then nobody misses it.
        let _ = self.sender.lock().unwrap_or_else(PoisonError::into_inner).send(event);
    }

    /// Runs a step; `work` gets its number and says whether it came from the cache.
    pub(crate) fn step<T>(&self, name: String, work: impl FnOnce(usize) -> Result<(T, bool)>) -> Result<T> {
        let step = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            *last += 1;
            *last
        };
        let start = Instant::now();
        let digest = format!("sha256:{}", hex(&Sha256::digest(format!("{step}\0{name}"))));
        self.tell(Event::Began { step, digest, name });
        match work(step) {
            Ok((answer, cached)) => {
                let seconds = start.elapsed().as_secs_f64();
                self.tell(if cached { Event::Cached { step } } else { Event::Done { step, seconds } });
                Ok(answer)
            }
            Err(error) => {
                self.tell(Event::Failed { step, message: error.message.clone() });
                Err(error)
            }
        }
    }
}
