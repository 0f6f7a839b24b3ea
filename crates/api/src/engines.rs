//! The way to the engine: its verbs block, so each runs on a thread that may, with an engine of its own. An engine holds
//! one connection to the database, which is why a few are kept and none is shared.

use std::sync::{Arc, Mutex, PoisonError};

use engine::{Bounds, Engine, Paths};

use crate::failure::{Failure, Result};

/// Engines that are kept open for the next request.
const KEPT: usize = 4;

/// Engines over the same directories. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Engines(Arc<Shared>);

struct Shared {
    paths: Paths,
    bounds: Bounds,
    idle: Mutex<Vec<Engine>>,
    log: Box<dyn Fn(&str) + Send + Sync>,
}

impl Engines {
    /// Opens nothing yet. `bounds` is what they let their callers reach; `log` gets what they found and repaired.
    pub(crate) fn new(paths: Paths, bounds: Bounds, log: Box<dyn Fn(&str) + Send + Sync>) -> Self {
        Engines(Arc::new(Shared { paths, bounds, idle: Mutex::default(), log }))
    }

    /// Runs a verb on a thread that may block.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Engine) -> engine::Result<T> + Send + 'static,
    ) -> Result<T> {
        let engines = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let engine = engines.take();
            let outcome = verb(&engine);
            engines.give_back(engine);
            outcome
        });
        done.await.map_err(|_| Failure::internal("the request was abandoned"))?.map_err(Failure::from)
    }

    /// The directories that they are over.
    pub(crate) fn paths(&self) -> &Paths {
        &self.0.paths
    }

    /// Tells the user of the server something.
    pub(crate) fn log(&self, line: &str) {
        (self.0.log)(line);
    }

    fn take(&self) -> Engine {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop().unwrap_or_else(|| Engine::bounded(self.0.paths.clone(), self.0.bounds.clone()))
    }

    fn give_back(&self, engine: Engine) {
        engine.notices().iter().for_each(|notice| self.log(notice));
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(engine);
        }
    }
}
