//! The content of an image archive, sorted while it streams past: small documents stay in memory, layers go to the disk.
//! Names of archive members are only keys here, never paths.

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};

use crate::archive_docker as docker;
use crate::archive_oci as oci;
use crate::error::{Error, Result};
use crate::inflate::{Compression, inflate};
use crate::layer::NewLayer;
use crate::load::Candidate;
use crate::platform::Platform;
use crate::staging::Staging;
use crate::tarread::{Entry, Kind, TarReader, damaged, is_header, read_full};
use crate::{Digest, limits};

/// One member.
enum Member {
    /// A small file, mostly JSON.
    Document(Vec<u8>),
    /// A layer, unpacked.
    Layer(Box<NewLayer>),
    /// A layer (by diffID) that was not unpacked because the store has it already, or that became part of an image.
    Known(Digest),
    /// Something that an image may not refer to, and why.
    Bad(String),
    /// Another name of a member.
    Link(String),
}

/// All members by their normalised names.
pub(crate) struct Archive {
    members: HashMap<String, Member>,
}

/// Reads the whole stream.
pub(crate) fn read(input: &mut dyn Read, staging: &Staging<'_>, known: &HashMap<String, u64>) -> Result<Archive> {
    let mut tar = TarReader::new(inflate(input)?);
    let mut archive = Archive { members: HashMap::new() };
    let (mut documents, mut layers) = (0, 0);
    while let Some(entry) = tar.next()? {
        let name = key(&entry.path);
        let member = match entry.kind {
            Kind::File => file(&name, &entry, &mut tar, staging, known)?,
            Kind::Symlink => Member::Link(beside(&name, &entry.link)),
            Kind::HardLink => Member::Link(key(&entry.link)),
            _ => continue,
        };
        match &member {
            Member::Document(bytes) => documents += bytes.len() as u64,
            Member::Layer(_) | Member::Bad(_) => layers += 1,
            _ => {}
        }
        if documents > limits::DOCUMENTS || layers > limits::ARCHIVE_LAYERS {
            return Err(Error::untrusted(format!(
                "archive has more than {} MiB of documents or more than {} layers",
                limits::DOCUMENTS >> 20,
                limits::ARCHIVE_LAYERS
            )));
        }
        // A directory that a later member replaces is removed with the staging directory.
        archive.members.insert(name, member);
    }
    Ok(archive)
}

impl Archive {
    /// What the archive's manifests say. `manifest.json` is the older format, which many archives carry beside the OCI
    /// one because it has the names; a platform can be chosen only from the latter.
    pub(crate) fn images(&self, wanted: Option<&Platform>) -> Result<Vec<Candidate>> {
        if self.counts_as_oci(wanted) {
            return oci::images(self, wanted);
        }
        if self.has("manifest.json") {
            return docker::images(self);
        }
        Err(Error::untrusted(if self.has("repositories") {
            "archive of a Docker older than 1.10 (`repositories` without `manifest.json`): load it there and save it again"
        } else {
            "not an image archive: neither manifest.json (docker save) nor index.json (OCI layout) is in it"
        }))
    }

