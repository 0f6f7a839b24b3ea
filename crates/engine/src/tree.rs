//! Directory trees that containers have written: removed and measured without trusting their shape. A container can
//! make a tree too deep for any recursion; nothing here follows links or needs a descriptor per level.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::{Error, Result};

/// Levels below which a tree is taken apart by moving its directories up.
const MAX_DEPTH: usize = 64;

/// Removes a tree; no error if it is gone already.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match remove_tree(path) {
        Ok(()) => Ok(()),
        Err(errno) => Err(Error::internal(format!("remove {}: {}", path.display(), io::Error::from(errno)))),
    }
}

/// Removes a tree by its name in a directory; links are not followed.
pub(crate) fn remove_at(directory: BorrowedFd<'_>, name: &std::ffi::OsStr) -> rustix::io::Result<()> {
    remove_below(directory, Path::new(name))
}

fn remove_tree(path: &Path) -> rustix::io::Result<()> {
    remove_below(CWD, path)
}

fn remove_below(directory: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = match openat(directory, path, flags, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return unlinkat(directory, path, AtFlags::empty()),
        Err(errno) => return Err(errno),
    };
    let mut moved = 0;
    // Directories that were moved up into the root are found by the next round.
    while !empty(root.as_fd(), root.as_fd(), 0, &mut moved)? {}
    match unlinkat(directory, path, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// Empties a directory; whether nothing was moved to the root, so that it is empty now.
fn empty(root: BorrowedFd<'_>, directory: BorrowedFd<'_>, depth: usize, moved: &mut u64) -> rustix::io::Result<bool> {
    let mut done = true;
    for (name, kind) in entries(directory)? {
        if kind != FileType::Directory {
            ignore_missing(unlinkat(directory, &name, AtFlags::empty()))?;
            continue;
        }
        if depth >= MAX_DEPTH {
            *moved += 1;
            renameat(directory, &name, root, format!(".kiste-remove-{moved}"))?;
            done = false;
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(directory, &name, flags, Mode::empty()) {
            Ok(child) => done &= empty(root, child.as_fd(), depth + 1, moved)?,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        }
        ignore_missing(unlinkat(directory, &name, AtFlags::REMOVEDIR))?;
    }
    Ok(done)
}

fn ignore_missing(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    if result == Err(Errno::NOENT) { Ok(()) } else { result }
}

/// Names and kinds of a directory's entries.
fn entries(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<(CString, FileType)>> {
    let mut list = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => FileType::from_raw_mode(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            kind => kind,
        };
        list.push((name.to_owned(), kind));
    }
    Ok(list)
}

/// Bytes of the regular files below a directory, those linked several times once, holes of sparse ones not at all. What
/// cannot be read counts nothing.
pub(crate) fn size(path: &Path) -> u64 {
    let mut seen = std::collections::HashSet::new();
    let mut bytes = 0;
    let mut pending = vec![path.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(data) = entry.metadata() else { continue };
            use std::os::unix::fs::MetadataExt as _;
            if data.is_dir() {
                pending.push(entry.path());
            } else if data.is_file() && (data.nlink() == 1 || seen.insert((data.dev(), data.ino()))) {
                bytes += data.len().min(data.blocks() * 512);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().join("top");
        fs::create_dir(&top).unwrap();
        let mut here = openat(CWD, &top, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, "d", Mode::from_raw_mode(0o755)).unwrap();
            here = openat(&here, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(here);
        remove(&top).unwrap();
        assert!(!top.exists());
        remove(&top).unwrap();
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (top, outside) = (directory.path().join("top"), directory.path().join("outside"));
        fs::create_dir(&top).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "12345").unwrap();
        std::os::unix::fs::symlink(&outside, top.join("link")).unwrap();
        fs::write(top.join("a"), "123").unwrap();
        fs::hard_link(top.join("a"), top.join("b")).unwrap();
        assert_eq!(size(&top), 3);
        remove(&top).unwrap();
        assert!(outside.join("kept").exists());
    }
}
