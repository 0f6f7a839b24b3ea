//! One stage: its base, then its instructions in order. Instructions that only change the configuration are carried out
//! at once; those that make a layer are looked up in the cache first.

use engine::{Engine, PullRequest};
use sha2::{Digest as _, Sha256};

use crate::copying::hex;
use crate::dockerfile::{Instruction, Step, parse_trigger};
use crate::request::Context;
use crate::scope::Platform;
use crate::solver::Build;
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
    let (engine, declared) = (build.engine(), &build.file.stages[index]);
    let name = declared.from.name.clone().unwrap_or_else(|| format!("stage-{index}"));
    let shown = build.file.stages.len() > 1;
    let steps = 1 + declared.steps.iter().filter(|step| makes_layer(&step.instruction)).count();
    let wanted = |filter: &String| *filter == name || filter.parse() == Ok(index);
    let anew = build.request.no_cache || build.request.no_cache_filter.iter().any(wanted);
    let outcome = Outcome { state: State::scratch(&build.request.platform), carrier: None, time: now() };
    let label = if shown { format!("{name} ") } else { String::new() };
    let mut stage = Stage { build, engine, outcome, anew, label, progress: (0, steps) };
    stage.base(index).map_err(|error| error.at(declared.span))?;
    for trigger in stage.outcome.state.take_triggers() {
        let step = parse_trigger(&trigger, build.file.escape)
            .map_err(|error| Error::new(format!("ONBUILD trigger {trigger:?} of the base image: {}", error.message)))?;
        stage.instruction(&step).map_err(|error| error.at(declared.span))?;
    }
    for step in &declared.steps {
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

impl Stage<'_, '_> {
    /// Takes the base over.
    fn base(&mut self, index: usize) -> Result<()> {
        let name = match &self.build.plan.bases[index] {
            Origin::Scratch => return Ok(()),
            Origin::Stage(other) => {
                let other = self.build.stage(*other)?;
                self.outcome = Outcome {
                    state: other.state.clone().forget_arguments(),
                    carrier: other.carrier.clone(),
                    time: other.time.clone(),
                };
                return Ok(());
            }
            Origin::Image(name) => name.clone(),
        };
        let platform = match &self.build.file.stages[index].from.platform {
            Some(text) => Platform::parse(&self.build.plan.globals.word(text, self.build.file.escape)?)?,
            None => self.build.request.platform.clone(),
        };
        let title = self.title(&format!("FROM {name}"));
        let found = self.build.teller.step(title, |_| Ok((self.image(&name, &platform)?, true)))?;
        self.outcome.state = State::image(&found.config_json)?;
        if let Some(created) = found.config.created() {
            self.outcome.time.clone_from(created);
        }
        self.outcome.carrier = Some(self.carry()?);
        Ok(())
    }

    /// An image that is present, or comes from its registry.
    pub(crate) fn image(&self, name: &str, platform: &Platform) -> Result<image::Image> {
        let named = self.build.request.contexts.iter().find(|(known, _)| known == name);
        let name = match named {
            Some((_, Context::Image(other))) => other.as_str(),
            Some((_, Context::Directory(_))) => {
                return Err(Error::new(format!("context {name:?} is a directory and cannot be a base image")));
            }
            None => name,
        };
        let present = self.engine.find_image(name);
        let found = match present {
            Ok(found) if !self.build.request.pull => found,
            _ => {
                let request = PullRequest {
                    reference: name.to_owned(),
                    platform: Some(platform.shown()),
                    all_tags: false,
                    access: self.build.request.access.clone(),
                };
                self.engine.pull(&request, &mut |_| {}).map_err(|error| {
                    Error::new(format!("{name}: failed to resolve source metadata for {name}: {error}"))
                })?;
                self.engine.find_image(name).map_err(failed)?
            }
        };
        let architecture = found.config.architecture().to_string();
        if architecture != platform.architecture {
            return Err(Error::new(format!(
                "image {name} is for {architecture}, not for {}: builds for other platforms are not supported yet",
                platform.shown()
            )));
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
        let time = self.outcome.time.clone();
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

    /// Goes on from the image that a step has made: its new layer, if it has one, becomes the state's.
    pub(crate) fn take(&mut self, carrier: String, made_at: i64, text: &str) -> Result<()> {
        let image = self.engine.find_image(&carrier).map_err(failed)?;
        let layers = image.config.rootfs().diff_ids();
        let new = layers.get(self.outcome.state.layers().len()).cloned();
        self.outcome.time =
            jiff::Timestamp::from_nanosecond(made_at.into()).map_or_else(|_| now(), |time| time.to_string());
        let time = self.outcome.time.clone();
        self.outcome.state.remember(text, new.is_some(), &time);
        if let Some(layer) = new {
            self.outcome.state.add_layer(&layer);
        }
        self.outcome.carrier = Some(carrier);
        Ok(())
    }

    /// Remembers a step's outcome and goes on from it.
    pub(crate) fn made(&mut self, key: &str, carrier: String, text: &str) -> Result<()> {
        let made_at = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        self.engine.remember_step(key, &carrier, made_at).map_err(failed)?;
        self.take(carrier, made_at, text)
    }
}
