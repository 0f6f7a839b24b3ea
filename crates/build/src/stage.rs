//! One stage: its base, then its instructions in order. Instructions that only change the configuration are carried out
//! at once; those that make a layer are looked up in the cache first.

use std::sync::PoisonError;

use engine::{Engine, PullRequest};
use sha2::{Digest as _, Sha256};

use crate::copying::hex;
use crate::dockerfile::{Instruction, Step, parse_trigger};
use crate::event::Event;
use crate::locks::StepLock;
use crate::scope::Platform;
use crate::solver::Build;
use crate::source::Context;
use crate::stages::Origin;
use crate::state::State;
use crate::{Error, Result};

/// What a stage has come to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Configuration, history, layers.
    pub(crate) state: State,
    /// An image with exactly these layers and nothing in its configuration; none before the first layer.
    pub(crate) carrier: Option<String>,
    /// When its newest part was made (RFC 3339).
    pub(crate) time: String,
    /// Images that were used: name and id.
    pub(crate) materials: Vec<(String, String)>,
    /// The layers that steps have made, in order, the base's not among them.
    pub(crate) own_layers: Vec<String>,
}

/// A stage at work.
pub(crate) struct Stage<'b, 'a> {
    pub(crate) build: &'b Build<'a>,
    pub(crate) engine: Engine,
    pub(crate) outcome: Outcome,
    /// Takes nothing from the cache.
    pub(crate) anew: bool,
    label: String,
    /// Steps told so far, and in all.
    progress: (usize, usize),
}

/// The engine's error as ours.
pub(crate) fn failed(error: engine::Error) -> Error {
    Error::new(error.to_string())
}

/// Runs a stage of the Dockerfile.
pub(crate) fn run(build: &Build<'_>, index: usize) -> Result<Outcome> {
    let (engine, declared) = (build.common.engine(), &build.file.stages[index]);
    let name = declared.from.name.clone().unwrap_or_else(|| format!("stage-{index}"));
    let shown = build.file.stages.len() > 1;
    // A named context stands for the whole stage.
    let own: &[Step] = if build.plan.replaced[index] { &[] } else { &declared.steps };
    let steps = 1 + own.iter().filter(|step| makes_layer(&step.instruction)).count();
    let wanted = |filter: &String| *filter == name || filter.parse() == Ok(index);
    let anew = build.request.no_cache || build.request.no_cache_filter.iter().any(wanted);
    let state = State::scratch(&build.stage_platform(index)?);
    let time = build.request.epoch.and_then(at).unwrap_or_else(now);
    let outcome = Outcome { state, carrier: None, time, materials: Vec::new(), own_layers: Vec::new() };
    let many = build.request.platforms.len() > 1;
    let platform = if many { format!("{} ", build.platform.shown()) } else { String::new() };
    let label = if shown || many { format!("{platform}{name} ") } else { String::new() };
    let mut stage = Stage { build, engine, outcome, anew, label, progress: (0, steps) };
    stage.base(index).map_err(|error| error.at(declared.span))?;
    let triggers = if build.plan.replaced[index] { Vec::new() } else { stage.outcome.state.take_triggers() };
    for trigger in triggers {
        let step = parse_trigger(&trigger, build.file.escape)
            .map_err(|error| Error::new(format!("ONBUILD trigger {trigger:?} of the base image: {}", error.message)))?;
        stage.instruction(&step).map_err(|error| error.at(declared.span))?;
    }
    for step in own {
        stage.instruction(step).map_err(|error| error.at(step.span))?;
    }
    Ok(stage.outcome)
}

fn makes_layer(instruction: &Instruction) -> bool {
    matches!(instruction, Instruction::Run(_) | Instruction::Copy(_) | Instruction::Add(_) | Instruction::Workdir(_))
}

/// The time as images have it; a build that is to be the same every time says what it is.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// The same for seconds since 1970.
fn at(seconds: i64) -> Option<String> {
    jiff::Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

impl Build<'_> {
    /// Whom a stage is for.
    fn stage_platform(&self, index: usize) -> Result<Platform> {
        match &self.file.stages[index].from.platform {
            Some(text) => match self.plan.globals.word(text, self.file.escape)?.as_str() {
                "" => Ok(self.platform.clone()),
                text => Platform::parse(text),
            },
            None => Ok(self.platform.clone()),
        }
    }
}

