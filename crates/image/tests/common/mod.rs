//! What the tests share: a store in a temporary directory, and archives built byte by byte.
#![allow(dead_code)]

pub(crate) mod registry;
pub(crate) mod server;

use std::io::Write;
use std::path::{Path, PathBuf};

use image::{Access, Digest, Error, Pull, Pulled, Store};
use records::{Durability, Records};
use serde_json::{Value, json};
use tar::{EntryType, Header};

/// A store of its own.
pub(crate) struct Root {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) records: Records,
}

impl Root {
    pub(crate) fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap())
    }

    /// In memory, where syncing costs nothing: for tests that load hundreds of times.
    pub(crate) fn in_memory() -> Self {
        Self::over(in_memory())
    }

    /// With a driver of the test's choice.
    pub(crate) fn storing_as(driver: image::Driver) -> Self {
        let mut root = Self::new();
        root.store = Store::new(root.directory.path()).storing_as(driver);
        root
    }

    fn over(directory: tempfile::TempDir) -> Self {
        let store = Store::new(directory.path());
        let records = open(directory.path());
        Root { directory, store, records }
    }

    pub(crate) fn load(&mut self, archive: &[u8]) -> Result<Vec<String>, Error> {
        self.store.load(&mut self.records, &mut &archive[..], None)
    }

    /// An image's read-only directories, mounted, topmost first.
    pub(crate) fn files(&self, name: &str) -> Vec<PathBuf> {
        let image = self.store.resolve(self.records.read(), name).unwrap();
        self.store.mount(&image).unwrap()
    }

    /// The one of the topmost layer.
    pub(crate) fn top(&self, name: &str) -> PathBuf {
        self.files(name).remove(0)
    }

    pub(crate) fn pull(&mut self, reference: &str) -> Result<Pulled, Error> {
        self.pull_with(reference, None).map(|(pulled, _)| pulled)
    }

    /// With what was said on the way.
    pub(crate) fn pull_with(
        &mut self,
        reference: &str,
        platform: Option<&str>,
    ) -> Result<(Pulled, Vec<String>), Error> {
        let mut said = Vec::new();
        let mut progress = |id: &str, status: &str, done: u64, total: u64| {
            said.push(format!("{id}|{status}|{done}|{total}"));
        };
        let request = Pull { platform: platform.map(str::to_owned), ..request(reference) };
        let mut pulled = self.store.pull(&mut self.records, &request, &mut progress)?;
        Ok((pulled.remove(0), said))
    }

    /// Everything below the root but the database and the lock.
    pub(crate) fn remains(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(self.directory.path(), &mut found);
        let ours = self.directory.path().to_str().unwrap().len() + 1;
        let mut names: Vec<String> = found.iter().map(|path| path[ours..].to_owned()).collect();
        names.retain(|name| !name.starts_with("kiste.db") && name != "images.lock");
        names.sort();
        names
    }

    pub(crate) fn assert_empty(&self) {
        let files: Vec<_> = self.remains().into_iter().filter(|name| !name.ends_with('/')).collect();
        assert_eq!(files, Vec::<String>::new(), "left behind");
        for place in ["tmp", "layers/sha256", "content/blobs/sha256"] {
            let left = std::fs::read_dir(self.directory.path().join(place)).into_iter().flatten().count();
            assert_eq!(left, 0, "left behind in {place}");
        }
        assert!(self.store.list(self.records.read()).unwrap().is_empty());
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.store.unmount_all().unwrap();
    }
}

pub(crate) fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

pub(crate) fn open(root: &Path) -> Records {
    Records::open(&root.join("kiste.db"), Durability::Process, &[image::store::SCHEMA]).unwrap()
}

fn walk(directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.push(format!("{}/", path.display()));
            walk(&path, found);
        } else {
            found.push(path.display().to_string());
        }
    }
}

/// A tar archive in the making.
#[derive(Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Any header, with a name that need not be sensible.
    pub(crate) fn raw(mut self, name: &[u8], change: impl FnOnce(&mut Header), content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_entry_type(EntryType::Regular);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        change(&mut header);
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(name.as_bytes(), |_| {}, content)
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        let change = |header: &mut Header| {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
        };
        self.raw(name.as_bytes(), change, b"")
    }

    pub(crate) fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        let change = |header: &mut Header| {
            header.set_entry_type(kind);
            header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        };
        self.raw(name.as_bytes(), change, b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    pub(crate) fn node(self, name: &str, kind: EntryType, major: u32, minor: u32) -> Self {
        let change = |header: &mut Header| {
            header.set_entry_type(kind);
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        };
        self.raw(name.as_bytes(), change, b"")
    }

    /// PAX records for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            body.extend_from_slice(format!("{length} {key}=").as_bytes());
            body.extend_from_slice(value);
            body.push(b'\n');
        }
        self.raw(b"pax", |header| header.set_entry_type(EntryType::XHeader), &body)
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}

/// A configuration over these diffIDs.
pub(crate) fn configuration(diff_ids: &[Digest], inner: Value) -> Vec<u8> {
    let ids: Vec<&str> = diff_ids.iter().map(Digest::as_str).collect();
    json!({
        "architecture": architecture(), "os": "linux", "created": "2024-05-06T07:08:09Z",
        "config": inner, "rootfs": {"type": "layers", "diff_ids": ids},
    })
    .to_string()
    .into_bytes()
}

/// This machine's, in Go's words.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A `docker save` archive of one image.
pub(crate) fn docker_archive(name: Option<&str>, layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    docker_archive_of(name, &configuration(&diff_ids, json!({"Cmd": ["/bin/sh"]})), layers)
}

/// The same with a given configuration and layers in any compression.
pub(crate) fn docker_archive_of(name: Option<&str>, config: &[u8], layers: &[Vec<u8>]) -> Vec<u8> {
    let mut tar = Tar::new();
    let mut paths = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let path = format!("l{index}/layer.tar");
        tar = tar.file(&path, layer);
        paths.push(path);
    }
    let config_name = format!("{}.json", Digest::of(config).hex());
    let tags: Vec<&str> = name.into_iter().collect();
    let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": paths}]).to_string();
    tar.file(&config_name, config).file("manifest.json", manifest.as_bytes()).finish()
}

/// An OCI layout archive: the given blobs and an index over the given descriptors.
pub(crate) fn oci_archive(blobs: &[Vec<u8>], descriptors: Vec<Value>) -> Vec<u8> {
    let mut tar = Tar::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    for blob in blobs {
        tar = tar.file(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
    }
    let index = json!({"schemaVersion": 2, "manifests": descriptors}).to_string();
    tar.file("index.json", index.as_bytes()).finish()
}

pub(crate) fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(blob).as_str(), "size": blob.len()})
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An OCI manifest.
pub(crate) fn oci_manifest(config: &[u8], layers: &[Vec<u8>]) -> Vec<u8> {
    let layers: Vec<Value> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config), "layers": layers})
        .to_string()
        .into_bytes()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Nobody in particular, whatever this machine's user is.
pub(crate) fn nobody() -> Access {
    Access { config: Some("/nonexistent".into()), registries: Some("/nonexistent".into()), ..Access::default() }
}

/// A pull by nobody in particular.
pub(crate) fn request(reference: &str) -> Pull {
    Pull { reference: reference.to_owned(), access: nobody(), ..Pull::default() }
}

/// Incompressible.
pub(crate) fn noise() -> Vec<u8> {
    (0..300_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}
