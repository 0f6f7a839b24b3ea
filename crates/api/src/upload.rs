//! A request's body as a reader, for verbs that block: read ahead a little, so that a fast client waits for a slow disk.
//! And what becomes of a body that nobody reads: clients that are still sending it must not lose the answer.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::Error;
use hyper::body::{Body as _, Frame, Incoming};
use tokio::sync::mpsc;

/// Parts of a body that are read ahead.
const AHEAD: usize = 4;

/// Most bytes of a body that are read although nobody wants them, as with Go's server, and how long that may take.
const POURED_AWAY: usize = 256 << 10;
const POURING_WITHIN: Duration = Duration::from_secs(5);

/// A request's body. What has not been read when this is dropped is poured away within limits: closed at once, the
/// connection would break under the client's hands before it has seen the answer.
pub(crate) struct Unread(Option<Incoming>);

impl Unread {
    pub(crate) fn new(body: Incoming) -> Self {
        Unread(Some(body))
    }

    /// Whether nothing comes (any more).
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.is_end_stream())
    }

    /// The next part; none at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Frame<Bytes>, Error>> {
        self.0.as_mut()?.frame().await
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        if let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) {
            tokio::spawn(tokio::time::timeout(POURING_WITHIN, pour_away(body)));
        }
    }
}

async fn pour_away(mut body: Incoming) {
    let mut left = POURED_AWAY;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// A request's body for a thread that may block.
pub(crate) struct Upload {
    parts: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Upload {
    /// Reads the body as fast as it is consumed.
    pub(crate) fn new(mut body: Unread) -> Self {
        let (sender, parts) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            while let Some(frame) = body.next().await {
                let part = match frame {
                    Ok(frame) => frame.into_data().map_err(|_| io::Error::other("trailers")),
                    Err(error) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string())),
                };
                let failed = part.is_err();
                if sender.send(part).await.is_err() || failed {
                    return;
                }
            }
        });
        Upload { parts, current: Bytes::new() }
    }
}

impl Read for Upload {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.parts.blocking_recv() {
                Some(part) => self.current = part?,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
