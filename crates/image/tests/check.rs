//! `system check`: damage of every sort is found, what can be mended is, and the rest is brought again by the next load.
//! Stores of earlier versions, whose layers are directories, keep working. Needs root.

mod common;

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use common::*;
use image::{CheckReport, Digest, Driver};

fn layer(content: &[u8]) -> Vec<u8> {
    Tar::new().directory("d/").file("d/f", content).file("g", &[7; 5000]).finish()
}

fn loaded() -> (Root, Vec<u8>) {
    let mut root = Root::storing_as(Driver::Erofs);
    let archive = docker_archive(Some("x"), &[layer(b"one"), layer(b"two")]);
    root.load(&archive).unwrap();
    (root, archive)
}

fn check(root: &mut Root, repair: bool, used: bool) -> CheckReport {
    root.store.check(&mut root.records, repair, &|_, _| used).unwrap()
}

fn part(root: &Root, content: &[u8], name: &str) -> PathBuf {
    root.directory.path().join("layers/sha256").join(Digest::of(&layer(content)).hex()).join(name)
}

fn damage(path: &std::path::Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_good_store_is_good() {
    let (mut root, _) = loaded();
    let report = check(&mut root, false, false);
    assert_eq!((report.images, report.layers, report.problems.len()), (1, 2, 0), "{:?}", report.problems);
    assert!(!root.store.has_leftovers());
}

#[test]
fn indexes_are_made_again() {
    let (mut root, _) = loaded();
    damage(&part(&root, b"one", "index.erofs"), 1700);
    std::fs::remove_file(part(&root, b"two", "index.erofs")).unwrap();
    assert_eq!(check(&mut root, false, true).problems.len(), 2);
    let report = check(&mut root, true, true);
    assert!(report.problems.iter().all(|problem| problem.mended.is_some()), "{:?}", report.problems);
    assert_eq!(check(&mut root, false, true).problems, []);
    assert_eq!(std::fs::read(root.top("x").join("d/f")).unwrap(), b"two");
}

#[test]
fn damaged_archives_are_forgotten_and_come_again() {
    let (mut root, archive) = loaded();
    damage(&part(&root, b"one", "tar"), 600);
    let report = check(&mut root, false, false);
    assert!(report.problems.iter().any(|problem| problem.what.contains("its archive is sha256:")), "{report:?}");
    // A container uses it: only told.
    assert!(check(&mut root, true, true).problems.iter().any(|problem| problem.mended.is_none()));
    assert!(root.store.resolve(root.records.read(), "x").is_ok());
    let report = check(&mut root, true, false);
    assert!(report.problems.iter().all(|problem| problem.mended.is_some()), "{:?}", report.problems);
    assert!(root.store.resolve(root.records.read(), "x").is_err());
    root.load(&archive).unwrap();
    assert_eq!(check(&mut root, false, false).problems, []);
    assert_eq!(std::fs::read(root.files("x")[1].join("d/f")).unwrap(), b"one");
}

#[test]
fn documents_are_checked() {
    let (mut root, archive) = loaded();
    let id = root.store.resolve(root.records.read(), "x").unwrap().id;
    damage(&root.directory.path().join("content/blobs/sha256").join(&id[7..]), 5);
    assert_eq!(check(&mut root, false, false).problems.len(), 1);
    assert_eq!(check(&mut root, true, false).problems.len(), 1);
    root.load(&archive).unwrap();
    assert_eq!(check(&mut root, false, false).problems, []);
}

#[test]
fn layers_of_earlier_versions_keep_working() {
    let mut root = Root::storing_as(Driver::Directory);
    root.load(&docker_archive(Some("old"), &[layer(b"one")])).unwrap();
    // The same store, by a program that knows better.
    root.store = image::Store::new(root.directory.path()).storing_as(Driver::Erofs);
    root.load(&docker_archive(Some("new"), &[layer(b"one"), layer(b"two")])).unwrap();
    let files = root.files("new");
    assert_eq!(std::fs::read(files[0].join("d/f")).unwrap(), b"two");
    assert!(files[1].ends_with("fs") && std::fs::read(files[1].join("d/f")).unwrap() == b"one");
    assert!(part(&root, b"two", "index.erofs").exists() && !part(&root, b"one", "tar").exists());
    assert_eq!(check(&mut root, true, false).problems, []);
    // More layers than are stacked, some of them directories: no index over all, but they work.
    let mut layers = vec![layer(b"one")];
    layers.extend((0..9u8).map(|n| layer(&[n])));
    root.load(&docker_archive(Some("deep"), &layers)).unwrap();
    assert_eq!(root.files("deep").len(), 10);
}
