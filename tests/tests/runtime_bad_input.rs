//! What callers and bundles may get wrong under `kiste runtime`: each is answered at once, in one line that names it, and
//! nothing is left behind (the bundle's end checks that).

use std::fs;
use std::os::unix::fs::symlink;

use kiste_tests::{Bundle, Output};
use serde_json::{Value, json};

/// One line on standard error.
fn one_line(output: &Output) {
    assert_eq!(output.stderr.trim_end().lines().count(), 1, "{output:#?}");
}

#[test]
fn configurations_are_refused_by_field() {
    let cases: [(&str, Value, &str); 22] = [
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!(""), "ociVersion"),
        ("/process", Value::Null, "process"),
        ("/process/args", json!([]), "process.args"),
        ("/process/cwd", json!("relative"), "process.cwd"),
        ("/process/cwd", json!(""), "process.cwd"),
        ("/process/env", json!(["=x"]), "environment"),
        ("/process/args", json!(["a\u{0}b"]), "null byte"),
        ("/process/user", json!({"uid": -1, "gid": 0}), "process.user.uid"),
        ("/process/env", json!(["A=\u{0}"]), "process.env[0]"),
        ("/mounts/0/destination", json!("\u{0}"), "mounts[0].destination"),
        ("/root", Value::Null, "root"),
        ("/root", json!([]), "root"),
        ("/root/path", json!(""), "root.path"),
        ("/hostname", "x".repeat(65).into(), "hostname: 65 bytes"),
        ("/root/path", json!("nowhere"), "root.path"),
        ("/root/path", json!("rootfs/bin/busybox"), "root.path"),
        ("/linux/cgroupsPath", json!("/a/../../b"), "cgroup"),
        ("/linux/sysctl", json!({"vm.swappiness": "1"}), "vm.swappiness"),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "mount"}]), "occurs twice"),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "network", "path": "/nowhere"}]), "/nowhere"),
        ("/linux/rootfsPropagation", json!("sideways"), "rootfsPropagation"),
    ];
    for (pointer, value, word) in cases {
        let mut bundle = Bundle::new("true");
        bundle.config["hostname"] = Value::Null;
        if pointer == "/linux/sysctl" || pointer == "/linux/rootfsPropagation" || pointer == "/linux/cgroupsPath" {
            bundle.config["linux"][pointer.rsplit('/').next().unwrap()] = value;
        } else {
            *bundle.config.pointer_mut(pointer).expect(pointer) = value;
        }
        let output = bundle.run("c");
        output.fails(1, &[word]);
        one_line(&output);
    }
}

#[test]
fn deadlines_that_the_kernel_would_refuse_are_explained() {
    let mut bundle = Bundle::new("true");
    let ms = 1_000_000_u64;
    for (times, word) in [
        ([0, 20 * ms, 20 * ms], "process.scheduler.runtime: SCHED_DEADLINE needs one"),
        ([10 * ms, 0, 20 * ms], "process.scheduler.deadline: SCHED_DEADLINE needs one"),
        ([10, 20 * ms, 20 * ms], "process.scheduler.runtime: 10 ns"),
        ([30 * ms, 20 * ms, 40 * ms], "process.scheduler.runtime: 30000000 ns"),
        ([10 * ms, 30 * ms, 20 * ms], "process.scheduler.deadline: 30000000 ns"),
        ([10 * ms, 20 * ms, u64::MAX], "process.scheduler.period"),
    ] {
        let [runtime, deadline, period] = times;
        bundle.config["process"]["scheduler"] =
            json!({"policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": deadline, "period": period});
        let output = bundle.run("c");
        output.fails(1, &[word]);
        one_line(&output);
    }
}

#[test]
fn what_is_no_configuration_is_said_to_be_none() {
    let bundle = Bundle::new("true");
    let path = bundle.path("config.json");
    for text in ["", "{", "[]", "{\"ociVersion\": 1}", "{\"ociVersion\": \"1.0.0\", \"process\": {\"args\": \"x\"}}"] {
        fs::write(&path, text).unwrap();
        one_line(bundle.runtime(&["run", "c"]).fails(1, &["config.json"]));
    }
    fs::remove_file(&path).unwrap();
    bundle.runtime(&["create", "c"]).fails(1, &["JSON specification file", "not found"]);
    bundle.runtime(&["create", "--bundle", "/nowhere", "c"]).fails(1, &["/nowhere"]);
}

