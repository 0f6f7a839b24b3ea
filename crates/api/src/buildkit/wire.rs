//! gRPC over HTTP/2: messages with their heads in both directions, and the trailers that say how a call ended. Own code,
//! because the usual library brings a web framework for what is a five-byte head, and both ends run over connections
//! that were taken over from HTTP/1.1.

use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use prost::Message;
use tokio::sync::mpsc;

/// Largest message, as BuildKit's clients and server have it.
const LARGEST: usize = 16 << 20;
/// Messages that may wait for a slow reader.
const WAITING: usize = 8;
/// Compressed or not, and the length.
const HEAD: usize = 5;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
/// What a message in a header must escape.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%').add(0x7f);

/// Codes of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: i32,
    pub(crate) message: String,
    /// A `google.rpc.Status`, encoded; empty: none.
    pub(crate) details: Vec<u8>,
}

impl Status {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Status { code: code as i32, message: message.into(), details: Vec::new() }
    }

    fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert(STATUS, self.code.into());
        let escaped = utf8_percent_encode(&self.message, ESCAPED).to_string();
        trailers.extend(HeaderValue::from_str(&escaped).ok().map(|value| (MESSAGE, value)));
        if !self.details.is_empty() {
            let encoded = BASE64_STANDARD_NO_PAD.encode(&self.details);
            trailers.extend(HeaderValue::from_str(&encoded).ok().map(|value| (DETAILS, value)));
        }
        trailers
    }

    /// What trailers say; none: success.
    fn read(trailers: &HeaderMap) -> Option<Self> {
        let text = |name: HeaderName| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match text(STATUS).parse() {
            Ok(0) => None,
            Ok(code) => {
                let message = percent_decode_str(text(MESSAGE)).decode_utf8_lossy().into_owned();
                Some(Status { code, message, details: Vec::new() })
            }
            Err(_) => Some(Status::new(Code::Unknown, "the call ended without a status")),
        }
    }
}

impl From<hyper::Error> for Status {
    fn from(error: hyper::Error) -> Self {
        Status::new(Code::Unavailable, error.to_string())
    }
}

/// The result of a call.
pub(crate) type Result<T, E = Status> = std::result::Result<T, E>;

/// The reader has gone.
#[derive(Debug)]
pub(crate) struct Gone;

/// A stream of messages that is being written; also the body of HTTP that carries it.
pub(crate) struct Body(mpsc::Receiver<Frame<Bytes>>);

/// The writing end of a stream of messages.
#[derive(Clone)]
pub(crate) struct Sender(mpsc::Sender<Frame<Bytes>>);

/// An empty stream and its writing end.
pub(crate) fn stream() -> (Sender, Body) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Sender(sender), Body(receiver))
}

impl Sender {
    /// Sends a message; waits for a slow reader.
    pub(crate) async fn send(&self, message: &impl Message) -> Result<(), Gone> {
        let length = message.encoded_len();
        let mut bytes = BytesMut::with_capacity(HEAD + length);
        bytes.put_u8(0);
        bytes.put_u32(length as u32);
        // There is room for it.
        message.encode_raw(&mut bytes);
        self.0.send(Frame::data(bytes.freeze())).await.map_err(|_| Gone)
    }

    /// Ends an answer.
    pub(crate) async fn end(&self, outcome: Result<()>) {
        let success = Status { code: 0, message: String::new(), details: Vec::new() };
        let trailers = outcome.err().unwrap_or(success).trailers();
        drop(self.0.send(Frame::trailers(trailers)).await);
    }

    /// Comes back when the reader has gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}

/// A stream of messages that is being read.
pub(crate) struct Messages {
    body: Arriving,
    buffer: BytesMut,
    /// How the other side ended it.
    end: Option<Result<()>>,
}

/// Where messages come from. The head of an answer may come as late as its first message.
enum Arriving {
    Waiting(tokio::task::JoinHandle<Result<Response<Incoming>, hyper::Error>>),
    Open(Incoming),
    Over,
}

impl Messages {
    /// Of a request.
    pub(crate) fn new(body: Incoming) -> Self {
        Messages { body: Arriving::Open(body), buffer: BytesMut::new(), end: None }
    }

