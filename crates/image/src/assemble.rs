//! Images of a build as one OCI archive: several platforms under one index, annotations, and attestations beside the
//! images, as BuildKit writes them. Docker's own files (`manifest.json`) come along if they are wanted.

use std::collections::BTreeMap;
use std::io::Write;

use records::rusqlite::Connection;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result, Step};
use crate::reference::Reference;
use crate::save::{CONFIG, MANIFEST, Writing, descriptor, repositories};
use crate::staging::lock_shared;
use crate::tarwrite::TarWriter;
use crate::{Digest, Store};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const STATEMENT: &str = "application/vnd.in-toto+json";

/// What an archive is to hold.
#[derive(Clone, Debug, Default)]
pub struct Assembly {
    /// The images, one for each platform.
    pub images: Vec<Part>,
    /// Names of all of them together, complete.
    pub names: Vec<String>,
    /// Of every manifest.
    pub annotations: Vec<(String, String)>,
    /// Docker's files come along.
    pub docker: bool,
}

/// One image of an [`Assembly`].
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The image's id.
    pub id: String,
    /// Statements about it: type of the predicate, and the predicate.
    pub attestations: Vec<(String, Value)>,
}

/// What stands at an archive's top.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its bytes.
    pub size: u64,
}

impl Store {
    /// Writes an archive. The same assembly gives the same bytes.
    pub fn assemble(&self, connection: &Connection, assembly: &Assembly, output: &mut dyn Write) -> Result<Assembled> {
        let _lock = lock_shared(self)?;
        let names = assembly.names.iter().map(|name| name.parse::<Reference>()).collect::<Result<Vec<_>>>()?;
        let mut archive = Writing { tar: TarWriter::new(output), sources: BTreeMap::new(), renamed: BTreeMap::new() };
        archive.directory("blobs/")?;
        archive.directory("blobs/sha256/")?;
        let (mut entries, mut saved) = (Vec::new(), Vec::new());
        for part in &assembly.images {
            let image = self.resolve(connection, &part.id)?;
            let one = archive.image_with(self, &image, names.clone(), &assembly.annotations)?;
            let mut entry = descriptor(MANIFEST, &Digest::of(&one.manifest), one.manifest.len() as u64);
            entry["platform"] = platform(&one.config)?;
            let subject = entry.clone();
            entries.push(entry);
            if !part.attestations.is_empty() {
                entries.push(archive.attestation(&subject, &part.attestations)?);
            }
            saved.push(one);
        }
        let top = match entries.as_slice() {
            [] => return Err(Error::Invalid("there is no image to write".into())),
            [only] => without_platform(only),
            several => archive.index(several, &assembly.annotations)?,
        };
        archive.file("index.json", named(&top, &names).to_string().as_bytes())?;
        if assembly.docker {
            archive.file("manifest.json", archive.items(&saved).to_string().as_bytes())?;
            let repositories = repositories(&saved);
            if !repositories.is_empty() {
                archive.file("repositories", Value::Object(repositories).to_string().as_bytes())?;
            }
        }
        archive.file("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#)?;
        archive.tar.finish().step(|| "write the archive".into())?;
        let text = |key: &str| top[key].as_str().unwrap_or_default().to_owned();
        Ok(Assembled {
            media_type: text("mediaType"),
            digest: text("digest"),
            size: top["size"].as_u64().unwrap_or_default(),
        })
    }
}

impl<W: Write + ?Sized> Writing<'_, W> {
    fn index(&mut self, entries: &[Value], annotations: &[(String, String)]) -> Result<Value> {
        let mut index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
        annotate(&mut index, annotations);
        let bytes = index.to_string().into_bytes();
        Ok(descriptor(INDEX, &self.blob(&bytes)?, bytes.len() as u64))
    }

    /// A manifest of statements about an image, as an entry of the index.
    fn attestation(&mut self, subject: &Value, statements: &[(String, Value)]) -> Result<Value> {
        let digest = subject["digest"].as_str().unwrap_or_default();
        let about = json!([{"name": "_", "digest": {"sha256": digest.strip_prefix("sha256:").unwrap_or(digest)}}]);
        let mut layers = Vec::new();
        for (kind, predicate) in statements {
            let statement = json!({
                "_type": "https://in-toto.io/Statement/v0.1",
                "predicateType": kind,
                "subject": about,
                "predicate": predicate,
            });
            let statement = statement.to_string().into_bytes();
            let mut layer = descriptor(STATEMENT, &self.blob(&statement)?, statement.len() as u64);
            layer["annotations"] = json!({"in-toto.io/predicate-type": kind});
            layers.push(layer);
        }
        let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let nowhere = json!({"architecture": "unknown", "os": "unknown"});
        let mut config = nowhere.clone();
        config["config"] = json!({});
        config["rootfs"] = json!({"type": "layers", "diff_ids": digests});
        let config = config.to_string().into_bytes();
        let config = descriptor(CONFIG, &self.blob(&config)?, config.len() as u64);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let manifest = manifest.to_string().into_bytes();
        let mut entry = descriptor(MANIFEST, &self.blob(&manifest)?, manifest.len() as u64);
        entry["annotations"] = json!({
            "vnd.docker.reference.digest": subject["digest"],
            "vnd.docker.reference.type": "attestation-manifest",
        });
        entry["platform"] = nowhere;
        Ok(entry)
    }
}

/// Puts annotations into a document, if there are any.
pub(crate) fn annotate(document: &mut Value, annotations: &[(String, String)]) {
    if !annotations.is_empty() {
        let pairs = annotations.iter().map(|(key, value)| (key.clone(), json!(value)));
        document["annotations"] = Value::Object(pairs.collect::<Map<String, Value>>());
    }
}

/// Whom an image is for, as an index says it.
fn platform(config: &[u8]) -> Result<Value> {
    let config: Value = serde_json::from_slice(config).step(|| "read an image's configuration".into())?;
    let mut platform = json!({"architecture": config["architecture"], "os": config["os"]});
    for key in ["variant", "os.version"] {
        if config[key].as_str().is_some_and(|text| !text.is_empty()) {
            platform[key] = config[key].clone();
        }
    }
    Ok(platform)
}

fn without_platform(entry: &Value) -> Value {
    let mut plain = entry.clone();
    plain.as_object_mut().map(|fields| fields.remove("platform"));
    plain
}

/// `index.json`: the top once for each of its names.
fn named(top: &Value, names: &[Reference]) -> Value {
    let mut manifests = Vec::new();
    if names.is_empty() {
        manifests.push(top.clone());
    }
    for name in names {
        let mut entry = top.clone();
        entry["annotations"] = json!({
            "io.containerd.image.name": name.to_string(),
            "org.opencontainers.image.ref.name": name.tag().unwrap_or("latest"),
        });
        manifests.push(entry);
    }
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
}
