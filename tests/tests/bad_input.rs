//! Damaged and hostile input: each is refused in one line with a hint where there is one, with the right exit code, and
//! leaves nothing behind.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kiste_tests::archive::{self, Image, Layer};
use kiste_tests::{Env, Output, finish, fixtures};
use serde_json::json;
use tar::EntryType;

/// Loads an archive that must be refused: one error line that says one of these words, and an unchanged store.
#[track_caller]
fn refused(env: &Env, archive: &[u8], words: &[&str]) {
    let before = stored(env);
    let output = env.kiste_with_input(&["load"], archive);
    assert_eq!(output.code(), 1, "{output:#?}");
    one_line(&output);
    let text = output.stderr.to_lowercase();
    assert!(words.iter().any(|word| text.contains(word)), "none of {words:?} in {text}");
    assert_eq!(stored(env), before, "something is left of it");
}

/// An error is one line, perhaps with a hint or a pointer to the help after it, and no panic.
#[track_caller]
fn one_line(output: &Output) {
    let lines: Vec<&str> =
        output.stderr.lines().filter(|l| !l.starts_with("hint: ") && !l.starts_with("See ") && !l.is_empty()).collect();
    assert!(lines.len() == 1 && !lines[0].contains("panicked"), "{output:#?}");
}

/// Names of everything below the store's directories.
fn stored(env: &Env) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["content", "layers/sha256", "tmp"] {
        let mut directories = vec![env.root().join(name)];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
                found.push(entry.path().display().to_string());
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !entry.path().ends_with("fs") {
                    directories.push(entry.path());
                }
            }
        }
    }
    found.retain(|path| !path.ends_with("oci-layout") && !Path::new(path).is_dir() || path.contains("layers/sha256/"));
    found.sort();
    found
}

fn image(layer: Layer) -> Image {
    Image::new("evil:1", vec![layer.finish()], json!({"Cmd": ["x"]}))
}

#[test]
fn what_is_no_archive() {
    let env = Env::with_busybox();
    refused(&env, b"this is no archive", &["archive", "tar"]);
    refused(&env, b"", &["empty", "archive", "tar"]);
    refused(&env, &Layer::new().file("unrelated", 0o644, b"x").finish(), &["manifest", "image"]);
    let whole = archive::busybox().docker();
    refused(&env, &whole[..whole.len() / 2], &["unexpected", "truncated", "end", "cut"]);
    let packed = archive::gzip(&whole);
    refused(&env, &packed[..packed.len() / 2], &["unexpected", "truncated", "end", "cut", "corrupt", "incomplete"]);
    env.kiste(&["load", "-i", "/no/such/file"]).fails(1, &["/no/such/file", "no such file"]);
}

#[test]
fn digests_that_do_not_fit() {
    let env = Env::with_busybox();
    let honest = Image::new("a:1", vec![Layer::new().file("f", 0o644, b"honest").finish()], json!({}));
    let mut bytes = honest.docker();
    replace(&mut bytes, b"honest", b"forged");
    refused(&env, &bytes, &["digest", "diff"]);
    let mut bytes = honest.oci();
    replace(&mut bytes, b"\"os\":\"linux\"", b"\"os\":\"linuX\"");
    refused(&env, &bytes, &["digest"]);
}

/// Replaces the first occurrence with text of the same length.
fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let at = bytes.windows(old.len()).position(|window| window == old).expect("the text is there");
    bytes[at..at + new.len()].copy_from_slice(new);
}

#[test]
fn names_and_links_that_lead_outside() {
    let env = Env::with_busybox();
    let mark = format!("kiste-escape-{}", std::process::id());
    let outside = Path::new("/tmp").join(&mark);
    let up = "../".repeat(12);
    let archives = [
        Layer::new().file(&format!("{up}tmp/{mark}"), 0o644, b"x"),
        Layer::new().file(&format!("/tmp/{mark}"), 0o644, b"x"),
        Layer::new().symlink("tmp", "/tmp").file(&format!("tmp/{mark}"), 0o644, b"x"),
        Layer::new().symlink("t", &format!("{up}tmp")).file(&format!("t/{mark}"), 0o644, b"x"),
        Layer::new().hardlink("passwd", "/etc/hostname").entry("passwd", EntryType::Regular, 0o644, (0, 0), "", b"x"),
        Layer::new().hardlink("h", &format!("{up}etc/hostname")),
        Layer::new().directory("dd", 0o755).symlink("d/l", &format!("{up}tmp")).file(
            &format!("d/l/../{mark}"),
            0o644,
            b"x",
        ),
        Layer::new().file(&format!(".wh.{up}tmp"), 0o644, b""),
    ];
    let host = std::fs::read("/etc/hostname").unwrap();
    for layer in archives {
        let output = env.kiste_with_input(&["load"], &image(layer).docker());
        assert!(matches!(output.code(), 0 | 1), "{output:#?}");
        if output.code() == 1 {
            one_line(&output);
        }
        assert!(!outside.exists(), "an image wrote {}", outside.display());
        env.kiste(&["rmi", "-f", "evil:1"]);
    }
    assert_eq!(std::fs::read("/etc/hostname").unwrap(), host);
}

