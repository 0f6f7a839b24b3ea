//! `POST /images/create` and `/images/{name}/push`: images from and to registries, with their progress as a stream of
//! documents. What goes wrong before the first one is an HTTP error, what goes wrong later is a document itself.

use std::sync::Arc;

use engine::{PullProgress, PullRequest, PushRequest};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::Served;
use crate::failure::{Failure, Result};
use crate::registry::{access, platform};
use crate::reply::{self, Body, Reply, Writer};
use crate::request::Request;

/// Pulls (`fromImage`) or imports (`fromSrc`).
pub(super) async fn create(request: Request, served: &Arc<Served>) -> Result<Reply> {
    if let Some(image) = request.text("fromImage") {
        let wanted = PullRequest {
            reference: with_tag(image, request.text("tag")),
            platform: request.text("platform").map(str::to_owned),
            all_tags: request.text("tag").is_none() && !has_tag(image),
            access: access(&request),
        };
        return pull(wanted, served).await;
    }
    Err(Failure::not_implemented("images cannot be imported yet"))
}

fn with_tag(image: &str, tag: Option<&str>) -> String {
    match tag {
        Some(digest) if digest.contains(':') => format!("{image}@{digest}"),
        Some(tag) if !has_tag(image) => format!("{image}:{tag}"),
        _ => image.to_owned(),
    }
}

/// Whether a reference names a tag or a digest by itself.
fn has_tag(image: &str) -> bool {
    image.contains('@') || image.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

async fn pull(wanted: PullRequest, served: &Arc<Served>) -> Result<Reply> {
    stream(served, move |engine, tell| engine.pull(&wanted, &mut |progress| tell(document(&progress))).map(drop)).await
}

/// Runs something long and streams what it tells.
pub(super) async fn stream(
    served: &Arc<Served>,
    work: impl FnOnce(&engine::Engine, &mut dyn FnMut(Value)) -> engine::Result<()> + Send + 'static,
) -> Result<Reply> {
    let (writer, body) = Body::parts();
    let (first, begun) = oneshot::channel::<Result<()>>();
    let engines = served.engines.clone();
    tokio::spawn(async move {
        let mut first = Some(first);
        let last = writer.clone();
        let outcome = engines
            .run(move |engine| {
                let told = work(engine, &mut |document| {
                    if let Some(first) = first.take() {
                        drop(first.send(Ok(())));
                    }
                    // A client that has gone does not stop what it began.
                    drop(line(&writer, &document));
                });
                Ok((told, first))
            })
            .await;
        match outcome {
            Ok((Err(error), Some(first))) => drop(first.send(Err(error.into()))),
            Ok((Err(error), None)) => drop(last.line(&in_band(&error.message)).await),
            Ok((Ok(()), Some(first))) => drop(first.send(Ok(()))),
            Ok((Ok(()), None)) => {}
            Err(failure) => drop(last.line(&in_band(&failure.message)).await),
        }
    });
    begun.await.map_err(|_| Failure::internal("the request was abandoned"))??;
    Ok(reply::with_type(StatusCode::OK, "application/json", body))
}

fn line(writer: &Writer, document: &Value) -> Result<(), reply::Gone> {
    writer.write_blocking(format!("{document}\r\n"))
}

/// What goes wrong after the first document.
fn in_band(message: &str) -> Value {
    json!({ "errorDetail": { "message": message }, "error": message })
}

/// Docker's progress document.
fn document(progress: &PullProgress) -> Value {
    let mut document = json!({ "status": progress.status });
    if progress.total > 0 {
        document["progressDetail"] = json!({ "current": progress.current, "total": progress.total });
    } else if !progress.id.is_empty() {
        document["progressDetail"] = json!({});
    }
    if !progress.id.is_empty() {
        document["id"] = json!(progress.id);
    }
    document
}

/// Pushes one tag, or all of them.
pub(super) async fn push(name: &str, request: &Request, served: &Arc<Served>) -> Result<Reply> {
    let wanted = PushRequest {
        reference: with_tag(name, request.text("tag")),
        platform: platform(request)?,
        all_tags: request.text("tag").is_none() && !has_tag(name),
        access: access(request),
    };
    stream(served, move |engine, tell| {
        let pushed = engine.push(&wanted, &mut |progress| tell(document(&progress)))?;
        for image in pushed {
            let aux = json!({ "Tag": image.tag, "Digest": image.digest, "Size": image.size });
            tell(json!({ "progressDetail": {}, "aux": aux }));
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_where_they_stand() {
        assert_eq!(with_tag("busybox", Some("1")), "busybox:1");
        assert_eq!(with_tag("localhost:5000/busybox", Some("1")), "localhost:5000/busybox:1");
        assert_eq!(with_tag("busybox", Some("sha256:ab")), "busybox@sha256:ab");
        assert_eq!(with_tag("busybox:1", None), "busybox:1");
        assert!(!has_tag("localhost:5000/busybox") && has_tag("localhost:5000/busybox:1"));
    }
}
