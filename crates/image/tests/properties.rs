//! Properties: references survive being written and read, and unpacking gives what GNU tar gives, for every format that
//! it writes.

mod common;

use std::ffi::CString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use common::*;
use image::Reference;
use proptest::prelude::*;

proptest! {
    #[test]
    fn references_round_trip(text in "([a-z0-9.:-]{1,12}/)?[a-z0-9]{1,6}([._/-]{1,2}[a-z0-9]{1,6}){0,3}(:[A-Za-z0-9_.-]{1,8})?") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
            prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,80}") {
        let _ = text.parse::<Reference>();
        let _ = text.parse::<image::Digest>();
    }

    /// A repository never escapes its place in a URL or a path.
    #[test]
    fn nothing_hostile_is_a_reference(text in "[a-z./:@%?#\\\\ ]{1,30}") {
        if let Ok(reference) = text.parse::<Reference>() {
            let name = reference.to_string();
            prop_assert!(!name.contains("..") && !name.contains("//") && !name.contains(['%', '?', '#', '\\', ' ']));
        }
    }
}

/// A tree with everything that a layer may hold.
fn make_tree(base: &Path) {
    let long = "long-".repeat(18);
    std::fs::create_dir_all(base.join("a/b").join(&long)).unwrap();
    std::fs::create_dir(base.join("empty")).unwrap();
    std::fs::write(base.join("a/small"), b"small").unwrap();
    std::fs::write(base.join("a/b").join(&long).join("inner"), vec![7; 70_000]).unwrap();
    std::fs::write(base.join("a/nothing"), b"").unwrap();
    std::fs::write(base.join("a/set-id"), b"x").unwrap();
    std::os::unix::fs::chown(base.join("a/set-id"), Some(1234), Some(70_000)).unwrap();
    std::fs::set_permissions(base.join("a/set-id"), PermissionsExt::from_mode(0o6711)).unwrap();
    std::fs::hard_link(base.join("a/small"), base.join("a/b/hard")).unwrap();
    std::os::unix::fs::symlink("../a/./small", base.join("empty/soft")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", base.join("absolute")).unwrap();
    std::fs::set_permissions(base.join("empty"), PermissionsExt::from_mode(0o1777)).unwrap();
    let fifo = CString::new(base.join("fifo").to_str().unwrap()).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o640);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

/// Path, mode, owner, size, time, link count and link target of everything.
fn describe(base: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = vec![base.to_owned()];
    while let Some(path) = open.pop() {
        let meta = path.symlink_metadata().unwrap();
        let target = std::fs::read_link(&path).unwrap_or_default();
        let content = if meta.is_file() { std::fs::read(&path).unwrap().len() } else { 0 };
        let name = path.strip_prefix(base).unwrap().display();
        let links = if meta.is_dir() { 0 } else { meta.nlink() };
        let owner = (meta.uid(), meta.gid());
        lines.push(format!(
            "{name} {:o} {owner:?} {content} {} {links} {}",
            meta.mode(),
            meta.mtime(),
            target.display()
        ));
        if meta.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn unpacks_what_gnu_tar_packs() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    make_tree(&tree);
    // A file of mostly holes, which only GNU's own format describes.
    let sparse = std::fs::File::create(tree.join("holes")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 1 << 20).unwrap();
    for options in [&["--format=gnu", "--sparse"][..], &["--format=gnu"], &["--format=posix"], &["--format=ustar"]] {
        let output =
            Command::new("tar").args(options).args(["--numeric-owner", "-C"]).arg(&tree).args(["-c", "."]).output();
        let archive = output.unwrap().stdout;
        let mut root = Root::new();
        root.store.import(&mut root.records, &mut &archive[..], Some("t"), &[], "", None).unwrap();
        let files = root.top("t");
        assert_eq!(describe(&files), describe(&tree), "{options:?}");
        let holes = std::fs::read(files.join("holes")).unwrap();
        assert!(holes.ends_with(b"\0end") && holes.len() == (1 << 20) + 3);
    }
}
