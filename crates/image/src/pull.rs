//! `pull`: from a reference to a published image. Layers are downloaded, inflated and unpacked at the same time, several
//! of them in parallel; nothing is published before every digest was right.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use ureq::BodyReader;

use crate::error::{Error, Result};
use crate::http::pause;
use crate::layer::{self, NewLayer};
use crate::manifest::{self, Document, Manifest};
use crate::platform::Platform;
use crate::registry::{Fetched, Registry};
use crate::staging::{NewImage, Staging};
use crate::store::{Progress, Store, known_layers};
use crate::{Digest, Reference, config, limits};

/// Layers on their way at once, as with Docker.
const PARALLEL: usize = 3;
/// How often an interrupted download is resumed without having got any further.
const RESUMES: u32 = 5;
/// Bytes between two reports.
const REPORT: u64 = 512 << 10;

/// A pulled image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// The reference as it was pulled, with its tag: `busybox:latest`.
    pub name: String,
    /// Digest of the manifest or index that the tag stands for.
    pub digest: String,
    /// Whether it was here already.
    pub up_to_date: bool,
}

/// What a worker tells: layer, Docker's status word, bytes done, bytes in all.
type Report = (usize, &'static str, u64, u64);

/// A layer to fetch.
struct Wanted {
    blob: Digest,
    size: u64,
    diff_id: Digest,
}

impl Store {
    /// Pulls an image; with `all_tags` every tag of the repository. `progress` gets Docker's status words.
    pub fn pull(
        &self,
        records: &mut records::Records,
        reference: &str,
        platform: Option<&str>,
        all_tags: bool,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Pulled>> {
        let reference: Reference = reference.parse()?;
        let platform = platform.map(str::parse::<Platform>).transpose()?;
        if !all_tags {
            let reference = reference.or_latest();
            let registry = Registry::connect(&reference)?;
            return Ok(vec![self.pull_one(records, &registry, &reference, platform.as_ref(), progress)?]);
        }
        if reference.tag().is_some() || reference.digest().is_some() {
            return Err(Error::Invalid("tag can't be used with --all-tags/-a".into()));
        }
        let registry = Registry::connect(&reference)?;
        let tags = registry.tags()?;
        let each = tags.iter().map(|tag| {
            let reference =
                reference.with_tag(tag).map_err(|cause| Error::untrusted(format!("the registry lists an {cause}")))?;
            self.pull_one(records, &registry, &reference, platform.as_ref(), progress)
        });
        each.collect()
    }

    fn pull_one(
        &self,
        records: &mut records::Records,
        registry: &Registry,
        reference: &Reference,
        platform: Option<&Platform>,
        progress: &mut Progress<'_>,
    ) -> Result<Pulled> {
        let wanted = reference.digest().map(Digest::as_str).or(reference.tag()).unwrap_or("latest");
        let top = registry.manifest(wanted)?;
        progress(wanted, &format!("Pulling from {}", reference.path()), 0, 0);
        let (found, manifest) = choose(registry, &top, platform)?;
        let config_digest = manifest.config.digest()?;
        let names = names(reference, &top.digest)?;
        let staging = Staging::begin(self, records)?;
        let up_to_date = self.exists(records.read(), config_digest.as_str())?;
        let config = match up_to_date {
            true => self.read_blob(&config_digest)?,
            false => registry.document(&config_digest, manifest.config.size)?,
        };
        let parsed = config::parse(&config, &format!("configuration {config_digest}"))?;
        Platform::of(&parsed).check(platform, &format!("image with reference {}", reference.familiar()))?;
        let diff_ids = config::diff_ids(&parsed)?;
        let known = known_layers(records.read())?;
        let missing = missing_layers(&manifest, &diff_ids, &known.into_keys().collect(), up_to_date, progress)?;
        let layers = fetch_layers(registry, &staging, &missing, progress)?;
        let image = NewImage {
            id: config_digest.clone(),
            created: config::created(&parsed),
            config,
            manifest: Some(found),
            layers: diff_ids,
            names,
        };
        staging.publish(records, &layers, std::slice::from_ref(&image))?;
        let name = reference.familiar();
        progress("", &format!("Digest: {}", top.digest), 0, 0);
        let status = if up_to_date { "Image is up to date for" } else { "Downloaded newer image for" };
        progress("", &format!("Status: {status} {name}"), 0, 0);
        Ok(Pulled { id: config_digest.to_string(), name, digest: top.digest.to_string(), up_to_date })
    }
}

/// From what the tag stands for to one image's manifest.
fn choose(registry: &Registry, top: &Fetched, platform: Option<&Platform>) -> Result<(Vec<u8>, Manifest)> {
    let host = Platform::host();
    let mut bytes = top.bytes.clone();
    let mut digest = top.digest.clone();
    for _ in 0..=limits::INDEX_DEPTH {
        match manifest::parse(&bytes, &format!("manifest {digest}"))? {
            Document::Manifest(manifest) => return Ok((bytes, manifest)),
            Document::Index(index) => {
                let chosen = index.choose(platform.unwrap_or(&host), "the manifest list entries")?;
                digest = chosen.digest()?;
                bytes = registry.manifest(digest.as_str())?.bytes;
            }
        }
    }
    Err(Error::untrusted(format!("indexes nested more than {} deep", limits::INDEX_DEPTH)))
}

/// A tag is also remembered with the digest that it stood for; a pull by digest makes no tag.
fn names(reference: &Reference, digest: &Digest) -> Result<Vec<String>> {
    let mut names = vec![format!("{}@{digest}", reference.name())];
    if let (Some(tag), None) = (reference.tag(), reference.digest()) {
        names.push(reference.with_tag(tag)?.to_string());
    }
    Ok(names)
}

/// What is not here yet, each layer once.
fn missing_layers(
    manifest: &Manifest,
    diff_ids: &[Digest],
    known: &HashSet<String>,
    quiet: bool,
    progress: &mut Progress<'_>,
) -> Result<Vec<Wanted>> {
    if manifest.layers.len() != diff_ids.len() {
        let text =
            format!("the image's manifest has {} layers, its configuration {}", manifest.layers.len(), diff_ids.len());
        return Err(Error::untrusted(text));
    }
    let mut missing = Vec::new();
    let mut seen = HashSet::new();
    for (descriptor, diff_id) in manifest.layers.iter().zip(diff_ids) {
        let blob = descriptor.digest()?;
        if descriptor.media_type.contains("encrypted") {
            return Err(Error::Invalid(format!("layer {} is encrypted, which is not supported", blob.short())));
        }
        if known.contains(diff_id.as_str()) {
            if !quiet {
                progress(blob.short(), "Already exists", 0, 0);
            }
        } else if seen.insert(diff_id) {
            progress(blob.short(), "Pulling fs layer", 0, 0);
            missing.push(Wanted { blob, size: descriptor.size, diff_id: diff_id.clone() });
        }
    }
    Ok(missing)
}

/// Fetches all layers; the first failure ends the others too.
fn fetch_layers(
    registry: &Registry,
    staging: &Staging<'_>,
    wanted: &[Wanted],
    progress: &mut Progress<'_>,
) -> Result<Vec<NewLayer>> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = |reports: Sender<Report>| {
        let mut done = Vec::new();
        while let Some(layer) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let number = wanted.iter().position(|one| one.diff_id == layer.diff_id).unwrap_or(0);
            let download = Download::new(registry, layer, number, &stop, reports.clone());
            let fetched = fetch_layer(download, layer, staging);
            stop.fetch_or(fetched.is_err(), Ordering::Relaxed);
            done.push(fetched?);
            // Whoever listened may be gone; the result counts.
            let _ = reports.send((number, "Pull complete", 0, 0));
        }
        Ok(done)
    };
    let outcomes: Vec<Result<Vec<NewLayer>>> = std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        let workers: Vec<_> = (0..PARALLEL.min(wanted.len()))
            .map(|_| {
                let (sender, work) = (sender.clone(), &work);
                scope.spawn(move || work(sender))
            })
            .collect();
        drop(sender);
        for (number, status, done, total) in receiver {
            progress(wanted[number].blob.short(), status, done, total);
        }
        let died = || Err(Error::Step { step: "pull a layer".into(), cause: "a download thread died".into() });
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| died())).collect()
    });
    first_cause(outcomes)
}

