//! What a client has, as a build asks for it: directories that are kept in step with the client's, and archives that it
//! pours out.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf as _, Bytes};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::progress::Progress;
use super::proto::BytesMessage;
use super::receive;
use super::session::Session;
use super::slots::Slot;
use super::wire::{Messages, Result, Sender};

/// One of a client's directories.
pub(crate) struct Directory {
    pub(crate) session: Arc<Session>,
    /// What the client calls it.
    pub(crate) name: String,
    pub(crate) paths: engine::Paths,
    pub(crate) progress: Arc<Progress>,
    /// In use until the build has ended.
    kept: Mutex<Vec<Slot>>,
}

impl Directory {
    pub(crate) fn new(session: Arc<Session>, name: &str, paths: engine::Paths, progress: Arc<Progress>) -> Self {
        Directory { session, name: name.to_owned(), paths, progress, kept: Mutex::default() }
    }

    /// Directories of a session without a key are nobody's next time.
    fn slot(&self, part: bool) -> io::Result<Slot> {
        let key = &self.session.shared_key;
        let kind = if part { "part" } else { "whole" };
        let slot = Slot::take(&self.paths, &format!("{key}\0{}\0{kind}", self.name))?;
        if key.is_empty() {
            slot.clear();
            std::fs::create_dir(&slot.path)?;
        }
        Ok(slot)
    }
}

impl build::Remote for Directory {
    fn fetch(&self, wanted: &build::Wanted) -> Result<PathBuf, String> {
        let mut metadata = vec![("dir-name".to_owned(), self.name.clone())];
        push(&mut metadata, "exclude-patterns", &wanted.exclude);
        push(&mut metadata, "followpaths", wanted.paths.as_deref().unwrap_or_default());
        let slot = self
            .slot(wanted.paths.is_some())
            .map_err(|error| format!("make a directory for the client's files: {error}"))?;
        let label = format!("transferring {}:", if self.name.is_empty() { "context" } else { &self.name });
        let mut tell = |bytes| self.progress.transferred(&label, bytes, false);
        let bytes = receive::receive(&self.session, &metadata, &slot.path, &mut tell)?;
        self.progress.transferred(&label, bytes, true);
        let path = slot.path.clone();
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
        Ok(path)
    }
}

/// Values as headers carry them: all of a key are escaped if one of them is not ASCII (fsutil).
fn push(metadata: &mut Vec<(String, String)>, key: &str, values: &[String]) {
    let escaped = values.iter().any(|value| !value.is_ascii() || value.chars().any(char::is_control));
    for value in values {
        let text = if escaped { utf8_percent_encode(value, NON_ALPHANUMERIC).to_string() } else { value.clone() };
        metadata.push((key.to_owned(), text));
    }
    if escaped {
        metadata.push((format!("{key}-encoded"), "1".to_owned()));
    }
}

/// An archive that a client pours out (`Upload/Pull`), read by a thread that may block.
pub(crate) struct Poured {
    runtime: tokio::runtime::Handle,
    messages: Messages,
    /// The client's side ends with ours.
    _sender: Sender,
    current: Bytes,
}

impl Poured {
    /// Asks for what an address (`http://buildkit-session/…`) stands for. Blocks.
    pub(crate) fn open(session: &Session, address: &str) -> Result<Self, String> {
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let metadata = [("urlhost".to_owned(), host.to_owned()), ("urlpath".to_owned(), format!("/{path}"))];
        let _inside = session.runtime.enter();
        let call = session.channel.call("/moby.upload.v1.Upload/Pull", &metadata);
        let (sender, messages) = call.map_err(|status| status.message)?;
        Ok(Poured { runtime: session.runtime.clone(), messages, _sender: sender, current: Bytes::new() })
    }
}

impl Read for Poured {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            let failed = |status: super::wire::Status| io::Error::other(status.message);
            match self.runtime.block_on(self.messages.next::<BytesMessage>()).map_err(failed)? {
                Some(message) => self.current = message.data.into(),
                None => return self.messages.outcome().map(|()| 0).map_err(failed),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_ascii() {
        let mut metadata = Vec::new();
        push(&mut metadata, "plain", &["a b".into(), "!c".into()]);
        push(&mut metadata, "odd", &["ö x".into(), "y".into()]);
        let text: Vec<String> = metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(text, ["plain=a b", "plain=!c", "odd=%C3%B6%20x", "odd=y", "odd-encoded=1"]);
    }
}