#[test]
fn names_within_the_archive_that_lead_outside() {
    let env = Env::with_busybox();
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    for name in ["../../../etc/passwd", "/etc/passwd"] {
        let manifest = json!([{"Config": name, "RepoTags": ["a:1"], "Layers": []}]).to_string();
        refused(&env, &Layer::new().file("manifest.json", 0o644, manifest.as_bytes()).finish(), &["config", "passwd"]);
        let manifest = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": [name]}]).to_string();
        let archive = Layer::new().file("c.json", 0o644, config).file("manifest.json", 0o644, manifest.as_bytes());
        refused(&env, &archive.finish(), &["layer", "passwd"]);
    }
    let manifest = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": []}]).to_string();
    let linked = Layer::new().symlink("c.json", "/etc/passwd").file("manifest.json", 0o644, manifest.as_bytes());
    refused(&env, &linked.finish(), &["c.json", "config", "link"]);
    let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:../../../../etc/passwd", "size": 5}]});
    let layout = Layer::new().file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#).file(
        "index.json",
        0o644,
        index.to_string().as_bytes(),
    );
    refused(&env, &layout.finish(), &["digest"]);
}

#[test]
fn malformed_documents() {
    let env = Env::with_busybox();
    for manifest in ["", "{", "[]", "[{}]", "null", "[{\"Config\": 5}]", &"[".repeat(100_000)] {
        refused(&env, &Layer::new().file("manifest.json", 0o644, manifest.as_bytes()).finish(), &["manifest", "image"]);
    }
    let huge = vec![b' '; 9 << 20];
    refused(&env, &Layer::new().file("manifest.json", 0o644, &huge).finish(), &["manifest"]);
    let manifest = json!([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": []}]).to_string();
    for config in ["", "null", "{\"rootfs\": 7}", &huge_label()] {
        let archive =
            Layer::new().file("c.json", 0o644, config.as_bytes()).file("manifest.json", 0o644, manifest.as_bytes());
        refused(&env, &archive.finish(), &["config", "c.json"]);
    }
}

fn huge_label() -> String {
    json!({"architecture": "amd64", "os": "linux", "config": {"Labels": {"x": "x".repeat(9 << 20)}}, "rootfs": {"type": "layers", "diff_ids": []}}).to_string()
}

#[test]
fn ten_thousand_layers() {
    let env = Env::with_busybox();
    let layer = Layer::new().finish();
    let many = Image::new("many:1", vec![layer; 10_000], json!({}));
    refused(&env, &many.docker(), &["layers"]);
}

#[test]
fn a_decompression_bomb() {
    let env = Env::with_busybox();
    // 2 GiB of zeros in one file: two megabytes when compressed.
    let script = "cd $(mktemp -d) && truncate -s 2G zeros && tar -c --to-stdout zeros | gzip -1; rm -rf \"$PWD\"";
    let bomb = Command::new("sh").args(["-c", script]).output().unwrap().stdout;
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]}}).to_string();
    let manifest = json!([{"Config": "c.json", "RepoTags": ["bomb:1"], "Layers": ["l.tar"]}]).to_string();
    let archive = Layer::new().file("c.json", 0o644, config.as_bytes()).file("l.tar", 0o644, &bomb).file(
        "manifest.json",
        0o644,
        manifest.as_bytes(),
    );
    refused(&env, &archive.finish(), &["inflate", "bomb", "large", "times", "limit"]);
}

#[test]
fn device_nodes_are_never_opened() {
    let env = Env::with_busybox();
    let mut layers = archive::busybox().layers;
    layers.push(
        Layer::new()
            .entry("dev/evil", EntryType::Char, 0o666, (0, 0), "", b"")
            .entry("pipe", EntryType::Fifo, 0o666, (0, 0), "", b"")
            .finish(),
    );
    let output = env.kiste_with_input(&["load"], &Image::new("nodes:1", layers, json!({"Cmd": ["sh"]})).docker());
    assert!(matches!(output.code(), 0 | 1), "{output:#?}");
    if output.code() == 0 {
        assert_eq!(env.ok(&["run", "--rm", "nodes:1", "sh", "-c", "test -p /pipe && echo fifo"]), "fifo");
    }
}

#[test]
fn another_architecture() {
    let env = Env::with_busybox();
    let mut foreign = archive::busybox();
    foreign.name = "foreign:1".to_owned();
    foreign.architecture = "s390x".to_owned();
    let output = env.kiste_with_input(&["load"], &foreign.docker());
    if output.code() == 0 {
        let output = env.kiste(&["run", "--rm", "foreign:1", "true"]);
        assert!(output.stderr.contains("s390x"), "a warning or an error names it: {output:#?}");
    } else {
        output.fails(1, &["s390x"]);
    }
    env.kiste(&["run", "--rm", "--platform", "linux/s390x", "busybox", "true"]).fails(125, &["s390x"]);
}

