//! `POST /build`: receives the context, runs the build, and streams what it tells. What is wrong before the first line is
//! an HTTP error; later it is a document, because the answer has begun.

use std::sync::Arc;

use build::files::Tree;
use build::ignore::Matcher;
use build::scope::Platform;
use build::{Context, Recipe, dockerfile};
use engine::{Engine, Error, Result};
use serde_json::{Value, json};

use super::context::Scratch;
use super::parameters::Parameters;
use super::transcript::Transcript;
use crate::Served;
use crate::reply::Reply;
use crate::request::Request;
use crate::stream;
use crate::upload::Upload;

/// Names of a Dockerfile that is not named.
const USUAL: [&str; 2] = ["Dockerfile", "dockerfile"];

/// Answers.
pub(super) async fn build(request: Request, served: &Arc<Served>) -> crate::failure::Result<Reply> {
    let parameters = Parameters::read(&request)?;
    let upload = Upload::new(request.into_body());
    let guard = served.cancels.watch(parameters.id.clone(), &parameters.build.cancel);
    stream::documents_until(served, parameters.build.cancel.clone(), move |engine, tell| {
        let _guard = guard;
        run(engine, parameters, upload, tell)
    })
    .await
}

fn run(engine: &Engine, mut wanted: Parameters, mut upload: Upload, tell: &mut dyn FnMut(Value)) -> Result<()> {
    let scratch = Scratch::new(engine.paths())?;
    let mut transcript = match wanted.remote.take() {
        None => {
            scratch.unpack(&mut upload)?;
            wanted.build.context = Context::Directory(scratch.path().to_owned());
            prepare(&mut wanted, &scratch)?
        }
        Some(address) => {
            wanted.build.context = Context::Address(address);
            wanted.build.recipe = Recipe::InContext(wanted.dockerfile.take());
            Transcript::default()
        }
    };
    let mut say = |line: &str| {
        if !wanted.quiet {
            tell(json!({ "stream": line }));
        }
    };
    let built = build::build(engine.paths(), &wanted.build, &mut |event| {
        transcript.hear(&event).iter().for_each(|line| say(line));
    });
    let built = built.map_err(|failure| failed(&failure))?;
    transcript.finish().iter().for_each(|line| say(line));
    let image = built.images.first().ok_or_else(|| Error::internal("the build has made no image"))?;
    let short = short(&image.id);
    built.warnings.iter().for_each(|warning| say(&format!("[Warning] {}\n", warning.message)));
    say(&format!(" ---> {short}\n"));
    tell(json!({ "aux": { "ID": image.id } }));
    if wanted.quiet {
        tell(json!({ "stream": format!("{}\n", image.id) }));
        return Ok(());
    }
    tell(json!({ "stream": format!("Successfully built {short}\n") }));
    for name in &wanted.build.names {
        let full = name.parse::<image::Reference>()?.or_latest();
        tell(json!({ "stream": format!("Successfully tagged {}\n", full.familiar()) }));
    }
    Ok(())
}

/// Reads the Dockerfile from the context: what is wrong with it is told before the answer begins.
fn prepare(wanted: &mut Parameters, scratch: &Scratch) -> Result<Transcript> {
    let bad = |error: build::Error| Error::invalid(error.message);
    let tree = Tree::context(scratch.path(), Matcher::default()).map_err(bad)?;
    let names: Vec<&str> = wanted.dockerfile.as_deref().map_or(USUAL.to_vec(), |name| vec![name]);
    let mut found = None;
    for name in &names {
        found = found.or(tree.text(name).map_err(bad)?);
    }
    let text = found.ok_or_else(|| Error::invalid(format!("Cannot locate specified Dockerfile: {}", names[0])))?;
    if text.trim().is_empty() {
        return Err(Error::invalid(format!("the Dockerfile ({}) cannot be empty", names[0])));
    }
    let file = dockerfile::parse(text.as_bytes()).map_err(|errors| in_dockerfile(&errors))?;
    let here = Platform::host();
    let platform = wanted.build.platforms.first().unwrap_or(&here);
    let plan = build::stages::plan(&file, &wanted.build, platform).map_err(|error| in_dockerfile(&[error]))?;
    wanted.build.recipe = Recipe::InContext(wanted.dockerfile.clone());
    Ok(Transcript::new(&file, &plan))
}

/// Errors that the Dockerfile itself is to blame for.
fn in_dockerfile(errors: &[build::Error]) -> Error {
    let line = |error: &build::Error| match error.span {
        Some(span) => format!("dockerfile parse error on line {}: {}", span.first, error.message),
        None => error.message.clone(),
    };
    Error::invalid(errors.iter().map(line).collect::<Vec<_>>().join("; "))
}

/// Why a build failed, with the classic builder's text for a command that did.
fn failed(failure: &build::Failure) -> Error {
    let file = dockerfile::parse(&failure.text).ok();
    let text = |error: &build::Error| {
        let steps = file.iter().flat_map(|file| &file.stages).flat_map(|stage| &stage.steps);
        let step = steps.into_iter().find(|step| Some(step.span) == error.span);
        match (error.exit_code, step) {
            (Some(code), Some(step)) => {
                let command = step.code.split_once(char::is_whitespace).map_or("", |(_, command)| command.trim());
                format!("The command '/bin/sh -c {command}' returned a non-zero code: {code}")
            }
            _ => error.message.clone(),
        }
    };
    Error::invalid(failure.errors.iter().map(text).collect::<Vec<_>>().join("; "))
}

fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}
