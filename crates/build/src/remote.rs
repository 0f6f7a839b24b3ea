//! What ADD takes from addresses, and images from OCI layouts on this machine.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use engine::Engine;
use image::{TarHeader, TarKind, TarWriter};
use serde_json::Value;

use crate::files::Tree;
use crate::git::{self, Repository};
use crate::ignore::Matcher;
use crate::scope::Platform;
use crate::scratch::Scratch;
use crate::solver::Common;
use crate::stage::failed;
use crate::{Error, Result, web};

/// Files that came from an address.
pub(crate) struct Fetched {
    pub(crate) tree: Arc<Tree>,
    /// What to copy of them.
    pub(crate) path: String,
    _kept: Scratch,
}

impl Fetched {
    /// Fetches what a source of ADD names; none if it is no address.
    pub(crate) fn new(
        common: &Common<'_>,
        source: &str,
        checksum: &str,
        keep_git: Option<bool>,
    ) -> Result<Option<Self>> {
        if let Some(mut repository) = Repository::parse(source)? {
            if !checksum.is_empty() {
                repository.commit = checksum.to_owned();
            }
            repository.keep_git = keep_git.or(repository.keep_git);
            return common
                .teller
                .step(source.to_owned(), |_| Ok((repository_of(common, &repository)?, false)))
                .map(Some);
        }
        if !source.starts_with("http://") && !source.starts_with("https://") {
            return Ok(None);
        }
        common.teller.step(source.to_owned(), |_| Ok((file_of(common, source, checksum)?, false))).map(Some)
    }
}

fn repository_of(common: &Common<'_>, repository: &Repository) -> Result<Fetched> {
    let scratch = Scratch::new(&common.paths)?;
    let secrets = common.request.secrets.as_deref();
    let checkout = git::checkout(repository, &scratch.path, secrets, &common.cancel)?;
    let tree = Tree::context(&checkout.directory, Matcher::default())?.at(Some(checkout.time));
    Ok(Fetched { tree: Arc::new(tree), path: "/".to_owned(), _kept: scratch })
}

/// Remote files are root's alone, and as old as the server says.
fn file_of(common: &Common<'_>, address: &str, checksum: &str) -> Result<Fetched> {
    let (mut file, known) = web::download(address, common.request, &common.cancel)?;
    if !checksum.is_empty() && checksum != known.digest {
        return Err(Error::new(format!("digest mismatch {}: {checksum}", known.digest)));
    }
    let name = known.name.unwrap_or_else(|| name_of(address));
    if name.is_empty() {
        return Err(Error::new(format!("cannot determine filename for {address}: give a name as the destination")));
    }
    let scratch = Scratch::new(&common.paths)?;
    let place = scratch.path.join(&name);
    let kept = (|| {
        let mut target = File::create_new(&place)?;
        io::copy(&mut file, &mut target)?;
        target.set_permissions(fs::Permissions::from_mode(0o600))?;
        let seconds = u64::try_from(known.modified.unwrap_or(0)).unwrap_or(0);
        target.set_modified(UNIX_EPOCH + Duration::from_secs(seconds))
    })();
    kept.map_err(|error: io::Error| Error::new(format!("keep {address}: {error}")))?;
    let tree = Tree::context(&scratch.path, Matcher::default())?;
    Ok(Fetched { tree: Arc::new(tree), path: crate::ignore::escape(&name), _kept: scratch })
}

/// The last name of an address's path; without one it is called as BuildKit calls it.
fn name_of(address: &str) -> String {
    let path = address.split("://").nth(1).unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
    let name = path.split_once('/').map_or("", |(_, path)| path.trim_end_matches('/').rsplit('/').next().unwrap_or(""));
    if name.is_empty() || name == "." || name == ".." { "download".to_owned() } else { name.to_owned() }
}

