//! `save`: images as one archive, in the form of `docker save` and as an OCI image layout at once, as Docker writes it
//! since version 25. The same images give the same bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use records::rusqlite::Connection;
use serde_json::{Map, Value, json};

use crate::archive::blob_name;
use crate::assemble::annotate;
use crate::error::{Error, Result, Step};
use crate::layer_archive::LayerArchive;
use crate::reference::Reference;
use crate::staging::lock_shared;
use crate::store::{Image, name_of};
use crate::tarread::Kind;
use crate::tarwrite::{Header, TarWriter};
use crate::{Digest, Store, config};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Images that are about to be written; while it lives, nothing of them is removed.
pub struct Save<'s> {
    store: &'s Store,
    images: Vec<(Image, Vec<Reference>)>,
    _lock: File,
}

/// One image as it stands in the archive.
pub(crate) struct Saved {
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    layers: Vec<(Digest, u64)>,
    names: Vec<Reference>,
}

impl Store {
    /// Looks up what is to be saved. A name without a tag means all tags of that repository.
    pub fn save(&self, connection: &Connection, names: &[String], platform: Option<&str>) -> Result<Save<'_>> {
        let lock = lock_shared(self)?;
        let mut images: Vec<(Image, Vec<Reference>)> = Vec::new();
        for name in names {
            for (image, reference) in self.named(connection, name)? {
                if image.directory.is_some() {
                    return Err(Error::Invalid(format!("{name} is no image of the store: it cannot be saved")));
                }
                image.check_platform(name, platform)?;
                let at = images.iter().position(|(known, _)| known.id == image.id).unwrap_or(images.len());
                if at == images.len() {
                    images.push((image, Vec::new()));
                }
                let known = &mut images[at].1;
                known.extend(reference.filter(|reference| !known.contains(reference)));
            }
        }
        Ok(Save { store: self, images, _lock: lock })
    }

    /// The image of a name, or all tags of a repository.
    fn named(&self, connection: &Connection, name: &str) -> Result<Vec<(Image, Option<Reference>)>> {
        let repository = name.parse::<Reference>().ok().filter(|one| one.tag().is_none() && one.digest().is_none());
        let mut found = Vec::new();
        if let Some(repository) = repository {
            let mut query =
                connection.prepare_cached("SELECT name, image FROM image_names WHERE name >= ?1 AND name < ?2")?;
            // ';' follows ':', which stands before the tag.
            let range = (format!("{}:", repository.name()), format!("{};", repository.name()));
            let rows = query.query_map(range, |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
            for row in rows.collect::<Result<Vec<_>, _>>()? {
                found.push((self.image(connection, &row.1)?, Some(row.0.parse()?)));
            }
        }
        if found.is_empty() {
            let image = self.resolve(connection, name)?;
            let known = name_of(connection, name, &image.id)?.filter(|one| one.digest().is_none());
            found.push((image, known));
        }
        Ok(found)
    }
}

impl Save<'_> {
    /// The images' ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|(image, _)| image.id.as_str())
    }

    /// Writes the archive. The answer is what became of images of which only the files are kept: old id and new id.
    pub fn write<W: Write + ?Sized>(self, output: &mut W) -> Result<Vec<(String, String)>> {
        let mut archive = Writing { tar: TarWriter::new(output), sources: BTreeMap::new(), renamed: BTreeMap::new() };
        archive.directory("blobs/")?;
        archive.directory("blobs/sha256/")?;
        let mut saved = Vec::new();
        let mut changed = Vec::new();
        for (image, names) in self.images {
            let one = archive.image(self.store, &image, names)?;
            let id = Digest::of(&one.config);
            if id.as_str() != image.id {
                changed.push((image.id, id.to_string()));
            }
            saved.push(one);
        }
        archive.file("index.json", index(&saved).to_string().as_bytes())?;
        archive.file("manifest.json", archive.items(&saved).to_string().as_bytes())?;
        archive.file("oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#)?;
        let repositories = repositories(&saved);
        if !repositories.is_empty() {
            archive.file("repositories", Value::Object(repositories).to_string().as_bytes())?;
        }
        archive.tar.finish().step(|| "write the archive".into())?;
        Ok(changed)
    }
}

/// An archive that is being written.
pub(crate) struct Writing<'o, W: Write + ?Sized> {
    pub(crate) tar: TarWriter<&'o mut W>,
    /// Blobs that are written, and the sizes of those that are layers.
    pub(crate) sources: BTreeMap<Digest, Option<u64>>,
    /// Layers whose archives have other digests.
    pub(crate) renamed: BTreeMap<Digest, Digest>,
}

