//! `POST /images/load` and `/images/get`: archives of images, read and written as they go over the wire.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::mpsc;

use crate::Served;
use crate::failure::{Failure, Result};
use crate::registry::platform;
use crate::reply::Reply;
use crate::request::Request;
use crate::stream;

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

/// Loads an archive.
pub(super) async fn load(request: Request, served: &Arc<Served>) -> Result<Reply> {
    let platform = request.text("platform").map(str::to_owned);
    let mut upload = Upload::new(request.into_body());
    Ok(stream::always_documents(served, move |engine, tell| {
        for line in engine.load(&mut upload, platform.as_deref())? {
            tell(json!({ "stream": format!("{line}\n") }));
        }
        Ok(())
    }))
}

/// Saves images into one archive.
pub(super) async fn save(names: Vec<String>, request: &Request, served: &Arc<Served>) -> Result<Reply> {
    if names.is_empty() {
        return Err(Failure::bad_request("no image is named"));
    }
    let platform = platform(request)?;
    stream::bytes(served, move |engine, output| engine.save(&names, platform.as_deref(), output)).await
}
