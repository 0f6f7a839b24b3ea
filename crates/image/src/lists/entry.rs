//! One image of a list: its manifest, and what is said of its platform.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::{Digest, Reference};

/// What `annotate` may say; what is empty stays as it is.
#[derive(Clone, Debug, Default)]
pub struct Annotation {
    /// `--os`.
    pub os: String,
    /// `--arch`.
    pub architecture: String,
    /// `--os-version`.
    pub os_version: String,
    /// `--os-features`.
    pub os_features: Vec<String>,
    /// `--variant`.
    pub variant: String,
}

/// A platform in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
    #[serde(rename = "os.version", skip_serializing_if = "String::is_empty")]
    pub(super) os_version: String,
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    pub(super) os_features: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) variant: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
}

/// The image, in the form that Docker keeps it in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(rename = "Ref")]
    name: String,
    #[serde(rename = "Descriptor")]
    pub(super) descriptor: Descriptor,
    /// The manifest's bytes in base64.
    #[serde(rename = "Raw", default)]
    raw: String,
    #[serde(rename = "SchemaV2Manifest", default, skip_serializing_if = "Option::is_none")]
    schema2: Option<Value>,
    #[serde(rename = "OCIManifest", default, skip_serializing_if = "Option::is_none")]
    oci: Option<Value>,
}

impl Entry {
    pub(super) fn new(name: &Reference, bytes: &[u8], config: Option<&ImageConfiguration>) -> Result<Self> {
        let document: Value =
            serde_json::from_slice(bytes).map_err(|cause| Error::untrusted(format!("manifest of {name}: {cause}")))?;
        let stated = document["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json").to_owned();
        let platform = config.map(|config| Platform {
            architecture: config.architecture().to_string(),
            os: config.os().to_string(),
            os_version: config.os_version().clone().unwrap_or_default(),
            os_features: config.os_features().clone().unwrap_or_default(),
            variant: config.variant().clone().unwrap_or_default(),
        });
        let docker = stated.contains("vnd.docker");
        let digest = Digest::of(bytes).to_string();
        Ok(Entry {
            name: name.familiar(),
            descriptor: Descriptor { media_type: stated, digest, size: bytes.len() as u64, platform },
            raw: BASE64_STANDARD.encode(bytes),
            schema2: docker.then(|| document.clone()),
            oci: (!docker).then_some(document),
        })
    }

    pub(super) fn reference(&self) -> Result<Reference> {
        self.name.parse()
    }

    pub(super) fn media_type(&self) -> &str {
        &self.descriptor.media_type
    }

    /// The manifest, as it was.
    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        let bytes = BASE64_STANDARD.decode(&self.raw).unwrap_or_default();
        if Digest::of(&bytes).as_str() != self.descriptor.digest {
            return Err(Error::untrusted(format!("the kept manifest of {} is damaged", self.name)));
        }
        Ok(bytes)
    }

    /// The manifest, as a document.
    pub(super) fn manifest(&self) -> &Value {
        self.schema2.as_ref().or(self.oci.as_ref()).unwrap_or(&Value::Null)
    }

    /// What the list that it was found in says.
    pub(super) fn set_platform(&mut self, platform: Option<Value>) {
        let stated = platform.and_then(|value| serde_json::from_value(value).ok());
        self.descriptor.platform = stated.or(self.descriptor.platform.take());
    }

    pub(super) fn annotate(&mut self, annotation: &Annotation) -> Result<()> {
        let platform = self.descriptor.platform.get_or_insert_default();
        let texts = [
            (&mut platform.os, &annotation.os),
            (&mut platform.architecture, &annotation.architecture),
            (&mut platform.os_version, &annotation.os_version),
            (&mut platform.variant, &annotation.variant),
        ];
        for (slot, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            slot.clone_from(text);
        }
        for feature in &annotation.os_features {
            if !platform.os_features.contains(feature) {
                platform.os_features.push(feature.clone());
            }
        }
        let known = is_known(&platform.os, &platform.architecture);
        if !known {
            let (os, architecture) = (&platform.os, &platform.architecture);
            let text = format!("manifest entry for image has unsupported os/arch combination: {os}/{architecture}");
            return Err(Error::Conflict(text));
        }
        Ok(())
    }

    pub(super) fn check_platform(&self) -> Result<()> {
        match &self.descriptor.platform {
            Some(platform) if !platform.os.is_empty() && !platform.architecture.is_empty() => Ok(()),
            _ => Err(Error::Conflict(format!(
                "manifest {} must have an OS and Architecture to be pushed to a registry",
                self.name
            ))),
        }
    }
}

/// The platforms that Go knows and Docker takes (docker/cli, `cli/command/manifest/util.go`).
fn is_known(os: &str, architecture: &str) -> bool {
    let all: &[&str] = match os {
        "linux" => {
            &["386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64", "s390x"]
        }
        "darwin" => &["386", "amd64", "arm", "arm64"],
        "freebsd" | "netbsd" | "openbsd" => &["386", "amd64", "arm"],
        "windows" => &["386", "amd64", "arm64"],
        "dragonfly" | "solaris" => &["amd64"],
        "plan9" => &["386", "amd64"],
        "android" => &["arm"],
        "zos" => &["s390x"],
        _ => &[],
    };
    all.contains(&architecture)
}
