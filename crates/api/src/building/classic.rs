//! `POST /build`: receives the context, runs the build, and streams what it tells. What is wrong before the first line is
//! an HTTP error; later it is a document, because the answer has begun.

use std::io::Read;
use std::sync::Arc;

use build::dockerfile;
use build::files::Tree;
use build::ignore::{self, Matcher};
use engine::{Engine, Error, Result};
use serde_json::{Value, json};

use super::context::Scratch;
use super::parameters::Parameters;
use super::transcript::Transcript;
use crate::Served;
use crate::images::Upload;
use crate::reply::Reply;
use crate::request::Request;
use crate::stream;

/// Names of a Dockerfile that is not named.
const USUAL: [&str; 2] = ["Dockerfile", "dockerfile"];
/// Most bytes of a remote Dockerfile.
const LARGEST_DOCKERFILE: u64 = 16 << 20;

/// Answers.
pub(super) async fn build(request: Request, served: &Arc<Served>) -> crate::failure::Result<Reply> {
    let parameters = Parameters::read(&request)?;
    let upload = Upload::new(request.into_body());
    stream::documents(served, move |engine, tell| run(engine, parameters, upload, tell)).await
}

fn run(engine: &Engine, mut wanted: Parameters, mut upload: Upload, tell: &mut dyn FnMut(Value)) -> Result<()> {
    let scratch = Scratch::new(engine.paths())?;
    match wanted.remote.take() {
        None => scratch.unpack(&mut upload)?,
        Some(address) => fetch(&address, &scratch, &wanted)?,
    }
    prepare(&mut wanted, &scratch)?;
    let file = dockerfile::parse(&wanted.build.dockerfile).map_err(|errors| in_dockerfile(&errors))?;
    let (arguments, target) = (&wanted.build.arguments, wanted.build.target.as_deref());
    let plan = build::stages::plan(&file, arguments, target, &wanted.build.platform)
        .map_err(|error| in_dockerfile(&[error]))?;
    let mut transcript = Transcript::new(&file, &plan);
    let mut say = |line: &str| {
        if !wanted.quiet {
            tell(json!({ "stream": line }));
        }
    };
    let built = build::build(engine.paths(), &wanted.build, &mut |event| {
        transcript.hear(&event).iter().for_each(|line| say(line));
    });
    let built = built.map_err(|errors| failed(&file, &errors))?;
    transcript.finish().iter().for_each(|line| say(line));
    let short = short(&built.image);
    built.warnings.iter().for_each(|warning| say(&format!("[Warning] {warning}\n")));
    say(&format!(" ---> {short}\n"));
    tell(json!({ "aux": { "ID": built.image } }));
    if wanted.quiet {
        tell(json!({ "stream": format!("{}\n", built.image) }));
        return Ok(());
    }
    tell(json!({ "stream": format!("Successfully built {short}\n") }));
    for name in &wanted.build.names {
        let full = name.parse::<image::Reference>()?.or_latest();
        tell(json!({ "stream": format!("Successfully tagged {}\n", full.familiar()) }));
    }
    Ok(())
}

/// A context from an address: an archive, or a Dockerfile alone.
fn fetch(address: &str, scratch: &Scratch, wanted: &Parameters) -> Result<()> {
    if !address.starts_with("http://") && !address.starts_with("https://") || address.contains(".git") {
        let message = format!("unable to prepare context: {address:?}: only http and https addresses are fetched");
        return Err(Error::not_implemented(message));
    }
    let unreachable =
        |error: &dyn std::fmt::Display| Error::invalid(format!("failed to download remote context {address}: {error}"));
    let mut body = image::download(&wanted.build.access, address).map_err(|error| unreachable(&error))?;
    let mut first = Vec::new();
    body.by_ref().take(512).read_to_end(&mut first).map_err(|error| unreachable(&error))?;
    if is_archive(&first) {
        return scratch.unpack(&mut first.chain(body));
    }
    let mut text = Vec::new();
    let mut whole = first.chain(body).take(LARGEST_DOCKERFILE);
    whole.read_to_end(&mut text).map_err(|error| unreachable(&error))?;
    let place = scratch.path().join("Dockerfile");
    std::fs::write(&place, text).map_err(|error| Error::internal(format!("write {}: {error}", place.display())))
}

/// Whether bytes begin a tar archive, or something compressed.
fn is_archive(first: &[u8]) -> bool {
    let magic: [&[u8]; 4] = [&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z'], &[0x28, 0xb5, 0x2f, 0xfd]];
    first.get(257..262) == Some(b"ustar") || magic.iter().any(|magic| first.starts_with(magic))
}

/// Dockerfile and ignore file from the context.
fn prepare(wanted: &mut Parameters, scratch: &Scratch) -> Result<()> {
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
    wanted.build.dockerfile = text.into_bytes();
    wanted.build.ignore = tree.text(".dockerignore").map_err(bad)?.map(|text| ignore::read(&text)).unwrap_or_default();
    wanted.build.context = Some(scratch.path().to_owned());
    Ok(())
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
fn failed(file: &dockerfile::Dockerfile, errors: &[build::Error]) -> Error {
    let text = |error: &build::Error| {
        let code = error.message.rsplit_once("did not complete successfully: exit code: ").map(|(_, code)| code);
        let step = file.stages.iter().flat_map(|stage| &stage.steps).find(|step| Some(step.span) == error.span);
        match (code, step) {
            (Some(code), Some(step)) => {
                let command = step.code.split_once(char::is_whitespace).map_or("", |(_, command)| command.trim());
                format!("The command '/bin/sh -c {command}' returned a non-zero code: {code}")
            }
            _ => error.message.clone(),
        }
    };
    Error::invalid(errors.iter().map(text).collect::<Vec<_>>().join("; "))
}

fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}
