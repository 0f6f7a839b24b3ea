//! The image store of one root: which images there are and by what names. `content/` holds manifests and configurations
//! byte for byte, `layers/` the unpacked layers; how things get there is the business of `staging`.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use records::rusqlite::{Connection, OptionalExtension, Transaction};

use crate::error::{Result, Step};
use crate::platform::Platform;
use crate::reference::{Reference, is_hex_id};
use crate::remote::Settings;
use crate::{Digest, Driver, config, host};

pub use crate::error::Error;

/// The tables of this crate.
pub const SCHEMA: records::Schema = records::Schema {
    room: "image",
    migrations: &[
        "
        CREATE TABLE images (
            id TEXT PRIMARY KEY,            -- sha256:… of the configuration
            manifest TEXT,                  -- sha256:… of the manifest, if one came with it
            created INTEGER NOT NULL,       -- seconds since 1970, as the configuration says
            size INTEGER NOT NULL,          -- bytes of all layers
            tagged_at INTEGER NOT NULL      -- seconds since 1970
        ) WITHOUT ROWID;
        CREATE TABLE image_names (
            name TEXT PRIMARY KEY,          -- host/path:tag or host/path@sha256:…
            image TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE
        ) WITHOUT ROWID;
        CREATE INDEX image_names_by_image ON image_names(image);
        CREATE TABLE layers (
            diff_id TEXT PRIMARY KEY,       -- sha256:… of the uncompressed archive
            size INTEGER NOT NULL           -- bytes of its files
        ) WITHOUT ROWID;
        CREATE TABLE image_layers (
            image TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
            position INTEGER NOT NULL,      -- 0 is the lowest
            layer TEXT NOT NULL REFERENCES layers(diff_id),
            PRIMARY KEY (image, position)
        ) WITHOUT ROWID;
        CREATE INDEX image_layers_by_layer ON image_layers(layer);
    ",
        "
        CREATE TABLE layer_blobs (          -- as which compressed blob a layer was seen where
            diff_id TEXT NOT NULL REFERENCES layers(diff_id) ON DELETE CASCADE,
            blob TEXT NOT NULL,             -- sha256:… of the compressed bytes
            size INTEGER NOT NULL,          -- number of those bytes
            media_type TEXT NOT NULL,
            repository TEXT NOT NULL,       -- host/path
            PRIMARY KEY (diff_id, blob, repository)
        ) WITHOUT ROWID;
    ",
        "
        ALTER TABLE images ADD COLUMN parent TEXT; -- id of the image that it was committed on top of, which may be gone
    ",
    ],
};

/// The image store below one root directory.
pub struct Store {
    pub(crate) root: PathBuf,
    /// Where layers are mounted.
    pub(crate) mounts: PathBuf,
    /// The driver of new layers, if it was chosen.
    pub(crate) driver: Option<Driver>,
    host: bool,
}

/// An image, resolved and present.
#[derive(Clone, Debug)]
pub struct Image {
    /// `sha256:…` of the configuration.
    pub id: String,
    /// The configuration, as pulled (for `host:` images a made-up one).
    pub config: oci_spec::image::ImageConfiguration,
    /// Configuration bytes.
    pub config_json: Vec<u8>,
    /// DiffIDs of the layers, lowest first. [`Store::mount`] gives their files.
    pub layers: Vec<Digest>,
    /// `name:tag` names.
    pub repo_tags: Vec<String>,
    /// `name@sha256:…` names.
    pub repo_digests: Vec<String>,
    /// Bytes of all layers.
    pub size: u64,
    /// Seconds since 1970.
    pub created: i64,
    /// The machine's own tree that it is (`host:/…`), if it is one.
    pub directory: Option<PathBuf>,
}

impl Image {
    /// An error if the image is not for `wanted` (`os/arch[/variant]`); `name` is what it was asked for by.
    pub fn check_platform(&self, name: &str, wanted: Option<&str>) -> Result<()> {
        let wanted = wanted.map(str::parse).transpose()?;
        Platform::of(&self.config).check(wanted.as_ref(), &format!("image with reference {name}"))
    }
}

/// Progress of a pull or load: layer (short id or empty), Docker's status word, bytes done, bytes in all.
pub type Progress<'a> = dyn FnMut(&str, &str, u64, u64) + 'a;

impl Store {
    /// The store below `root`; nothing is touched.
    pub fn new(root: &Path) -> Self {
        Store { root: root.to_owned(), mounts: root.join("mounts"), driver: None, host: true }
    }

