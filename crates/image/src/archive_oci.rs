//! `index.json` of OCI image layouts (image-spec, `image-layout.md`), nested indexes included.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::archive::{Archive, blob_name};
use crate::archive_docker::parse_name;
use crate::error::{Error, Result};
use crate::load::Candidate;
use crate::manifest::{self, Descriptor, Document};
use crate::platform::Platform;
use crate::{Reference, limits};

/// containerd's annotation: the complete name.
const FULL_NAME: &str = "io.containerd.image.name";
/// The specification's: a tag, or with skopeo and podman a name with a tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layout {
    image_layout_version: String,
}

/// The archive's images: one for each name, and the best fitting one of those without.
pub(crate) fn images(archive: &Archive, wanted: Option<&Platform>) -> Result<Vec<Candidate>> {
    check_version(archive)?;
    let Document::Index(index) = manifest::parse(archive.document("index.json")?, "index.json")? else {
        return Err(Error::untrusted("archive: index.json is no index"));
    };
    let mut by_name: BTreeMap<Option<String>, Vec<&Descriptor>> = BTreeMap::new();
    for descriptor in &index.manifests {
        by_name.entry(name_of(descriptor)?.map(|name| name.to_string())).or_default().push(descriptor);
    }
    if by_name.is_empty() || by_name.len() > limits::IMAGES {
        return Err(Error::untrusted(format!("archive: index.json names {} images", by_name.len())));
    }
    let host = Platform::host();
    let platform = wanted.unwrap_or(&host);
    by_name
        .into_iter()
        .map(|(name, descriptors)| {
            // A single image is taken whatever it is for, as Docker does, unless another one was asked for.
            let chosen = match descriptors[..] {
                [only] if wanted.is_none() => only,
                _ => manifest::choose(&descriptors, platform, "the archive")?,
            };
            let mut found = descend(archive, chosen, platform, 0)?;
            found.names = name.iter().map(|name| name.parse()).collect::<Result<_>>()?;
            Ok(found)
        })
        .collect()
}

fn check_version(archive: &Archive) -> Result<()> {
    let bad = |cause: String| Error::untrusted(format!("archive: oci-layout is damaged: {cause}"));
    let layout: Layout =
        serde_json::from_slice(archive.document("oci-layout")?).map_err(|cause| bad(cause.to_string()))?;
    if !layout.image_layout_version.starts_with("1.") {
        return Err(bad(format!("version {:?} is not supported", layout.image_layout_version)));
    }
    Ok(())
}

fn name_of(descriptor: &Descriptor) -> Result<Option<Reference>> {
    if let Some(full) = descriptor.annotation(FULL_NAME) {
        return parse_name(full).map(Some);
    }
    match descriptor.annotation(REF_NAME) {
        Some(name) if name.contains([':', '/']) => parse_name(name).map(Some),
        _ => Ok(None),
    }
}

/// From a descriptor, through indexes, to one image.
fn descend(archive: &Archive, descriptor: &Descriptor, platform: &Platform, depth: usize) -> Result<Candidate> {
    if depth > limits::INDEX_DEPTH {
        return Err(Error::untrusted(format!("archive: indexes nested more than {} deep", limits::INDEX_DEPTH)));
    }
    let digest = descriptor.digest()?;
    let bytes = archive.blob(&digest)?;
    match manifest::parse(bytes, &blob_name(&digest))? {
        Document::Index(index) => descend(archive, index.choose(platform, "the archive")?, platform, depth + 1),
        Document::Manifest(found) => {
            let mut layers = Vec::with_capacity(found.layers.len());
            for layer in &found.layers {
                let digest = layer.digest()?;
                archive.check_blob(&digest, layer.size)?;
                layers.push(blob_name(&digest));
            }
            let config = archive.blob(&found.config.digest()?)?.to_vec();
            Ok(Candidate { config, manifest: Some(bytes.to_vec()), layers, names: Vec::new() })
        }
    }
}
