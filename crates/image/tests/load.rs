//! Loading: every archive format and compression, what layers look like on the disk, and that hostile archives leave
//! nothing behind. Needs root (owners, device nodes, trusted attributes).

mod common;

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use common::*;
use image::{Digest, Error};
use serde_json::json;
use tar::EntryType;

fn hello() -> Vec<u8> {
    Tar::new().directory("bin/").file("bin/hello", b"hello").symlink("sh", "bin/hello").finish()
}

#[test]
fn docker_archives_in_every_compression() {
    let plain = docker_archive(Some("hello:1"), &[hello()]);
    let zstd = zstd::encode_all(&plain[..], 3).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 3);
    xz.write_all(&plain).unwrap();
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(&plain).unwrap();
    for archive in [gzip(&plain), zstd, xz.finish().unwrap(), bz.finish().unwrap(), plain] {
        let mut root = Root::new();
        assert_eq!(root.load(&archive).unwrap(), ["hello:1"]);
        let image = root.store.resolve(root.records.read(), "docker.io/library/hello:1").unwrap();
        assert_eq!(image.repo_tags, ["hello:1"]);
        assert_eq!(image.size, 14, "the file, and the link as Docker counts it");
        assert_eq!(std::fs::read(root.top("hello:1").join("bin/hello")).unwrap(), b"hello");
        assert_eq!(std::fs::read_link(root.top("hello:1").join("sh")).unwrap(), Path::new("bin/hello"));
        assert_eq!(image.created, 1_714_979_289);
        // By id, by prefix, and again: the same image.
        for name in [image.id.as_str(), &image.id[7..], &image.id[7..12], &image.id[..15], "hello:1"] {
            assert_eq!(root.store.resolve(root.records.read(), name).unwrap().id, image.id, "{name}");
        }
        assert_eq!(root.load(&archive).unwrap(), ["hello:1"]);
        assert_eq!(root.store.list(root.records.read()).unwrap().len(), 1);
        assert!(!root.store.has_leftovers());
    }
}

#[test]
fn layers_are_stacked_topmost_first_and_shared() {
    let mut root = Root::new();
    let (low, high) = (hello(), Tar::new().file("top", b"x").finish());
    root.load(&docker_archive(Some("one"), &[low.clone(), high.clone()])).unwrap();
    root.load(&docker_archive(Some("two"), std::slice::from_ref(&low))).unwrap();
    let one = root.store.resolve(root.records.read(), "one").unwrap();
    let two = root.store.resolve(root.records.read(), "two").unwrap();
    assert!(root.top("one").join("top").exists() && root.files("one")[1] == root.top("two"));
    assert_eq!(one.layers, [Digest::of(&low), Digest::of(&high)]);
    assert_eq!(two.layers, [Digest::of(&low)]);
    let sizes = root.store.layer_sizes(root.records.read(), &one.id).unwrap();
    assert_eq!(sizes.iter().map(|(_, size)| *size).collect::<Vec<_>>(), [14, 1]);
    assert_eq!(std::fs::read_dir(root.directory.path().join("layers/sha256")).unwrap().count(), 2);
}

#[test]
fn unnamed_images_and_equal_layers_by_link() {
    let mut root = Root::new();
    let layer = hello();
    let config = configuration(&[Digest::of(&layer), Digest::of(&layer)], json!({}));
    let manifest =
        json!([{"Config": "c.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar"]}]).to_string();
    let archive = Tar::new()
        .file("a/layer.tar", &layer)
        .symlink("b/layer.tar", "../a/layer.tar")
        .file("c.json", &config)
        .file("manifest.json", manifest.as_bytes())
        .finish();
    assert_eq!(root.load(&archive).unwrap(), [Digest::of(&config).as_str()]);
    assert_eq!(root.store.list(root.records.read()).unwrap()[0].layers.len(), 2);
}

