//! Manifests and indexes of both kinds, OCI and Docker, as untrusted JSON: parsed once into what is needed of them.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::{Digest, limits};

/// A pointer to a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    digest: String,
    pub(crate) size: u64,
    platform: Option<serde_json::Value>,
    #[serde(default)]
    annotations: Option<std::collections::HashMap<String, String>>,
    #[serde(default)]
    urls: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) artifact_type: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct RawPlatform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Descriptor {
    /// The checked digest.
    pub(crate) fn digest(&self) -> Result<Digest> {
        self.digest.parse()
    }

    /// What it says it is for.
    pub(crate) fn platform(&self) -> Option<Platform> {
        let raw = self.parsed_platform()?;
        Some(Platform::normal(&raw.os, &raw.architecture, raw.variant.as_deref()))
    }

    /// The same, in its own words.
    pub(crate) fn raw_platform(&self) -> Option<serde_json::Value> {
        self.platform.clone()
    }

    fn parsed_platform(&self) -> Option<RawPlatform> {
        RawPlatform::deserialize(self.platform.as_ref()?).ok()
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Where a layer that must not be distributed may be had: only such layers may come from elsewhere.
    pub(crate) fn foreign_urls(&self) -> &[String] {
        let foreign = ["foreign", "nondistributable"].iter().any(|word| self.media_type.contains(word));
        self.urls.as_deref().filter(|_| foreign).unwrap_or_default()
    }

    /// Build provenance and the like: listed among images, but none.
    fn is_attestation(&self) -> bool {
        self.annotation("vnd.docker.reference.type").is_some()
            || self.parsed_platform().is_some_and(|platform| platform.os == "unknown")
    }
}

/// A document of either kind.
#[derive(Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// One image.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) config: Box<Descriptor>,
    pub(crate) layers: Vec<Descriptor>,
}

/// Several images, usually of different platforms.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u64,
    #[serde(default)]
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// Media types of manifests and indexes, in the order of preference.
pub(crate) const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Parses either kind; `what` names it in errors. The kind is decided by the content, and a document that could be both
/// is refused (CVE-2021-41190).
pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Document> {
    let bad = |cause: String| Error::untrusted(format!("{what} is no image manifest: {cause}"));
    if bytes.len() as u64 > limits::MANIFEST {
        return Err(bad(format!("larger than {} MiB", limits::MANIFEST >> 20)));
    }
    let raw: Raw = serde_json::from_slice(bytes).map_err(|cause| bad(cause.to_string()))?;
    if raw.schema_version != 2 {
        return Err(bad(format!("schema version {} is not supported", raw.schema_version)));
    }
    let says_index = raw.media_type.contains("index") || raw.media_type.contains("manifest.list");
    match (raw.config, raw.layers, raw.manifests) {
        (None, None, Some(manifests)) if says_index || raw.media_type.is_empty() => {
            Ok(Document::Index(Index { manifests }))
        }
        (Some(config), layers, None) if !says_index => {
            manifest(config, layers.unwrap_or_default()).map(Document::Manifest)
        }
        _ => Err(bad("its fields and its media type contradict each other".into())),
    }
}

/// The media type that a document has, by its own word or else by its kind.
pub(crate) fn media_type(bytes: &[u8], document: &Document) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Said {
        #[serde(default)]
        media_type: String,
    }
    let said = serde_json::from_slice::<Said>(bytes).map(|said| said.media_type).unwrap_or_default();
    match (said.is_empty(), document) {
        (false, _) => said,
        (true, Document::Index(_)) => ACCEPTED[0].to_owned(),
        (true, Document::Manifest(_)) => ACCEPTED[2].to_owned(),
    }
}

fn manifest(config: Descriptor, layers: Vec<Descriptor>) -> Result<Manifest> {
    if !CONFIGS.contains(&config.media_type.as_str()) {
        let text = format!("not a container image but an artifact: its configuration is {:?}", config.media_type);
        return Err(Error::Invalid(text));
    }
    if layers.len() > limits::LAYERS {
        let text = format!("image of {} layers, more than the {} allowed", layers.len(), limits::LAYERS);
        return Err(Error::untrusted(text));
    }
    Ok(Manifest { config: Box::new(config), layers })
}

impl Index {
    /// The image that fits the platform best.
    pub(crate) fn choose(&self, wanted: &Platform, what: &str) -> Result<&Descriptor> {
        choose(&self.manifests.iter().collect::<Vec<_>>(), wanted, what)
    }
}

/// The image that fits the platform best; the only one, if it does not say what it is for.
pub(crate) fn choose<'d>(all: &[&'d Descriptor], wanted: &Platform, what: &str) -> Result<&'d Descriptor> {
    let images: Vec<&Descriptor> = all.iter().copied().filter(|one| !one.is_attestation()).collect();
    if let [only] = images[..]
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let fitting = images.iter().filter_map(|one| Some((wanted.distance(&one.platform()?)?, *one)));
    let best = fitting.min_by_key(|(distance, _)| *distance).map(|(_, one)| one);
    best.ok_or_else(|| {
        let mut offered: Vec<_> = images.iter().filter_map(|one| one.platform()).map(|one| one.to_string()).collect();
        offered.truncate(20);
        let offered = if offered.is_empty() { "none".into() } else { offered.join(", ") };
        Error::Platform(format!("no matching manifest for {wanted} in {what}; it has {offered}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(platform: &str) -> String {
        let parts: Vec<&str> = platform.split('/').collect();
        format!(
            r#"{{"mediaType":"m","digest":"{DIGEST}","size":1,"platform":{{"os":"{}","architecture":"{}","variant":"{}"}}}}"#,
            parts[0],
            parts[1],
            parts.get(2).unwrap_or(&"")
        )
    }

    #[test]
    fn platform_choice() {
        let list = ["linux/arm64/v8", "linux/arm/v6", "linux/arm/v7", "linux/amd64", "unknown/unknown"];
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            list.iter().map(|platform| descriptor(platform)).collect::<Vec<_>>().join(",")
        );
        let Document::Index(index) = parse(text.as_bytes(), "x").unwrap() else { panic!() };
        let choose = |text: &str| {
            let wanted: Platform = text.parse().unwrap();
            index.choose(&wanted, "x").map(|found| found.platform().unwrap().to_string())
        };
        assert_eq!(choose("linux/amd64").unwrap(), "linux/amd64");
        assert_eq!(choose("arm64").unwrap(), "linux/arm64");
        assert_eq!(choose("linux/arm").unwrap(), "linux/arm/v7");
        let error = choose("linux/s390x").unwrap_err();
        assert!(matches!(error, Error::Platform(_)), "{error}");
    }

    #[test]
    fn confusing_documents() {
        let config = format!(r#"{{"mediaType":"{}","digest":"{DIGEST}","size":1}}"#, CONFIGS[0]);
        for bad in [
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#),
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[]}}"#, ACCEPTED[0]),
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, ACCEPTED[2]),
            format!(r#"{{"schemaVersion":1,"config":{config},"layers":[]}}"#),
            r#"{"schemaVersion":2}"#.into(),
            "nonsense".into(),
        ] {
            assert!(matches!(parse(bad.as_bytes(), "x"), Err(Error::Untrusted(_))), "{bad}");
        }
    }
}