#[test]
fn hostile_user_files_in_images() {
    let env = Env::with_busybox();
    let run = |layer: Layer, arguments: &[&str]| {
        let mut layers = archive::busybox().layers;
        layers.push(layer.finish());
        env.load(&Image::new("users:1", layers, json!({"Cmd": ["id"]})).docker());
        env.kiste(&[&["run", "--rm"], arguments, &["users:1", "id", "-u"]].concat())
    };
    let huge = Layer::new().file("etc/passwd", 0o644, &vec![b'x'; 64 << 20]);
    run(huge, &["-u", "app"]).fails(125, &["passwd"]);
    let pipe = Layer::new().entry("etc/passwd", EntryType::Fifo, 0o666, (0, 0), "", b"");
    run(pipe, &["-u", "app"]).fails(125, &["/etc/passwd"]);
    let linked = Layer::new().symlink("etc/passwd", "/proc/1/root/etc/passwd");
    assert_ne!(run(linked, &["-u", "sync"]).code(), 0, "sync is a user of the host only");
    let odd = Layer::new().file(
        "etc/passwd",
        0o644,
        b"\n:::\nx\napp:x:99999999999:1::/:\napp:x:-1:1::/:\napp:x:55:66::/:/bin/sh\n",
    );
    assert_eq!(run(odd, &["-u", "app"]).ok(), "55");
    let directory = Layer::new().symlink("etc", "/proc/self/root/etc");
    assert!(matches!(run(directory, &["-u", "0"]).code(), 0 | 125));
}

#[test]
fn arguments_that_contradict_or_are_malformed() {
    let env = Env::with_busybox();
    let fails = |options: &[&str], texts: &[&str]| {
        let output = env.kiste(&[&["run", "--rm"], options, &["busybox", "true"]].concat());
        output.fails(125, texts);
        one_line(&output);
    };
    fails(&["-m", "lots"], &["lots"]);
    fails(&["--cpus", "-1"], &["cpus"]);
    fails(&["--memory-swap", "10m", "-m", "64m"], &["memory"]);
    fails(&["--memory-swap", "64m"], &["memory"]);
    fails(&["-e", "=x"], &["environment variable"]);
    fails(&["--ulimit", "nosuch=1"], &["ulimit"]);
    fails(&["--ulimit", "nofile=5:2"], &["ulimit"]);
    fails(&["--security-opt", "nosuch=1"], &["nosuch"]);
    fails(&["-u", "nosuch"], &["unable to find user nosuch"]);
    fails(&["-u", "app:nosuch"], &["unable to find group nosuch"]);
    fails(&["-u", "99999999999"], &["99999999999"]);
    fails(&["--add-host", "nothing"], &["nothing"]);
    fails(&["--add-host", "a:not-an-address"], &["not-an-address"]);
    fails(&["-w", "relative"], &["working directory", "relative"]);
    fails(&["--network", "nosuch"], &["nosuch"]);
    fails(&["-p", "80:80:80:80:x"], &["80:80"]);
    fails(&["--shm-size", "x"], &["x"]);
    fails(&["--restart", "sometimes"], &["restart"]);
    fails(&["--pid", "nonsense"], &["pid", "nonsense"]);
    fails(&["--runtime", "nosuch"], &["nosuch"]);
    fails(&["--isolation", "hyperv"], &["isolation"]);
    fails(&["--oom-score-adj", "5000"], &["oom"]);
    fails(&["--env-file", "/no/such/file"], &["/no/such/file"]);
    fails(&["--blkio-weight", "5"], &["blkio", "weight"]);
    assert_eq!(env.ok(&["ps", "-aq"]), "");
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn without_root() {
    let env = Env::new();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(fixtures::kiste());
    env.prepare(&mut command);
    command.args(["run", "--rm", "busybox", "true"]);
    let output = finish(&mut command, None, Duration::from_secs(20));
    assert!(output.code() == 125 && output.stderr.contains("root"), "{output:#?}");
}

#[test]
fn a_disk_that_is_full() {
    let env = Env::new();
    let small = env.path("small");
    std::fs::create_dir(&small).unwrap();
    let image = env.write("busybox.tar", fixtures::busybox());
    // Too small for the image; afterwards nothing may be left but the empty store.
    let script = format!(
        "mount -t tmpfs -o size=2500k t {0} && export KISTE_ROOT={0}/root; $KISTE load -i $IMAGE; code=$?; $KISTE images -q; \
         find {0}/root/layers {0}/root/tmp {0}/root/content -type f -size +64k 2>/dev/null; exit $code",
        small.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    env.prepare(&mut command);
    command.env("KISTE", fixtures::kiste()).env("IMAGE", image);
    let output = finish(&mut command, None, Duration::from_secs(60));
    output.fails(1, &["space"]);
    assert_eq!(output.stdout, "", "{output:#?}");
}
