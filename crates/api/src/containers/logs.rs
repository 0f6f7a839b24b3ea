//! `GET /containers/{id}/logs`: the log's entries as frames (raw for a terminal), read in batches as fast as the client
//! takes them.

use std::sync::Arc;

use bytes::Bytes;
use engine::{LogEntry, LogTail, LogsRequest, Next, Stream};
use hyper::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::Served;
use crate::descriptor::Watched;
use crate::failure::{Failure, Result};
use crate::hijack::{Channel, frame_head};
use crate::reply::{self, Body, Reply, Writer};
use crate::request::Request;
use crate::version::Version;

/// Bytes that are read before they are sent.
const BATCH: usize = 64 << 10;

/// How entries are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) timestamps: bool,
    pub(super) details: bool,
    pub(super) raw: bool,
}

/// Streams a container's log.
pub(super) async fn logs(name: &str, request: &Request, served: &Arc<Served>) -> Result<Reply> {
    let mut look = Look {
        stdout: request.boolean("stdout"),
        stderr: request.boolean("stderr"),
        timestamps: request.boolean("timestamps"),
        details: request.boolean("details"),
        raw: false,
    };
    if !look.stdout && !look.stderr {
        return Err(Failure::bad_request("Bad parameters: you must choose at least one stream"));
    }
    let wanted = LogsRequest {
        follow: request.boolean("follow"),
        // Docker takes everything that is no number for all of them.
        tail: request.text("tail").and_then(|text| text.parse().ok()),
        since: request.time("since")?.filter(|since| *since != 0),
        until: request.time("until")?.filter(|until| *until != 0),
    };
    let name = name.to_owned();
    let opened = served.engines.run(move |engine| Ok((engine.brief(&name)?.tty, engine.log_tail(&name, &wanted)?)));
    let (tty, tail) = opened.await?;
    look.raw = tty;
    let kind = match tty || request.version < Version(1, 42) {
        true => "application/vnd.docker.raw-stream",
        false => "application/vnd.docker.multiplexed-stream",
    };
    let (writer, body) = Body::parts();
    let served = served.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = writer.closed() => {}
            sent = send(tail, look, &writer, &served) => {
                if let Err(failure) = sent {
                    served.engines.log(&format!("logs: {}", failure.message));
                }
            }
        }
    });
    Ok(reply::with_type(StatusCode::OK, kind, body))
}

/// Sends what there is and what comes.
pub(super) async fn send(mut tail: LogTail, look: Look, writer: &Writer, served: &Served) -> Result<()> {
    loop {
        let (back, bytes, progress) = served.engines.run(move |engine| batch(engine, tail, look)).await?;
        tail = back;
        if !bytes.is_empty() && writer.write(bytes).await.is_err() {
            return Ok(());
        }
        match (progress, tail.descriptor()) {
            (Progress::More, _) => {}
            // Made anew each time: the descriptor changes when another monitor takes the container over.
            (Progress::Later, Some(descriptor)) => Watched::new(descriptor)?.readable().await?,
            (Progress::End, _) | (Progress::Later, None) => return Ok(()),
        }
    }
}

/// What follows a batch.
enum Progress {
    More,
    Later,
    End,
}

fn batch(engine: &engine::Engine, mut tail: LogTail, look: Look) -> engine::Result<(LogTail, Bytes, Progress)> {
    let mut bytes = Vec::new();
    let progress = loop {
        if bytes.len() >= BATCH {
            break Progress::More;
        }
        match tail.read_next(engine)? {
            Next::Item(entry) => append(&mut bytes, &entry, look),
            Next::Later => break Progress::Later,
            Next::End => break Progress::End,
        }
    };
    Ok((tail, bytes.into(), progress))
}

fn append(bytes: &mut Vec<u8>, entry: &LogEntry, look: Look) {
    let (wanted, channel) = match entry.stream {
        Stream::Stdout => (look.stdout, Channel::Stdout),
        Stream::Stderr => (look.stderr, Channel::Stderr),
    };
    if !wanted {
        return;
    }
    let mut head = String::new();
    if look.timestamps {
        head.push_str(&engine::clock::log_time(entry.time));
        head.push(' ');
    }
    if look.details {
        head.push_str(&attributes(entry));
        head.push(' ');
    }
    if !look.raw {
        bytes.extend_from_slice(&frame_head(channel, head.len() + entry.bytes.len()));
    }
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(&entry.bytes);
}

/// `name=value,…`, escaped as in a query, in the order of the names.
fn attributes(entry: &LogEntry) -> String {
    let escape = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut pairs: Vec<String> =
        entry.attributes.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    pairs.sort_unstable();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_timestamps_and_details() {
        let entry = LogEntry {
            stream: Stream::Stderr,
            time: 1_795_466_285_000_000_000,
            bytes: b"hi\n".to_vec(),
            attributes: vec![("b".to_owned(), "c d".to_owned()), ("a".to_owned(), "1".to_owned())],
        };
        let look = Look { stdout: true, stderr: true, timestamps: true, details: true, raw: false };
        let mut bytes = Vec::new();
        append(&mut bytes, &entry, look);
        assert_eq!(&bytes[8..], b"2026-11-23T20:38:05.000000000Z a=1,b=c%20d hi\n");
        assert_eq!(bytes[..8], [2, 0, 0, 0, 0, 0, 0, bytes.len() as u8 - 8]);
        let mut none = Vec::new();
        append(&mut none, &entry, Look { stderr: false, ..look });
        assert!(none.is_empty());
    }
}
