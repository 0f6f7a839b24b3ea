//! Answers: documents, bare statuses, and bodies that come bit by bit over a bounded channel, so that a slow reader holds
//! up its own request and nothing else.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::failure::{Failure, Result};

/// Parts of a body that may wait for a slow reader.
const WAITING: usize = 4;

/// An answer.
pub(crate) type Reply = Response<Body>;

/// The body of an answer.
pub(crate) enum Body {
    /// All of it; taken when it is sent.
    Whole(Bytes),
    /// What a [`Writer`] gives. An error breaks the connection off, so that nobody takes a half for the whole.
    Parts(mpsc::Receiver<io::Result<Bytes>>),
}

/// The writing end of a body.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<io::Result<Bytes>>);

/// The reader of a body has gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl Body {
    /// A body that is still to be written.
    pub(crate) fn parts() -> (Writer, Body) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Writer(sender), Body::Parts(receiver))
    }
}

impl Writer {
    /// Writes a part; waits for a slow reader.
    pub(crate) async fn write(&self, part: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.send(Ok(part.into())).await.map_err(|_| Gone)
    }

    /// Writes one document and a line feed.
    pub(crate) async fn line(&self, document: &impl Serialize) -> Result<(), Gone> {
        self.write(encode(document)).await
    }

    /// The same on a thread that may block.
    pub(crate) fn write_blocking(&self, part: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.blocking_send(Ok(part.into())).map_err(|_| Gone)
    }

    /// Breaks the answer off.
    pub(crate) async fn break_off(&self) {
        drop(self.0.send(Err(io::ErrorKind::BrokenPipe.into())).await);
    }

    /// Comes back when the reader has gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

impl io::Write for Writer {
    /// For verbs that write archives, on a thread that may block.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_blocking(Bytes::copy_from_slice(bytes))
            .map_err(|Gone| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Body::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Body::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Body::Parts(receiver) => receiver.poll_recv(context).map(|part| part.map(|part| part.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Parts(_) => SizeHint::default(),
        }
    }
}

/// A document as Docker writes it: one line.
fn encode(document: &impl Serialize) -> Bytes {
    // What the engine answers can be encoded: its maps have text for keys.
    let mut bytes = serde_json::to_vec(document).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}

/// A document with a status.
pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Reply {
    with_type(status, "application/json", Body::Whole(encode(document)))
}

/// `200` and a document.
pub(crate) fn ok(document: &impl Serialize) -> Result<Reply> {
    Ok(json(StatusCode::OK, document))
}

/// `201` and a document.
pub(crate) fn created(document: &impl Serialize) -> Result<Reply> {
    Ok(json(StatusCode::CREATED, document))
}

/// `204`.
pub(crate) fn no_content() -> Result<Reply> {
    Ok(status(StatusCode::NO_CONTENT))
}

/// A status without a body.
pub(crate) fn status(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::Whole(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

/// A body of some type.
pub(crate) fn with_type(status: StatusCode, kind: &'static str, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// Docker's error body. A `304` has none.
pub(crate) fn failure(failure: &Failure) -> Reply {
    if failure.status == StatusCode::NOT_MODIFIED {
        return status(failure.status);
    }
    json(failure.status, &serde_json::json!({ "message": failure.message }))
}
