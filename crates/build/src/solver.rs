//! Carries a build out: needed stages in parallel, each step from the cache or anew, once for each platform. What a step
//! does is in `step` and `run`, what becomes of the result in `export`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use engine::{Engine, Paths};

use crate::cancel::Cancel;
use crate::contexts::{self, Fetcher, Files};
use crate::dockerfile::{self, Dockerfile};
use crate::event::{Built, BuiltImage, Event};
use crate::request::Request;
use crate::scope::Platform;
use crate::source::{Context, Wanted};
use crate::stage::Outcome;
use crate::stages::{self, Origin, Plan};
use crate::teller::Teller;
use crate::transfer::{self, Known};
use crate::{Error, Failure, Result, export, leftovers, lint, stage};

/// Builds an image. `watch` is told what happens, in order, in the calling thread. All errors of the Dockerfile come back
/// at once. Nothing is left of a build that fails or is stopped but what its finished steps have put into the cache.
pub fn build(paths: &Paths, request: &Request, watch: &mut dyn FnMut(Event)) -> Result<Built, Failure> {
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        let work = scope.spawn(move || whole(paths, request, Teller::new(sender)));
        // It ends when the last teller is gone.
        receiver.iter().for_each(watch);
        work.join().unwrap_or_else(|_| Err(Error::new("the build's thread died").into()))
    })
}

/// Reads the Dockerfile of a request and says what is wrong with it; nothing is built.
///
/// # Errors
/// The Dockerfile cannot be read, or has errors.
pub fn check(paths: &Paths, request: &Request) -> Result<Vec<crate::Warning>, Failure> {
    let fetcher = Fetcher { paths, request, cancel: &request.cancel };
    let opening = contexts::open(&fetcher)?;
    let failure = |errors| Failure { errors, name: opening.name.clone(), text: opening.text.clone() };
    let file = dockerfile::parse(&opening.text).map_err(failure)?;
    Ok(lint::check(&file, request, &opening.ignore, &|name| environment(paths, name)))
}

/// The environment of an image that is here.
fn environment(paths: &Paths, name: &str) -> Option<Vec<String>> {
    let image = Engine::new(paths.clone()).find_image(name).ok()?;
    let document: serde_json::Value = serde_json::from_slice(&image.config_json).ok()?;
    let lines = document["config"]["Env"].as_array().into_iter().flatten();
    Some(lines.filter_map(|line| line.as_str().map(str::to_owned)).collect())
}

fn whole(paths: &Paths, request: &Request, teller: Teller) -> Result<Built, Failure> {
    let cancel = Cancel::default();
    let (inner, outer) = (cancel.clone(), request.cancel.clone());
    let _hook = outer.on_cancel(move || inner.cancel());
    leftovers::sweep(paths);
    let fetcher = Fetcher { paths, request, cancel: &cancel };
    let title = "[internal] load build definition".to_owned();
    let opening = teller.step(title, |_| Ok((contexts::open(&fetcher)?, false)))?;
    let failure = |errors| Failure { errors, name: opening.name.clone(), text: opening.text.clone() };
    let file = dockerfile::parse(&opening.text).map_err(failure)?;
    frontend(&file, request).map_err(|error| failure(vec![error]))?;
    let warnings = lint::check(&file, request, &opening.ignore, &|name| environment(paths, name));
    warnings.iter().for_each(|warning| teller.tell(Event::Warning(warning.clone())));
    if let Some(error) = lint::as_errors(&file, request, &warnings) {
        return Err(failure(vec![error]));
    }
    let common = Common {
        paths: paths.clone(),
        request,
        file: &file,
        ignore: &opening.ignore,
        context: opening.context.map_or_else(OnceLock::new, |files| OnceLock::from(Ok(Some(files)))),
        named: Mutex::default(),
        steps: Mutex::default(),
        teller,
        cancel: cancel.clone(),
    };
    for source in &request.cache_from {
        let title = format!("importing cache manifest from {}", source.shown());
        // A cache that cannot be had is told of, and missed.
        let _ = common.teller.step(title, |_| Ok((transfer::import(&common, source)?, false)));
    }
    let built = common.build().and_then(|images| export::export(&common, images));
    built.map(|built| Built { warnings, ..built }).map_err(|error| {
        let error = if request.cancel.is_cancelled() { Error::cancelled() } else { error };
        Failure { errors: vec![error], name: opening.name.clone(), text: opening.text.clone() }
    })
}

/// `# syntax=`: only Docker's own frontend is built in, whatever its version.
fn frontend(file: &Dockerfile, request: &Request) -> Result<()> {
    let wanted = request.arguments.get("BUILDKIT_SYNTAX").or(file.syntax.as_deref()).unwrap_or("docker/dockerfile");
    let name = wanted.split_whitespace().next().unwrap_or_default();
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    if name.starts_with("docker/dockerfile") {
        return Ok(());
    }
    Err(Error::new(format!("# syntax={name}: only docker/dockerfile is understood, which is built in")))
}

/// The files of a named context, fetched by whoever needs them first; none if it is not made of files.
type Needed = OnceLock<Result<Option<Arc<Files>>>>;

/// What the builds for all platforms share.
pub(crate) struct Common<'a> {
    pub(crate) paths: Paths,
    pub(crate) request: &'a Request,
    pub(crate) file: &'a Dockerfile,
    pub(crate) ignore: &'a [String],
    context: OnceLock<Result<Option<Files>>>,
    /// Files of named contexts that were needed.
    named: Mutex<HashMap<String, Arc<Needed>>>,
    /// Steps that were made or found.
    pub(crate) steps: Mutex<Vec<Known>>,
    pub(crate) teller: Teller,
    pub(crate) cancel: Cancel,
}

