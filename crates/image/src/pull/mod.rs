//! `pull`: from a reference to a published image. Layers are downloaded, inflated and stored at the same time, several
//! of them in parallel; nothing is published before every digest was right.

mod ask;
mod download;
mod layers;
mod partial;
mod remote;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::manifest::{self, Document, Manifest};
use crate::platform::Platform;
use crate::remote::{Access, Fetched, Registry, Settings};
use crate::staging::{NewImage, Staging};
use crate::store::{Progress, Store, known_layers};
use crate::{Digest, Reference, blobs, config, limits, verify};
use download::Wanted;
use partial::Partial;

pub use ask::{Distribution, ask};
pub(crate) use remote::Remote;

/// What to pull.
#[derive(Clone, Debug, Default)]
pub struct Pull {
    /// Reference as typed.
    pub reference: String,
    /// `os/arch[/variant]`.
    pub platform: Option<String>,
    /// Every tag of the repository.
    pub all_tags: bool,
    /// Who asks.
    pub access: Access,
}

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

impl Store {
    /// Pulls an image, or every tag of a repository. `progress` gets Docker's status words.
    pub fn pull(
        &self,
        records: &mut records::Records,
        request: &Pull,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Pulled>> {
        let platform = request.platform.as_deref().map(str::parse::<Platform>).transpose()?;
        let settings = Arc::new(Settings::read(&request.access)?);
        let candidates = settings.conf.candidates(&request.reference)?;
        let mut failures = Vec::new();
        for reference in &candidates {
            match self.pull_as(records, (&settings, reference), request.all_tags, platform.as_ref(), progress) {
                Err(Error::Refused(why) | Error::Registry(why)) if candidates.len() > 1 => {
                    failures.push(why);
                }
                outcome => return outcome,
            }
        }
        Err(Error::Refused(failures.join("; ")))
    }

    /// Pulls what one complete name means.
    fn pull_as(
        &self,
        records: &mut records::Records,
        (settings, reference): (&Arc<Settings>, &Reference),
        all_tags: bool,
        platform: Option<&Platform>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Pulled>> {
        let policy = settings.policy.as_deref();
        let mut pull = |reference: &Reference, remote: &Remote| {
            self.pull_one(records, (remote, policy), reference, platform, progress)
        };
        if !all_tags {
            let reference = reference.clone().or_latest();
            let pulled = vec![pull(&reference, &Remote::new(settings, &reference)?)?];
            say_status(&reference, &pulled, progress);
            return Ok(pulled);
        }
        if reference.tag().is_some() || reference.digest().is_some() {
            return Err(Error::Invalid("tag can't be used with --all-tags/-a".into()));
        }
        let remote = Remote::new(settings, reference)?;
        let tags = remote.choose(Registry::tags)?;
        let each = tags.iter().map(|tag| {
            let reference =
                reference.with_tag(tag).map_err(|cause| Error::untrusted(format!("the registry lists an {cause}")))?;
            pull(&reference, &remote)
        });
        let pulled = each.collect::<Result<Vec<_>>>()?;
        say_status(reference, &pulled, progress);
        Ok(pulled)
    }

    fn pull_one(
        &self,
        records: &mut records::Records,
        (remote, policy): (&Remote, Option<&Path>),
        reference: &Reference,
        platform: Option<&Platform>,
        progress: &mut Progress<'_>,
    ) -> Result<Pulled> {
        let wanted = reference.digest().map(Digest::as_str).or(reference.tag()).unwrap_or("latest");
        let top = remote.choose(|registry| registry.manifest(wanted))?;
        progress(wanted, &format!("Pulling from {}", reference.path()), 0, 0);
        let registry = remote.registry()?;
        let (found, manifest) = choose(registry, &top, platform)?;
        verify::check(
            policy,
            registry,
            reference,
            &[&top.digest, &Digest::of(&found)][..1 + usize::from(found != top.bytes)],
        )?;
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
        let missing = self.missing_layers(records, &manifest, &diff_ids, up_to_date, progress)?;
        let (missing, mut partials) = self.claim(records, missing, progress)?;
        let layers = layers::fetch(remote, &staging, &missing, &mut partials, progress)?;
        // They have served; the disk need not see them. Their locks keep others waiting until the image is published.
        partials.iter_mut().for_each(Partial::empty);
        let image = NewImage {
            id: config_digest.clone(),
            created: config::created(&parsed),
            config,
            manifest: Some(found),
            layers: diff_ids.clone(),
            names,
        };
        staging.publish(records, &layers, std::slice::from_ref(&image))?;
        drop(partials);
        blobs::remember(records, &manifest.layers, &diff_ids, &reference.name())?;
        let name = reference.familiar();
        progress("", &format!("Digest: {}", top.digest), 0, 0);
        Ok(Pulled { id: config_digest.to_string(), name, digest: top.digest.to_string(), up_to_date })
    }

    /// What is not here yet, each layer once.
    fn missing_layers(
        &self,
        records: &records::Records,
        manifest: &Manifest,
        diff_ids: &[Digest],
        quiet: bool,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Wanted>> {
        if manifest.layers.len() != diff_ids.len() {
            let (here, there) = (manifest.layers.len(), diff_ids.len());
            let text = format!("the image's manifest has {here} layers, its configuration {there}");
            return Err(Error::untrusted(text));
        }
        let known = known_layers(records.read())?;
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let blob = descriptor.digest()?;
            if descriptor.media_type.contains("encrypted") {
                return Err(Error::Invalid(format!("layer {} is encrypted, which is not supported", blob.short())));
            }
            if known.contains_key(diff_id.as_str()) {
                if !quiet {
                    progress(blob.short(), "Already exists", 0, 0);
                }
            } else if seen.insert(diff_id) {
                progress(blob.short(), "Pulling fs layer", 0, 0);
                missing.push(Wanted {
                    blob,
                    size: descriptor.size,
                    diff_id: diff_id.clone(),
                    urls: descriptor.foreign_urls().to_vec(),
                });
            }
        }
        Ok(missing)
    }

    /// Makes the layers ours, so that nobody else fetches them meanwhile; those that somebody else has finished until then
    /// are not missing any more. In one order for everybody, so that no two wait for each other.
    fn claim(
        &self,
        records: &records::Records,
        missing: Vec<Wanted>,
        progress: &mut Progress<'_>,
    ) -> Result<(Vec<Wanted>, Vec<Partial>)> {
        partial::sweep(self);
        let mut order: Vec<&Wanted> = missing.iter().collect();
        order.sort_by(|one, other| one.blob.cmp(&other.blob));
        order.dedup_by(|one, other| one.blob == other.blob);
        let mut waited = false;
        let mut partials = std::collections::HashMap::new();
        for wanted in order {
            let partial = Partial::claim(self, &wanted.blob, || {
                waited = true;
                progress(wanted.blob.short(), "Waiting", 0, 0);
            })?;
            partials.insert(wanted.blob.clone(), partial);
        }
        let known = if waited { known_layers(records.read())? } else { Default::default() };
        let mut claimed = (Vec::new(), Vec::new());
        for wanted in missing {
            let partial = partials.remove(&wanted.blob);
            if known.contains_key(wanted.diff_id.as_str()) {
                progress(wanted.blob.short(), "Pull complete", 0, 0);
                continue;
            }
            let twice = || Error::untrusted(format!("layer {} stands for different contents", wanted.blob.short()));
            claimed.1.push(partial.ok_or_else(twice)?);
            claimed.0.push(wanted);
        }
        Ok(claimed)
    }
}

/// Docker's last line.
fn say_status(reference: &Reference, pulled: &[Pulled], progress: &mut Progress<'_>) {
    let up_to_date = pulled.iter().all(|image| image.up_to_date);
    let status = if up_to_date { "Image is up to date for" } else { "Downloaded newer image for" };
    progress("", &format!("Status: {status} {}", reference.familiar()), 0, 0);
}

/// From what the tag stands for to one image's manifest.
pub(crate) fn choose(registry: &Registry, top: &Fetched, platform: Option<&Platform>) -> Result<(Vec<u8>, Manifest)> {
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
