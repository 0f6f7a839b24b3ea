//! Volumes, bind mounts and tmpfs, in both grammars.

use kiste_tests::Env;
use kiste_tests::archive::{self, Image, Layer};
use serde_json::json;
use tar::EntryType;

#[test]
fn named_volumes_live_longer_than_containers() {
    let env = Env::with_busybox();
    assert_eq!(env.ok(&["volume", "create", "vol"]), "vol");
    env.sh(&["-v", "vol:/data"], "echo kept >/data/file; chown app /data/file");
    assert_eq!(
        env.sh(&["--mount", "type=volume,src=vol,dst=/other"], "cat /other/file; stat -c %u /other/file"),
        "kept\n1000"
    );
    assert_eq!(env.sh(&["-v", "vol:/data:ro"], "touch /data/x 2>/dev/null || cat /data/file"), "kept");
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "vol");
    let mountpoint = env.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", "vol"]);
    assert_eq!(std::fs::read_to_string(format!("{mountpoint}/file")).unwrap(), "kept\n");
    env.ok(&["volume", "rm", "vol"]);
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "");
    env.kiste(&["volume", "inspect", "vol"]).fails(1, &["no such volume"]);
}

#[test]
fn a_volume_in_use_stays() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "-v", "vol:/data"], "sleep 60");
    env.kiste(&["volume", "rm", "vol"]).fails(1, &["volume is in use"]);
    env.ok(&["rm", "-f", "-v", "cc"]);
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "vol", "rm -v takes anonymous volumes only");
    env.ok(&["volume", "rm", "vol"]);
}

#[test]
fn anonymous_volumes_go_with_rm_v_and_with_run_rm() {
    let env = Env::with_busybox();
    env.ok(&["run", "--name", "cc", "-v", "/data", "busybox", "touch", "/data/x"]);
    assert_eq!(env.ok(&["volume", "ls", "-q"]).len(), 64);
    env.ok(&["rm", "-v", "cc"]);
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "");
    env.sh(&["-v", "/data"], "touch /data/x");
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "");
    env.ok(&["run", "--name", "dd", "-v", "/data", "busybox", "true"]);
    env.ok(&["rm", "dd"]);
    assert_eq!(env.ok(&["volume", "ls", "-q"]).len(), 64, "without -v it stays");
    env.ok(&["volume", "prune", "-f"]);
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn an_empty_volume_gets_the_images_content() {
    let env = Env::with_busybox();
    assert_eq!(env.sh(&["-v", "vol:/etc"], "test -s /etc/passwd && stat -c %a:%u /etc/passwd"), "644:0");
    env.sh(&["-v", "vol:/etc"], "rm /etc/group");
    assert_eq!(
        env.sh(&["-v", "vol:/etc"], "ls /etc/group 2>/dev/null; ls /etc/passwd"),
        "/etc/passwd",
        "only an empty one is filled"
    );
    assert_eq!(env.sh(&["-v", "none:/etc:nocopy"], "ls /etc/passwd 2>/dev/null; echo end"), "end");
    assert_eq!(env.sh(&["-v", "temp:/tmp"], "stat -c %a /tmp"), "1777", "the mount point's mode is taken over");
}

#[test]
fn image_volumes_become_anonymous_ones() {
    let env = Env::with_busybox();
    let image = kiste_tests::archive::Image::new(
        "vol:1",
        kiste_tests::archive::busybox().layers,
        serde_json::json!({"Cmd": ["true"], "Volumes": {"/data": {}}}),
    );
    env.load(&image.docker());
    env.ok(&["run", "--name", "cc", "vol:1"]);
    let mounts = &env.inspect("cc")["Mounts"];
    assert_eq!((&mounts[0]["Type"], &mounts[0]["Destination"]), (&"volume".into(), &"/data".into()), "{mounts}");
    let shared = env.ok(&["run", "--rm", "--volumes-from", "cc", "busybox", "grep", "-c", " /data ", "/proc/mounts"]);
    assert_eq!(shared, "1");
    env.ok(&["rm", "-v", "cc"]);
}

#[test]
fn bind_mounts_in_both_grammars() {
    let env = Env::with_busybox();
    let directory = env.path("bound");
    std::fs::create_dir(&directory).unwrap();
    let file = env.write("bound/file", "content\n");
    let path = directory.display();
    assert_eq!(env.sh(&["-v", &format!("{path}:/b")], "cat /b/file; echo new >/b/new"), "content");
    assert_eq!(std::fs::read_to_string(directory.join("new")).unwrap(), "new\n");
    let read_only = format!("type=bind,source={path},target=/b,readonly");
    assert_eq!(env.sh(&["--mount", &read_only], "touch /b/x 2>/dev/null || echo refused"), "refused");
    assert_eq!(env.sh(&["-v", &format!("{}:/etc/motd:ro", file.display())], "cat /etc/motd"), "content");
    let missing = env.path("made-by-v");
    env.sh(&["-v", &format!("{}:/m", missing.display())], "true");
    assert!(missing.is_dir(), "-v makes the source");
    let missing = format!("type=bind,src={},dst=/m", env.path("never-made").display());
    env.kiste(&["run", "--rm", "--mount", &missing, "busybox", "true"])
        .fails(125, &["bind source path does not exist"]);
}