    /// Layers are mounted below `directory` instead, which had better be on a file system that a reboot empties.
    pub fn mounting_below(self, directory: &Path) -> Self {
        Store { mounts: directory.to_owned(), ..self }
    }

    /// Whether `host:/path` names an image.
    pub fn knowing_the_host(self, host: bool) -> Self {
        Store { host, ..self }
    }

    /// New layers get this driver.
    pub fn storing_as(self, driver: Driver) -> Self {
        Store { driver: Some(driver), ..self }
    }

    /// Finds an image by name, id, id prefix, digest, or `host:/path`.
    pub fn resolve(&self, connection: &Connection, name: &str) -> Result<Image> {
        if let Some(directory) = name.strip_prefix(host::PREFIX).filter(|rest| host::is_path(rest)) {
            return match self.host {
                true => host::image(directory),
                false => Err(Error::NotFound(format!("No such image: {name}"))),
            };
        }
        let id = find(connection, name)?;
        self.image(connection, &id)
    }

    /// The id that a name, id, id prefix or digest stands for; reads no configuration, so it works for damaged images.
    pub fn id(&self, connection: &Connection, name: &str) -> Result<String> {
        find(connection, name)
    }

    /// The id of the image that this one was committed on top of, as long as that is there.
    pub fn parent(&self, connection: &Connection, id: &str) -> Result<Option<String>> {
        let sql = "SELECT p.id FROM images i JOIN images p ON p.id = i.parent WHERE i.id = ?1";
        Ok(connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?)
    }

    /// Whether the image is (still) there: for the transaction that begins to use it.
    pub fn exists(&self, connection: &Connection, id: &str) -> Result<bool> {
        let mut query = connection.prepare_cached("SELECT 1 FROM images WHERE id = ?1")?;
        Ok(query.exists([id])?)
    }

    /// All images, newest first.
    pub fn list(&self, connection: &Connection) -> Result<Vec<Image>> {
        let mut query = connection.prepare_cached("SELECT id FROM images ORDER BY created DESC, id")?;
        let ids = query.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
        ids.iter().map(|id| self.image(connection, id)).collect()
    }

    /// Adds a name to an image; a name that another image had moves.
    pub fn tag(&self, transaction: &Transaction<'_>, name: &str, reference: &str) -> Result<()> {
        let target: Reference = reference.parse()?;
        if target.digest().is_some() {
            return Err(Error::Invalid("refusing to create a tag with a digest reference".into()));
        }
        let id = find(transaction, name)?;
        set_name(transaction, &target.or_latest().to_string(), &id)
    }

    /// Bytes of each layer of an image, lowest first, with its diffID.
    pub fn layer_sizes(&self, connection: &Connection, id: &str) -> Result<Vec<(String, u64)>> {
        let mut query = connection.prepare_cached(
            "SELECT l.diff_id, l.size FROM image_layers i JOIN layers l ON l.diff_id = i.layer
             WHERE i.image = ?1 ORDER BY i.position",
        )?;
        let rows = query.query_map([id], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    }

    /// Bytes of all layers that images have, each once, as recorded.
    pub fn layer_bytes(&self, connection: &Connection) -> Result<u64> {
        let sum = "SELECT coalesce(sum(size), 0) FROM layers WHERE diff_id IN (SELECT layer FROM image_layers)";
        Ok(connection.prepare_cached(sum)?.query_row([], |row| row.get::<_, i64>(0))? as u64)
    }

    /// Bytes that each layer takes on the disk: those of its files where these are kept one by one, else those of its
    /// archive and what belongs to it.
    pub fn layers_on_disk(&self, connection: &Connection) -> Result<HashMap<String, u64>> {
        let mut layers = known_layers(connection)?;
        for (layer, size) in &mut layers {
            let files = std::fs::read_dir(self.layer_home(&layer.parse()?)).into_iter().flatten().flatten();
            let sizes = files.filter_map(|file| file.metadata().ok().filter(std::fs::Metadata::is_file));
            let kept: u64 = sizes.map(|file| file.len().min(file.blocks() * 512)).sum();
            *size = if kept > 0 { kept } else { *size };
        }
        Ok(layers)
    }

    pub(crate) fn layer_home(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers/sha256").join(diff_id.hex())
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("content/blobs/sha256").join(digest.hex())
    }

    /// Reads a blob and checks that it is what its name says.
    pub(crate) fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let bytes = std::fs::read(&path).step(|| format!("read {}", path.display()))?;
        if Digest::of(&bytes) != *digest {
            return Err(Error::untrusted(format!("{} is damaged: its digest differs from its name", path.display())));
        }
        Ok(bytes)
    }

