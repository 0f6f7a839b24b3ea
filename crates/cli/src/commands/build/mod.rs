//! `kiste build`: an image from a Dockerfile. Reads what was typed, shows the progress, and points at the line when
//! something is wrong; the building itself is `build`'s.

mod arguments;
mod attestations;
mod outputs;
mod shell;
mod sources;

use std::fs;
use std::path::Path;

use build::scope::{BuildArguments, Platform};
use build::{Built, CacheSource, CacheTarget, Request, Warning};
use engine::model::HostConfig;

pub(crate) use arguments::Args;

use crate::build_progress::{Display, Mode, pointer};
use crate::commands::Verb;
use crate::context::{Context, say};
use crate::failure::{Failure, Result};
use crate::options::identity;
use attestations::Attestations;

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] PATH | URL | -";
    const ABOUT: &'static str = "Build an image from a Dockerfile";

    fn run(self, context: &Context) -> Result<u8> {
        let mode = if self.quiet { Mode::Quiet } else { Mode::parse(&self.progress)? };
        let request = self.request(context)?;
        if self.check {
            return check(context, &request);
        }
        sources::stop_on_signals(&request.cancel)?;
        let mut display = Display::new(mode);
        let result = build::build(context.engine.paths(), &request, &mut |event| display.show(&event));
        display.end();
        let built = result.map_err(|failed| failure(&failed, &display))?;
        if mode != Mode::Quiet && mode != Mode::RawJson {
            warn(context, &built.warnings, "Dockerfile");
        }
        self.write_files(&built)?;
        if mode == Mode::Quiet
            && let Some(image) = built.images.first()
        {
            context.print(&format!("{}\n", image.id))?;
        }
        Ok(0)
    }
}

/// Caches elsewhere, as they were typed.
fn caches<T>(texts: &[String], parse: fn(&str) -> build::Result<T>) -> Result<Vec<T>> {
    texts.iter().map(|text| parse(text).map_err(|error| Failure::new(error.message))).collect()
}

impl Args {
    fn request(&self, context: &Context) -> Result<Request> {
        if !["default", "none", "host"].contains(&self.network.as_str()) {
            return Err(Failure::new(format!("network mode {:?} is not supported by builds", self.network))
                .hinted("use default, none or host"));
        }
        let mut allowed = self.allow.clone();
        if self.network == "host" {
            allowed.push("network.host".to_owned());
        }
        let mut arguments: Vec<_> = self.build_arg.iter().filter_map(|text| argument(text)).collect();
        if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH")
            && !arguments.iter().any(|(name, _)| name == "SOURCE_DATE_EPOCH")
        {
            arguments.push(("SOURCE_DATE_EPOCH".to_owned(), epoch));
        }
        let attestations = Attestations::read(&self.attest, self.provenance.as_deref(), self.sbom.as_deref())?;
        let outputs = outputs::parse(&self.output, self.push, self.load)?;
        Ok(Request {
            recipe: sources::recipe(&self.path, self.file.as_deref())?,
            context: sources::context(&self.path)?,
            contexts: self.build_context.iter().map(|text| sources::named(text)).collect::<Result<_>>()?,
            epoch: epoch(&arguments)?,
            arguments: BuildArguments(arguments),
            target: self.target.clone(),
            platforms: self.platforms()?,
            labels: self.label.iter().map(|text| split(text)).collect(),
            annotations: self.annotation.iter().map(|text| split(text)).collect(),
            names: [self.tag.clone(), outputs.names].concat(),
            outputs: outputs.list,
            provenance: attestations.provenance,
            sbom: attestations.sbom,
            cache_from: caches(&self.cache_from, CacheSource::parse)?,
            cache_to: caches(&self.cache_to, CacheTarget::parse)?,
            no_cache: self.no_cache,
            no_cache_filter: self.no_cache_filter.clone(),
            pull: self.pull,
            network: self.network.clone(),
            secrets: Some(sources::secrets(&self.secret)?),
            agents: Some(sources::agents(&self.ssh)?),
            allowed,
            host: self.host(),
            access: context.access(),
            on_error: shell::on_error(self.on_error.as_deref(), context)?,
            ..Request::default()
        })
    }

