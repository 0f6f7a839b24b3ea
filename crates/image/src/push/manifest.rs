//! The manifest that goes with a push: the one that the image came with, byte for byte, if its layers arrived as they were;
//! else a new one of the same kind.

use serde_json::{Value, json};

use crate::Digest;
use crate::blobs::Seen;
use crate::error::{Error, Result};
use crate::manifest::{ACCEPTED, Descriptor, Document, parse};

/// The kinds, as media types of manifest, configuration and layer without its compression.
struct Kind {
    manifest: &'static str,
    config: &'static str,
    layer: &'static str,
    /// Between layer and compression.
    joint: char,
}

const OCI: Kind = Kind {
    manifest: ACCEPTED[2],
    config: "application/vnd.oci.image.config.v1+json",
    layer: "application/vnd.oci.image.layer.v1.tar",
    joint: '+',
};

const DOCKER: Kind = Kind {
    manifest: ACCEPTED[3],
    config: "application/vnd.docker.container.image.v1+json",
    layer: "application/vnd.docker.image.rootfs.diff.tar",
    joint: '.',
};

/// What the image came with.
pub(super) struct Original {
    bytes: Vec<u8>,
    document: Value,
    /// Its layers, lowest first.
    pub(super) layers: Vec<Descriptor>,
}

impl Original {
    /// Reads it.
    pub(super) fn read(bytes: Vec<u8>, what: &str) -> Result<Self> {
        let Document::Manifest(manifest) = parse(&bytes, what)? else {
            return Err(Error::untrusted(format!("{what} is an index")));
        };
        let document = serde_json::from_slice(&bytes).map_err(|cause| Error::untrusted(format!("{what}: {cause}")))?;
        Ok(Original { bytes, document, layers: manifest.layers })
    }

    fn kind(&self) -> &'static Kind {
        let is_docker = |value: &Value| value.as_str().is_some_and(|text| text.contains("vnd.docker"));
        let docker = is_docker(&self.document["mediaType"]) || is_docker(&self.document["config"]["mediaType"]);
        if docker { &DOCKER } else { &OCI }
    }

    fn is(&self, config: &Digest, sent: &[Seen]) -> bool {
        self.document["config"]["digest"] == config.as_str()
            && self.layers.len() == sent.len()
            && self.layers.iter().zip(sent).all(|(layer, seen)| layer.digest().is_ok_and(|digest| digest == seen.blob))
    }
}

/// A manifest to push.
pub(super) struct Outgoing {
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
}

/// Media type of a gzip-compressed layer in the manifest to come.
pub(super) fn layer_type(original: Option<&Original>) -> String {
    compressed(original.map_or(&OCI, Original::kind), "gzip")
}

/// The manifest over these layers, lowest first.
pub(super) fn over(original: Option<&Original>, config: (&Digest, usize), sent: &[Seen]) -> Outgoing {
    let kind = original.map_or(&OCI, Original::kind);
    if let Some(original) = original.filter(|original| original.is(config.0, sent)) {
        let stated = original.document["mediaType"].as_str().unwrap_or(kind.manifest);
        return Outgoing { media_type: stated.to_owned(), bytes: original.bytes.clone() };
    }
    let layers: Vec<Value> = sent
        .iter()
        .map(|seen| json!({"mediaType": translated(kind, &seen.media_type), "digest": seen.blob.as_str(), "size": seen.size}))
        .collect();
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": kind.manifest,
        "config": {"mediaType": kind.config, "digest": config.0.as_str(), "size": config.1},
        "layers": layers,
    });
    if let Some(annotations) = original.and_then(|original| original.document.get("annotations")) {
        document["annotations"] = annotations.clone();
    }
    Outgoing { media_type: kind.manifest.to_owned(), bytes: document.to_string().into_bytes() }
}

/// A layer's media type in the words of a kind.
fn translated(kind: &Kind, media_type: &str) -> String {
    if media_type.contains("foreign") || media_type.contains("nondistributable") {
        return media_type.to_owned();
    }
    match ["gzip", "zstd"].iter().find(|ending| media_type.ends_with(*ending)) {
        Some(ending) => compressed(kind, ending),
        None => kind.layer.to_owned(),
    }
}

fn compressed(kind: &Kind, compression: &str) -> String {
    format!("{}{}{compression}", kind.layer, kind.joint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Seen {
        let blob = Digest::of(text.as_bytes());
        Seen { blob, size: 3, media_type: compressed(&DOCKER, "gzip"), repository: "r/x".into() }
    }

    fn original(kind: &Kind, layers: &[Seen]) -> Original {
        let layers: Vec<Value> = layers
            .iter()
            .map(|one| json!({"mediaType": one.media_type, "digest": one.blob.as_str(), "size": one.size}))
            .collect();
        let config = json!({"mediaType": kind.config, "digest": Digest::of(b"c").as_str(), "size": 1});
        let text = json!({"mediaType": kind.manifest, "schemaVersion": 2, "config": config, "layers": layers});
        Original::read(format!("{text} ").into_bytes(), "x").unwrap()
    }

    #[test]
    fn byte_for_byte_where_possible() {
        let came = original(&DOCKER, &[seen("a"), seen("b")]);
        let config = Digest::of(b"c");
        let same = over(Some(&came), (&config, 1), &[seen("a"), seen("b")]);
        assert_eq!((same.media_type.as_str(), same.bytes), (DOCKER.manifest, came.bytes.clone()));
        let other = over(Some(&came), (&config, 1), &[seen("a"), seen("z")]);
        let Document::Manifest(parsed) = parse(&other.bytes, "x").unwrap() else { panic!() };
        assert_eq!(parsed.layers[1].media_type, DOCKER.layer.to_owned() + ".gzip");
        let fresh = over(None, (&config, 1), &[seen("a")]);
        assert_eq!(fresh.media_type, OCI.manifest);
        let Document::Manifest(parsed) = parse(&fresh.bytes, "x").unwrap() else { panic!() };
        assert_eq!(parsed.layers[0].media_type, OCI.layer.to_owned() + "+gzip");
    }
}
