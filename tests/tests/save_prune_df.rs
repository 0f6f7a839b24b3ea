//! `save`, `image prune`, `system prune`, `system df`: images as archives, and the room that everything takes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kiste_tests::archive::{Image, Layer};
use kiste_tests::{Env, finish};
use serde_json::{Value, json};

fn tiny(name: &str, size: usize) -> Image {
    let content: Vec<u8> = (0..size).map(|at| (at * 7 + name.len()) as u8).collect();
    Image::new(name, vec![Layer::new().file("data", 0o644, &content).finish()], json!({"Cmd": ["x"]}))
}

fn tar(arguments: &[&str], file: &Path) -> String {
    finish(Command::new("tar").args(arguments).arg(file), None, Duration::from_secs(20)).ok().to_owned()
}

#[test]
fn an_archive_of_images_loads_again_in_both_forms() {
    let env = Env::with_busybox();
    env.ok(&["run", "--name", "cc", "busybox", "sh", "-c", "rm /bin/ls; echo x >/x; rm -r /usr; mkdir -p /usr/new"]);
    env.ok(&["commit", "cc", "img:1"]);
    env.ok(&["tag", "img:1", "img:2"]);
    let file = env.path("saved.tar");
    env.ok(&["save", "-o", file.to_str().unwrap(), "img", "busybox:latest"]);
    let items: Value = serde_json::from_str(&tar(&["-xO", "manifest.json", "-f"], &file)).unwrap();
    assert_eq!(items[0]["RepoTags"], json!(["img:1", "img:2"]), "a name without a tag means all of them");
    assert_eq!(items[1]["RepoTags"], json!(["busybox:latest"]));
    assert_eq!(items[0]["Layers"][0], items[1]["Layers"][0], "a layer of both is there once");
    let index: Value = serde_json::from_str(&tar(&["-xO", "index.json", "-f"], &file)).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
    assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "docker.io/library/img:1");
    let first = std::fs::read(&file).unwrap();
    env.ok(&["save", "-o", file.to_str().unwrap(), "img", "busybox:latest"]);
    assert!(first == std::fs::read(&file).unwrap(), "the same images are the same bytes");

    let other = Env::new();
    let loaded = other.ok(&["load", "-i", file.to_str().unwrap()]);
    assert_eq!(loaded, "Loaded image: img:1\nLoaded image: img:2\nLoaded image: busybox:latest");
    assert_eq!(
        other.ok(&["run", "--rm", "img:2", "sh", "-c", "cat /x; echo /usr/*; test -e /bin/ls || echo gone"]),
        "x\n/usr/new\ngone"
    );
    // Without Docker's own document, what is left is an OCI image layout.
    let line =
        "mkdir layout && tar -xf saved.tar -C layout && rm layout/manifest.json && tar -cf saved.tar -C layout .";
    let mut repack = Command::new("sh");
    finish(repack.args(["-c", line]).current_dir(env.path("")), None, Duration::from_secs(20)).ok();
    let oci = Env::new();
    oci.ok(&["load", "-i", file.to_str().unwrap()]);
    assert_eq!(oci.ok(&["run", "--rm", "img:1", "cat", "/x"]), "x");

    env.kiste(&["save", "nosuch"]).fails(1, &["No such image: nosuch"]);
    env.kiste(&["save", "-o", "/nowhere/x", "busybox"]).fails(1, &["failed to save image: invalid output path"]);
    env.kiste(&["save", "--platform", "linux/s390x", "busybox"]).fails(1, &["does not provide the specified platform"]);
    env.kiste(&["save", "host:/"]).fails(1, &["cannot be saved"]);
}

#[test]
fn images_that_nobody_uses_go() {
    let env = Env::with_busybox();
    for (name, size) in [("old:1", 10_000), ("old:2", 20_000), ("other:1", 30_000)] {
        env.load(&tiny(name, size).docker());
    }
    env.load(&tiny("old:1", 40_000).docker());
    assert_eq!(env.ok(&["images", "-q", "-f", "dangling=true"]).lines().count(), 1);
    let text = env.ok(&["image", "prune", "-f"]);
    assert!(
        text.starts_with("Deleted Images:\ndeleted: sha256:") && text.ends_with("\n\nTotal reclaimed space: 10kB"),
        "{text}"
    );
    assert_eq!(env.ok(&["image", "prune", "-f"]), "Total reclaimed space: 0B");
    env.ok(&["create", "--name", "cc", "busybox"]);
    env.ok(&["image", "prune", "-af", "--filter", "until=20h"]);
    let left = || env.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let text = env.ok(&["image", "prune", "-a", "--force", "--filter", "label=nope"]);
    assert_eq!(text, "Total reclaimed space: 0B");
    env.ok(&["image", "prune", "-af"]);
    assert_eq!(left(), "busybox:latest", "a container uses it");
    env.kiste(&["image", "prune"]).fails(1, &["confirmation"]);
    env.kiste(&["image", "prune", "-f", "--filter", "foo=bar"]).fails(1, &["invalid filter 'foo'"]);
}