impl<W: Write + ?Sized> Writing<'_, W> {
    pub(crate) fn directory(&mut self, name: &str) -> Result<()> {
        self.tar.entry(&Header::new(name, Kind::Directory)).step(|| "write the archive".into())
    }

    pub(crate) fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.tar.bytes(&Header::new(name, Kind::File), bytes).step(|| "write the archive".into())
    }

    pub(crate) fn blob(&mut self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.sources.insert(digest.clone(), None).is_none() {
            self.file(&blob_name(&digest), bytes)?;
        }
        Ok(digest)
    }

    fn image(&mut self, store: &Store, image: &Image, names: Vec<Reference>) -> Result<Saved> {
        self.image_with(store, image, names, &[])
    }

    /// Writes an image with annotations in its manifest.
    pub(crate) fn image_with(
        &mut self,
        store: &Store,
        image: &Image,
        names: Vec<Reference>,
        annotations: &[(String, String)],
    ) -> Result<Saved> {
        let diff_ids = config::diff_ids(&image.config)?;
        let layers = diff_ids.iter().map(|layer| self.layer(store, layer)).collect::<Result<Vec<_>>>()?;
        let config = match layers.iter().map(|(digest, _)| digest).eq(&diff_ids) {
            true => image.config_json.clone(),
            false => with_layers(&image.config_json, layers.iter().map(|(digest, _)| digest))?,
        };
        let digest = self.blob(&config)?;
        let described: Vec<Value> = layers.iter().map(|(digest, size)| descriptor(LAYER, digest, *size)).collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &digest, config.len() as u64),
            "layers": described,
        });
        annotate(&mut manifest, annotations);
        let manifest = manifest.to_string().into_bytes();
        self.blob(&manifest)?;
        Ok(Saved { config, manifest, layers, names })
    }

    /// Writes a layer that is not there yet; its digest in the archive and its size.
    fn layer(&mut self, store: &Store, diff_id: &Digest) -> Result<(Digest, u64)> {
        let digest = self.renamed.get(diff_id).unwrap_or(diff_id);
        if let Some(Some(size)) = self.sources.get(digest) {
            return Ok((digest.clone(), *size));
        }
        let LayerArchive { digest, size, file } = store.layer_archive(diff_id)?;
        if digest != *diff_id {
            self.renamed.insert(diff_id.clone(), digest.clone());
        }
        if self.sources.insert(digest.clone(), Some(size)).is_none() {
            let header = Header { size, ..Header::new(blob_name(&digest), Kind::File) };
            let lacking = self.tar.stored(&header, file).step(|| "write the archive".into())?;
            if lacking > 0 {
                return Err(Error::untrusted(format!("layer {diff_id} is damaged: {lacking} bytes are missing")));
            }
        }
        Ok((digest, size))
    }

    /// `manifest.json`.
    pub(crate) fn items(&self, saved: &[Saved]) -> Value {
        let item = |one: &Saved| {
            let names: Vec<String> = one.names.iter().map(Reference::familiar).collect();
            let sources: Map<String, Value> = one
                .layers
                .iter()
                .map(|(digest, size)| (digest.to_string(), descriptor(LAYER, digest, *size)))
                .collect();
            json!({
                "Config": blob_name(&Digest::of(&one.config)),
                "RepoTags": if names.is_empty() { Value::Null } else { json!(names) },
                "Layers": one.layers.iter().map(|(digest, _)| blob_name(digest)).collect::<Vec<_>>(),
                "LayerSources": sources,
            })
        };
        saved.iter().map(item).collect()
    }
}

pub(crate) fn descriptor(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest.as_str(), "size": size})
}

/// `index.json`: every image once for each of its names.
fn index(saved: &[Saved]) -> Value {
    let mut manifests = Vec::new();
    for one in saved {
        let plain = descriptor(MANIFEST, &Digest::of(&one.manifest), one.manifest.len() as u64);
        if one.names.is_empty() {
            manifests.push(plain.clone());
        }
        for name in &one.names {
            let mut named = plain.clone();
            named["annotations"] = json!({
                "io.containerd.image.name": name.to_string(),
                "org.opencontainers.image.ref.name": name.tag().unwrap_or("latest"),
            });
            manifests.push(named);
        }
    }
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests})
}

/// The file of that name, which Docker keeps for versions before 1.10.
pub(crate) fn repositories(saved: &[Saved]) -> Map<String, Value> {
    let mut all = Map::new();
    for one in saved {
        let top = one.layers.last().map_or("", |(digest, _)| digest.hex());
        for name in &one.names {
            let tags = all.entry(name.familiar_name()).or_insert_with(|| json!({}));
            tags[name.tag().unwrap_or("latest")] = json!(top);
        }
    }
    all
}

/// A configuration with other layers.
pub(crate) fn with_layers<'l>(config: &[u8], layers: impl Iterator<Item = &'l Digest>) -> Result<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(config).step(|| "read an image's configuration".into())?;
    document["rootfs"]["diff_ids"] = layers.map(|digest| json!(digest.as_str())).collect();
    Ok(document.to_string().into_bytes())
}