    fn platforms(&self) -> Result<Vec<Platform>> {
        let given = match self.platform.is_empty() {
            true => identity::platform(None).into_iter().collect(),
            false => self.platform.clone(),
        };
        given.iter().map(|text| Platform::parse(text).map_err(|error| Failure::new(error.message))).collect()
    }

    fn host(&self) -> HostConfig {
        HostConfig {
            extra_hosts: (!self.add_host.is_empty()).then(|| self.add_host.clone()),
            cgroup_parent: self.cgroup_parent.clone().unwrap_or_default(),
            cpu_period: self.cpu_period.unwrap_or_default(),
            cpu_quota: self.cpu_quota.unwrap_or_default(),
            cpu_shares: self.cpu_shares.unwrap_or_default(),
            nano_cpus: self.cpus.unwrap_or_default(),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            memory: self.memory.unwrap_or_default(),
            memory_swap: self.memory_swap.unwrap_or_default(),
            pids_limit: self.pids_limit,
            shm_size: self.shm_size.unwrap_or_default(),
            ulimits: (!self.ulimit.is_empty()).then(|| self.ulimit.clone()),
            ..HostConfig::default()
        }
    }

    /// `--iidfile` and `--metadata-file`.
    fn write_files(&self, built: &Built) -> Result<()> {
        let written = |path: &Path, text: &str| {
            fs::write(path, text).map_err(|error| Failure::new(format!("write {}: {error}", path.display())))
        };
        if let (Some(path), Some(image)) = (&self.iidfile, built.images.first()) {
            written(path, &image.id)?;
        }
        if let Some(path) = &self.metadata_file {
            written(path, &outputs::metadata(built))?;
        }
        Ok(())
    }
}

/// `--check`: the findings, and an exit code that says whether there are any.
fn check(context: &Context, request: &Request) -> Result<u8> {
    let display = Display::new(Mode::Plain);
    let warnings = build::check(context.engine.paths(), request).map_err(|failed| failure(&failed, &display))?;
    if warnings.is_empty() {
        context.print("Check complete, no warnings found.\n")?;
        return Ok(0);
    }
    let plural = if warnings.len() == 1 { "" } else { "s" };
    context.print(&format!("Check complete, {} warning{plural} have been found!\n", warnings.len()))?;
    for warning in &warnings {
        let place = warning.span.map_or(String::new(), |span| format!("Dockerfile:{}: ", span.first));
        let Warning { rule, description, url, message, .. } = warning;
        context.print(&format!("\nWARNING: {rule} - {url}\n{description}\n{place}{message}\n"))?;
    }
    Ok(1)
}

fn warn(context: &Context, warnings: &[Warning], name: &str) {
    for warning in warnings {
        let place = warning.span.map_or(String::new(), |span| format!(" ({name}:{})", span.first));
        context.warn(&format!("{}: {}{place}", warning.rule, warning.message));
    }
}

/// All errors, each with its lines; the last is the command's own.
fn failure(failed: &build::Failure, display: &Display) -> Failure {
    let text = String::from_utf8_lossy(&failed.text);
    if let Some(log) = display.last_lines_of_failed() {
        say(&log);
    }
    for error in &failed.errors {
        if let Some(span) = error.span.filter(|_| !text.is_empty()) {
            say(&pointer(&failed.name, &text, span));
        }
    }
    let Some((last, others)) = failed.errors.split_last() else { return Failure::new("failed to solve") };
    others.iter().for_each(|error| say(&format!("kiste: failed to solve: {}\n", located(error))));
    Failure::new(format!("failed to solve: {}", located(last)))
}

fn located(error: &build::Error) -> String {
    error.span.map_or_else(|| error.message.clone(), |span| format!("line {}: {}", span.first, error.message))
}

/// `name=value`; a name alone takes its value from the environment.
fn argument(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(text).ok().map(|value| (text.to_owned(), value)),
    }
}

/// `SOURCE_DATE_EPOCH` among the arguments; an empty one is none.
fn epoch(arguments: &[(String, String)]) -> Result<Option<i64>> {
    let given = arguments.iter().rev().find(|(name, _)| name == "SOURCE_DATE_EPOCH").map(|(_, value)| value);
    let number = |text: &String| {
        text.parse().map_err(|_| Failure::new(format!("invalid SOURCE_DATE_EPOCH: {text:?} is no number of seconds")))
    };
    given.filter(|text| !text.is_empty()).map(number).transpose()
}

fn split(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}