#[test]
fn read_only_binds_are_so_for_submounts_too() {
    let env = Env::with_busybox();
    // A container that shares nothing with the host makes the submount, so that the host gets none.
    let directory = env.path("bound");
    std::fs::create_dir_all(directory.join("sub")).unwrap();
    let script = format!("mount -t tmpfs t {0}/sub && exec \"$@\"", directory.display());
    let volume = format!("{}:/b:ro", directory.display());
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"])
        .arg(kiste_tests::fixtures::kiste());
    env.prepare(&mut command);
    command.args(env.arguments(&[
        "run",
        "--rm",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        "touch /b/sub/x 2>/dev/null && echo written || echo refused",
    ]));
    let output = kiste_tests::finish(&mut command, None, std::time::Duration::from_secs(30));
    assert_eq!(output.ok(), "refused");
}

#[test]
fn tmpfs_mounts() {
    let env = Env::with_busybox();
    let output = env.sh(
        &["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0750"],
        "stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'",
    );
    assert_eq!(output, "750\n1024");
}

#[test]
fn a_hostile_image_cannot_lead_a_mount_outside() {
    let env = Env::with_busybox();
    let layer = kiste_tests::archive::Layer::new()
        .symlink("escape", "/../../../../tmp")
        .symlink("data", "/proc/1/root/etc")
        .finish();
    let mut layers = kiste_tests::archive::busybox().layers;
    layers.push(layer);
    env.load(&kiste_tests::archive::Image::new("evil:1", layers, serde_json::json!({"Cmd": ["true"]})).docker());
    let output =
        env.kiste(&["run", "--rm", "-v", "vol:/escape/deep", "evil:1", "sh", "-c", "touch /tmp/deep/x; echo inside"]);
    assert!(matches!(output.code(), 0 | 125), "{output:#?}");
    assert!(!std::path::Path::new("/tmp/deep").exists());
    let before = std::fs::read_dir("/etc").unwrap().count();
    env.kiste(&["run", "--rm", "-v", "vol:/data/kiste-test-mount", "evil:1", "true"]);
    assert_eq!(std::fs::read_dir("/etc").unwrap().count(), before);
}

#[test]
fn malformed_requests_are_refused() {
    let env = Env::with_busybox();
    let fails = |options: &[&str], text: &str| {
        env.kiste(&[&["run", "--rm"], options, &["busybox", "true"]].concat()).fails(125, &[text]);
    };
    fails(&["-v", "a:b:c:d"], "invalid");
    fails(&["-v", "vol:relative"], "mount path must be absolute");
    fails(&["-v", "no/path:/x"], "includes invalid characters for a local volume name");
    fails(&["-v", "vol:/"], "destination can't be '/'");
    fails(&["-v", "vol:/x:nonsense"], "nonsense");
    fails(&["-v", "aa:/x", "-v", "bb:/x"], "Duplicate mount point: /x");
    fails(&["--mount", "type=bind,src=/tmp"], "target");
    fails(&["--mount", "type=nonsense,dst=/x"], "nonsense");
    fails(&["--mount", "type=volume,dst=/x,nonsense=1"], "nonsense");
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "", "a refused command makes no volume");
}

/// An image of several layers, mounted whole or in part: its owners are those of the image, whatever the container's ids
/// are on the host.
#[test]
fn images_of_several_layers_as_mounts() {
    let env = Env::with_busybox();
    let file = |path: &str, owner| {
        Layer::new().directory("d", 0o755).entry(path, EntryType::Regular, 0o644, (owner, owner), "", b"x")
    };
    let mut layers = archive::busybox().layers;
    layers.extend([file("d/one", 1000).finish(), file("d/two", 33).finish()]);
    env.load(&Image::new("data:1", layers, json!({"Cmd": ["true"]})).docker());
    let run = |options: &str, path: &str| {
        let mount = format!("type=image,src=data:1,dst=/data{options}");
        let output = env.kiste(&[
            "run",
            "--rm",
            "--mount",
            &mount,
            "busybox",
            "sh",
            "-c",
            &format!("stat -c %u {path}/one {path}/two; touch /data/x"),
        ]);
        assert!(output.stderr.contains("Read-only"), "{output:#?}");
        output.stdout
    };
    assert_eq!(run("", "/data/d"), "1000\n33\n");
    assert_eq!(run(",image-subpath=d", "/data"), "1000\n33\n");
    let output = env.kiste(&[
        "run",
        "--rm",
        "--mount",
        "type=image,src=data:1,dst=/data,image-subpath=nosuch",
        "busybox",
        "true",
    ]);
    assert!(output.code() == 125 && output.stderr.contains("cannot access path nosuch"), "{output:#?}");
}
