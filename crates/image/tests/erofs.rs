//! EROFS indexes: `fsck.erofs` accepts them, the kernel shows through them what unpacking gives, and an index over many
//! layers shows what overlayfs shows of them. Needs root.

mod common;
#[path = "common/walk.rs"]
mod walk;

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use image::Driver;
use proptest::prelude::*;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use tar::EntryType;
use walk::{Compare, EVERYTHING, differences};

/// `target/`, where `cargo xtask images` puts what tests need.
fn target(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target").join(name)
}

/// Runs `fsck.erofs` of Debian's erofs-utils (1.8: the first that knows blocks of 512 bytes) on an index.
fn fsck(index: &Path, archives: &[PathBuf]) {
    let root = target("erofs-utils");
    let mut command = Command::new(root.join("usr/lib64/ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(root.join("usr/lib/x86_64-linux-gnu")).arg(root.join("usr/bin/fsck.erofs"));
    command.arg("--extract").args(archives.iter().map(|path| format!("--device={}", path.display()))).arg(index);
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}: cargo xtask images", root.display()));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} {}: {}{text}",
        output.status,
        index.display(),
        String::from_utf8_lossy(&output.stdout)
    );
}

fn check_all(root: &Root) {
    for layer in std::fs::read_dir(root.directory.path().join("layers/sha256")).unwrap() {
        let home = layer.unwrap().path();
        fsck(&home.join("index.erofs"), &[home.join("tar")]);
    }
}

/// The same archive, stored in both ways, under the name `x`.
fn both(archive: &[u8]) -> Result<[Root; 2], String> {
    let roots = [Driver::Erofs, Driver::Directory].map(|driver| {
        let mut root = Root::storing_as(driver);
        root.load(archive).map(|_| root).map_err(|error| error.to_string())
    });
    match roots {
        [Ok(erofs), Ok(directory)] => Ok([erofs, directory]),
        [Err(one), Err(_)] => Err(one),
        [one, other] => panic!("{:?} but {:?}", one.map(drop), other.map(drop)),
    }
}

fn assert_same(archive: &[u8], compare: Compare) {
    let [erofs, directory] = both(archive).unwrap();
    check_all(&erofs);
    for (shown, unpacked) in erofs.files("x").iter().zip(directory.files("x")) {
        assert_eq!(differences(shown, &unpacked, compare), [""; 0]);
    }
}

/// With sizes and counts around the format's limits: blocks of 512 bytes, names that fill them, inline data.
#[test]
fn everything_that_a_layer_may_hold() {
    let mut tar = Tar::new().directory("./").directory("empty/").directory("many/").directory("long/");
    for size in [0, 1, 447, 448, 449, 511, 512, 513, 4095, 4096, 4097, 300_000] {
        tar = tar.file(&format!("file-{size}"), &vec![size as u8; size]);
    }
    for number in 0..3000 {
        tar = tar.file(&format!("many/{number}"), b"");
    }
    for length in [1, 20, 240, 250, 255] {
        let path = format!("long/{}", "n".repeat(length));
        tar = tar.pax(&[("path", path.as_bytes())]).file("short", b"x");
    }
    for length in [1, 400, 447, 448, 449, 512, 513, 1024, 4095] {
        let target = "t".repeat(length);
        tar = tar.pax(&[("linkpath", target.as_bytes())]).symlink(&format!("link-{length}"), "short");
    }
    // Names around `.` and `..` in the order of bytes.
    for name in ["!", "-", "+x", ",", "..a", "...", ".a", "/0", "0"] {
        tar = tar.file(&format!("empty/{name}"), name.as_bytes());
    }
    let big = vec![b'v'; 3000];
    tar = tar
        .pax(&[("uid", b"4000000000"), ("gid", b"70000"), ("mtime", b"-86400.000000001")])
        .file("ids", b"x")
        .pax(&[("mtime", b"9999999999.5"), ("SCHILY.xattr.user.big", &big), ("SCHILY.xattr.user.a", b"")])
        .directory("attributes/")
        .pax(&[("SCHILY.xattr.system.posix_acl_access", ACL), ("SCHILY.xattr.user.odd", b"1234567")])
        .file("acl", b"x")
        .hard_link("again", "acl")
        .hard_link("long/again", "acl")
        .node("char", EntryType::Char, 4095, 1_048_575)
        .node("block", EntryType::Block, 8, 1)
        .node("pipe", EntryType::Fifo, 0, 0)
        .file("gone/.wh.x", b"")
        .file("gone/.wh..wh..opq", b"");
    let mut explicit = Compare { directory_times: false, ..EVERYTHING };
    assert_same(&docker_archive(Some("x"), &[tar.finish()]), explicit);
    explicit.directory_times = true;
    let small = Tar::new().directory("./").directory("d/").file("d/f", b"1").directory("d/e/").finish();
    assert_same(&docker_archive(Some("x"), &[small]), explicit);
}