#[test]
fn everything_that_nobody_uses_goes() {
    let env = Env::with_busybox();
    env.load(&tiny("unused:1", 100_000).docker());
    env.ok(&[
        "run",
        "--name",
        "done",
        "-v",
        "/anon",
        "-v",
        "named:/named",
        "busybox",
        "sh",
        "-c",
        "head -c 50000 /dev/zero >/x",
    ]);
    env.detached(&["--name", "busy"], "sleep 60");
    env.ok(&["network", "create", "--label", "keep=1", "kept"]);
    env.ok(&["network", "create", "idle"]);
    let text = env.ok(&["system", "prune", "-f", "--filter", "label!=keep"]);
    assert!(text.starts_with("Deleted Containers:\n") && text.ends_with("\n\nTotal reclaimed space: 50kB"), "{text}");
    assert!(text.contains("\n\nDeleted Networks:\nidle\n\n"), "{text}");
    assert!(env.ok(&["network", "ls", "--format", "{{.Name}}"]).contains("kept"));
    assert_eq!(env.ok(&["volume", "ls", "-q"]).lines().count(), 2);
    let text = env.ok(&["system", "prune", "-af", "--volumes"]);
    assert!(text.contains("Deleted Volumes:\n") && text.contains("untagged: unused:1\n"), "{text}");
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "named");
    assert_eq!(env.ok(&["images", "--format", "{{.Repository}}"]), "busybox");
    assert_eq!(env.status("busy"), "running");
    env.kiste(&["system", "prune", "--volumes", "--filter", "until=1h"])
        .fails(1, &["not supported with \"--volumes\""]);
    env.kiste(&["system", "prune", "-f", "--filter", "foo=bar"]).fails(1, &["invalid filter 'foo'"]);
    let asked = env.kiste(&["system", "prune", "--filter", "label=x"]);
    assert!(
        asked.stdout.contains("  - all dangling images\n") && asked.stdout.contains("filtered with:\n  - label=x\n"),
        "{asked:?}"
    );
}

/// Bytes below a directory, as `du` counts them.
fn du(path: &Path) -> u64 {
    let output = finish(Command::new("du").args(["-s", "-B1"]).arg(path), None, Duration::from_secs(20));
    output.ok().split_whitespace().next().unwrap().parse().unwrap()
}

/// `3.5MB` as a number.
fn bytes(text: &str) -> f64 {
    let text = text.split(' ').next().unwrap();
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let unit = match &text[at..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        other => panic!("{other}"),
    };
    text[..at].parse::<f64>().unwrap() * unit
}

#[test]
fn what_everything_takes_adds_up_to_what_du_says() {
    let env = Env::with_busybox();
    env.load(&tiny("data:1", 3_000_000).docker());
    let line = "head -c 2000000 /dev/urandom >/x; head -c 1500000 /dev/urandom >/v/y; dd if=/dev/zero of=/sparse bs=1 count=1 seek=900000000 2>/dev/null";
    env.ok(&["run", "--name", "cc", "-v", "vv:/v", "busybox", "sh", "-c", line]);
    let text =
        env.ok(&["system", "df", "--format", "{{.Type}}|{{.Size}}|{{.TotalCount}} {{.Active}}|{{.Reclaimable}}"]);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').collect()).collect();
    let counts: Vec<&str> = rows.iter().map(|row| row[2]).collect();
    assert_eq!(counts, ["2 1", "1 0", "1 1", "0 0"], "{text}");
    let near = |shown: &str, path: &str, slack: f64| {
        let (shown, real) = (bytes(shown), du(&env.root().join(path)) as f64);
        assert!((shown - real).abs() < slack, "{path}: {shown} and {real}\n{text}");
    };
    near(rows[0][1], "layers", 400_000.0);
    near(rows[1][1], "containers", 200_000.0);
    near(rows[2][1], "volumes", 50_000.0);
    assert!((2.9e6..3.2e6).contains(&bytes(rows[0][3])), "the unused image: {text}");
    let all: Value = serde_json::from_str(&env.ok(&["system", "df", "-v", "--format", "json"])).unwrap();
    assert_eq!(all["Volumes"][0]["Links"], "1");
    assert_eq!(all["Images"].as_array().unwrap().len(), 2);
    assert!(env.ok(&["system", "df", "-v"]).contains("\n\nContainers space usage:\n\nCONTAINER ID   IMAGE "));
}
