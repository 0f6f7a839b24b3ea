//! The files of a container: its read-only layers with their sizes, and what it changed in the writable directory above
//! them. Only the writable directory is compared, never whole trees.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat, statat};
use serde::Serialize;

use crate::table::Container;
use crate::{Engine, Result};

/// How many changed paths are listed; all are counted.
const LISTED: usize = 50;
/// Directories deeper than that are not entered: each costs a descriptor and a stack frame while it is read.
const DEEPEST: usize = 256;

/// Layers and changes.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Files {
    /// Read-only layers, topmost first.
    pub layers: Vec<Layer>,
    /// The writable directory on the host.
    pub writable: String,
    /// Paths changed, added or deleted.
    pub changed: u64,
    /// Bytes in the writable directory.
    pub changed_bytes: u64,
    /// The first of them, in order of path.
    pub changes: Vec<Change>,
}

/// One read-only layer.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Layer {
    /// On the host.
    pub path: String,
    /// Bytes of its files; absent for the machine's own tree.
    pub size: Option<u64>,
}

/// One path that the container changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Change {
    /// In the container.
    pub path: String,
    /// `added`, `changed` or `deleted`.
    pub what: &'static str,
    /// Bytes; 0 for what is no file.
    pub size: u64,
}

/// What a walk tells of one path.
struct Entry {
    kind: FileType,
    size: u64,
    device: u64,
}

impl Entry {
    fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// overlayfs marks what is deleted with a character device 0:0 (kernel, Documentation/filesystems/overlayfs.rst).
    fn is_whiteout(&self) -> bool {
        self.kind == FileType::CharacterDevice && self.device == 0
    }
}

/// Reads the container's layers and changes.
pub(super) fn read(engine: &Engine, container: &Container) -> Result<Files> {
    // The machine's own tree has no stored id: it is found by its name.
    let name = if container.image.starts_with("host:") { &container.image } else { &container.image_id };
    let image = engine.read(|connection| Ok(engine.images().resolve(connection, name).ok()))?;
    let host = image.as_ref().is_some_and(|image| image.directory.is_some());
    let layers = image.map(|image| engine.images().mount(&image)).transpose()?.unwrap_or_default();
    let upper = engine.writable_home(container)?.join("upper");
    let mut files = Files { writable: upper.display().to_string(), ..Files::default() };
    files.layers = layers
        .iter()
        .map(|path| Layer { path: path.display().to_string(), size: (!host).then(|| size_below(path)) })
        .collect();
    walk(&upper, &mut |path, data| files.add(path, data, &layers));
    files.changes.sort_by(|a, b| a.path.cmp(&b.path));
    files.changes.truncate(LISTED);
    Ok(files)
}

impl Files {
    fn add(&mut self, path: &Path, data: &Entry, layers: &[PathBuf]) {
        let below = layers.iter().any(|layer| exists(layer, path));
        // A directory that also exists below was only opened up to hold a change.
        if data.is_directory() && below {
            return;
        }
        let size = if data.is_file() { data.size } else { 0 };
        let what = match (data.is_whiteout(), below) {
            (true, _) => "deleted",
            (false, true) => "changed",
            (false, false) => "added",
        };
        self.changed += 1;
        self.changed_bytes += size;
        self.changes.push(Change { path: format!("/{}", path.display()), what, size });
    }
}

fn size_below(directory: &Path) -> u64 {
    let mut size = 0;
    walk(directory, &mut |_, data| size += if data.is_file() { data.size } else { 0 });
    size
}

/// Calls `each` with every path below `top` (relative). The container may be changing the tree meanwhile: directories
/// are entered by descriptor and links never followed; what vanishes or cannot be read is passed over.
fn walk(top: &Path, each: &mut dyn FnMut(&Path, &Entry)) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(top) = rustix::fs::open(top, flags, Mode::empty()) else { return };
    walk_in(top.as_fd(), Path::new(""), 0, each);
}

fn walk_in(directory: BorrowedFd<'_>, path: &Path, depth: usize, each: &mut dyn FnMut(&Path, &Entry)) {
    let Ok(entries) = Dir::read_from(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let path = path.join(OsStr::from_bytes(name.to_bytes()));
        let Ok(data) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let data =
            Entry { kind: FileType::from_raw_mode(data.st_mode), size: data.st_size as u64, device: data.st_rdev };
        each(&path, &data);
        if data.is_directory() && depth < DEEPEST {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let Ok(below) = openat(directory, name, flags, Mode::empty()) else { continue };
            walk_in(below.as_fd(), &path, depth + 1, each);
        }
    }
}

/// Whether a layer has something at this path, reached without following any link.
fn exists(layer: &Path, path: &Path) -> bool {
    let Ok(layer) = rustix::fs::open(layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) else {
        return false;
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(layer, path, flags, Mode::empty(), inside).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn changes_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let (layer, upper) = (directory.path().join("layer"), directory.path().join("upper"));
        fs::create_dir_all(layer.join("etc")).unwrap();
        fs::write(layer.join("etc/hosts"), "old").unwrap();
        fs::create_dir_all(upper.join("etc")).unwrap();
        fs::write(upper.join("etc/hosts"), "newer").unwrap();
        fs::write(upper.join("etc/new"), "12").unwrap();
        let mut files = Files::default();
        let layers = [layer];
        walk(&upper, &mut |path, data| files.add(path, data, &layers));
        files.changes.sort_by(|a, b| a.path.cmp(&b.path));
        assert_eq!(files.changed, 2, "the directory itself is no change");
        assert_eq!(files.changed_bytes, 7);
        assert_eq!(files.changes[0], Change { path: "/etc/hosts".into(), what: "changed", size: 5 });
        assert_eq!(files.changes[1], Change { path: "/etc/new".into(), what: "added", size: 2 });
    }
}
