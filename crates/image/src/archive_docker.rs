//! `manifest.json` of `docker save` archives, Docker 1.10 and later.

use serde::Deserialize;

use crate::archive::{Archive, blob_digest};
use crate::error::{Error, Result};
use crate::load::Candidate;
use crate::{Digest, Reference, limits};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// All images of the archive.
pub(crate) fn images(archive: &Archive) -> Result<Vec<Candidate>> {
    let bytes = archive.document("manifest.json")?;
    let bad = |cause: String| Error::untrusted(format!("archive: manifest.json is damaged: {cause}"));
    if bytes.len() as u64 > limits::MANIFEST {
        return Err(bad(format!("larger than {} MiB", limits::MANIFEST >> 20)));
    }
    let items: Vec<Item> = serde_json::from_slice(bytes).map_err(|cause| bad(cause.to_string()))?;
    if items.is_empty() || items.len() > limits::IMAGES {
        return Err(bad(format!("{} images", items.len())));
    }
    items.into_iter().map(|item| candidate(archive, item)).collect()
}

fn candidate(archive: &Archive, item: Item) -> Result<Candidate> {
    let config = archive.document(&item.config)?.to_vec();
    check_config_name(&item.config, &config)?;
    let layers = item.layers.unwrap_or_default();
    if layers.len() > limits::LAYERS {
        let text = format!("archive: image of {} layers, more than the {} allowed", layers.len(), limits::LAYERS);
        return Err(Error::untrusted(text));
    }
    let names = item.repo_tags.unwrap_or_default().iter().map(|name| parse_name(name)).collect::<Result<_>>()?;
    Ok(Candidate { config, manifest: None, layers, names })
}

/// Docker names the configuration by its digest: `HEX.json` or `blobs/sha256/HEX`.
fn check_config_name(name: &str, bytes: &[u8]) -> Result<()> {
    let plain = name.strip_suffix(".json").and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
    match blob_digest(name).or(plain) {
        Some(expected) if expected != Digest::of(bytes) => {
            Err(Error::untrusted(format!("digest mismatch: {name} is {}", Digest::of(bytes))))
        }
        _ => Ok(()),
    }
}

/// A tag of an archive, which must have a name and may not have a digest.
pub(crate) fn parse_name(text: &str) -> Result<Reference> {
    let bad = |cause: &str| Error::untrusted(format!("archive: invalid image name {text:?}: {cause}"));
    let parsed: Reference = text.parse().map_err(|cause: Error| bad(&cause.to_string()))?;
    if parsed.digest().is_some() {
        return Err(bad("a digest cannot be a tag"));
    }
    Ok(parsed.or_latest())
}
