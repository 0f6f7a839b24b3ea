//! How one layer gets to a registry with the least effort: it is there already, a neighbour has it, the registry that it
//! came from gives it once more, or it is compressed anew.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use super::gzip::Gzip;
use crate::blobs::Seen;
use crate::error::{Error, Result, Step};
use crate::layer_archive::LayerArchive;
use crate::pull::Remote;
use crate::remote::{Registry, Settings, Source};
use crate::{Digest, Reference, Store};

/// Bytes between two reports.
const REPORT: u64 = 512 << 10;

/// A layer to send.
pub(super) struct Outgoing {
    pub(super) diff_id: Digest,
    /// As which blobs it is known, the best first; those that are not from anywhere have no repository.
    pub(super) known: Vec<Seen>,
    /// Bytes that are not to be distributed: only named in the manifest.
    pub(super) foreign: bool,
}

/// How a layer got there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum How {
    Exists,
    Mounted(String),
    Pushed,
    /// Nobody had its original bytes.
    Compressed,
}

/// A layer that is there.
#[derive(Clone)]
pub(super) struct Sent {
    pub(super) seen: Seen,
    pub(super) how: How,
    /// Digest of what is in it: another one than the layer's where only the layer's files are kept.
    pub(super) inner: Digest,
}

/// What a worker tells: layer, Docker's words, bytes done, bytes in all.
pub(super) type Report = (usize, String, u64, u64);

/// Where and from where.
pub(super) struct Way<'w> {
    pub(super) store: &'w Store,
    /// How other registries are asked.
    pub(super) settings: &'w Arc<Settings>,
    pub(super) target: &'w Registry,
    /// `host/path` of the target.
    pub(super) repository: &'w str,
    /// Media type of a gzip-compressed layer.
    pub(super) media_type: &'w str,
    /// Hosts that did not answer once: they are not asked again.
    pub(super) silent: Mutex<Vec<String>>,
}

impl Way<'_> {
    /// Sends one layer.
    pub(super) fn send(&self, number: usize, layer: &Outgoing, reports: &Sender<Report>) -> Result<Sent> {
        let found = |seen: &Seen, how: How| Ok(Sent { seen: seen.clone(), how, inner: layer.diff_id.clone() });
        if let (true, Some(seen)) = (layer.foreign, layer.known.first()) {
            return found(seen, How::Exists);
        }
        for seen in distinct(&layer.known) {
            if self.target.has_blob(&seen.blob)? {
                return found(seen, How::Exists);
            }
        }
        for seen in &layer.known {
            if let Some(from) = self.neighbour(seen)
                && self.target.mount(&seen.blob, from)?
            {
                return found(seen, How::Mounted(from.to_owned()));
            }
        }
        for seen in layer.known.iter().filter(|seen| self.host(&seen.repository) != self.host(self.repository)) {
            if self.copy(number, seen, reports).is_ok() {
                return found(seen, How::Pushed);
            }
        }
        self.compress(number, &layer.diff_id, reports)
    }

    /// The path of a repository of the same registry.
    fn neighbour<'s>(&self, seen: &'s Seen) -> Option<&'s str> {
        let (host, path) = seen.repository.split_once('/')?;
        (host == self.host(self.repository) && seen.repository != self.repository).then_some(path)
    }

    fn host<'r>(&self, repository: &'r str) -> &'r str {
        repository.split('/').next().unwrap_or(repository)
    }

    /// From the registry where it was seen.
    fn copy(&self, number: usize, seen: &Seen, reports: &Sender<Report>) -> Result<()> {
        let host = self.host(&seen.repository).to_owned();
        let silent = || self.silent.lock().map_or(true, |silent| silent.contains(&host));
        if host.is_empty() || silent() {
            return Err(Error::Registry(format!("{host} does not answer")));
        }
        let reference: Reference = seen.repository.parse()?;
        let copied = Remote::new(self.settings, &reference).and_then(|remote| {
            let count = Count::new(number, seen.size, reports);
            remote.registry().and_then(|from| self.target.put_stream(&Elsewhere { from, seen, count }))
        });
        if let (Err(Error::Registry(_)), Ok(mut silent)) = (&copied, self.silent.lock()) {
            silent.push(host);
        }
        copied.map(drop)
    }

    fn compress(&self, number: usize, diff_id: &Digest, reports: &Sender<Report>) -> Result<Sent> {
        let LayerArchive { digest: inner, size, file } = self.store.layer_archive(diff_id)?;
        let uploaded = self.target.put_stream(&Archive { file, count: Count::new(number, size, reports) })?;
        let (media_type, repository) = (self.media_type.to_owned(), self.repository.to_owned());
        let seen = Seen { blob: uploaded.digest, size: uploaded.size, media_type, repository };
        Ok(Sent { seen, how: How::Compressed, inner })
    }
}

/// Each blob once.
fn distinct(known: &[Seen]) -> impl Iterator<Item = &Seen> {
    let first = |(at, seen): &(usize, &Seen)| known.iter().position(|one| one.blob == seen.blob) == Some(*at);
    known.iter().enumerate().filter(first).map(|(_, seen)| seen)
}

/// Reports what has been read.
#[derive(Clone)]
struct Count {
    number: usize,
    total: u64,
    reports: Sender<Report>,
    done: Arc<AtomicU64>,
}

impl Count {
    fn new(number: usize, total: u64, reports: &Sender<Report>) -> Self {
        Count { number, total, reports: reports.clone(), done: Arc::default() }
    }

    fn over<R>(&self, input: R) -> Counted<R> {
        self.done.store(0, Ordering::Relaxed);
        Counted { input, count: self.clone() }
    }
}

struct Counted<R> {
    input: R,
    count: Count,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.input.read(buffer)? as u64;
        let Count { number, total, reports, done } = &self.count;
        let before = done.fetch_add(got, Ordering::Relaxed);
        if before / REPORT != (before + got) / REPORT {
            // Whoever listened may be gone; the push goes on.
            let _ = reports.send((*number, "Pushing".into(), before + got, *total));
        }
        Ok(got as usize)
    }
}

/// The layer's archive in the store, compressed on the way.
struct Archive {
    file: File,
    count: Count,
}

/// Reads a file from its beginning, wherever others are in it.
struct FromStart {
    file: File,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.file.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Source for Archive {
    fn open(&self) -> Result<Box<dyn Read + '_>> {
        let file = self.file.try_clone().step(|| "open a layer's archive".into())?;
        Ok(Box::new(Gzip::new(self.count.over(FromStart { file, at: 0 }))))
    }

    fn size(&self) -> Option<u64> {
        None
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }
}

/// The blob in another registry.
struct Elsewhere<'e> {
    from: &'e Registry,
    seen: &'e Seen,
    count: Count,
}

impl Source for Elsewhere<'_> {
    fn open(&self) -> Result<Box<dyn Read + '_>> {
        let (stream, _) = self.from.blob(&self.seen.blob, 0)?;
        Ok(Box::new(self.count.over(stream.take(self.seen.size))))
    }

    fn size(&self) -> Option<u64> {
        Some(self.seen.size)
    }

    fn digest(&self) -> Option<&Digest> {
        Some(&self.seen.blob)
    }
}
