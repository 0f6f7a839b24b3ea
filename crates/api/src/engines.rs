//! The way to the engine: its verbs block, so each runs on a thread that may, with an engine of its own. An engine holds
//! one connection to the database, which is why a few are kept and none is shared. Verbs that may take as long as a client
//! or a container likes get half of the threads at most, so that the other half is there for everybody else.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine::{Bounds, Engine, Paths};
use tokio::sync::Semaphore;

use crate::failure::{Failure, Result};

/// Engines that are kept open for the next request.
const KEPT: usize = 4;
/// Verbs that may run at the same time, of all sockets; more wait.
pub(crate) const THREADS: usize = 256;

/// The threads that verbs run on, of all sockets.
#[derive(Clone)]
pub(crate) struct Threads(Arc<Load>);

struct Load {
    /// Places for verbs that may take long.
    long: Arc<Semaphore>,
    /// Verbs that run.
    running: AtomicUsize,
    /// More ran at once than there are engines kept: what they needed is not needed any more when all have ended.
    crowded: AtomicBool,
}

impl Default for Threads {
    fn default() -> Self {
        let long = Arc::new(Semaphore::new(THREADS / 2));
        Threads(Arc::new(Load { long, running: AtomicUsize::new(0), crowded: AtomicBool::new(false) }))
    }
}

impl Threads {
    fn begin(&self) {
        if self.0.running.fetch_add(1, Ordering::Relaxed) >= KEPT {
            self.0.crowded.store(true, Ordering::Relaxed);
        }
    }

    /// The last verb of a crowd gives its memory back, behind the answer.
    fn end(&self) {
        if self.0.running.fetch_sub(1, Ordering::Relaxed) == 1 && self.0.crowded.swap(false, Ordering::Relaxed) {
            drop(tokio::task::spawn_blocking(engine::release_memory));
        }
    }
}

/// Engines over the same directories. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Engines(Arc<Shared>);

struct Shared {
    paths: Paths,
    bounds: Bounds,
    threads: Threads,
    idle: Mutex<Vec<Engine>>,
    log: Box<dyn Fn(&str) + Send + Sync>,
}

impl Engines {
    /// Opens nothing yet. `bounds` is what they let their callers reach; `log` gets what they found and repaired.
    pub(crate) fn new(paths: Paths, bounds: Bounds, threads: Threads, log: Box<dyn Fn(&str) + Send + Sync>) -> Self {
        Engines(Arc::new(Shared { paths, bounds, threads, idle: Mutex::default(), log }))
    }

    /// The same for a verb whose end a client or a container can put off: it reads a body, writes an answer, waits for
    /// a stop.
    pub(crate) async fn run_long<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Engine) -> engine::Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = self.0.threads.0.long.clone().acquire_owned().await;
        let place = place.map_err(|_| Failure::internal("the server ends"))?;
        self.run(move |engine| {
            let _place = place;
            verb(engine)
        })
        .await
    }

    /// Runs a verb on a thread that may block.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        verb: impl FnOnce(&Engine) -> engine::Result<T> + Send + 'static,
    ) -> Result<T> {
        let engines = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            engines.0.threads.begin();
            let engine = engines.take();
            let outcome = verb(&engine);
            engines.give_back(engine);
            engines.0.threads.end();
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
