//! What a registry says about a reference, without pulling it: the descriptor that the tag stands for, and for which
//! platforms there are images.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Remote;
use crate::error::Result;
use crate::manifest::{self, Document};
use crate::remote::{Access, Settings};
use crate::{Reference, config};

/// A registry's answer about a reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Media type of the manifest or index.
    pub media_type: String,
    /// `sha256:…` of it.
    pub digest: String,
    /// Bytes of it.
    pub size: u64,
    /// OCI platform objects.
    pub platforms: Vec<Value>,
}

/// Asks the registry of a reference.
pub fn ask(access: &Access, reference: &str) -> Result<Distribution> {
    let reference = reference.parse::<Reference>()?.or_latest();
    let settings = Arc::new(Settings::read(access)?);
    let remote = Remote::new(&settings, &reference)?;
    let wanted = reference.digest().map(crate::Digest::as_str).or(reference.tag()).unwrap_or("latest");
    let top = remote.choose(|registry| registry.manifest(wanted))?;
    let document = manifest::parse(&top.bytes, &format!("manifest {}", top.digest))?;
    let media_type = manifest::media_type(&top.bytes, &document);
    let platforms = match document {
        Document::Index(index) => index.manifests.iter().filter_map(manifest::Descriptor::raw_platform).collect(),
        Document::Manifest(found) => {
            let digest = found.config.digest()?;
            let bytes = remote.registry()?.document(&digest, found.config.size)?;
            let parsed = config::parse(&bytes, &format!("configuration {digest}"))?;
            vec![json!({ "architecture": parsed.architecture().to_string(), "os": parsed.os().to_string() })]
        }
    };
    Ok(Distribution { media_type, digest: top.digest.to_string(), size: top.bytes.len() as u64, platforms })
}
