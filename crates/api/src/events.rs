//! `GET /events`: what has happened since a time, from the engine's log on disk, and what happens next.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::model::Event;
use engine::{EventTail, EventsRequest, Next};
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::Served;
use crate::descriptor::Watched;
use crate::failure::{Failure, Result};
use crate::reply::{self, Body, Reply, Writer};
use crate::request::Request;
use crate::version::Version;

/// Bytes of events that are read before they are sent.
const BATCH: usize = 32 << 10;

/// Streams events until the client goes or `until` has come.
pub(crate) async fn follow(request: &Request, served: &Arc<Served>) -> Result<Reply> {
    let wanted =
        EventsRequest { since: request.time("since")?, until: request.time("until")?, filters: request.filters()? };
    if let (Some(since), Some(until)) = (wanted.since, wanted.until)
        && since > until
    {
        return Err(Failure::bad_request(format!("`since` time ({since}) cannot be after `until` time ({until})")));
    }
    let tail = served.engines.run(move |engine| engine.event_tail(&wanted)).await?;
    let (writer, body) = Body::parts();
    let (served, version) = (served.clone(), request.version);
    tokio::spawn(async move {
        tokio::select! {
            () = writer.closed() => {}
            sent = send(tail, version, &writer, &served) => {
                if let Err(failure) = sent {
                    served.engines.log(&format!("events: {}", failure.message));
                }
            }
        }
    });
    Ok(reply::with_type(StatusCode::OK, "application/json", body))
}

async fn send(mut tail: EventTail, version: Version, writer: &Writer, served: &Served) -> Result<()> {
    let watched = Watched::new(&tail)?;
    loop {
        let (back, lines, over) = served.engines.run(move |_| batch(tail, version)).await?;
        tail = back;
        if !lines.is_empty() && writer.write(lines).await.is_err() {
            return Ok(());
        }
        match over {
            Progress::More => {}
            Progress::End => return Ok(()),
            Progress::Later => {
                let readable = watched.readable();
                match tail.left() {
                    Some(left) => {
                        let left = Duration::from_nanos(left.unsigned_abs());
                        drop(tokio::time::timeout(left, readable).await);
                    }
                    None => readable.await?,
                }
            }
        }
    }
}

/// What follows a batch.
enum Progress {
    More,
    Later,
    End,
}

fn batch(mut tail: EventTail, version: Version) -> engine::Result<(EventTail, Bytes, Progress)> {
    let mut lines = Vec::new();
    let progress = loop {
        if lines.len() >= BATCH {
            break Progress::More;
        }
        match tail.read_next()? {
            // Images that are made are told of since version 1.46.
            Next::Item(event) if version < Version(1, 46) && event.kind == "image" && event.action == "create" => {}
            Next::Item(event) => {
                lines.extend_from_slice(document(&event, version).to_string().as_bytes());
                lines.push(b'\n');
            }
            Next::Later => break Progress::Later,
            Next::End => break Progress::End,
        }
    };
    Ok((tail, lines.into(), progress))
}

/// An event with the members of old that clients still read.
fn document(event: &Event, version: Version) -> Value {
    let mut document = json!({});
    if version < Version(1, 52) && matches!(event.kind.as_str(), "container" | "image") {
        document["status"] = json!(event.action);
        document["id"] = json!(event.actor.id);
        if let (Some(image), "container") = (event.actor.attributes.get("image"), event.kind.as_str()) {
            document["from"] = json!(image);
        }
    }
    if let (Value::Object(document), Ok(Value::Object(event))) = (&mut document, serde_json::to_value(event)) {
        document.extend(event);
    }
    document
}