impl Stage<'_, '_> {
    /// Takes the base over.
    fn base(&mut self, index: usize) -> Result<()> {
        let name = match &self.build.plan.bases[index] {
            Origin::Scratch => return Ok(()),
            Origin::Stage(other) => {
                let other = self.build.stage(*other)?;
                self.outcome = Outcome {
                    state: other.state.clone().handed_on(),
                    carrier: other.carrier.clone(),
                    time: other.time.clone(),
                    materials: Vec::new(),
                    own_layers: other.own_layers.clone(),
                };
                return Ok(());
            }
            Origin::Named(name) if self.build.common.named_files(name)?.is_some() => return self.base_of_files(name),
            Origin::Image(name) | Origin::Named(name) => name.clone(),
        };
        let platform = self.build.stage_platform(index)?;
        let title = self.title(&format!("FROM {name}"));
        let found = self.build.teller().step(title, |number| Ok((self.image(&name, &platform, number)?, true)))?;
        self.outcome.materials.push((name, found.id.clone()));
        self.outcome.state = State::image(&found.config_json)?;
        if let Some(created) = found.config.created() {
            self.outcome.time.clone_from(created);
        }
        self.outcome.carrier = Some(self.carry()?);
        Ok(())
    }

    /// An image that is present, or comes from its registry. `step` is told how it comes.
    pub(crate) fn image(&self, name: &str, platform: &Platform, step: usize) -> Result<image::Image> {
        let name = match self.build.common.named(name) {
            Some(Context::Image(other)) => other.as_str(),
            Some(Context::Layout(layout)) => return crate::remote::load_layout(&self.engine, layout, platform),
            _ => name,
        };
        let fits = |found: &image::Image| found.config.architecture().to_string() == platform.architecture;
        match self.engine.find_image(name) {
            Ok(found) if fits(&found) && !self.build.request.pull => return Ok(found),
            // What only this machine has cannot be pulled for somebody else.
            Ok(found) if found.repo_digests.is_empty() && !self.build.request.pull => {
                let has = found.config.architecture();
                return Err(Error::new(format!("image {name} is for linux/{has}, not for {}", platform.shown())));
            }
            _ => {}
        }
        let request = PullRequest {
            reference: name.to_owned(),
            platform: Some(platform.shown()),
            all_tags: false,
            access: self.build.request.access.clone(),
        };
        let teller = self.build.teller();
        let mut tell = |progress: engine::PullProgress| {
            let done = progress.status.ends_with("complete") || progress.status == "Already exists";
            let (part, current, total) = (progress.id, progress.current, progress.total);
            if !part.is_empty() {
                teller.tell(Event::Progress { step, part, current, total, done });
            }
        };
        let pulled = self.engine.pull(&request, &mut tell);
        let unresolved = |error| Error::new(format!("{name}: failed to resolve source metadata for {name}: {error}"));
        let found = self.engine.find_image(&pulled.map_err(unresolved)?.id).map_err(failed)?;
        if !fits(&found) {
            let has = found.config.architecture();
            return Err(Error::new(format!("image {name} is for linux/{has}, not for {}", platform.shown())));
        }
        Ok(found)
    }

    /// An image with the present layers and an empty configuration: what RUN's containers are made of.
    pub(crate) fn carry(&self) -> Result<String> {
        let key = self.key("layers", &[]);
        if let Some((carrier, _)) = self.engine.built_step(&key).map_err(failed)? {
            return Ok(carrier);
        }
        let state = &self.outcome.state;
        let carrier = self.engine.derive_image(&[], &|_| state.bare_document(None), None).map_err(failed)?;
        self.engine.remember_step(&key, &carrier, 0).map_err(failed)?;
        Ok(carrier)
    }

    /// How a step is announced, counting it.
    pub(crate) fn title(&mut self, text: &str) -> String {
        self.progress.0 += 1;
        format!("[{}{}/{}] {text}", self.label, self.progress.0, self.progress.1.max(self.progress.0))
    }

    fn instruction(&mut self, step: &Step) -> Result<()> {
        self.build.common.cancel.check()?;
        let escape = self.build.file.escape;
        let text = match &step.instruction {
            Instruction::From(_) => return Err(Error::new("FROM cannot stand here")),
            Instruction::Run(run) => return self.run(run, &step.code),
            Instruction::Copy(copy) => return self.copy(copy, &step.code),
            Instruction::Add(add) => return self.add(add, &step.code),
            Instruction::Workdir(path) => return self.workdir(path, &step.code),
            Instruction::Onbuild(trigger) => {
                self.outcome.state.onbuild(trigger);
                return Ok(());
            }
            Instruction::Arg(arguments) => {
                let (given, globals) = (&self.build.request.arguments, &self.build.plan.globals);
                self.outcome.state.arg(arguments, given, globals, escape)?
            }
            Instruction::Env(pairs) => {
                let pairs = self.expanded(pairs)?;
                self.outcome.state.env(&pairs)
            }
            Instruction::Label(pairs) => {
                let pairs = self.expanded(pairs)?;
                self.outcome.state.label(&pairs)
            }
            Instruction::Cmd(command) => self.outcome.state.cmd(command),
            Instruction::Entrypoint(command) => self.outcome.state.entrypoint(command),
            Instruction::Shell(words) => self.outcome.state.shell(words),
            Instruction::Healthcheck(check) => self.outcome.state.healthcheck(check),
            Instruction::Maintainer(name) => self.outcome.state.maintainer(name),
            Instruction::StopSignal(signal) => {
                let signal = self.word(signal)?;
                self.outcome.state.stop_signal(&signal)
            }
            Instruction::User(user) => {
                let user = self.word(user)?;
                self.outcome.state.set_user(&user)
            }
            Instruction::Volume(volumes) => {
                let volumes = volumes.iter().map(|volume| self.word(volume)).collect::<Result<Vec<_>>>()?;
                self.outcome.state.volume(&volumes)
            }
            Instruction::Expose(ports) => {
                let scope = &self.outcome.state.scope;
                let ports = ports.iter().map(|port| scope.words(port, escape)).collect::<Result<Vec<_>>>()?;
                self.outcome.state.expose(&ports.concat())?
            }
        };
        let time = self.build.request.epoch.and_then(at).unwrap_or_else(|| self.outcome.time.clone());
        self.outcome.state.remember(&text, false, &time);
        Ok(())
    }

