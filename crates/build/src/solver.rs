//! Carries a build out: needed stages in parallel, each step from the cache or anew. What a step does is in `step`.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use engine::{Engine, Paths};

use crate::dockerfile::{self, Dockerfile};
use crate::files::Tree;
use crate::ignore::Matcher;
use crate::request::{Event, Request};
use crate::stage::Outcome;
use crate::stages::{self, Origin, Plan};
use crate::{Error, Result, stage};

/// What a build made.
#[derive(Debug)]
pub struct Built {
    /// The image.
    pub image: String,
    /// What is allowed in the Dockerfile but should not be.
    pub warnings: Vec<String>,
}

/// Builds an image. `watch` is told what happens, in order. All errors of the Dockerfile come back at once.
pub fn build(paths: &Paths, request: &Request, watch: &mut dyn FnMut(Event)) -> Result<Built, Vec<Error>> {
    let file = dockerfile::parse(&request.dockerfile)?;
    let one = |error: Error| vec![error];
    let plan = stages::plan(&file, &request.arguments, request.target.as_deref(), &request.platform).map_err(one)?;
    let ignore = Matcher::new(&request.ignore).map_err(one)?;
    let context =
        request.context.as_deref().map(|directory| Tree::context(directory, ignore)).transpose().map_err(one)?;
    let (sender, receiver) = channel();
    let build = Build {
        paths: paths.clone(),
        request,
        file: &file,
        plan: &plan,
        context,
        stages: file.stages.iter().map(|_| Slot::default()).collect(),
        teller: Teller::new(sender),
    };
    build.run(&receiver, watch).map_err(one)?;
    let image = build.finish().map_err(one)?;
    let warnings = file.warnings.iter().map(|(text, span)| format!("{text} (line {})", span.last)).collect();
    Ok(Built { image, warnings })
}

/// A build at work.
pub(crate) struct Build<'a> {
    paths: Paths,
    pub(crate) request: &'a Request,
    pub(crate) file: &'a Dockerfile,
    pub(crate) plan: &'a Plan,
    pub(crate) context: Option<Tree>,
    stages: Vec<Slot>,
    pub(crate) teller: Teller,
}

/// A stage's outcome, when there is one.
#[derive(Default)]
struct Slot {
    outcome: Mutex<Option<Result<Arc<Outcome>>>>,
    ready: Condvar,
}

impl Slot {
    fn set(&self, outcome: Result<Arc<Outcome>>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.ready.notify_all();
    }

    fn get(&self) -> Result<Arc<Outcome>> {
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*outcome {
                Some(outcome) => return outcome.clone(),
                None => outcome = self.ready.wait(outcome).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Build<'_> {
    /// An engine of the calling thread's own: its records are locked while a layer is written.
    pub(crate) fn engine(&self) -> Engine {
        Engine::new(self.paths.clone())
    }

    /// The outcome of another stage, waited for.
    pub(crate) fn stage(&self, index: usize) -> Result<Arc<Outcome>> {
        self.stages[index].get()
    }

    /// One thread a stage: most of them wait for others or for their processes.
    fn run(&self, events: &Receiver<Event>, watch: &mut dyn FnMut(Event)) -> Result<()> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .plan
                .order
                .iter()
                .map(|&index| scope.spawn(move || self.stages[index].set(self.run_stage(index).map(Arc::new))))
                .collect();
            while threads.iter().any(|thread| !thread.is_finished()) {
                if let Ok(event) = events.recv_timeout(std::time::Duration::from_millis(20)) {
                    watch(event);
                }
            }
            threads.into_iter().try_for_each(|thread| thread.join()).map_err(|_| Error::new("a stage's thread died"))
        })?;
        events.try_iter().for_each(watch);
        // The first in order is the one that the others failed for.
        self.plan.order.iter().try_for_each(|&index| self.stage(index).map(drop))
    }

    fn run_stage(&self, index: usize) -> Result<Outcome> {
        self.plan.needs[index].iter().try_for_each(|needed| self.stage(*needed).map(drop))?;
        stage::run(self, index)
    }

    /// The image of the target: its configuration and its names.
    fn finish(&self) -> Result<String> {
        let outcome = self.stage(self.plan.target)?;
        let mut state = outcome.state.clone();
        let labels = self.request.labels.iter();
        let labels: Vec<_> = labels
            .map(|(key, value)| dockerfile::Pair { key: key.clone(), value: value.clone(), spaced: false })
            .collect();
        if !labels.is_empty() {
            state.label(&labels);
        }
        let document = |_: Option<&str>| state.document(&outcome.time);
        let built = self.engine().derive_image(&self.request.names, &document, None);
        built.map_err(|error| Error::new(error.to_string()))
    }

    /// Where the files of `--from` come from: a stage, a named context or an image.
    pub(crate) fn origin(&self, name: &str) -> Origin {
        stages::origin(self.file, name)
    }
}

/// Numbers steps and tells of them.
pub(crate) struct Teller {
    sender: Mutex<Sender<Event>>,
    last: Mutex<usize>,
}

impl Teller {
    fn new(sender: Sender<Event>) -> Self {
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
        self.tell(Event::Began { step, name });
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
