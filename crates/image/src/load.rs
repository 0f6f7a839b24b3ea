//! `load`: docker-archive and OCI layout archives from a stream that is read once. Layers are unpacked as they pass,
//! before it is known which image they belong to (archives keep that for their end); at the end the manifests say what
//! is wanted, everything is checked against its digest, and the rest is dropped.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;

use crate::archive::{self, Archive};
use crate::error::{Error, Result};
use crate::layer::NewLayer;
use crate::platform::Platform;
use crate::staging::{NewImage, Staging};
use crate::store::known_layers;
use crate::{Digest, Reference, Store, config, remote, verify};

/// What an archive says about one image, before it is checked.
pub(crate) struct Candidate {
    /// The configuration's bytes.
    pub(crate) config: Vec<u8>,
    /// The manifest's bytes, if there is one worth keeping.
    pub(crate) manifest: Option<Vec<u8>>,
    /// Keys of the archive's layers, lowest first.
    pub(crate) layers: Vec<String>,
    /// Names, as written.
    pub(crate) names: Vec<Reference>,
}

impl Store {
    /// Loads an archive; the names (or ids of unnamed images) that it brought.
    pub fn load(
        &self,
        records: &mut records::Records,
        input: &mut dyn Read,
        platform: Option<&str>,
    ) -> Result<Vec<String>> {
        let wanted = platform.map(str::parse::<Platform>).transpose()?;
        let staging = Staging::begin(self, records)?;
        let known = known_layers(records.read())?;
        let mut archive = archive::read(input, &staging, &known)?;
        let candidates = archive.images(wanted.as_ref())?;
        verify::check_archive(remote::policy().as_deref(), archive.transport(wanted.as_ref()))?;
        let mut new_layers = BTreeMap::new();
        let images = candidates
            .into_iter()
            .map(|candidate| settle(candidate, &mut archive, &known, &mut new_layers, wanted.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        let new_layers: Vec<NewLayer> = new_layers.into_values().collect();
        staging.publish(records, &new_layers, &images)?;
        Ok(images.iter().flat_map(shown_names).collect())
    }
}

/// Checks that the layers are those that the configuration names.
fn settle(
    candidate: Candidate,
    archive: &mut Archive,
    known: &HashMap<String, u64>,
    new_layers: &mut BTreeMap<Digest, NewLayer>,
    wanted: Option<&Platform>,
) -> Result<NewImage> {
    let id = Digest::of(&candidate.config);
    let parsed = config::parse(&candidate.config, &format!("configuration {id}"))?;
    Platform::of(&parsed).check(wanted, &format!("image {id}"))?;
    let diff_ids = config::diff_ids(&parsed)?;
    if diff_ids.len() != candidate.layers.len() {
        let text = format!(
            "image {id}: its configuration names {} layers, its manifest {}",
            diff_ids.len(),
            candidate.layers.len()
        );
        return Err(Error::untrusted(text));
    }
    for (expected, key) in diff_ids.iter().zip(&candidate.layers) {
        archive.take_layer(key, expected, known, new_layers)?;
    }
    Ok(NewImage {
        id,
        created: config::created(&parsed),
        config: candidate.config,
        manifest: candidate.manifest,
        layers: diff_ids,
        names: unique(candidate.names),
    })
}

fn unique(names: Vec<Reference>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.iter().map(Reference::to_string).filter(|name| seen.insert(name.clone())).collect()
}

/// Docker prints names, and for an image without one its id.
fn shown_names(image: &NewImage) -> Vec<String> {
    let familiar = |name: &String| name.parse::<Reference>().map_or_else(|_| name.clone(), |parsed| parsed.familiar());
    if image.names.is_empty() { vec![image.id.to_string()] } else { image.names.iter().map(familiar).collect() }
}
