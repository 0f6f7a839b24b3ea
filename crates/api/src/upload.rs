//! A request's body as a reader, for verbs that block: read ahead a little, so that a fast client waits for a slow disk.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

/// Parts of a body that are read ahead.
const AHEAD: usize = 4;

/// A request's body for a thread that may block.
pub(crate) struct Upload {
    parts: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Upload {
    /// Reads the body as fast as it is consumed.
    pub(crate) fn new(mut body: Incoming) -> Self {
        let (sender, parts) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
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