/// All layers, or the failure that came first rather than its consequences.
fn first_cause(outcomes: Vec<Result<Vec<NewLayer>>>) -> Result<Vec<NewLayer>> {
    let mut layers = Vec::new();
    let mut failure = None;
    for outcome in outcomes {
        match outcome {
            Ok(more) => layers.extend(more),
            Err(Error::Registry(text)) if text == STOPPED => {}
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(layers), Err)
}

const STOPPED: &str = "stopped because another layer failed";

fn fetch_layer(download: Download<'_>, wanted: &Wanted, staging: &Staging<'_>) -> Result<NewLayer> {
    let layer = layer::receive(download, &staging.path()).map_err(|error| match error {
        Error::Untrusted(text) => Error::Untrusted(format!("layer {}: {text}", wanted.blob.short())),
        other => other,
    })?;
    if layer.blob != wanted.blob || layer.blob_size != wanted.size {
        let text = format!("digest mismatch: layer {} is {} of {} bytes", wanted.blob, layer.blob, layer.blob_size);
        return Err(Error::untrusted(text));
    }
    if layer.diff_id != wanted.diff_id {
        let text = format!("digest mismatch: layer {} holds {}, not {}", wanted.blob, layer.diff_id, wanted.diff_id);
        return Err(Error::untrusted(text));
    }
    Ok(layer)
}

/// A blob as a stream that survives broken connections.
struct Download<'d> {
    registry: &'d Registry,
    wanted: &'d Wanted,
    number: usize,
    stop: &'d AtomicBool,
    reports: Sender<Report>,
    body: Option<BodyReader<'static>>,
    done: u64,
    reported: u64,
    failures: u32,
}

