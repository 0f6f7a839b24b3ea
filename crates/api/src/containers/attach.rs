//! `POST /containers/{id}/attach`: the connection becomes the container's streams. A container that does not run yet is
//! waited for; so is the next run of one that has ended.

use std::io;
use std::sync::Arc;

use engine::detach::Keys;
use engine::model::Status;
use engine::{Attach, Brief, LogsRequest, Session};
use hyper::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::logs::{self, Look};
use crate::Served;
use crate::descriptor::hung_up;
use crate::failure::{Failure, Result};
use crate::hijack::{self, Manner};
use crate::reply::{Body, Reply, Writer};
use crate::request::Request;
use crate::upload::Unread;
use crate::version::Version;
use crate::websocket;

/// Bytes moved at a time for clients that do not change the protocol.
const CHUNK: usize = 16 << 10;

/// What a client wants of a container.
struct Wanted {
    attach: Attach,
    /// What was written before comes first.
    logs: bool,
    /// What is written from now on comes.
    stream: bool,
    manner: Manner,
}

/// Where a session comes from.
enum Source {
    Now(Box<Session>),
    AtStart(oneshot::Receiver<Session>),
    Never,
}

/// Attaches.
pub(super) async fn attach(name: &str, mut request: Request, served: &Arc<Served>) -> Result<Reply> {
    let keys = Keys::parse(request.text("detachKeys").unwrap_or_default()).map_err(Failure::bad_request)?;
    let looked = name.to_owned();
    let brief = served.engines.run(move |engine| engine.brief(&looked)).await?;
    let wanted = Wanted {
        attach: Attach {
            stdin: request.boolean("stdin"),
            stdout: request.boolean("stdout"),
            stderr: request.boolean("stderr"),
        },
        logs: request.boolean("logs"),
        stream: request.boolean("stream"),
        manner: Manner { tty: brief.tty, keys, until_exit: false },
    };
    let source = source(&brief, &wanted, served).await?;
    let (id, served) = (brief.id, served.clone());
    if request.wants_upgrade() {
        let reply = hijack::switch(&request, brief.tty);
        let upgrade = request.upgrade();
        tokio::spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let Ok((socket, early)) = hijack::connection(upgraded).await else { return };
            note(&served, serve(socket, early, source, wanted, &id, &served).await);
        });
        return Ok(reply);
    }
    let (near, far) = UnixStream::pair()?;
    let (writer, body) = Body::parts();
    let input = request.into_body();
    tokio::spawn(async move { bridge(near, input, writer).await });
    tokio::spawn(async move {
        note(&served, serve(far, Vec::new(), source, wanted, &id, &served).await);
    });
    Ok(hijack::plain(body))
}

/// A connection that breaks is the client's affair; everything else is worth a line.
fn note(served: &Served, outcome: Result<()>) {
    if let Err(failure) = outcome {
        served.engines.log(&format!("attach: {}", failure.message));
    }
}

async fn source(brief: &Brief, wanted: &Wanted, served: &Served) -> Result<Source> {
    if !wanted.stream {
        return Ok(Source::Never);
    }
    let (id, attach) = (brief.id.clone(), wanted.attach);
    let short = |what: &str| Failure::new(StatusCode::CONFLICT, format!("container {} {what}", brief.id));
    match brief.status {
        Status::Running => {
            let session = served.engines.run(move |engine| engine.attach(&id, attach)).await?;
            Ok(Source::Now(Box::new(session)))
        }
        Status::Paused => Err(short("is paused, unpause the container before attach")),
        Status::Restarting => Err(short("is restarting, wait until the container is running")),
        Status::Removing | Status::Dead => Err(short("is marked for removal and cannot be attached to")),
        Status::Created | Status::Exited => Ok(Source::AtStart(served.pending.add(&brief.id, attach))),
    }
}