    pub(crate) fn image(&self, connection: &Connection, id: &str) -> Result<Image> {
        let mut query = connection.prepare_cached("SELECT created, size FROM images WHERE id = ?1")?;
        let row = query.query_row([id], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))).optional()?;
        let (created, size) = row.ok_or_else(|| Error::NotFound(id.into()))?;
        let config_json = self.read_blob(&id.parse()?)?;
        let config = config::parse(&config_json, id)?;
        let layers = config::diff_ids(&config)?;
        let (repo_tags, repo_digests) = names(connection, id)?;
        Ok(Image {
            id: id.into(),
            config,
            config_json,
            layers,
            repo_tags,
            repo_digests,
            size: size as u64,
            created,
            directory: None,
        })
    }
}

/// The id that a name, id, id prefix or digest stands for.
pub(crate) fn find(connection: &Connection, name: &str) -> Result<String> {
    if is_hex_id(name) || name.parse::<Digest>().is_ok() {
        return find_id(connection, name)?.ok_or_else(|| Error::NotFound(name.into()));
    }
    let reference = name.parse::<Reference>().map(Reference::or_latest);
    if let Ok(reference) = &reference
        && let Some(id) = find_name(connection, reference)?
    {
        return Ok(id);
    }
    if let Some(id) = find_id(connection, name)? {
        return Ok(id);
    }
    // A short name may have been pulled as what `registries.conf` says it means.
    for meaning in Settings::other_meanings(name) {
        if let Some(id) = find_name(connection, &meaning.or_latest())? {
            return Ok(id);
        }
    }
    Err(Error::NotFound(reference?.familiar()))
}

/// As which of the names that `text` may mean an image is known; none if it is found by its id.
pub(crate) fn name_of(connection: &Connection, text: &str, id: &str) -> Result<Option<Reference>> {
    let own = text.parse::<Reference>().ok().into_iter();
    for name in own.chain(std::iter::once_with(|| Settings::other_meanings(text)).flatten()) {
        let name = name.or_latest();
        if find_name(connection, &name)?.as_deref() == Some(id) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// By name. With a digest the tag does not matter.
pub(crate) fn find_name(connection: &Connection, reference: &Reference) -> Result<Option<String>> {
    let name = match reference.digest() {
        Some(digest) => format!("{}@{digest}", reference.name()),
        None => reference.to_string(),
    };
    let mut query = connection.prepare_cached("SELECT image FROM image_names WHERE name = ?1")?;
    Ok(query.query_row([name], |row| row.get(0)).optional()?)
}

/// By id or the beginning of one, with or without `sha256:`.
fn find_id(connection: &Connection, text: &str) -> Result<Option<String>> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(None);
    }
    let mut query = connection.prepare_cached("SELECT id FROM images WHERE id >= ?1 AND id < ?2 LIMIT 2")?;
    // 'g' follows the hexadecimal digits.
    let range = (format!("sha256:{hex}"), format!("sha256:{hex}g"));
    let found = query.query_map(range, |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    match &found[..] {
        [_, _] => Err(Error::Invalid(format!("image id prefix {text} is ambiguous: give more digits"))),
        _ => Ok(found.into_iter().next()),
    }
}

/// An image's names and digests, as people write them.
fn names(connection: &Connection, id: &str) -> Result<(Vec<String>, Vec<String>)> {
    let mut query = connection.prepare_cached("SELECT name FROM image_names WHERE image = ?1 ORDER BY name")?;
    let all = query.query_map([id], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let familiar = all.into_iter().map(|name| name.parse::<Reference>().map(|parsed| parsed.familiar()));
    let (digests, tags) = familiar.collect::<Result<Vec<_>>>()?.into_iter().partition(|name| name.contains('@'));
    Ok((tags, digests))
}

/// Points a complete name at an image.
pub(crate) fn set_name(transaction: &Transaction<'_>, name: &str, id: &str) -> Result<()> {
    transaction
        .prepare_cached("INSERT INTO image_names (name, image) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET image = ?2")?
        .execute([name, id])?;
    let now = jiff::Timestamp::now().as_second();
    transaction.prepare_cached("UPDATE images SET tagged_at = ?2 WHERE id = ?1")?.execute((id, now))?;
    Ok(())
}

/// Which of the layers are stored already, with their sizes.
pub(crate) fn known_layers(connection: &Connection) -> Result<HashMap<String, u64>> {
    let mut query = connection.prepare_cached("SELECT diff_id, size FROM layers")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    Ok(rows.collect::<Result<HashMap<_, _>, _>>()?)
}
