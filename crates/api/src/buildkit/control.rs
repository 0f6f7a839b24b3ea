//! The service `moby.buildkit.v1.Control`: which call does what, builds from their beginning to their end, and the history
//! of those that a client may still ask about.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, Response};

use super::progress::now;
use super::proto::{
    DiskUsageRequest, DiskUsageResponse, Empty, HealthResponse, HistoryEvent, HistoryRequest, InfoResponse,
    ListWorkersResponse, Platform, PruneRequest, SolveRequest, SolveResponse, StatusRequest, UpdateHistoryRequest,
    UsageRecord, Version, WorkerRecord,
};
use super::wire::{self, Body, Code, Gone, Messages, Result, Sender, Status};
use super::{bridge, tunnel};
use crate::Served;

/// `BuildHistoryEvent.type`
const COMPLETE: i32 = 1;
const STARTED: i32 = 0;

/// Answers a call.
pub(super) async fn handle(request: Request<Incoming>, served: Arc<Served>) -> Response<Body> {
    let (sender, body) = wire::stream();
    let (head, incoming) = request.into_parts();
    tokio::spawn(async move {
        let work = call(head.uri.path(), &head.headers, Messages::new(incoming), &sender, &served);
        tokio::select! {
            outcome = work => sender.end(outcome).await,
            // Whoever asked has gone: what was begun for him is dropped, which stops it.
            () = sender.closed() => {}
        }
    });
    wire::answer(body)
}

async fn call(
    method: &str,
    headers: &HeaderMap,
    mut messages: Messages,
    sender: &Sender,
    served: &Arc<Served>,
) -> Result<()> {
    let answered = match method {
        "/moby.buildkit.v1.Control/ListWorkers" => sender.send(&ListWorkersResponse { record: vec![worker()] }).await,
        "/moby.buildkit.v1.Control/Info" => sender.send(&InfoResponse { version: Some(version()) }).await,
        "/moby.buildkit.v1.Control/Solve" => sender.send(&solve(messages.only().await?, served).await?).await,
        "/moby.buildkit.v1.Control/Status" => {
            let request: StatusRequest = messages.only().await?;
            served.jobs.find(&request.reference).await?.progress.follow(sender).await
        }
        "/moby.buildkit.v1.Control/Session" => return tunnel::session(headers, messages, sender, served).await,
        "/moby.buildkit.v1.Control/DiskUsage" => {
            let request: DiskUsageRequest = messages.only().await?;
            unfiltered(&request.filter)?;
            sender.send(&DiskUsageResponse { record: usage(served).await? }).await
        }
        "/moby.buildkit.v1.Control/Prune" => return prune(messages.only().await?, sender, served).await,
        "/moby.buildkit.v1.Control/ListenBuildHistory" => {
            let request: HistoryRequest = messages.only().await?;
            unfiltered(&request.filter)?;
            history(&request, sender, served).await
        }
        "/moby.buildkit.v1.Control/UpdateBuildHistory" => {
            let request: UpdateHistoryRequest = messages.only().await?;
            if request.delete {
                served.jobs.delete(&request.reference);
            } else {
                served.jobs.pin(&request.reference, request.pinned)?;
            }
            sender.send(&Empty {}).await
        }
        "/grpc.health.v1.Health/Check" => sender.send(&HealthResponse { status: 1 }).await,
        // Clients send traces wherever they build; nobody looks at them here.
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => sender.send(&Empty {}).await,
        _ => match method.strip_prefix("/moby.buildkit.v1.frontend.LLBBridge/") {
            Some(verb) => return bridge::call(verb, headers, messages, sender, served).await,
            None => return Err(Status::new(Code::Unimplemented, format!("unknown method {method}"))),
        },
    };
    // A client that has gone needs no end.
    answered.or(Err(Gone)).map_or(Ok(()), Ok)
}

/// Refuses filters where there are none.
fn unfiltered(filters: &[String]) -> Result<()> {
    match filters.iter().find(|filter| !filter.is_empty()) {
        Some(filter) => Err(Status::new(Code::Unimplemented, format!("filter {filter:?}: filters are not supported"))),
        None => Ok(()),
    }
}

