//! What a tree of files looks like from outside, one line a name: for comparing how different parts show the same files.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is compared beside names, kinds, modes, owners, contents, targets, device numbers and attributes.
#[derive(Clone, Copy)]
pub(crate) struct Compare {
    /// Which names are links of each other, and their count.
    pub(crate) links: bool,
    /// Times of directories.
    pub(crate) directory_times: bool,
}

pub(crate) const EVERYTHING: Compare = Compare { links: true, directory_times: true };

/// The lines in which two trees differ.
pub(crate) fn differences(one: &Path, other: &Path, compare: Compare) -> Vec<String> {
    let (one, other) = (walk(one, compare), walk(other, compare));
    let missing = |from: &[String], sign: &str, lines: &[String]| -> Vec<String> {
        lines.iter().filter(|line| !from.contains(line)).map(|line| format!("{sign} {line}")).take(20).collect()
    };
    [missing(&other, "-", &one), missing(&one, "+", &other)].concat()
}

/// One line for each name below `base`, in order.
fn walk(base: &Path, compare: Compare) -> Vec<String> {
    let mut paths = vec![base.to_owned()];
    let mut next = 0;
    while let Some(path) = paths.get(next).cloned() {
        next += 1;
        if path.symlink_metadata().unwrap().is_dir() {
            let below = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            // Overlayfs lists whiteouts of a directory that one layer alone has, and then says that they do not exist.
            paths.extend(below.filter(|path| path.symlink_metadata().is_ok()));
        }
    }
    paths.sort();
    let mut first = HashMap::new();
    paths.iter().map(|path| line(base, path, compare, &mut first)).collect()
}

fn line(base: &Path, path: &Path, compare: Compare, first: &mut HashMap<u64, PathBuf>) -> String {
    let meta = path.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path.strip_prefix(base).unwrap().to_owned();
    let mut line = format!("{name:?} {:o} {}:{} {:#x}", meta.mode(), meta.uid(), meta.gid(), meta.rdev());
    let whiteout = meta.file_type().is_char_device() && meta.rdev() == 0;
    if (!meta.is_dir() && !whiteout) || compare.directory_times {
        line += &format!(" {}.{:09}", meta.mtime(), meta.mtime_nsec());
    }
    if meta.is_symlink() {
        line += &format!(" -> {:?}", std::fs::read_link(path).unwrap());
    }
    if meta.is_file() {
        let content = std::fs::read(path).unwrap();
        assert_eq!(content.len() as u64, meta.len(), "{name:?}");
        line += &format!(" {} {}", meta.len(), image::Digest::of(&content).short());
    }
    if compare.links && !meta.is_dir() {
        let same = first.entry(meta.ino()).or_insert(name);
        line += &format!(" {} as {same:?}", meta.nlink());
    }
    if meta.is_file() || meta.is_dir() {
        line += &attributes(path);
    }
    line
}

fn attributes(path: &Path) -> String {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::listxattr(path, &mut names[..]).unwrap();
    let mut all: Vec<String> = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65_536];
        let name = std::ffi::OsStr::from_bytes(name);
        let length = rustix::fs::getxattr(path, name, &mut value[..]).unwrap();
        all.push(format!(" {name:?}={:?}", value[..length].escape_ascii().to_string()));
    }
    all.sort();
    all.concat()
}
