//! Images, containers and circumstances that mean harm: what they ask for is refused in one line or stays inside the
//! container, and the host is as it was. Damaged archives are in `bad_input`, kills at every step in `crash`.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kiste_tests::archive::{self, Image, Layer};
use kiste_tests::{Env, Output, finish, fixtures, wait_until};
use serde_json::{Value, json};
use tar::EntryType;

/// Loads busybox with more layers on top and a configuration.
fn load(env: &Env, name: &str, layers: Vec<Layer>, config: Value) {
    let mut all = archive::busybox().layers;
    all.extend(layers.into_iter().map(Layer::finish));
    env.load(&Image::new(name, all, config).docker());
}

/// A world with a directory of the host that nothing may be written to.
fn with_canary() -> (Env, String) {
    let env = Env::with_busybox();
    let canary = env.path("canary");
    std::fs::create_dir(&canary).unwrap();
    std::fs::write(canary.join("secret"), "of the host").unwrap();
    let path = canary.display().to_string();
    (env, path)
}

#[track_caller]
fn untouched(canary: &str) {
    let names: Vec<_> = std::fs::read_dir(canary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"]);
    assert_eq!(std::fs::read_to_string(Path::new(canary).join("secret")).unwrap(), "of the host");
    let data = std::fs::metadata(canary).unwrap();
    assert_eq!((data.uid(), data.gid()), (0, 0));
}

#[track_caller]
fn refused(output: &Output, code: i32, text: &str) {
    assert!(output.code() == code && output.stdout.is_empty() && output.stderr.contains(text), "{text}: {output:#?}");
    let lines = output.stderr.lines().filter(|line| !line.starts_with("hint: ")).count();
    assert_eq!(lines, 1, "{output:#?}");
}

#[test]
fn kernel_directories_that_are_links() {
    let (env, canary) = with_canary();
    for directory in ["proc", "sys", "dev"] {
        for target in [canary.clone(), format!("../../../..{canary}"), "tmp".to_owned()] {
            let gone = Layer::new().file(&format!(".wh.{directory}"), 0o644, b"");
            load(&env, "links:1", vec![gone, Layer::new().symlink(directory, &target)], json!({"Cmd": ["true"]}));
            refused(&env.kiste(&["run", "--rm", "links:1"]), 125, "must be mounted on ordinary directory");
        }
    }
    untouched(&canary);
}

/// What the engine mounts over is made where the link leads to inside, as for images whose `/etc/resolv.conf` leads to
/// a service's file.
#[test]
fn files_to_mount_over_that_are_links_to_nothing() {
    let (env, canary) = with_canary();
    for file in ["hosts", "hostname", "resolv.conf"] {
        for target in [format!("{canary}/made"), format!("../../../../../..{canary}/made"), "../run/a/b".to_owned()] {
            let link = Layer::new().symlink(&format!("etc/{file}"), &target);
            load(
                &env,
                "links:1",
                vec![link],
                json!({"Cmd": ["sh", "-c", format!("test -s /etc/{file} && echo full")]}),
            );
            assert_eq!(env.ok(&["run", "--rm", "links:1"]), "full", "{file} -> {target}");
        }
        let kinds = [(EntryType::Directory, "not a directory"), (EntryType::Symlink, "symbolic links")];
        for (kind, text) in kinds {
            let odd = Layer::new().entry(&format!("etc/{file}"), kind, 0o755, (0, 0), file, b"");
            load(&env, "odd:1", vec![odd], json!({"Cmd": ["true"]}));
            refused(&env.kiste(&["run", "--rm", "odd:1"]), 125, text);
        }
    }
    untouched(&canary);
}

#[test]
fn working_directories_and_volumes_that_lead_outside() {
    let (env, canary) = with_canary();
    let link = || Layer::new().symlink("link", &canary);
    for path in ["/link/made", "/../../link/made"] {
        load(&env, "w:1", vec![link()], json!({"WorkingDir": path, "Cmd": ["pwd"]}));
        assert_eq!(env.ok(&["run", "--rm", "w:1"]), format!("{canary}/made"));
    }
    for path in ["relative", "/proc/self/fd/5", "/proc/1/root", "/etc/passwd"] {
        load(&env, "w:1", vec![link()], json!({"WorkingDir": path, "Cmd": ["pwd"]}));
        let output = env.kiste(&["run", "--rm", "w:1"]);
        assert!(matches!(output.code(), 125..=127) && output.stdout.is_empty(), "{path}: {output:#?}");
    }
    for path in ["/link", "/link/sub", "/../../..HOST", "/a/../../HOST"] {
        let path = path.replace("HOST", &canary);
        load(&env, "v:1", vec![link()], json!({"Volumes": {path: {}}, "Cmd": ["sh", "-c", "ls -A /link/"]}));
        let output = env.kiste(&["run", "--rm", "v:1"]);
        assert!(!output.stdout.contains("secret"), "{output:#?}");
    }
    for (path, text) in [("/proc", "inside /proc"), ("/", "destination can't be '/'"), ("x", "must be absolute")] {
        load(&env, "v:1", vec![], json!({"Volumes": {path: {}}, "Cmd": ["true"]}));
        refused(&env.kiste(&["run", "--rm", "v:1"]), 125, text);
    }
    untouched(&canary);
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn what_a_volume_is_filled_with_stays_what_it_is() {
    let (env, canary) = with_canary();
    let layer = Layer::new()
        .directory("data", 0o755)
        .symlink("data/out", &format!("{canary}/made"))
        .symlink("data/secret", &format!("../../../../../..{canary}/secret"))
        .entry("data/pipe", EntryType::Fifo, 0o644, (0, 0), "", b"")
        .file("data/setuid", 0o4755, b"x")
        .symlink("elsewhere", &canary);
    load(
        &env,
        "fill:1",
        vec![layer],
        json!({"Cmd": ["sh", "-c", "readlink /data/out; cat /data/secret; ls -A /elsewhere/"]}),
    );
    let output = env.kiste(&["run", "--rm", "-v", "one:/data", "-v", "two:/elsewhere", "fill:1"]);
    assert_eq!(output.stdout.trim(), format!("{canary}/made"), "{output:#?}");
    for subpath in ["out", "secret", "../..", "/"] {
        let mount = format!("type=volume,src=one,dst=/x,volume-subpath={subpath}");
        let output = env.kiste(&["run", "--rm", "--mount", &mount, "busybox", "cat", "/x"]);
        assert!(output.code() == 125 && output.stdout.is_empty(), "{subpath}: {output:#?}");
    }
    untouched(&canary);
}

/// A container exchanges a directory of its volume for a link to the host while others mount that directory.
#[test]
fn a_directory_of_a_volume_that_becomes_a_link() {
    let (env, canary) = with_canary();
    let flip =
        format!("mkdir -p /v/sub; while :; do mv /v/sub /v/b; ln -s {canary} /v/sub; rm /v/sub; mv /v/b /v/sub; done");
    env.detached(&["--name", "flip", "-v", "vol:/v"], &flip);
    let mount = "type=volume,src=vol,dst=/x,volume-subpath=sub";
    for _ in 0..40 {
        let output =
            env.kiste(&["run", "--rm", "--mount", mount, "busybox", "sh", "-c", "cat /x/secret; touch /x/made"]);
        assert!(!output.stdout.contains("of the host"), "{output:#?}");
    }
    untouched(&canary);
}

#[test]
fn environments_and_users_of_images() {
    let env = Env::with_busybox();
    load(&env, "env:1", vec![], json!({"Env": ["PATH=/bin", "*", "CANARY"], "Cmd": ["env"]}));
    let output = env.kiste_with_env(&["run", "--rm", "env:1"], "CANARY", "of the host");
    assert!(!output.stdout.contains("of the host"), "{output:#?}");
    load(
        &env,
        "env:1",
        vec![],
        json!({"Env": ["HOME=/x\nevil:x:0:0::/:"], "Cmd": ["grep", "-c", "evil", "/etc/passwd"]}),
    );
    assert_eq!(env.kiste(&["run", "--rm", "env:1"]).stdout.trim(), "0");
    for user in ["2147483648", "4294967296", "-1", "+0", "0x0", "root:4294967296", " 0", "a\u{1b}[2Jb", "70000"] {
        load(&env, "user:1", vec![], json!({"User": user, "Cmd": ["id"]}));
        let output = env.kiste(&["run", "--rm", "user:1"]);
        refused(&output, 125, "");
        assert!(!output.stderr.contains('\u{1b}'), "{output:#?}");
        env.detached(&["--name", "cc"], "sleep 60");
        assert_eq!(env.kiste(&["exec", "-u", user, "cc", "id"]).code(), 1, "{user}");
        env.ok(&["rm", "-f", "cc"]);
    }
    load(&env, "user:1", vec![], json!({"User": "x".repeat(100_000), "Cmd": ["id"]}));
    let output = env.kiste(&["run", "--rm", "user:1"]);
    refused(&output, 125, "unable to find user xxx");
    assert!(output.stderr.len() < 8192);
}

/// CVE-2019-5736: what `/proc/self/exe` is before the program has been executed is the engine itself.
#[test]
fn the_engine_executed_inside_cannot_be_written() {
    let env = Env::with_busybox();
    let line = "for p in /proc/[0-9]*; do case $(readlink $p/exe) in *kiste*) exec 7<$p/exe; kill -9 ${p#/proc/}; echo found;; esac; done; \
                sleep 0.2; (echo >>/proc/self/fd/7) 2>&1";
    for options in [&["--userns=host"][..], &["--privileged"]] {
        env.ok(&[&["run", "-d", "--name", "cc"], options, &["busybox", "sleep", "60"]].concat());
        let events = ["exec", "-e", "KISTE_ROOT=/tmp/r", "-e", "KISTE_STATE=/tmp/s", "cc", "/proc/self/exe", "events"];
        let mut inside = env.command(&events).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let tried = wait_until("it runs inside", Duration::from_secs(10), || {
            let output = env.kiste(&["exec", "cc", "sh", "-c", line]).stdout;
            output.contains("found").then_some(output)
        });
        assert!(tried.contains("Read-only file system"), "{tried}");
        inside.wait().unwrap();
        env.ok(&["rm", "-f", "cc"]);
    }
}

#[test]
fn an_exec_into_a_rearranged_container() {
    let (env, canary) = with_canary();
    let line = format!(
        "mount -t tmpfs t /dev; ln -s /proc/1/root /dev/pts; umount /etc/hosts /etc/hostname /etc/resolv.conf; \
         mv /etc /old; ln -s {canary} /etc; mkdir /n; mount --bind /bin /proc; echo ready; sleep 60"
    );
    env.detached(&["--name", "cc", "--cap-add", "SYS_ADMIN"], &line);
    wait_until("it is rearranged", Duration::from_secs(10), || env.ok(&["logs", "cc"]).contains("ready").then_some(()));
    assert_eq!(env.ok(&["exec", "cc", "echo", "in"]), "in");
    refused(&env.kiste(&["exec", "-u", "app", "cc", "id"]), 1, "unable to find user app");
    let output = env.kiste(&["exec", "-t", "cc", "id"]);
    assert!(output.code() == 1 && output.stderr.contains("terminal"), "{output:#?}");
    assert_eq!(env.kiste(&["exec", "cc", "ls", "/etc/"]).stdout, "");
    env.ok(&["stop", "-t", "0", "cc"]);
    untouched(&canary);
}

#[test]
fn devices_of_an_image_are_not_usable() {
    let env = Env::with_busybox();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::Block);
    header.set_mode(0o666);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header.set_path("disk").unwrap();
    // The first loop device: the kernel always knows it.
    header.set_device_major(7).and_then(|()| header.set_device_minor(0)).unwrap();
    header.set_cksum();
    let layer = [header.as_bytes().as_slice(), &[0; 1024]].concat();
    let mut layers = archive::busybox().layers;
    layers.push(layer);
    env.load(&Image::new("disk:1", layers, json!({"Cmd": ["head", "-c", "1", "/disk"]})).docker());
    for options in [&[][..], &["--userns=host"]] {
        let output = env.kiste(&[&["run", "--rm"], options, &["disk:1"]].concat());
        assert!(output.code() != 0 && output.stderr.contains("not permitted"), "{output:#?}");
    }
}

#[test]
fn without_root_in_a_store_of_roots() {
    let env = Env::with_busybox();
    std::fs::create_dir(env.path("open")).unwrap();
    for arguments in [&["run", "--rm", "busybox", "true"][..], &["images"], &["load"]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(fixtures::kiste());
        env.prepare(&mut command);
        let output = finish(command.args(env.arguments(arguments)), None, Duration::from_secs(20));
        assert!(matches!(output.code(), 1 | 125) && output.stderr.contains("root"), "{output:#?}");
    }
}

/// On a full disk whatever frees space works, the rest says what is wrong.
#[test]
fn a_disk_that_becomes_full() {
    let mut env = Env::new();
    env.unchecked();
    let disk = env.path("disk");
    std::fs::create_dir(&disk).unwrap();
    symlink(disk.join("root"), env.root()).unwrap();
    let image = env.write("busybox.tar", fixtures::busybox());
    let cgroup = format!("--cgroup-parent={}", env.cgroup());
    let script = format!(
        "set -e; truncate -s 150M $DISK.img; mkfs.ext4 -q -b 4096 $DISK.img; mount -o loop $DISK.img $DISK; export KISTE_ROOT=$DISK/root
         $KISTE load -q -i {image}; $KISTE run -d {cgroup} --name aa busybox sleep 60 >/dev/null; $KISTE run {cgroup} --name bb busybox true
         set +e; cat /dev/zero >$DISK/fill 2>/dev/null; sync; cat /dev/zero >$DISK/more 2>/dev/null
         $KISTE run --rm {cgroup} busybox true; echo code=$?
         $KISTE ps -a --format '{{{{.Names}}}} {{{{.State}}}}'
         $KISTE exec aa echo in; $KISTE stop -t 0 aa; $KISTE start aa >/dev/null; $KISTE rm -f aa; $KISTE rm bb; $KISTE rmi -f busybox >/dev/null && echo freed
         $KISTE ps -aq; ls $KISTE_ROOT/containers; cd /; umount $DISK",
        image = image.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    env.prepare(&mut command);
    command.env("KISTE", fixtures::kiste()).env("DISK", &disk);
    let output = finish(&mut command, None, Duration::from_secs(120));
    let expected = "Loaded image: busybox:latest\ncode=125\nbb exited\naa running\nin\naa\naa\nbb\nfreed\n";
    assert_eq!(output.stdout, expected, "{output:#?}");
    for text in ["no space left on device", "hint: free some disk space"] {
        assert!(output.stderr.contains(text), "{output:#?}");
    }
}
