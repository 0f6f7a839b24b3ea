//! Entry points for fuzzers (`fuzz/`), and for the tests that go through their corpus: bytes in, and a panic if something
//! is wrong that no bytes may bring about.

use std::fs::File;
use std::io::{Read, Seek, Write};

use rustix::fs::MemfdFlags;

use crate::erofs::{self, Tree, verify};
use crate::manifest::{self, Document};
use crate::platform::Platform;
use crate::remote::{challenged, configured};
use crate::tarread::TarReader;
use crate::{Reference, config, verify as signatures};

/// Reads an archive to its end, contents included.
pub fn tar(bytes: &[u8]) {
    let mut reader = TarReader::new(bytes);
    while let Ok(Some(entry)) = reader.next() {
        let stored: u64 = entry.pieces.iter().flatten().map(|piece| piece.1).sum();
        assert!(entry.at.is_multiple_of(512) && stored <= entry.size);
        if std::io::copy(&mut reader.by_ref().take(1 << 20), &mut std::io::sink()).is_err() {
            return;
        }
    }
}

/// Makes a layer's index; it holds together, and is the same a second time.
pub fn index(bytes: &[u8]) {
    let Some(tree) = tree(bytes, 0) else { return };
    let written = write(&tree, &[bytes]);
    assert_eq!(written, write(&tree, &[bytes]), "the same tree gives different images");
}

/// Stacks two layers, the second of which begins at a block that the first byte chooses.
pub fn stack(bytes: &[u8]) {
    let Some((cut, rest)) = bytes.split_first() else { return };
    let at = (usize::from(*cut) * 512).min(rest.len());
    let (lower, upper) = rest.split_at(at);
    let (Some(one), Some(other)) = (tree(lower, 0), tree(upper, 1)) else { return };
    let Ok(merged) = erofs::merge([Ok(one), Ok(other)]) else { return };
    let whiteouts = merged.in_order().into_iter().filter(|id| merged.node(*id).is_whiteout());
    assert_eq!(whiteouts.count(), 0, "a whiteout is left");
    write(&merged, &[lower, upper]);
}

/// Documents of registries and settings of administrators: understood or refused.
pub fn documents(bytes: &[u8]) {
    match manifest::parse(bytes, "manifest") {
        Ok(Document::Manifest(manifest)) => {
            for one in manifest.layers.iter().chain([&*manifest.config]) {
                // What is used of it is checked first.
                let _ = (one.digest(), one.platform(), one.foreign_urls());
            }
        }
        Ok(Document::Index(index)) => drop(index.choose(&Platform::host(), "index").is_ok()),
        Err(_) => {}
    }
    // None of them may be more than an error.
    let _ = config::parse(bytes, "configuration");
    let _ = signatures::is_policy(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = challenged(&text);
    if let (Some(conf), Ok(name)) = (configured(&text), "registry.example/a/b:tag".parse()) {
        let _ = conf.places(&name);
    }
}

/// A reference leads nowhere else, and is written as what it was read as.
pub fn reference(bytes: &[u8]) {
    let Ok(reference) = String::from_utf8_lossy(bytes).parse::<Reference>() else { return };
    let path = reference.path();
    assert!(!path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | "..")), "{path:?}");
    for text in [reference.to_string(), reference.familiar()] {
        assert_eq!(text.parse::<Reference>().ok().as_ref(), Some(&reference), "{text:?}");
    }
}

fn tree(bytes: &[u8], archive: u16) -> Option<Tree> {
    Some(erofs::build(&mut TarReader::new(bytes), archive).ok()?.tree)
}

/// The image, verified; empty if the tree is refused.
fn write(tree: &Tree, archives: &[&[u8]]) -> Vec<u8> {
    let files: Vec<File> = archives.iter().map(|bytes| memory(bytes)).collect();
    let mut out = memory(b"");
    if erofs::write(tree, &files, &out).is_err() {
        return Vec::new();
    }
    let mut image = Vec::new();
    out.rewind().and_then(|()| out.read_to_end(&mut image)).unwrap_or_else(|error| panic!("read back: {error}"));
    let lengths: Vec<u64> = archives.iter().map(|bytes| bytes.len() as u64).collect();
    verify(&image, &lengths).unwrap_or_else(|what| panic!("{what}"));
    image
}

fn memory(bytes: &[u8]) -> File {
    let made = rustix::fs::memfd_create("fuzz", MemfdFlags::CLOEXEC).map(File::from);
    let mut file = made.unwrap_or_else(|error| panic!("memfd_create: {error}"));
    file.write_all(bytes).unwrap_or_else(|error| panic!("write: {error}"));
    file
}