fn version() -> Version {
    Version {
        package: "github.com/moby/buildkit".to_owned(),
        version: concat!("v0.26.0-kiste-", env!("CARGO_PKG_VERSION")).to_owned(),
        revision: String::new(),
    }
}

/// The one worker.
pub(super) fn worker() -> WorkerRecord {
    let here = build::scope::Platform::host();
    let platform = Platform { architecture: here.architecture, os: here.os, variant: here.variant };
    WorkerRecord {
        id: "kiste".to_owned(),
        platforms: vec![platform],
        version: Some(version()),
        ..WorkerRecord::default()
    }
}

/// Carries a build out: by itself if a frontend is named, else as the client drives it through the bridge.
async fn solve(request: SolveRequest, served: &Arc<Served>) -> Result<SolveResponse> {
    let session = match request.session.as_str() {
        "" => None,
        id => Some(served.sessions.find(id).await?),
    };
    let running = served.jobs.begin(&request, session.clone())?;
    let job = running.job.clone();
    let work = async {
        if !request.frontend.is_empty() || request.definition.as_ref().is_some_and(|given| !given.is_empty()) {
            let given = bridge::Given {
                frontend: request.frontend,
                options: request.frontend_attrs,
                inputs: request.frontend_inputs,
                definition: request.definition,
            };
            return bridge::build(&job, given, served).await.map(drop);
        }
        let mut returned = job.returned.subscribe();
        let outcome = returned.wait_for(Option::is_some).await;
        outcome.ok().and_then(|outcome| outcome.clone()).unwrap_or(Ok(()))
    };
    let gone = async {
        match &session {
            Some(session) => session.closed().await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = gone => {
            job.cancel.cancel();
            Err(Status::new(Code::Cancelled, "the client has gone"))
        }
    };
    running.end(&outcome);
    outcome.map(|()| SolveResponse { exporter_response: job.made() })
}

/// What builds keep.
async fn usage(served: &Arc<Served>) -> Result<Vec<UsageRecord>> {
    let kept = served.engines.run(|engine| engine.built_images()).await;
    let kept = kept.map_err(|failure| Status::new(Code::Internal, failure.message))?;
    let record = |step: engine::BuiltStep| UsageRecord {
        id: step.image,
        size: step.size as i64,
        created_at: Some(time(step.made_at)),
        last_used_at: Some(time(step.made_at)),
        usage_count: 1,
        description: "layers of a build".to_owned(),
        record_type: "regular".to_owned(),
        ..UsageRecord::default()
    };
    Ok(kept.into_iter().map(record).collect())
}

fn time(nanoseconds: i64) -> super::proto::Timestamp {
    const SECOND: i64 = 1_000_000_000;
    if nanoseconds == 0 {
        return now();
    }
    super::proto::Timestamp { seconds: nanoseconds.div_euclid(SECOND), nanos: nanoseconds.rem_euclid(SECOND) as i32 }
}

/// Forgets everything; what goes is told.
async fn prune(request: PruneRequest, sender: &Sender, served: &Arc<Served>) -> Result<()> {
    if request.filter.iter().any(|filter| !filter.is_empty()) || request.keep_duration != 0 {
        let message = "the build cache is pruned as a whole: filters are not supported";
        return Err(Status::new(Code::Unimplemented, message));
    }
    let before = usage(served).await?;
    let report = crate::building::forget(served).await;
    let report = report.map_err(|failure| Status::new(Code::Internal, failure.message))?;
    for record in before.into_iter().filter(|record| report.removed.contains(&record.id)) {
        if sender.send(&record).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Tells of builds; `early_exit`: only of those that are known now.
async fn history(request: &HistoryRequest, sender: &Sender, served: &Arc<Served>) -> Result<(), Gone> {
    let wanted = |job: &super::jobs::Job| {
        (request.reference.is_empty() || request.reference == job.reference) && !(request.active_only && job.is_over())
    };
    let jobs = served.jobs.list();
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    for job in jobs.iter().filter(|job| wanted(job)).take(limit) {
        let kind = if job.is_over() { COMPLETE } else { STARTED };
        sender.send(&HistoryEvent { kind, record: Some(job.record()) }).await?;
    }
    if !request.early_exit {
        sender.closed().await;
    }
    Ok(())
}