impl Common<'_> {
    /// One image for each platform, with everything that was made on the way.
    fn build(&self) -> Result<Vec<Finished>> {
        let here = [Platform::host()];
        let platforms = if self.request.platforms.is_empty() { &here[..] } else { &self.request.platforms };
        let builds = platforms.iter().map(|platform| Build::new(self, platform)).collect::<Result<Vec<_>>>()?;
        std::thread::scope(|scope| builds.iter().for_each(|build| build.spawn(scope)));
        let failed = builds.iter().filter_map(Build::error);
        // What was stopped because of another's error is not the cause.
        if let Some(error) = failed.min_by_key(|error| error.cancelled) {
            return Err(error);
        }
        builds.iter().map(Build::finish).collect()
    }

    /// An engine of the calling thread's own: its records are locked while a layer is written.
    pub(crate) fn engine(&self) -> Engine {
        Engine::new(self.paths.clone())
    }

    fn fetcher(&self) -> Fetcher<'_> {
        Fetcher { paths: &self.paths, request: self.request, cancel: &self.cancel }
    }

    /// The files of the build context, fetched when they are first needed; none: it has none.
    pub(crate) fn context(&self) -> Result<Option<&Files>> {
        let fetch = || {
            let wanted = Wanted { exclude: self.ignore.to_vec(), paths: None };
            let title = "[internal] load build context".to_owned();
            self.teller.step(title, |_| Ok((self.fetcher().files(&self.request.context, &wanted)?, false)))
        };
        self.context.get_or_init(fetch).as_ref().map(Option::as_ref).map_err(Clone::clone)
    }

    /// What a name of the command line stands for.
    pub(crate) fn named(&self, name: &str) -> Option<&Context> {
        stages::named(self.request, name)
    }

    /// The files of a named context; none if it has none of its own.
    pub(crate) fn named_files(&self, name: &str) -> Result<Option<Arc<Files>>> {
        let Some(context) = self.named(name) else { return Ok(None) };
        let slot =
            self.named.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_lowercase()).or_default().clone();
        let fetch = || {
            let title = format!("[context {name}] load");
            let files = |_| Ok((self.fetcher().files(context, &Wanted::default())?, false));
            Ok(self.teller.step(title, files)?.map(Arc::new))
        };
        slot.get_or_init(fetch).clone()
    }
}

/// The build for one platform, at work.
pub(crate) struct Build<'a> {
    pub(crate) common: &'a Common<'a>,
    pub(crate) request: &'a Request,
    pub(crate) file: &'a Dockerfile,
    pub(crate) platform: &'a Platform,
    pub(crate) plan: Plan,
    stages: Vec<Slot>,
}

/// What a build for one platform has come to.
pub(crate) struct Finished {
    pub(crate) image: BuiltImage,
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

impl<'a> Build<'a> {
    fn new(common: &'a Common<'a>, platform: &'a Platform) -> Result<Self> {
        let (request, file) = (common.request, common.file);
        let plan = stages::plan(file, request, platform)?;
        let stages = file.stages.iter().map(|_| Slot::default()).collect();
        Ok(Build { common, request, file, platform, plan, stages })
    }

    pub(crate) fn teller(&self) -> &'a Teller {
        &self.common.teller
    }

    pub(crate) fn paths(&self) -> &'a Paths {
        &self.common.paths
    }

    /// Where scratch directories and locks are.
    pub(crate) fn home(&self) -> &Path {
        &self.common.paths.root
    }

    /// The outcome of another stage, waited for.
    pub(crate) fn stage(&self, index: usize) -> Result<Arc<Outcome>> {
        self.stages[index].get()
    }

    /// One thread a stage: most of them wait for others or for their processes. An error stops all.
    fn spawn<'s, 'e: 's>(&'e self, scope: &'s std::thread::Scope<'s, 'e>) {
        for &index in &self.plan.order {
            scope.spawn(move || {
                let outcome = self.run_stage(index).map(Arc::new);
                let failed = outcome.is_err();
                self.stages[index].set(outcome);
                if failed {
                    self.common.cancel.cancel();
                }
            });
        }
    }

    fn run_stage(&self, index: usize) -> Result<Outcome> {
        self.plan.needs[index].iter().try_for_each(|needed| self.stage(*needed).map(drop))?;
        stage::run(self, index)
    }

    /// The error that the others were stopped for, if there is one.
    fn error(&self) -> Option<Error> {
        let errors = self.plan.order.iter().filter_map(|index| self.stage(*index).err());
        errors.min_by_key(|error| error.cancelled)
    }

    /// The image of the target: its configuration.
    fn finish(&self) -> Result<Finished> {
        let outcome = self.stage(self.plan.target)?;
        let mut state = outcome.state.clone();
        let pair = |(key, value): &(String, String)| dockerfile::Pair {
            key: key.clone(),
            value: value.clone(),
            spaced: false,
        };
        let labels: Vec<_> = self.request.labels.iter().map(pair).collect();
        if !labels.is_empty() {
            state.label(&labels);
        }
        let config = state.document(&outcome.time);
        let id = format!("sha256:{}", crate::copying::hex(&<sha2::Sha256 as sha2::Digest>::digest(&config)));
        let mut materials = Vec::new();
        for index in &self.plan.order {
            materials.extend(self.stage(*index)?.materials.iter().cloned());
        }
        materials.sort();
        materials.dedup();
        let (platform, carrier) = (self.platform.clone(), outcome.carrier.clone());
        Ok(Finished { image: BuiltImage { platform, id, config, carrier, materials } })
    }

    /// Where the files of `--from` come from: a named context, a stage or an image.
    pub(crate) fn origin(&self, name: &str) -> Result<Origin> {
        stages::origin(self.file, self.request, name)
    }
}
