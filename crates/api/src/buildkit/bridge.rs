//! The service `moby.buildkit.v1.frontend.LLBBridge`: how buildx drives a build. The frontend that it asks for is the one
//! that is built in; definitions in LLB are refused but for results of our own.

use std::collections::HashMap;
use std::sync::Arc;

use hyper::header::HeaderMap;

use super::jobs::Job;
use super::link::{self, Definition};
use super::options::{Asked, Options, session_ids};
use super::outputs::Outputs;
use super::proto::{
    BridgeResult, BridgeSolveRequest, BridgeSolveResponse, Cap, Empty, EvaluateRequest, PongResponse, Ref,
    ReturnRequest,
};
use super::wire::{Code, Gone, Messages, Result, Sender, Status};
use super::{control, faults, subrequests};
use crate::Served;
use crate::building::Scratch;

/// Which build a call is about.
const BUILD: &str = "buildkit-controlapi-buildid";
/// What the bridge can do (`frontend/gateway/pb/caps.go`).
const CAPS: [&str; 10] = [
    "solve.base",
    "solve.inlinereturn",
    "proto.refarray",
    "return",
    "returnmap",
    "frontend.inputs",
    "frontend.caps",
    "gateway.evaluate",
    "gateway.solve.metadata",
    "reference.output",
];

/// What is to be built.
pub(super) struct Given {
    pub(super) frontend: String,
    pub(super) options: Options,
    pub(super) inputs: HashMap<String, Definition>,
    pub(super) definition: Option<Definition>,
}

/// Answers a call.
pub(super) async fn call(
    verb: &str,
    headers: &HeaderMap,
    mut messages: Messages,
    sender: &Sender,
    served: &Arc<Served>,
) -> Result<()> {
    let reference = headers.get(BUILD).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let job = served.jobs.find(reference).await?;
    let answered: Result<(), Gone> = match verb {
        "Ping" => {
            let caps = CAPS.map(|id| Cap { id: id.to_owned(), enabled: true });
            let answer = PongResponse {
                frontend_caps: caps.to_vec(),
                workers: vec![control::worker()],
                ..PongResponse::default()
            };
            sender.send(&answer).await
        }
        "Solve" => {
            let BridgeSolveRequest { definition, frontend, frontend_opt: options, frontend_inputs: inputs } =
                messages.only().await?;
            let result = build(&job, Given { frontend, options, inputs, definition }, served).await?;
            sender.send(&BridgeSolveResponse { result: Some(result) }).await
        }
        "Return" => {
            let request: ReturnRequest = messages.only().await?;
            let outcome = match request.error {
                None => Ok(()),
                Some(error) => {
                    let details = prost::Message::encode_to_vec(&error);
                    Err(Status { code: error.code, message: error.message, details })
                }
            };
            job.returned.send_replace(Some(outcome));
            sender.send(&Empty {}).await
        }
        // Results are complete when they are given out.
        "Evaluate" => {
            let _: EvaluateRequest = messages.only().await?;
            sender.send(&Empty {}).await
        }
        _ => return Err(Status::new(Code::Unimplemented, format!("LLBBridge/{verb} is not served"))),
    };
    // A client that has gone needs no end.
    drop(answered);
    Ok(())
}

/// Builds; the result as clients refer to it.
pub(super) async fn build(job: &Arc<Job>, given: Given, served: &Arc<Served>) -> Result<BridgeResult> {
    check(&given)?;
    if given.frontend.is_empty() {
        return Ok(BridgeResult::default());
    }
    let mut others = HashMap::new();
    for id in session_ids(&given.options) {
        others.insert(id.clone(), served.sessions.find(id).await?);
    }
    let (job, paths) = (job.clone(), served.engines.paths().clone());
    let work = tokio::task::spawn_blocking(move || run(&job, &given, others, &paths));
    work.await.map_err(|_| Status::new(Code::Internal, "the build's thread died"))?
}

/// Refuses what is not there.
fn check(given: &Given) -> Result<()> {
    if given.definition.as_ref().is_some_and(|definition| !definition.is_empty()) {
        let message = "definitions in LLB are not built here: use a Dockerfile";
        return Err(Status::new(Code::Unimplemented, message));
    }
    let source = given.options.get("source").map(String::as_str).unwrap_or_default();
    let own = source.strip_prefix("docker.io/").unwrap_or(source).starts_with("docker/dockerfile");
    match given.frontend.as_str() {
        "" | "dockerfile.v0" => {}
        "gateway.v0" if own => {}
        other => {
            let message = format!("frontend {other} {source} is not understood: docker/dockerfile is built in");
            return Err(Status::new(Code::Unimplemented, message));
        }
    }
    given.options.get("requestid").map_or(Ok(()), |id| subrequests::check(id))
}

fn run(
    job: &Arc<Job>,
    given: &Given,
    others: HashMap<String, Arc<super::session::Session>>,
    paths: &engine::Paths,
) -> Result<BridgeResult> {
    let internal = |error: engine::Error| Status::new(Code::Internal, error.message);
    let scratch = Scratch::new(paths).map_err(internal)?;
    let directory = scratch.path().to_owned();
    let asked = Asked { job, others, paths: paths.clone(), inputs: &given.inputs, scratch: directory.clone() };
    let outputs = Outputs::read(&job.exporters, job.session.as_ref(), &directory)?;
    let request = build::Request {
        names: outputs.names.clone(),
        annotations: outputs.annotations.clone(),
        outputs: outputs.list.clone(),
        ..asked.request(&given.options)?
    };
    if given.options.contains_key("requestid") {
        let warnings = build::check(paths, &request).map_err(|failure| faults::status(&failure, false))?;
        return Ok(BridgeResult { reference: None, metadata: subrequests::answer(&warnings) });
    }
    let mut begun = false;
    let built = build::build(paths, &request, &mut |event| {
        begun |= matches!(&event, build::Event::Began { name, .. } if !name.contains("load build definition"));
        job.progress.hear(event);
    });
    let built = built.map_err(|failure| faults::status(&failure, begun))?;
    // The archives are whole when nobody can write to them any more.
    drop(request);
    outputs.deliver(job.session.as_ref()).map_err(|message| Status::new(Code::Unknown, message))?;
    job.keep(response(&built, &outputs.names));
    Ok(result(&built))
}

/// BuildKit's answer to its clients.
fn response(built: &build::Built, names: &[String]) -> HashMap<String, String> {
    let mut response: HashMap<String, String> = built.metadata.iter().cloned().collect();
    if let [image] = built.images.as_slice() {
        let digest = built.digest.clone().unwrap_or_else(|| image.id.clone());
        response.entry("containerimage.digest".to_owned()).or_insert(digest);
        response.entry("containerimage.config.digest".to_owned()).or_insert_with(|| image.id.clone());
    }
    if !names.is_empty() {
        let full = names.iter().filter_map(|name| Some(name.parse::<image::Reference>().ok()?.or_latest().to_string()));
        response.entry("image.name".to_owned()).or_insert_with(|| full.collect::<Vec<_>>().join(","));
    }
    response
}

fn result(built: &build::Built) -> BridgeResult {
    let Some(image) = built.images.first() else { return BridgeResult::default() };
    let metadata = [("containerimage.config".to_owned(), image.config.clone())];
    BridgeResult {
        reference: Some(Ref { id: image.id.clone(), definition: Some(link::write(&image.id)) }),
        metadata: metadata.into(),
    }
}