#[test]
fn metadata_is_kept() {
    let mut root = Root::new();
    let layer = Tar::new()
        .raw(
            b"./",
            |h| {
                h.set_entry_type(EntryType::Directory);
                h.set_mode(0o750);
            },
            b"",
        )
        .raw(
            b"./su",
            |h| {
                h.set_mode(0o4755);
                h.set_uid(7);
                h.set_gid(8);
            },
            b"x",
        )
        .pax(&[
            ("mtime", b"1600000000.123456789"),
            ("SCHILY.xattr.user.note", b"a\n\0b"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.security.capability", CAPABILITY),
        ])
        .file("su2", b"y")
        .hard_link("su3", "./su2")
        .node("null", EntryType::Char, 1, 3)
        .node("pipe", EntryType::Fifo, 0, 0)
        .directory("d/")
        .file("d/inner", b"")
        .pax(&[("path", &[b'n'; 200][..])])
        .file("short", b"long")
        .finish();
    root.load(&docker_archive(Some("m"), &[layer])).unwrap();
    let base = root.top("m");
    let meta = |name: &str| base.join(name).symlink_metadata().unwrap();
    assert_eq!(meta("").mode() & 0o7777, 0o750);
    assert_eq!((meta("su").mode() & 0o7777, meta("su").uid(), meta("su").gid()), (0o4755, 7, 8));
    assert_eq!((meta("su2").mtime(), meta("su2").mtime_nsec()), (1_600_000_000, 123_456_789));
    assert_eq!((meta("su2").ino(), meta("su2").nlink()), (meta("su3").ino(), 2));
    assert!(meta("null").file_type().is_char_device() && meta("null").rdev() == 0x103);
    assert!(meta("pipe").file_type().is_fifo());
    assert_eq!(meta("d").mtime(), 1_700_000_000);
    assert_eq!(meta(&"n".repeat(200)).len(), 4);
    assert_eq!(attribute(&base.join("su2"), "user.note").unwrap(), b"a\n\0b");
    assert_eq!(attribute(&base.join("su2"), "security.capability").unwrap(), CAPABILITY);
    assert!(attribute(&base.join("su2"), "trusted.overlay.redirect").is_none());
}

/// `cap_net_raw=ep`, revision 2.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn whiteouts_become_overlays_own() {
    let mut root = Root::new();
    let layer = Tar::new()
        .file("a/.wh.gone", b"")
        .file("own/file", b"mine")
        .file("own/.wh..wh..opq", b"")
        .file("both/.wh.x", b"")
        .file("both/x", b"again")
        .file("y", b"stays")
        .file(".wh.y", b"")
        .file(".wh.dir", b"")
        .directory("dir/")
        .file("dir/inside", b"")
        .file(".wh.deep", b"")
        .file("deep/down", b"")
        .file(".wh..wh.plnk", b"")
        .finish();
    root.load(&docker_archive(Some("w"), &[layer])).unwrap();
    let base = root.top("w");
    let gone = base.join("a/gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    for opaque in ["own", "dir", "deep"] {
        assert_eq!(attribute(&base.join(opaque), "trusted.overlay.opaque").unwrap(), b"y", "{opaque}");
    }
    assert_eq!(std::fs::read(base.join("own/file")).unwrap(), b"mine");
    assert_eq!(std::fs::read(base.join("both/x")).unwrap(), b"again");
    assert_eq!(std::fs::read(base.join("y")).unwrap(), b"stays");
    assert!(base.join("deep/down").exists() && !base.join(".wh..wh.plnk").exists());
}

#[test]
fn later_entries_replace_earlier_ones() {
    let mut root = Root::new();
    let layer = Tar::new()
        .directory("d/")
        .file("d/old", b"1")
        .symlink("d/l", "old")
        .file("d/l", b"2")
        .file("tree/x/y", b"3")
        .file("tree", b"4")
        .file("usr/lib/z", b"5")
        .symlink("lib", "usr/lib")
        .file("lib/through", b"6")
        .raw(b"/absolute", |_| {}, b"7")
        .finish();
    root.load(&docker_archive(Some("r"), &[layer])).unwrap();
    let base = root.top("r");
    for (name, content) in [("d/old", "1"), ("d/l", "2"), ("tree", "4"), ("usr/lib/through", "6"), ("absolute", "7")] {
        assert_eq!(std::fs::read_to_string(base.join(name)).unwrap(), content, "{name}");
    }
}

#[test]
fn sparse_files() {
    let mut root = Root::new();
    let mut sparse = Tar::new().raw(
        b"sparse",
        |header| {
            header.set_entry_type(EntryType::GNUSparse);
            let gnu = header.as_gnu_mut().unwrap();
            gnu.sparse[0].offset.copy_from_slice(b"00000100000\0");
            gnu.sparse[0].numbytes.copy_from_slice(b"00000000003\0");
            gnu.set_real_size(65_536);
        },
        b"abc",
    );
    sparse = sparse.file("after", b"x");
    root.load(&docker_archive(Some("s"), &[sparse.finish()])).unwrap();
    let base = root.top("s");
    let bytes = std::fs::read(base.join("sparse")).unwrap();
    assert_eq!((bytes.len(), &bytes[0o100_000..0o100_003]), (65_536, &b"abc"[..]));
    assert!(base.join("after").exists());
}