    /// A word with its variables expanded.
    pub(crate) fn word(&self, text: &str) -> Result<String> {
        self.outcome.state.scope.word(text, self.build.file.escape)
    }

    /// Pairs of one instruction see the variables from before it.
    fn expanded(&self, pairs: &[crate::dockerfile::Pair]) -> Result<Vec<crate::dockerfile::Pair>> {
        let expand = |pair: &crate::dockerfile::Pair| {
            Ok(crate::dockerfile::Pair { key: self.word(&pair.key)?, value: self.word(&pair.value)?, ..pair.clone() })
        };
        pairs.iter().map(expand).collect()
    }

    /// The key of a step: what its outcome depends on, beginning with the layers below.
    pub(crate) fn key(&self, kind: &str, parts: &[String]) -> String {
        let mut hash = Sha256::new();
        for part in [kind.to_owned()].iter().chain(&self.outcome.state.layers()).chain(parts) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hex(&hash.finalize())
    }

    /// The image that a step of this key made before, and when.
    pub(crate) fn cached(&self, key: &str) -> Result<Option<(String, i64)>> {
        if self.anew { Ok(None) } else { self.engine.built_step(key).map_err(failed) }
    }

    /// Takes a step's outcome from the cache or makes it. `keyed` finds its key, `make` its image.
    pub(crate) fn step<P>(
        &mut self,
        title: String,
        text: &str,
        keyed: impl FnOnce(&Self) -> Result<(String, P)>,
        make: impl FnOnce(&Self, usize, P) -> Result<String>,
    ) -> Result<()> {
        let stage = &*self;
        let (carrier, made_at) = stage.build.teller().step(title, |number| {
            stage.build.common.cancel.check()?;
            let (key, prepared) = keyed(stage)?;
            if let Some(found) = stage.cached(&key)? {
                return Ok((stage.noted(&key, found), true));
            }
            let _lock = if stage.anew { None } else { Some(stage.lock(&key)?) };
            // Whoever had the lock before may have made it.
            if let Some(found) = stage.cached(&key)? {
                return Ok((stage.noted(&key, found), true));
            }
            let carrier = make(stage, number, prepared)?;
            let made_at = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
            stage.engine.remember_step(&key, &carrier, made_at).map_err(failed)?;
            Ok((stage.noted(&key, (carrier, made_at)), false))
        })?;
        self.take(carrier, made_at, text)
    }

    /// Keeps a step for the export of the cache.
    fn noted(&self, key: &str, (carrier, made_at): (String, i64)) -> (String, i64) {
        let steps = &self.build.common.steps;
        steps.lock().unwrap_or_else(PoisonError::into_inner).push((key.to_owned(), carrier.clone(), made_at));
        (carrier, made_at)
    }

    fn lock(&self, key: &str) -> Result<StepLock> {
        StepLock::take(self.build.home(), key, &self.build.common.cancel)
    }

    /// Goes on from the image that a step has made: its new layer, if it has one, becomes the state's.
    pub(crate) fn take(&mut self, carrier: String, made_at: i64, text: &str) -> Result<()> {
        let image = self.engine.find_image(&carrier).map_err(failed)?;
        let layers = image.config.rootfs().diff_ids();
        let new = layers.get(self.outcome.state.layers().len()).cloned();
        let made = jiff::Timestamp::from_nanosecond(made_at.into()).map_or_else(|_| now(), |time| time.to_string());
        self.outcome.time = self.build.request.epoch.and_then(at).unwrap_or(made);
        let time = self.outcome.time.clone();
        self.outcome.state.remember(text, new.is_some(), &time);
        if let Some(layer) = new {
            self.outcome.state.add_layer(&layer);
            self.outcome.own_layers.push(layer);
        }
        self.outcome.carrier = Some(carrier);
        Ok(())
    }
}
