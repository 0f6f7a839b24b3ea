//! The endpoints of `exec`: made below a container, then started, resized and looked at by its own id.

use std::sync::Arc;

use engine::detach::Keys;
use engine::model::ExecConfig;
use engine::{ErrorKind, Session};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::Served;
use crate::containers::{bridge, size};
use crate::failure::{Failure, Result};
use crate::hijack::{self, Channel, Manner, frame_head};
use crate::reply::{self, Body, Reply};
use crate::request::Request;
use crate::router::not_found;

/// Answers a request below `/exec`.
pub(crate) async fn route(
    method: &Method,
    id: &str,
    verb: &str,
    request: Request,
    served: &Arc<Served>,
) -> Result<Reply> {
    match (method, verb) {
        (&Method::GET, "json") => inspect(id, served).await,
        (&Method::POST, "start") => start(id, request, served).await,
        (&Method::POST, "resize") => resize(id, &request, served).await,
        _ => Err(not_found()),
    }
}

/// Makes one.
pub(crate) async fn create(name: &str, request: &mut Request, served: &Served) -> Result<Reply> {
    let config: ExecConfig = request.json().await?;
    Keys::parse(&config.detach_keys).map_err(Failure::bad_request)?;
    if config.cmd.is_empty() {
        return Err(Failure::bad_request("No exec command specified"));
    }
    let name = name.to_owned();
    let id = served.engines.run(move |engine| engine.create_exec(&name, &config)).await?;
    reply::created(&json!({ "Id": id }))
}

async fn inspect(id: &str, served: &Served) -> Result<Reply> {
    let id = id.to_owned();
    reply::ok(&served.engines.run(move |engine| engine.inspect_exec(&id)).await?)
}

async fn resize(id: &str, request: &Request, served: &Served) -> Result<Reply> {
    let (id, (rows, columns)) = (id.to_owned(), size(request)?);
    served.engines.run(move |engine| engine.resize_exec(&id, rows, columns)).await?;
    Ok(reply::status(StatusCode::OK))
}

/// What `start` is told.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Start {
    detach: bool,
    tty: bool,
    console_size: Option<[u32; 2]>,
}

async fn start(id: &str, mut request: Request, served: &Arc<Served>) -> Result<Reply> {
    let start: Start = request.json().await?;
    let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    let console = start.console_size.map(|[rows, columns]| (side(rows), side(columns)));
    let (detach, id) = (start.detach, id.to_owned());
    let begun = served.engines.run(move |engine| {
        let keys = engine.exec_config(&id)?.detach_keys;
        match engine.start_exec(&id, detach, console) {
            // Docker says this in the stream.
            Err(error) if !detach && !matches!(error.kind, ErrorKind::NotFound | ErrorKind::Conflict) => {
                Ok((keys, Err(error.message)))
            }
            session => Ok((keys, Ok(session?))),
        }
    });
    let (keys, outcome) = begun.await?;
    if detach {
        return Ok(reply::status(StatusCode::OK));
    }
    let keys = Keys::parse(&keys).map_err(Failure::bad_request)?;
    let manner = Manner { tty: start.tty, keys, until_exit: true };
    if request.wants_upgrade() {
        let reply = hijack::switch(&request, start.tty);
        let upgrade = request.upgrade();
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let Ok((socket, early)) = hijack::connection(upgraded).await else { return };
            serve(socket, early, outcome, manner).await;
        });
        return Ok(reply);
    }
    let (near, far) = UnixStream::pair()?;
    let (writer, body) = Body::parts();
    let input = request.into_body();
    tokio::spawn(async move { bridge(near, input, writer).await });
    tokio::spawn(async move { serve(far, Vec::new(), outcome, manner).await });
    Ok(hijack::plain(body))
}

/// Serves a connection that has been turned over. That one of its ends goes is how it ends.
async fn serve(mut socket: UnixStream, early: Vec<u8>, outcome: Result<Session, String>, manner: Manner) {
    match outcome {
        Ok(session) => drop(hijack::relay(socket, early, session, manner).await),
        Err(message) => {
            let mut text = format!("{message}\r\n").into_bytes();
            if !manner.tty {
                text.splice(0..0, frame_head(Channel::Stdout, text.len()));
            }
            drop(socket.write_all(&text).await);
            drop(socket.shutdown().await);
        }
    }
}