#[test]
fn oci_archives_with_platforms() {
    let layer = hello();
    let packed = gzip(&layer);
    let native = configuration(&[Digest::of(&layer)], json!({"Cmd": ["native"]}));
    let foreign = String::from_utf8(native.clone()).unwrap().replace(architecture(), "s390x").into_bytes();
    let manifests: Vec<Vec<u8>> =
        [&native, &foreign].iter().map(|config| oci_manifest(config, std::slice::from_ref(&packed))).collect();
    let mut inner = Vec::new();
    for (blob, arch) in manifests.iter().zip([architecture(), "s390x"]) {
        let mut one = descriptor(MANIFEST, blob);
        one["platform"] = json!({"os": "linux", "architecture": arch});
        inner.push(one);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": inner}).to_string().into_bytes();
    let mut top = descriptor(INDEX, &index);
    top["annotations"] = json!({"org.opencontainers.image.ref.name": "reg.example/a:b"});
    let blobs = [packed, native.clone(), foreign.clone(), manifests[0].clone(), manifests[1].clone(), index];
    let archive = oci_archive(&blobs, vec![top]);

    let mut root = Root::new();
    assert_eq!(root.load(&archive).unwrap(), ["reg.example/a:b"]);
    let image = root.store.resolve(root.records.read(), "reg.example/a:b").unwrap();
    assert_eq!(image.id, Digest::of(&native).as_str());
    root.store.load(&mut root.records, &mut &archive[..], Some("linux/s390x")).unwrap();
    let image = root.store.resolve(root.records.read(), "reg.example/a:b").unwrap();
    assert_eq!(image.id, Digest::of(&foreign).as_str());
    let error = root.store.load(&mut root.records, &mut &archive[..], Some("linux/mips")).unwrap_err();
    assert!(matches!(error, Error::Platform(_)), "{error}");
    // The name moved; both images stay.
    assert_eq!(root.store.list(root.records.read()).unwrap().len(), 2);
}

/// Loads, expects refusal for the reason given, and that nothing is left.
fn refused(archive: &[u8], why: &str) {
    let mut root = Root::new();
    let error = root.load(archive).expect_err(why);
    let text = error.to_string();
    assert!(text.contains(why), "wanted {why:?}, got {text:?}");
    assert!(!text.contains('\n') && text.len() < 600, "{text}");
    assert!(error.hint().is_some(), "{text}");
    root.assert_empty();
}

fn refused_layer(layer: Tar, why: &str) {
    refused(&docker_archive(Some("bad"), &[layer.finish()]), why);
}

#[test]
fn hostile_paths() {
    let canary = tempfile::tempdir().unwrap();
    let outside = canary.path().to_str().unwrap();
    std::fs::write(canary.path().join("file"), b"untouched").unwrap();
    std::fs::set_permissions(canary.path().join("file"), PermissionsExt::from_mode(0o600)).unwrap();
    refused_layer(Tar::new().file("../evil", b"x"), "leads out of the layer");
    refused_layer(Tar::new().file("a/../../evil", b"x"), "leads out of the layer");
    refused_layer(Tar::new().symlink("l", outside).file("l/new", b"x"), "through a link");
    refused_layer(Tar::new().symlink("l", "../../../../../..").file("l/new", b"x"), "through a link");
    refused_layer(Tar::new().symlink("l", outside).hard_link("h", "l/file").file("h", b"x"), "through a link");
    refused_layer(Tar::new().hard_link("h", "../../etc/passwd"), "leads out of the layer");
    refused_layer(Tar::new().hard_link("h", "/etc/passwd"), "does not have");
    refused_layer(Tar::new().symlink("l", "nowhere").file("l/x", b""), "symbolic link to nowhere");
    refused_layer(Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", b""), "through a link");
    refused_layer(Tar::new().file("f", b"").file("f/x", b""), "no directory");
    refused_layer(Tar::new().node("hide", EntryType::Char, 0, 0), "0:0");
    refused_layer(Tar::new().file(".wh...", b""), "whiteout without a name");
    refused_layer(Tar::new().file(".wh.", b""), "whiteout without a name");
    refused_layer(Tar::new().raw(b"x", |h| h.set_uid(u32::MAX.into()), b""), "impossible uid");
    refused_layer(Tar::new().pax(&[("uid", b"4294967296")]).file("x", b""), "impossible uid");
    refused_layer(Tar::new().pax(&[("path", &[b'x'; 300][..])]).file("x", b""), "overlong name");
    refused_layer(Tar::new().pax(&[("path", "d/".repeat(300).as_bytes())]).file("x", b""), "300 components");
    refused_layer(Tar::new().pax(&[("path", &vec![b'x'; 5000][..])]).file("x", b""), "path of 5000 bytes");
    let long = vec![b'n'; 64 << 10];
    refused_layer(Tar::new().pax(&[("path", &long)]).file("x", b""), "path of 65536 bytes");
    refused_layer(Tar::new().pax(&[("linkpath", &long)]).symlink("x", ""), "overlong");
    let name = |header: &mut tar::Header| {
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(64 << 10);
    };
    refused_layer(Tar::new().raw(b"L", name, &long).file("x", b""), "path of 65536 bytes");
    refused_layer(Tar::new().raw(b"x", |h| h.set_size(u64::MAX - 5), b""), "entry of 18446744073709551610 bytes");
    refused_layer(Tar::new().pax(&[("size", b"18446744073709551615")]).file("x", b""), "entry of 18446744073709551615");
    refused_layer(Tar::new().pax(&[("size", b"99999")]).file("x", b"few"), "ends in the middle");
    refused_layer(Tar::new().symlink("l", outside).link(EntryType::Symlink, "m", ""), "symbolic link");
    assert_eq!(std::fs::read(canary.path().join("file")).unwrap(), b"untouched");
    assert_eq!(canary.path().join("file").metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(canary.path()).unwrap().count(), 1);
}

#[test]
fn an_attribute_or_mode_never_reaches_through_a_link() {
    let canary = tempfile::NamedTempFile::new().unwrap();
    let before = canary.as_file().metadata().unwrap();
    let mut root = Root::new();
    let target = canary.path().to_str().unwrap();
    // A link, and then a directory, a node and a file of the same name: each replaces the link.
    let layer = Tar::new()
        .symlink("a", target)
        .node("a", EntryType::Fifo, 0, 0)
        .symlink("b", target)
        .file("b", b"own")
        .symlink("c", target)
        .directory("c/")
        .finish();
    root.load(&docker_archive(Some("x"), &[layer])).unwrap();
    let after = canary.as_file().metadata().unwrap();
    assert_eq!((before.mode(), before.mtime(), before.len()), (after.mode(), after.mtime(), after.len()));
}

#[test]
fn damaged_archives() {
    let good = docker_archive(Some("x"), &[hello()]);
    refused(b"", "neither manifest.json");
    refused(b"hello world, this is no archive", "middle of a header");
    refused(&vec![b'x'; 4096], "not a tar archive");
    refused(&good[..good.len() / 2], "archive ends in the middle");
    refused(&gzip(&good)[..400], "damaged archive");
    refused(&Tar::new().file("x", b"y").finish(), "neither manifest.json");
    refused(&Tar::new().file("repositories", b"{}").finish(), "older than 1.10");
    refused(&Tar::new().file("manifest.json", b"{}").finish(), "manifest.json is damaged");
    refused(&Tar::new().file("manifest.json", b"[]").finish(), "0 images");
    let missing = json!([{"Config": "../../etc/passwd", "RepoTags": [], "Layers": []}]).to_string();
    refused(&Tar::new().file("manifest.json", missing.as_bytes()).finish(), "is missing");
    refused(&docker_archive(Some("Bad Name"), &[hello()]), "invalid image name");

    let other = Digest::of(b"something else");
    let lying = configuration(std::slice::from_ref(&other), json!({}));
    refused(&docker_archive_of(Some("x"), &lying, &[hello()]), "digest mismatch");
    let too_few = configuration(&[], json!({}));
    refused(&docker_archive_of(Some("x"), &too_few, &[hello()]), "names 0 layers");
    let mut flipped = docker_archive(Some("x"), &[Tar::new().file("data", b"needle").finish()]);
    let at = flipped.windows(6).position(|window| window == b"needle").unwrap();
    flipped[at] = b'N';
    refused(&flipped, "digest mismatch");
}

#[test]
fn oci_archives_that_lie() {
    let layer = gzip(&hello());
    let config = configuration(&[Digest::of(&hello())], json!({}));
    let manifest = oci_manifest(&config, std::slice::from_ref(&layer));
    let top = || vec![descriptor(MANIFEST, &manifest)];
    let blobs = [layer.clone(), config.clone(), manifest.clone()];
    let good = oci_archive(&blobs, top());
    assert_eq!(Root::new().load(&good).unwrap(), [Digest::of(&config).as_str()]);

    refused(&oci_archive(&blobs[1..], top()), "is missing");
    refused(&oci_archive(&[blobs[0].clone(), blobs[2].clone()], top()), "is missing");
    let swap = |name: &[u8], content: &[u8]| {
        let mut tar = Tar::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        for blob in &blobs {
            let content = if blob == name { content } else { blob };
            tar = tar.file(&format!("blobs/sha256/{}", Digest::of(blob).hex()), content);
        }
        tar.file("index.json", json!({"schemaVersion": 2, "manifests": top()}).to_string().as_bytes()).finish()
    };
    refused(&swap(&config, b"{}"), "digest mismatch");
    refused(&swap(&manifest, b"{}"), "digest mismatch");
    refused(&swap(&layer, &gzip(&Tar::new().file("evil", b"x").finish())), "digest mismatch");
    let traversal = json!({"mediaType": MANIFEST, "digest": "sha256:../../../etc/passwd", "size": 1});
    refused(&oci_archive(&blobs, vec![traversal]), "invalid digest");
    let mut wrong = Vec::new();
    for depth in 0..8 {
        let inner =
            wrong.last().map_or_else(|| descriptor(MANIFEST, &manifest), |above: &Vec<u8>| descriptor(INDEX, above));
        wrong.push(json!({"schemaVersion": 2, "depth": depth, "manifests": [inner]}).to_string().into_bytes());
    }
    let last = descriptor(INDEX, wrong.last().unwrap());
    refused(&oci_archive(&[&blobs[..], &wrong[..]].concat(), vec![last]), "nested more than");
}

#[test]
fn too_many_layers() {
    let layer = hello();
    let ids = vec![Digest::of(&layer); 10_000];
    let config = configuration(&ids, json!({}));
    let names = vec!["l/layer.tar"; 10_000];
    let manifest = json!([{"Config": "c.json", "RepoTags": ["x:1"], "Layers": names}]).to_string();
    let archive = Tar::new()
        .file("l/layer.tar", &layer)
        .file("c.json", &config)
        .file("manifest.json", manifest.as_bytes())
        .finish();
    refused(&archive, "10000 layers, more than the 500 allowed");
}

#[test]
fn decompression_bombs() {
    // 600 MiB of zeros behind a header, in half a megabyte.
    let mut header = Tar::new().raw(b"zeros", |header| header.set_size(600 << 20), b"").finish();
    header.truncate(512);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&header).unwrap();
    for _ in 0..600 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    let config = configuration(&[Digest::of(b"whatever")], json!({}));
    refused(&docker_archive_of(Some("bomb"), &config, std::slice::from_ref(&bomb)), "decompression bomb");
    // A header that promises a gigabyte of long name.
    refused_layer(
        Tar::new().raw(
            b"L",
            |header| {
                header.set_entry_type(EntryType::GNULongName);
                header.set_size(1 << 30);
            },
            b"",
        ),
        "extended header of 1073741824 bytes",
    );
}

#[test]
fn two_loads_at_once_and_a_load_that_died() {
    let root = Root::new();
    let archives: Vec<Vec<u8>> = (0..4)
        .map(|n| docker_archive(Some(&format!("i{n}")), &[hello(), Tar::new().file("n", &[b'0' + n]).finish()]))
        .collect();
    let dead = root.directory.path().join("tmp/image-1-0-dead/7/fs");
    std::fs::create_dir_all(&dead).unwrap();
    let orphan = root.directory.path().join("layers/sha256").join("0".repeat(64));
    std::fs::create_dir_all(orphan.join("fs")).unwrap();
    std::thread::scope(|scope| {
        for archive in &archives {
            let path = root.directory.path();
            scope.spawn(move || {
                let mut records = open(path);
                image::Store::new(path).load(&mut records, &mut &archive[..], None).unwrap();
            });
        }
    });
    assert_eq!(root.store.list(root.records.read()).unwrap().len(), 4);
    let mut records = open(root.directory.path());
    root.store.sweep(&mut records).unwrap();
    assert!(!dead.exists() && !orphan.exists() && !root.store.has_leftovers());
    for image in root.store.list(root.records.read()).unwrap() {
        let files = root.store.mount(&image).unwrap();
        assert!(
            files.len() == 2 && files.iter().all(|layer| layer.join("bin/hello").exists() || layer.join("n").exists())
        );
    }
}
