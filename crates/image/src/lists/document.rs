//! The documents that `manifest inspect` shows and `manifest push` sends, to the byte as Docker makes them.

use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use super::entry::{Entry, Platform};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'l> {
    schema_version: u32,
    media_type: &'l str,
    manifests: Vec<Item<'l>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'l> {
    media_type: &'l str,
    size: u64,
    digest: &'l str,
    platform: Platform,
}

/// What kind of list the images make.
pub(super) fn media_type(entries: &[Entry]) -> &'static str {
    match entries.first() {
        Some(first) if first.media_type() == OCI_MANIFEST => OCI_INDEX,
        _ => DOCKER_LIST,
    }
}

/// The list.
pub(super) fn list(entries: &[Entry]) -> String {
    let manifests = entries.iter().map(|entry| Item {
        media_type: entry.media_type(),
        size: entry.descriptor.size,
        digest: &entry.descriptor.digest,
        platform: entry.descriptor.platform.clone().unwrap_or_default(),
    });
    indented(&List { schema_version: 2, media_type: media_type(entries), manifests: manifests.collect() }, b"   ")
}

/// One image: its manifest, or everything that is known.
pub(super) fn one(entry: &Entry, verbose: bool) -> String {
    if verbose { indented(entry, b"\t") } else { indented(entry.manifest(), b"\t") }
}

/// Everything that is known of each image of a list.
pub(super) fn verbose(entries: &[Entry]) -> String {
    indented(&entries, b"\t")
}

fn indented(value: &impl Serialize, indent: &[u8]) -> String {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(indent));
    // Plain data into memory: there is nothing that could fail.
    let _ = value.serialize(&mut serializer);
    String::from_utf8_lossy(&text).into_owned()
}