/// Serves a connection that has been turned over.
async fn serve(
    mut socket: UnixStream,
    early: Vec<u8>,
    source: Source,
    wanted: Wanted,
    id: &str,
    served: &Served,
) -> Result<()> {
    if wanted.logs {
        replay(&mut socket, &wanted, id, served).await?;
    }
    let session = match source {
        Source::Never => return Ok(socket.shutdown().await?),
        Source::Now(session) => *session,
        Source::AtStart(coming) => {
            let gone = std::os::fd::AsFd::as_fd(&socket).try_clone_to_owned()?;
            let started = tokio::select! {
                session = coming => session.ok(),
                left = hung_up(&gone) => { left?; None }
            };
            match started {
                Some(session) => session,
                None => return Ok(socket.shutdown().await?),
            }
        }
    };
    // The client's or the container's end of a stream went: that is how it ends.
    drop(hijack::relay(socket, early, session, wanted.manner).await);
    Ok(())
}

/// Sends what the container wrote before.
async fn replay(socket: &mut UnixStream, wanted: &Wanted, id: &str, served: &Served) -> Result<()> {
    let look = Look {
        stdout: wanted.attach.stdout,
        stderr: wanted.attach.stderr,
        timestamps: false,
        details: false,
        raw: wanted.manner.tty,
    };
    let id = id.to_owned();
    let tail = served.engines.run(move |engine| engine.log_tail(&id, &LogsRequest::default())).await?;
    let (writer, body) = Body::parts();
    let Body::Parts(mut parts) = body else { return Ok(()) };
    let reading = async move { logs::send(tail, look, &writer, served).await };
    let writing = async {
        while let Some(Ok(part)) = parts.recv().await {
            socket.write_all(&part).await?;
        }
        Ok::<(), io::Error>(())
    };
    let (read, written) = tokio::join!(reading, writing);
    read?;
    Ok(written?)
}

/// Carries a request's body and an answer's body to and from a socket, for clients that keep to HTTP.
pub(crate) async fn bridge(mut socket: UnixStream, mut input: Unread, writer: Writer) {
    let (mut from, mut to) = socket.split();
    let typing = async {
        while let Some(Ok(frame)) = input.next().await {
            if let Ok(data) = frame.into_data()
                && to.write_all(&data).await.is_err()
            {
                break;
            }
        }
        // A request without a body has no input, and its end is no end of input.
        std::future::pending::<()>().await;
    };
    let reading = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    if writer.write(buffer[..count].to_vec()).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = typing => {}
        () = reading => {}
        () = writer.closed() => {}
    }
}

/// Attaches by way of a web socket: nothing is framed, whatever the container writes is one stream.
pub(super) async fn websocket(name: &str, mut request: Request, served: &Arc<Served>) -> Result<Reply> {
    let Some(reply) = websocket::accept(&request) else {
        return Err(Failure::bad_request("not a websocket handshake"));
    };
    let keys = Keys::parse(request.text("detachKeys").unwrap_or_default()).map_err(Failure::bad_request)?;
    let looked = name.to_owned();
    let brief = served.engines.run(move |engine| engine.brief(&looked)).await?;
    // Until version 1.42 all streams were attached, whatever was asked for.
    let wants = |stream: &str| request.version < Version(1, 42) || request.boolean(stream);
    let wanted = Wanted {
        attach: Attach { stdin: wants("stdin"), stdout: wants("stdout"), stderr: wants("stderr") },
        logs: request.boolean("logs"),
        stream: request.boolean("stream"),
        manner: Manner { tty: true, keys, until_exit: false },
    };
    let source = source(&brief, &wanted, served).await?;
    let (id, served) = (brief.id, served.clone());
    let (near, far) = UnixStream::pair()?;
    let upgrade = request.upgrade();
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            websocket::relay(upgraded, near).await;
        }
    });
    tokio::spawn(async move { note(&served, serve(far, Vec::new(), source, wanted, &id, &served).await) });
    Ok(reply)
}
