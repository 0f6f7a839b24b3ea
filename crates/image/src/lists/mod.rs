//! `manifest`: lists of images for several platforms, put together here and pushed to a registry. Kept beside the user's
//! `config.json`, as Docker keeps them.

mod document;
mod entry;
mod place;

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::manifest::{self, Document};
use crate::remote::{Access, Endpoint, Registry, Right, Settings};
use crate::{Digest, Reference, config};
use entry::Entry;
use place::Place;

pub use entry::Annotation;

/// The lists of one user.
pub struct Lists {
    settings: Arc<Settings>,
    place: Place,
    insecure: bool,
}

/// What a push of a list did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedList {
    /// Names (by digest) of the images that had to be pushed too, and their digests.
    pub images: Vec<(String, String)>,
    /// Digest of the list.
    pub digest: String,
}

impl Lists {
    /// Those of the user; `insecure`: registries need to prove nothing.
    pub fn open(access: &Access, insecure: bool) -> Result<Self> {
        Ok(Lists { settings: Arc::new(Settings::read(access)?), place: Place::new(access), insecure })
    }

    /// Makes a list, or with `amend` adds to one; its name.
    pub fn create(&self, list: &str, images: &[String], amend: bool) -> Result<String> {
        let list = named(list)?;
        if self.place.exists(&list) && !amend {
            return Err(Error::Conflict("refusing to amend an existing manifest list with no --amend flag".into()));
        }
        let entries = images.iter().map(|image| self.known(&list, &named(image)?)).collect::<Result<Vec<_>>>()?;
        entries.iter().try_for_each(|entry| self.place.keep(&list, entry))?;
        Ok(list.to_string())
    }

    /// Says more about an image of a list.
    pub fn annotate(&self, list: &str, image: &str, annotation: &Annotation) -> Result<()> {
        let (list, image) = (named(list)?, named(image)?);
        if !self.place.exists(&list) {
            return Err(Error::NotFound(format!("manifest list {list}")));
        }
        let missing = || {
            let (image, list) = (image.familiar(), list.familiar());
            Error::Conflict(format!("manifest for image {image} does not exist in {list}"))
        };
        let mut entry = self.place.find(&list, &image)?.ok_or_else(missing)?;
        entry.annotate(annotation)?;
        self.place.keep(&list, &entry)
    }

    /// The document of an image or a list, from here or from its registry.
    pub fn inspect(&self, list: Option<&str>, name: &str, verbose: bool) -> Result<String> {
        let name = named(name)?;
        if let Some(list) = list {
            let list = named(list)?;
            let found = self.place.find(&list, &name)?;
            return found.ok_or_else(|| no_such(&name)).map(|entry| document::one(&entry, verbose));
        }
        if self.place.exists(&name) {
            return self.shown_list(&self.place.all(&name)?, &name, verbose);
        }
        let registry = self.registry(&name, Right::Pull)?;
        let fetched = fetch(&registry, &name)?;
        match manifest::parse(&fetched.bytes, &format!("manifest {}", fetched.digest))? {
            Document::Manifest(_) => Ok(document::one(&self.entry(&registry, &name, fetched.bytes)?, verbose)),
            Document::Index(index) => {
                let entries = index.manifests.iter().map(|descriptor| {
                    let digest = descriptor.digest()?;
                    let image: Reference = format!("{name}@{digest}").parse()?;
                    let mut entry = self.entry(&registry, &image, registry.manifest(digest.as_str())?.bytes)?;
                    entry.set_platform(descriptor.raw_platform());
                    Ok(entry)
                });
                self.shown_list(&entries.collect::<Result<Vec<_>>>()?, &name, verbose)
            }
        }
    }

    fn shown_list(&self, entries: &[Entry], name: &Reference, verbose: bool) -> Result<String> {
        if entries.is_empty() {
            return Err(no_such(name));
        }
        Ok(if verbose { document::verbose(entries) } else { document::list(entries) })
    }