    /// The next part of the body.
    async fn part(&mut self) -> Result<Option<Frame<Bytes>>> {
        if let Arriving::Waiting(answer) = &mut self.body {
            let answer = answer.await.map_err(|_| torn())?;
            let (head, body) = answer?.into_parts();
            self.body = Arriving::Open(body);
            if head.headers.contains_key(STATUS) {
                self.end = Some(ended(&head.headers));
                self.body = Arriving::Over;
            }
        }
        match &mut self.body {
            Arriving::Open(body) => Ok(body.frame().await.transpose()?),
            _ => Ok(None),
        }
    }

    /// The next message; none at the end.
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>> {
        while self.waiting()?.is_none() {
            match self.part().await? {
                None => return if self.buffer.is_empty() { Ok(None) } else { Err(torn()) },
                Some(frame) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => self.end = frame.into_trailers().ok().map(|trailers| ended(&trailers)),
                },
            }
        }
        let length = self.waiting()?.unwrap_or_default();
        self.buffer.advance(HEAD);
        let bytes = self.buffer.split_to(length).freeze();
        let bad = |error| Status::new(Code::InvalidArgument, format!("a message cannot be read: {error}"));
        M::decode(bytes).map(Some).map_err(bad)
    }

    /// The only message of a request.
    pub(crate) async fn only<M: Message + Default>(&mut self) -> Result<M> {
        self.next().await?.ok_or_else(|| Status::new(Code::InvalidArgument, "the request has no message"))
    }

    /// Length of the message at the beginning of the buffer, if it is whole.
    fn waiting(&self) -> Result<Option<usize>> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else { return Ok(None) };
        if head[0] != 0 {
            return Err(Status::new(Code::Unimplemented, "compressed messages are not read"));
        }
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > LARGEST {
            return Err(Status::new(Code::InvalidArgument, format!("a message of {length} bytes is too large")));
        }
        Ok((self.buffer.len() >= HEAD + length).then_some(length))
    }

    /// How an answer ended, when `next` has said that it did.
    pub(crate) fn outcome(&self) -> Result<()> {
        self.end.clone().unwrap_or_else(|| Err(torn()))
    }
}

fn torn() -> Status {
    Status::new(Code::Unavailable, "the stream broke off")
}

fn ended(trailers: &HeaderMap) -> Result<()> {
    Status::read(trailers).map_or(Ok(()), Err)
}

/// The head of an answer whose messages come later.
pub(crate) fn answer(body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

/// The other side of a connection on which we ask.
#[derive(Clone)]
pub(crate) struct Channel(hyper::client::conn::http2::SendRequest<Body>);

impl Channel {
    /// Over a connection that has been set up.
    pub(crate) fn new(connection: hyper::client::conn::http2::SendRequest<Body>) -> Self {
        Channel(connection)
    }

    /// Begins a call; its sending side ends with the sender.
    pub(crate) fn call(&self, method: &str, metadata: &[(String, String)]) -> Result<(Sender, Messages)> {
        let (sender, body) = stream();
        let mut request = Request::post(format!("http://session{method}"))
            .header(CONTENT_TYPE, "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(name, value);
        }
        let wrong = |error: hyper::http::Error| Status::new(Code::Internal, format!("call {method}: {error}"));
        let answer = self.0.clone().send_request(request.body(body).map_err(wrong)?);
        let body = Arriving::Waiting(tokio::spawn(answer));
        Ok((sender, Messages { body, buffer: BytesMut::new(), end: None }))
    }

    /// A call with one message each way.
    pub(crate) async fn unary<M: Message + Default>(&self, method: &str, message: &impl Message) -> Result<M> {
        let (sender, mut messages) = self.call(method, &[])?;
        drop(sender.send(message).await);
        drop(sender);
        let answer = messages.next().await?;
        while messages.next::<M>().await?.is_some() {}
        messages.outcome()?;
        answer.ok_or_else(torn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_survive_their_trailers() {
        let status = Status::new(Code::NotFound, "no „such“ 100 %\nthing");
        assert_eq!(Status::read(&status.trailers()), Some(status));
        assert_eq!(ended(&Status { code: 0, message: String::new(), details: Vec::new() }.trailers()), Ok(()));
        assert_eq!(Status::read(&HeaderMap::new()).unwrap().code, Code::Unknown as i32);
    }
}