    /// The transport of a policy that it came by.
    pub(crate) fn transport(&self, wanted: Option<&Platform>) -> &'static str {
        if self.counts_as_oci(wanted) { "oci-archive" } else { "docker-archive" }
    }

    fn counts_as_oci(&self, wanted: Option<&Platform>) -> bool {
        self.has("index.json") && (wanted.is_some() || !self.has("manifest.json"))
    }

    fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// The member itself behind links.
    fn find(&self, name: &str) -> Option<(&str, &Member)> {
        let (mut name, mut member) = self.members.get_key_value(name)?;
        for _ in 0..8 {
            let Member::Link(target) = member else { return Some((name, member)) };
            (name, member) = self.members.get_key_value(target)?;
        }
        None
    }

    /// A document's bytes.
    pub(crate) fn document(&self, name: &str) -> Result<&[u8]> {
        match self.find(&key(name.as_bytes())).map(|(_, member)| member) {
            Some(Member::Document(bytes)) => Ok(bytes),
            Some(_) => Err(Error::untrusted(format!("archive: {name:?} is no JSON document"))),
            None => Err(Error::untrusted(format!("archive: {name:?} is missing"))),
        }
    }

    /// A document by its digest, which is checked.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<&[u8]> {
        let bytes = self.document(&blob_name(digest))?;
        if Digest::of(bytes) != *digest {
            return Err(Error::untrusted(format!("digest mismatch: {} is {}", blob_name(digest), Digest::of(bytes))));
        }
        Ok(bytes)
    }

    /// Hands a layer over, after checking that it is the expected one.
    pub(crate) fn take_layer(
        &mut self,
        name: &str,
        expected: &Digest,
        known: &HashMap<String, u64>,
        taken: &mut BTreeMap<Digest, NewLayer>,
    ) -> Result<()> {
        let wanted = key(name.as_bytes());
        let found = self.find(&wanted).map(|(real, _)| real.to_owned());
        let missing = || Error::untrusted(format!("archive: layer {name:?} is missing"));
        let real = found.ok_or_else(missing)?;
        let diff_id = match self.members.get(&real).ok_or_else(missing)? {
            Member::Layer(layer) => layer.diff_id.clone(),
            Member::Known(diff_id) => diff_id.clone(),
            Member::Bad(why) => return Err(Error::untrusted(format!("archive: layer {name:?}: {why}"))),
            _ => return Err(Error::untrusted(format!("archive: layer {name:?} is no tar archive"))),
        };
        if diff_id != *expected {
            return Err(Error::untrusted(format!(
                "digest mismatch: layer {name:?} is {diff_id}, its image says {expected}"
            )));
        }
        if let Some(Member::Layer(layer)) = self.members.insert(real, Member::Known(diff_id))
            && !known.contains_key(expected.as_str())
        {
            taken.entry(expected.clone()).or_insert(*layer);
        }
        Ok(())
    }

    /// Checks that a blob's bytes are what its name and descriptor say.
    pub(crate) fn check_blob(&self, digest: &Digest, size: u64) -> Result<()> {
        let name = blob_name(digest);
        match self.find(&name).map(|(_, member)| member) {
            Some(Member::Layer(layer)) if layer.blob != *digest || layer.blob_size != size => {
                Err(Error::untrusted(format!(
                    "digest mismatch: {name} is {} of {} bytes, its manifest says {size}",
                    layer.blob, layer.blob_size
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Where an OCI layout keeps a blob.
pub(crate) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The digest in a member's name, if it is a blob of an OCI layout.
pub(crate) fn blob_digest(name: &str) -> Option<Digest> {
    format!("sha256:{}", name.strip_prefix("blobs/sha256/")?).parse().ok()
}

/// A member's name without `./` and the like. It is a key only, so `..` is harmless: it matches nothing.
fn key(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    text.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

/// The key that a symbolic link of the archive stands for (old Docker archives link equal layers).
fn beside(name: &str, target: &[u8]) -> String {
    let target = String::from_utf8_lossy(target);
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

/// Sorts one file by its first bytes.
fn file(
    name: &str,
    entry: &Entry,
    tar: &mut TarReader<impl Read>,
    staging: &Staging<'_>,
    known: &HashMap<String, u64>,
) -> Result<Member> {
    if let Some(digest) = blob_digest(name)
        && known.contains_key(digest.as_str())
    {
        return Ok(Member::Known(digest));
    }
    let mut start = [0; 512];
    let wanted = start.len().min(usize::try_from(entry.size).unwrap_or(usize::MAX));
    let got = read_full(tar, &mut start[..wanted]).map_err(damaged)?;
    let start = &start[..got];
    let rest = tar.by_ref().take(entry.size - got as u64);
    let mut whole = Cursor::new(start).chain(rest);
    let empty_tar = got == 512 && start.iter().all(|&byte| byte == 0);
    if is_header(start) || empty_tar || Compression::of(start) != Compression::None {
        return match staging.receive(whole) {
            Ok(layer) => Ok(Member::Layer(Box::new(layer))),
            Err(Error::Untrusted(why)) => Ok(Member::Bad(why)),
            Err(error) => Err(error),
        };
    }
    if entry.size > limits::CONFIG {
        return Ok(Member::Bad("neither a tar archive nor a document of reasonable size".into()));
    }
    let mut bytes = Vec::with_capacity(entry.size as usize);
    whole.read_to_end(&mut bytes).map_err(damaged)?;
    Ok(Member::Document(bytes))
}