    /// Pushes a list, and the images in it that are of other repositories of the same registry.
    pub fn push(&self, list: &str, purge: bool) -> Result<PushedList> {
        let list = named(list)?;
        let entries = self.place.all(&list)?;
        if entries.is_empty() {
            return Err(Error::Conflict(format!("No such manifest: {}", list.familiar())));
        }
        let target = self.registry(&list, Right::Push)?;
        let mut images = Vec::new();
        for entry in &entries {
            let from = entry.reference()?;
            if from.domain() != list.domain() {
                let text = "cannot use source images from a different registry than the target image";
                return Err(Error::Conflict(format!("{text}: {} != {}", from.domain(), list.domain())));
            }
            entry.check_platform()?;
            if from.path() != list.path() {
                images.push(adopt(&target, &from, entry, &list)?);
            }
        }
        let text = document::list(&entries);
        target.publish(list.tag().unwrap_or("latest"), document::media_type(&entries), text.as_bytes())?;
        if purge {
            self.place.remove(&list)?;
        }
        Ok(PushedList { images, digest: Digest::of(text.as_bytes()).to_string() })
    }

    /// Forgets a list.
    pub fn remove(&self, list: &str) -> Result<()> {
        let list = named(list)?;
        if !self.place.exists(&list) {
            return Err(Error::Conflict(format!("No such manifest: {}", list.familiar())));
        }
        self.place.remove(&list)
    }

    /// An image as the list has it already, else as its registry has it.
    fn known(&self, list: &Reference, image: &Reference) -> Result<Entry> {
        if let Some(entry) = self.place.find(list, image)? {
            return Ok(entry);
        }
        let registry = self.registry(image, Right::Pull)?;
        let fetched = fetch(&registry, image)?;
        match manifest::parse(&fetched.bytes, &format!("manifest {}", fetched.digest))? {
            Document::Manifest(_) => self.entry(&registry, image, fetched.bytes),
            Document::Index(_) => Err(Error::Conflict(format!("{} is a manifest list", image.familiar()))),
        }
    }

    /// An image's entry: the platform is what its configuration says.
    fn entry(&self, registry: &Registry, name: &Reference, bytes: Vec<u8>) -> Result<Entry> {
        let what = format!("manifest {}", Digest::of(&bytes));
        // What is no image (provenance, a signature) is listed without a platform.
        let platform = match manifest::parse(&bytes, &what) {
            Ok(Document::Manifest(manifest)) => {
                let config = registry.document(&manifest.config.digest()?, manifest.config.size)?;
                config::parse(&config, &what).ok()
            }
            _ => None,
        };
        Entry::new(name, &bytes, platform.as_ref())
    }

    fn registry(&self, name: &Reference, right: Right) -> Result<Registry> {
        let mut endpoint = Endpoint::for_push(&self.settings, name)?;
        endpoint.insecure |= self.insecure;
        Registry::connect(&self.settings, &endpoint, &name.familiar_name(), right)
    }
}

/// Brings an image of another repository of the same registry into the list's; its name there and its digest.
fn adopt(target: &Registry, from: &Reference, entry: &Entry, list: &Reference) -> Result<(String, String)> {
    let bytes = entry.bytes()?;
    let digest = Digest::of(&bytes);
    if let Document::Manifest(manifest) = manifest::parse(&bytes, &format!("manifest {digest}"))? {
        for blob in manifest.layers.iter().chain([&*manifest.config]) {
            let blob = blob.digest()?;
            if !target.has_blob(&blob)? && !target.mount(&blob, from.path())? {
                let text =
                    format!("couldn't mount blob {blob} from {} to {}", from.familiar_name(), list.familiar_name());
                return Err(Error::Refused(text));
            }
        }
    }
    target.publish(digest.as_str(), entry.media_type(), &bytes)?;
    Ok((format!("{}@{digest}", list.familiar_name()), digest.to_string()))
}

fn named(text: &str) -> Result<Reference> {
    Ok(text.parse::<Reference>()?.or_latest())
}

fn no_such(name: &Reference) -> Error {
    Error::Conflict(format!("no such manifest: {}", name.familiar()))
}

/// The manifest from the registry; that it does not exist is said in Docker's words.
fn fetch(registry: &Registry, name: &Reference) -> Result<crate::remote::Fetched> {
    let wanted = name.digest().map(Digest::as_str).or(name.tag()).unwrap_or("latest");
    registry.manifest(wanted).map_err(|error| match error {
        Error::Refused(text) if text.contains("not found") => no_such(name),
        other => other,
    })
}
