//! Builds that are under way or were a moment ago, by the references that clients give them: who asked, what was told,
//! how it ended.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::progress::{Progress, now};
use super::proto::{CacheOptions, Exporter, HistoryRecord, RpcStatus, SolveRequest, Timestamp};
use super::session::Session;
use super::wire::{Code, Result, Status};

/// How long other calls wait for a build that they name.
const PATIENCE: Duration = Duration::from_secs(5);
/// Ended builds that are remembered.
const REMEMBERED: usize = 32;

/// All of them.
#[derive(Default)]
pub(crate) struct Jobs {
    known: Mutex<VecDeque<Arc<Job>>>,
    news: Notify,
}

/// One build.
pub(crate) struct Job {
    pub(crate) reference: String,
    pub(crate) session: Option<Arc<Session>>,
    pub(crate) exporters: Vec<Exporter>,
    pub(crate) entitlements: Vec<String>,
    /// Where the cache comes from and goes to.
    pub(crate) cache: CacheOptions,
    frontend: String,
    attrs: HashMap<String, String>,
    /// One that only asks what there is: not worth remembering.
    internal: bool,
    pub(crate) progress: Arc<Progress>,
    pub(crate) cancel: build::Cancel,
    created: Timestamp,
    /// What the build made, as the client is told.
    made: Mutex<HashMap<String, String>>,
    /// How the client says that it ended; none yet.
    pub(crate) returned: watch::Sender<Option<Result<()>>>,
    ended: Mutex<Option<(Timestamp, Option<Status>)>>,
    /// The history keeps it.
    pinned: AtomicBool,
}

impl Job {
    fn new(request: &SolveRequest, session: Option<Arc<Session>>) -> Self {
        let mut exporters = request.exporters.clone();
        if exporters.is_empty() && !request.exporter.is_empty() {
            exporters.push(Exporter { kind: request.exporter.clone(), attrs: request.exporter_attrs.clone() });
        }
        Job {
            reference: request.reference.clone(),
            session,
            exporters,
            entitlements: request.entitlements.clone(),
            cache: request.cache.clone().unwrap_or_default(),
            frontend: request.frontend.clone(),
            attrs: request.frontend_attrs.clone(),
            internal: request.internal,
            progress: Arc::new(Progress::new(&request.reference)),
            cancel: build::Cancel::default(),
            created: now(),
            made: Mutex::default(),
            returned: watch::channel(None).0,
            ended: Mutex::default(),
            pinned: AtomicBool::new(false),
        }
    }

    /// Keeps what the build made.
    pub(crate) fn keep(&self, made: HashMap<String, String>) {
        lock(&self.made).extend(made);
    }

    pub(crate) fn made(&self) -> HashMap<String, String> {
        lock(&self.made).clone()
    }

    fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        lock(&self.ended).is_some()
    }

    /// What the history says of it.
    pub(crate) fn record(&self) -> HistoryRecord {
        let ended = lock(&self.ended).clone();
        let counts = self.progress.counts();
        let error = ended.as_ref().and_then(|(_, error)| error.clone());
        HistoryRecord {
            reference: self.reference.clone(),
            frontend: self.frontend.clone(),
            frontend_attrs: self.attrs.clone(),
            exporters: self.exporters.clone(),
            error: error.map(|error| RpcStatus { code: error.code, message: error.message, details: Vec::new() }),
            created_at: Some(self.created),
            completed_at: ended.map(|(at, _)| at),
            exporter_response: self.made(),
            pinned: self.is_pinned(),
            cached_steps: counts.cached,
            total_steps: counts.total,
            completed_steps: counts.completed,
            warnings: counts.warnings,
        }
    }
}

/// Ends a job, also when the call that made it is dropped in the middle.
pub(crate) struct Running<'j> {
    jobs: &'j Jobs,
    pub(crate) job: Arc<Job>,
}

impl Running<'_> {
    /// Ends it in order.
    pub(crate) fn end(self, outcome: &Result<()>) {
        *lock(&self.job.ended) = Some((now(), outcome.clone().err()));
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut ended = lock(&self.job.ended);
        if ended.is_none() {
            self.job.cancel.cancel();
            *ended = Some((now(), Some(Status::new(Code::Cancelled, "context canceled"))));
        }
        drop(ended);
        self.job.progress.finish();
        self.jobs.forget(&self.job);
    }
}

impl Jobs {
    /// Begins a build.
    pub(crate) fn begin(&self, request: &SolveRequest, session: Option<Arc<Session>>) -> Result<Running<'_>> {
        let job = Arc::new(Job::new(request, session));
        let mut known = self.lock();
        if known.iter().any(|other| other.reference == job.reference && !other.is_over()) {
            let message = format!("job ID {} exists", job.reference);
            return Err(Status::new(Code::InvalidArgument, message));
        }
        known.push_back(job.clone());
        drop(known);
        self.news.notify_waiters();
        Ok(Running { jobs: self, job })
    }

    /// The build of a reference, which may begin a little later.
    pub(crate) async fn find(&self, reference: &str) -> Result<Arc<Job>> {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let news = self.news.notified();
                if let Some(job) = self.lock().iter().rev().find(|job| job.reference == reference) {
                    return job.clone();
                }
                news.await;
            }
        });
        found.await.map_err(|_| Status::new(Code::NotFound, format!("no such job {reference}")))
    }

    /// All that are worth telling of, the newest first.
    pub(crate) fn list(&self) -> Vec<Arc<Job>> {
        self.lock().iter().rev().filter(|job| !job.internal).cloned().collect()
    }

    /// Keeps one in the history whatever comes after it, or no more.
    pub(crate) fn pin(&self, reference: &str, pinned: bool) -> Result<()> {
        let known = self.lock();
        let job = known.iter().rev().find(|job| job.reference == reference);
        let missing = || Status::new(Code::NotFound, format!("no such job {reference}"));
        job.ok_or_else(missing)?.pinned.store(pinned, Ordering::Relaxed);
        Ok(())
    }

    /// Removes ended ones from the history.
    pub(crate) fn delete(&self, reference: &str) {
        self.lock().retain(|job| job.reference != reference || !job.is_over());
    }

    /// Old ones go; internal ones go when nobody can ask for them any more.
    fn forget(&self, ended: &Arc<Job>) {
        let mut known = self.lock();
        let over = known.iter().filter(|job| job.is_over() && !job.is_pinned()).count();
        let old = known.iter().filter(|job| job.is_over() && !Arc::ptr_eq(job, ended));
        old.for_each(|job| job.progress.shorten());
        let mut surplus = over.saturating_sub(REMEMBERED);
        known.retain(|job| {
            let goes = surplus > 0 && job.is_over() && !job.is_pinned() && !Arc::ptr_eq(job, ended);
            surplus -= usize::from(goes);
            !goes
        });
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Job>>> {
        lock(&self.known)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