/// Loads an image of an OCI layout: `DIRECTORY[:TAG][@DIGEST]`. It gets no name.
pub(crate) fn load_layout(engine: &Engine, layout: &str, platform: &Platform) -> Result<image::Image> {
    let (rest, digest) = layout.split_once('@').map_or((layout, None), |(rest, digest)| (rest, Some(digest)));
    let (directory, tag) = match rest.rsplit_once(':') {
        Some((directory, tag)) if !tag.contains('/') => (PathBuf::from(directory), Some(tag)),
        _ => (PathBuf::from(rest), None),
    };
    let wrong = |cause: String| Error::new(format!("oci-layout://{layout}: {cause}"));
    let index = fs::read(directory.join("index.json")).map_err(|error| wrong(format!("read index.json: {error}")))?;
    let index = chosen(&index, tag, digest).map_err(wrong)?;
    let (mut reader, writer) = io::pipe().map_err(|error| wrong(error.to_string()))?;
    let (loaded, packed) = std::thread::scope(|scope| {
        let packing = scope.spawn(|| pack(&directory, &index, writer));
        let loaded = engine.load(&mut reader, Some(&platform.shown()));
        drop(reader);
        (loaded, packing.join())
    });
    let loaded = loaded.map_err(|error| match packed {
        Ok(Err(cause)) if cause.kind() != io::ErrorKind::BrokenPipe => wrong(cause.to_string()),
        _ => wrong(error.to_string()),
    })?;
    let id = loaded.iter().find_map(|line| line.split_once("ID: ")).map(|(_, id)| id.trim().to_owned());
    engine.find_image(&id.ok_or_else(|| wrong("there is no image in it".to_owned()))?).map_err(failed)
}

/// The index with only what is asked for, and without names.
fn chosen(index: &[u8], tag: Option<&str>, digest: Option<&str>) -> Result<Vec<u8>, String> {
    let mut index: Value = serde_json::from_slice(index).map_err(|error| format!("index.json: {error}"))?;
    let list = index["manifests"].as_array().cloned().unwrap_or_default();
    let named = |entry: &Value, tag: &str| {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap_or_default();
        name == tag || name.rsplit_once(':').is_some_and(|(_, last)| last == tag)
    };
    let fits = |entry: &&Value| match (digest, tag) {
        (Some(digest), _) => entry["digest"] == digest,
        (None, Some(tag)) => named(entry, tag),
        (None, None) => list.len() == 1 || named(entry, "latest"),
    };
    let mut found = list.iter().find(fits).cloned().ok_or("there is no such image in it")?;
    found.as_object_mut().map(|fields| fields.remove("annotations"));
    index["manifests"] = Value::Array(vec![found]);
    Ok(index.to_string().into_bytes())
}

/// The layout as an archive.
fn pack(directory: &Path, index: &[u8], output: io::PipeWriter) -> io::Result<()> {
    let mut tar = TarWriter::new(output);
    tar.bytes(&TarHeader::new("oci-layout", TarKind::File), br#"{"imageLayoutVersion": "1.0.0"}"#)?;
    tar.bytes(&TarHeader::new("index.json", TarKind::File), index)?;
    let blobs = directory.join("blobs/sha256");
    for entry in fs::read_dir(&blobs)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Links lead out of the layout; a digest is hexadecimal.
        if name.len() == 64 && fs::symlink_metadata(blobs.join(&name))?.is_file() {
            let file = File::open(blobs.join(&name))?;
            let size = file.metadata()?.len();
            tar.file(&TarHeader { size, ..TarHeader::new(format!("blobs/sha256/{name}"), TarKind::File) }, file)?;
        }
    }
    tar.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        assert_eq!(name_of("https://h/a/b.tar.gz?x=/y"), "b.tar.gz");
        assert_eq!(name_of("https://h/a/"), "a");
        assert_eq!(name_of("https://h"), "download");
        assert_eq!(name_of("https://h/.."), "download");
    }

    #[test]
    fn an_image_of_several() {
        let entry = |name: &str, digest: &str| serde_json::json!({"digest": digest, "annotations": {"org.opencontainers.image.ref.name": name}});
        let index =
            serde_json::json!({"manifests": [entry("latest", "sha256:a"), entry("x:1", "sha256:b")]}).to_string();
        let digest = |tag, digest| {
            let chosen = chosen(index.as_bytes(), tag, digest).unwrap();
            serde_json::from_slice::<Value>(&chosen).unwrap()["manifests"][0]["digest"].clone()
        };
        assert_eq!(digest(None, None), "sha256:a");
        assert_eq!(digest(Some("1"), None), "sha256:b");
        assert_eq!(digest(None, Some("sha256:b")), "sha256:b");
        assert!(chosen(index.as_bytes(), Some("2"), None).is_err());
    }
}