/// Owner and others may read, user 7 may read and write.
const ACL: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x06\0\x07\0\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x06\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";

#[test]
fn real_images() {
    for name in ["busybox.tar", "debian.tar"] {
        let path = target("test-images").join(name);
        let archive = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let [erofs, directory] = [Driver::Erofs, Driver::Directory].map(|driver| {
            let mut root = Root::storing_as(driver);
            let name = root.load(&archive).unwrap().remove(0);
            let files = root.top(&name);
            (root, files)
        });
        check_all(&erofs.0);
        let compare = Compare { directory_times: false, ..EVERYTHING };
        assert_eq!(differences(&erofs.1, &directory.1, compare), [""; 0]);
    }
}

/// GNU tar writes sparse files in four formats; the content is the same.
#[test]
fn sparse_files_in_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, size: u64, pieces: &[(u64, &[u8])]| {
        let file = std::fs::File::create(directory.path().join(name)).unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in pieces {
            std::os::unix::fs::FileExt::write_all_at(&file, bytes, *at).unwrap();
        }
    };
    write("holes", 10 << 20, &[(0, b"a"), (1 << 20, b"b"), ((5 << 20) + 77, b"c")]);
    write("tail", 9 << 20, &[((9 << 20) - 5, b"tail!")]);
    write("nothing", 5 << 20, &[]);
    write("many", 2 << 20, &(0..100).map(|n| (n * 16384 + 3, &b"some"[..])).collect::<Vec<_>>());
    let hashed = |base: &Path| {
        ["holes", "tail", "nothing", "many"].map(|name| {
            let output = Command::new("sha256sum").arg(base.join(name)).output().unwrap();
            String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
        })
    };
    let wanted = hashed(directory.path());
    for format in ["--format=gnu", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"] {
        let posix = if format.starts_with("--sparse") { "--format=posix" } else { "--numeric-owner" };
        let tar = Command::new("tar").args(["-cS", format, posix, "-C"]).arg(directory.path()).arg(".").output();
        let archive = tar.unwrap().stdout;
        assert!(archive.len() < 8 << 20, "{format} is not sparse");
        for driver in [Driver::Erofs, Driver::Directory] {
            let mut root = Root::storing_as(driver);
            root.store.import(&mut root.records, &mut &archive[..], Some("x"), &[], "", None).unwrap();
            assert_eq!(hashed(&root.top("x")), wanted, "{format} {driver}");
            if driver == Driver::Erofs {
                check_all(&root);
            }
        }
    }
}

/// Files over 4 GiB, whose archive is mostly a hole on the disk of this test, too.
#[test]
fn a_file_over_four_gibibytes() {
    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(directory.path().join("big")).unwrap();
    file.set_len((5 << 30) + 1).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", (5 << 30) - 2).unwrap();
    let mut tar = Command::new("tar")
        .args(["-cS", "--format=gnu", "-C"])
        .arg(directory.path())
        .arg("big")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut root = Root::storing_as(Driver::Erofs);
    let mut stream = tar.stdout.take().unwrap();
    root.store.import(&mut root.records, &mut stream, Some("x"), &[], "", None).unwrap();
    assert!(tar.wait().unwrap().success());
    let shown = std::fs::File::open(root.top("x").join("big")).unwrap();
    let mut end = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&shown, &mut end, (5 << 30) - 3).unwrap();
    assert_eq!((&end, shown.metadata().unwrap().len()), (b"\0end", (5 << 30) + 1));
}

/// One archive's entries, from a small world of names so that they meet.
#[derive(Clone, Debug)]
enum Item {
    File(String, (u8, usize)),
    Directory(String),
    Symlink(String, String),
    HardLink(String, String),
    Whiteout(String),
    Opaque(String),
    Fifo(String),
    Attributes(String, (u8, usize)),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|names| names.join("/"))
}

fn item() -> impl Strategy<Value = Item> {
    // Short descriptions of short and long contents.
    let content = || (any::<u8>(), prop::sample::select(vec![0, 3, 511, 1300]));
    prop_oneof![
        4 => (path(), content()).prop_map(|(path, content)| Item::File(path, content)),
        3 => path().prop_map(Item::Directory),
        1 => (path(), "(\\.\\./|a|b/?|/|\\./){1,3}").prop_map(|(path, target)| Item::Symlink(path, target)),
        1 => (path(), path()).prop_map(|(path, target)| Item::HardLink(path, target)),
        2 => path().prop_map(Item::Whiteout),
        1 => path().prop_map(Item::Opaque),
        1 => path().prop_map(Item::Fifo),
        1 => (path(), content()).prop_map(|(path, value)| Item::Attributes(path, value)),
    ]
}