impl<'d> Download<'d> {
    fn new(
        registry: &'d Registry,
        wanted: &'d Wanted,
        number: usize,
        stop: &'d AtomicBool,
        reports: Sender<Report>,
    ) -> Self {
        Download { registry, wanted, number, stop, reports, body: None, done: 0, reported: 0, failures: 0 }
    }

    /// One read, on a new connection if there is none.
    fn try_read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let body = match &mut self.body {
            Some(body) => body,
            slot => {
                let (mut body, skip) = self.registry.blob(&self.wanted.blob, self.done)?;
                io::copy(&mut body.by_ref().take(skip), &mut io::sink()).map_err(interrupted)?;
                slot.insert(body)
            }
        };
        let got = body.read(buffer).map_err(interrupted)?;
        if got == 0 && self.done < self.wanted.size {
            return Err(Error::Registry("the connection ended early".into()));
        }
        Ok(got)
    }

    /// Whether the registry has given some of the blob: only then is a failure worth another try here.
    fn began(&self) -> bool {
        self.body.is_some() || self.done > 0
    }

    fn report(&mut self) {
        if self.done - self.reported >= REPORT || self.done == self.wanted.size {
            self.reported = self.done;
            // Whoever listened may be gone; the download goes on.
            let _ = self.reports.send((self.number, "Downloading", self.done, self.wanted.size));
        }
    }
}

fn interrupted(cause: io::Error) -> Error {
    Error::Registry(format!("the connection broke: {cause}"))
}

impl Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other(Error::Registry(STOPPED.into())));
            }
            match self.try_read(buffer) {
                Ok(got) => {
                    self.done += got as u64;
                    if got > 0 {
                        self.failures = 0;
                    }
                    if self.done > self.wanted.size {
                        let text = format!("the registry sends more than the {} bytes of the blob", self.wanted.size);
                        return Err(io::Error::other(Error::untrusted(text)));
                    }
                    self.report();
                    return Ok(got);
                }
                Err(Error::Registry(_)) if self.failures < RESUMES && self.began() => {
                    self.body = None;
                    self.failures += 1;
                    let _ = self.reports.send((self.number, "Retrying", self.done, self.wanted.size));
                    std::thread::sleep(pause(self.failures, None));
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}
