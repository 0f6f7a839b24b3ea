//! Cosign's signatures: an image of the same repository, found by its tag or as a referrer, each layer of which is a signed
//! statement (github.com/sigstore/cosign, `specs/SIGNATURE_SPEC.md`).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::key::Key;
use crate::Digest;
use crate::error::{Error, Result};
use crate::manifest::Descriptor;
use crate::remote::Registry;

/// Signatures that are looked at.
const MOST: usize = 100;
/// Bytes of a statement.
const LARGEST: u64 = 1 << 20;
const STATEMENT: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// What cosign calls signatures among the referrers.
const ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
const KIND: &str = "cosign container image signature";

/// A statement about an image, and the signature over it.
pub(super) struct Signature {
    image: Digest,
    statement: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Statement {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: Name,
    image: Subject,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Name {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// All signatures of any of the digests.
pub(super) fn find(registry: &Registry, digests: &[&Digest]) -> Result<Vec<Signature>> {
    let mut found = Vec::new();
    for image in digests {
        let tag = format!("{}.sig", image.as_str().replace(':', "-"));
        let tagged = registry.find_manifest(&tag)?.map(|found| found.bytes);
        let referring = registry.referrers(image, ARTIFACT)?.into_iter().take(MOST);
        let referring = referring.map(|one| registry.manifest(one.digest()?.as_str()).map(|found| found.bytes));
        let referring = referring.collect::<Result<Vec<_>>>()?;
        for bundle in tagged.into_iter().chain(referring) {
            let bundle: Bundle = serde_json::from_slice(&bundle)
                .map_err(|cause| Error::untrusted(format!("signatures of {image}: {cause}")))?;
            for layer in bundle.layers.iter().filter(|layer| layer.media_type == STATEMENT).take(MOST) {
                found.extend(fetch(registry, image, layer)?);
            }
        }
    }
    found.truncate(MOST);
    Ok(found)
}

fn fetch(registry: &Registry, image: &Digest, layer: &Descriptor) -> Result<Option<Signature>> {
    let Some(signature) = layer.annotation(ANNOTATION).and_then(|text| BASE64_STANDARD.decode(text).ok()) else {
        return Ok(None);
    };
    if layer.size > LARGEST {
        return Ok(None);
    }
    let statement = registry.document(&layer.digest()?, layer.size)?;
    Ok(Some(Signature { image: image.clone(), statement, signature }))
}

impl Signature {
    /// The name that the image is signed for, if one of the keys made the signature. Nothing of an unsigned statement is
    /// looked at.
    pub(super) fn verify(&self, keys: &[Key]) -> Result<String, String> {
        if !keys.iter().any(|key| key.verifies(&self.statement, &self.signature)) {
            return Err("its signature was made with another key".into());
        }
        let statement: Statement = serde_json::from_slice(&self.statement)
            .map_err(|cause| format!("the signed statement is damaged: {cause}"))?;
        let critical = statement.critical;
        if critical.kind != KIND {
            return Err(format!("the signed statement is a {:?}", critical.kind));
        }
        if critical.image.digest != self.image.as_str() {
            return Err(format!("the signature is for {:?}", critical.image.digest));
        }
        Ok(critical.identity.reference)
    }
}