fn layer(items: &[Item]) -> Vec<u8> {
    let add = |tar: Tar, item: &Item| match item {
        Item::File(path, (byte, length)) => tar.file(path, &vec![*byte; *length]),
        Item::Directory(path) => tar.directory(path),
        Item::Symlink(path, target) => tar.symlink(path, target),
        Item::HardLink(path, target) => tar.hard_link(path, target),
        Item::Whiteout(path) => {
            let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
            tar.file(&format!("{above}/.wh.{name}"), b"")
        }
        Item::Opaque(path) => tar.file(&format!("{path}/.wh..wh..opq"), b""),
        Item::Fifo(path) => tar.node(path, EntryType::Fifo, 0, 0),
        Item::Attributes(path, (byte, length)) => {
            tar.pax(&[("SCHILY.xattr.user.v", &vec![*byte; *length])]).file(path, b"attributes")
        }
    };
    items.iter().fold(Tar::new(), add).finish()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the entries are: both drivers accept or refuse them alike, and show the same.
    #[test]
    fn any_layer(items in prop::collection::vec(item(), 0..30)) {
        if let Ok([erofs, directory]) = both(&docker_archive(Some("x"), &[layer(&items)])) {
            let compare = Compare { directory_times: false, ..EVERYTHING };
            prop_assert_eq!(differences(&erofs.top("x"), &directory.top("x"), compare), [""; 0]);
            check_all(&erofs);
        }
    }

    /// An index over many layers shows what overlayfs makes of them.
    #[test]
    fn any_stack(layers in prop::collection::vec(prop::collection::vec(item(), 0..8), 9..14)) {
        let layers: Vec<Vec<u8>> = layers.iter().map(|items| layer(items)).collect();
        if let Ok([erofs, directory]) = both(&docker_archive(Some("x"), &layers)) {
            let merged = erofs.files("x");
            prop_assert_eq!(merged.len(), 1);
            let stacked = overlay(&directory.files("x"));
            let shown = PathBuf::from(format!("/proc/self/fd/{}", stacked.as_raw_fd()));
            let compare = Compare { directory_times: false, links: false };
            prop_assert_eq!(differences(&merged[0].join("."), &shown.join("."), compare), [""; 0]);
        }
    }
}

/// A read-only overlay, mounted nowhere.
fn overlay(lower: &[PathBuf]) -> OwnedFd {
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for directory in lower {
        fsconfig_set_string(&fs, "lowerdir+", directory).unwrap();
    }
    fsconfig_set_flag(&fs, "ro").unwrap();
    fsconfig_create(&fs).unwrap();
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
}

/// As old builders made them, with an empty layer for each instruction that changes no file.
#[test]
fn equal_layers_in_one_image() {
    let (empty, hiding) = (Tar::new().finish(), Tar::new().file(".wh.a", b"").file("b", b"1").finish());
    let layers = [Tar::new().file("a", b"1").finish(), empty.clone(), hiding.clone(), empty.clone(), hiding, empty];
    for root in both(&docker_archive(Some("x"), &layers)).unwrap() {
        let stacked = overlay(&root.files("x"));
        let names = std::fs::read_dir(format!("/proc/self/fd/{}", stacked.as_raw_fd())).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["b"]);
    }
}

#[test]
fn deep_images_have_one_index() {
    let layers: Vec<Vec<u8>> = (0..60u8)
        .map(|n| {
            let tar = Tar::new().file(&format!("d/f{n}"), &[n; 1000]).file("same", &[n]);
            if n > 0 { tar.file(&format!("d/.wh.f{}", n - 1), b"").finish() } else { tar.finish() }
        })
        .collect();
    let mut root = Root::storing_as(Driver::Erofs);
    root.load(&docker_archive(Some("x"), &layers)).unwrap();
    let files = root.files("x");
    assert_eq!(files.len(), 1);
    let names: Vec<_> =
        std::fs::read_dir(files[0].join("d")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["f59"]);
    assert_eq!(std::fs::read(files[0].join("same")).unwrap(), [59]);
    assert_eq!(std::fs::read(files[0].join("d/f59")).unwrap(), [59; 1000]);
    let merged = root.directory.path().join("merged");
    let index = std::fs::read_dir(&merged).unwrap().next().unwrap().unwrap().path();
    let mut archives = Vec::new();
    for layer in &root.store.resolve(root.records.read(), "x").unwrap().layers {
        archives.push(root.directory.path().join("layers/sha256").join(layer.hex()).join("tar"));
    }
    fsck(&index, &archives);
    // It goes with the image.
    root.store.remove(&mut root.records, "x", false, |_, _| Ok::<_, image::Error>(image::Usage::default())).unwrap();
    assert_eq!(std::fs::read_dir(&merged).unwrap().count(), 0);
    assert!(!files[0].exists());
    assert_eq!(std::fs::read_dir(root.directory.path().join("layers/sha256")).unwrap().count(), 0);
}