#[test]
fn missing_programs_are_explained() {
    let mut bundle = Bundle::new("");
    let write = |bundle: &Bundle, name: &str, content: &[u8]| {
        let path = bundle.path("rootfs").join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    write(&bundle, "script", b"#!/bin/nothing\n");
    write(&bundle, "text", b"words\n");
    for (program, words) in [
        ("absent", &["absent", "executable file not found in $PATH"][..]),
        ("/absent", &["/absent", "no such file or directory"]),
        ("/script", &["interpreter", "/bin/nothing"]),
        ("/text", &["exec format error"]),
        ("/etc", &["is a directory"]),
    ] {
        bundle.config["process"]["args"] = json!([program]);
        bundle.run("c").fails(1, words);
        if !matches!(program, "/script" | "/text") {
            // Known before the start already.
            bundle.create("d", &[]).fails(1, words);
        }
    }
}

#[test]
fn profiles_that_forbid_to_look_do_not_forbid_to_run() {
    let mut bundle =
        Bundle::new("grep -c . /proc/self/status > /dev/null && echo ran; mount | grep -o 'shm on /dev/shm'");
    bundle.config["process"]["noNewPrivileges"] = false.into();
    // Calls that came after many a profile was written.
    let newer = ["faccessat2", "statx", "close_range", "openat2", "clone3", "pidfd_open", "memfd_create", "move_mount"];
    let denied = json!([{"names": newer, "action": "SCMP_ACT_KILL_PROCESS"}]);
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": denied});
    assert_eq!(bundle.run("c").ok(), "ran\nshm on /dev/shm");
    bundle.set_line("sleep 100");
    bundle.started("d");
    assert_eq!(bundle.runtime(&["exec", "d", "echo", "more"]).ok(), "more");
}

#[test]
fn cgroups_below_a_frozen_one_are_refused() {
    let bundle = Bundle::new("true");
    let container = bundle.cgroup("c", "freezer");
    let above = container.parent().unwrap();
    fs::create_dir_all(above).unwrap();
    let (file, word) = match above.join("freezer.state").exists() {
        true => ("freezer.state", "FROZEN"),
        false => ("cgroup.freeze", "1"),
    };
    fs::write(above.join(file), word).unwrap();
    one_line(bundle.run("c").fails(1, &["linux.cgroupsPath", "frozen"]));
    one_line(bundle.create("c", &[]).fails(1, &["linux.cgroupsPath", "frozen"]));
}

#[test]
fn ids_are_no_paths() {
    let bundle = Bundle::new("true");
    let outside = bundle.path("victim");
    fs::create_dir(&outside).unwrap();
    for id in ["", ".", "..", "../victim", "a/b", "a b", "a\nb", ".hidden", "@empty"] {
        bundle.write("x");
        bundle.runtime(&["run", id]).fails(1, &["container"]);
        bundle.runtime(&["delete", "--force", id]).fails(1, &["container"]);
        bundle.runtime(&["state", id]).fails(1, &["container"]);
    }
    assert!(outside.is_dir());
}

#[test]
fn a_state_directory_that_is_a_link_is_not_followed() {
    let bundle = Bundle::new("true");
    let outside = bundle.path("victim");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("state.json"), "{}").unwrap();
    fs::create_dir_all(bundle.root()).unwrap();
    symlink(&outside, bundle.root().join("c")).unwrap();
    bundle.runtime(&["delete", "--force", "c"]).fails(1, &["open"]);
    assert!(outside.join("state.json").exists());
    fs::remove_file(bundle.root().join("c")).unwrap();
}

#[test]
fn a_maker_that_is_killed_leaves_something_that_can_be_deleted() {
    let mut bundle = Bundle::new("sleep 100");
    // The hook kills its parent in the middle of the creation.
    bundle.config["hooks"] =
        json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID; sleep 1"]}]});
    assert_eq!(bundle.create("c", &[]).code(), 137);
    assert_eq!(bundle.status("c"), "stopped");
    bundle.create("c", &[]).fails(1, &["already exists"]);
    bundle.runtime(&["delete", "c"]).ok();
}

#[test]
fn links_in_the_image_lead_nowhere() {
    let mut bundle = Bundle::new("true");
    let outside = bundle.path("victim");
    fs::create_dir(&outside).unwrap();
    for name in ["proc", "dev", "sys"] {
        let place = bundle.path("rootfs").join(name);
        fs::remove_dir(&place).unwrap();
        symlink(&outside, &place).unwrap();
        bundle.run("c").fails(1, &[name]);
        if name == "dev" {
            // Without a /dev of its own too.
            let mounts = bundle.config["mounts"].clone();
            let only = mounts
                .as_array()
                .unwrap()
                .iter()
                .filter(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
            bundle.config["mounts"] = only.cloned().collect();
            bundle.run("c").fails(1, &["/dev"]);
            bundle.config["mounts"] = mounts;
        }
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn unknown_words_are_named() {
    let bundle = Bundle::new("true");
    bundle.runtime(&["frobnicate"]).fails(3, &["frobnicate"]);
    bundle.runtime(&["create", "--frobnicate", "c"]).fails(1, &["frobnicate"]);
    bundle.runtime(&["create"]).fails(1, &["id"]);
    bundle.runtime(&["create", "a", "b"]).fails(1, &["exactly one"]);
    bundle.runtime(&["run", "--preserve-fds", "x", "c"]).fails(1, &["preserve-fds"]);
    bundle.runtime(&["list", "--format", "yaml"]).fails(1, &["invalid format"]);
    bundle.runtime(&["events", "--interval", "0s", "c"]).fails(1, &["interval"]);
    bundle.runtime(&["spec", "--bundle", &bundle.path("").to_string_lossy()]).fails(1, &["exists"]);
}
