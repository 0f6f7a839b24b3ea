//! Images, configurations and programs that are wrong on purpose: each is contained or refused with a clear text, and
//! nothing on the host changes.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::{BASE, Container, process};
use serde_json::json;

#[test]
fn what_is_wrong_with_a_program_is_said_exactly() {
    let cases: [(&[&str], i32, &str); 7] = [
        (&["nosuch"], 127, "exec: \"nosuch\": executable file not found in $PATH"),
        (&["/nosuch"], 127, "exec: \"/nosuch\": stat /nosuch: no such file or directory"),
        (&["/etc/passwd/x"], 127, "not a directory"),
        (&["/etc/passwd"], 126, "exec: \"/etc/passwd\": permission denied"),
        (&["/etc"], 126, "exec: \"/etc\": is a directory"),
        (&[""], 127, "executable file not found in $PATH"),
        (&[], 125, "no command specified"),
    ];
    for (args, code, text) in cases {
        Container::new(args).run().fails(code, text);
    }
}

fn with_program(content: &[u8]) -> Container {
    let container = Container::new(&["/prog"]);
    fs::write(container.layer().join("prog"), content).unwrap();
    fs::set_permissions(container.layer().join("prog"), fs::Permissions::from_mode(0o755)).unwrap();
    container
}

#[test]
fn interpreters_loaders_and_architectures_are_named() {
    with_program(b"#!/bin/bash -e\n").run().fails(127, "its interpreter \"/bin/bash\" does not exist in the container");
    with_program(b"#!/bin/sh\r\necho\r\n").run().fails(127, "Windows line ends");
    with_program(b"").run().fails(126, "exec format error: the file is empty");
    with_program(b"echo hello\n").run().fails(126, "exec format error");
    with_program(&fs::read("/bin/ls").unwrap())
        .run()
        .fails(127, "its loader \"/lib64/ld-linux-x86-64.so.2\" does not exist");
    let mut other = fs::read("/bin/ls").unwrap();
    other[18] = 183;
    with_program(&other).run().fails(126, "the program is for arm64, this machine is amd64");
}

#[test]
fn the_same_texts_come_from_exec() {
    let container = Container::new(&["sleep", "100"]).set("/exec", json!([process(&["nosuch"])]));
    container.run().fails(127, "exec: \"nosuch\": executable file not found in $PATH");
}

#[test]
fn kernel_file_systems_are_not_mounted_through_links() {
    for name in ["proc", "sys", "dev"] {
        for target in ["/tmp", "../../../../tmp", "tmp"] {
            let container = Container::new(&["true"]);
            fs::remove_dir(container.layer().join(name)).unwrap();
            symlink(target, container.layer().join(name)).unwrap();
            container.run().fails(125, "must be mounted on ordinary directory");
        }
    }
}

#[test]
fn mount_points_behind_links_stay_inside() {
    for target in ["HOST", "/../../../../../..HOST", "../../../../../../../../..HOST"] {
        let container = Container::sh("cat /link/sub/f; echo new > /link/sub/f");
        let (host, data) = (container.host("canary"), container.host("data"));
        fs::write(data.join("f"), "data\n").unwrap();
        symlink(target.replace("HOST", host.to_str().unwrap()), container.layer().join("link")).unwrap();
        // What the link means inside: a directory of that name in the container.
        fs::create_dir_all(container.layer().join(host.strip_prefix("/").unwrap())).unwrap();
        let container = container.mount("bind", &data, "/link/sub", &["bind", "idmap"]);
        assert_eq!(container.run().output(), "data\n");
        assert_eq!(fs::read_dir(&host).unwrap().count(), 0, "{target}");
    }
}

#[test]
fn a_link_put_into_the_way_of_a_source_is_not_followed() {
    let container = Container::sh("cat /data/f");
    let (host, data) = (container.host("canary"), container.host("data"));
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("sub/f"), "inside\n").unwrap();
    fs::write(host.join("f"), "of the host\n").unwrap();
    let container = container.mount("bind", &data.join("sub"), "/data", &["bind", "idmap", sandbox::launch::NO_LINKS]);
    assert_eq!(container.run().output(), "inside\n");
    fs::remove_dir_all(data.join("sub")).unwrap();
    symlink(&host, data.join("sub")).unwrap();
    container.run().fails(125, "too many levels of symbolic links");
}

#[test]
fn a_directory_is_not_mounted_on_a_file_nor_the_other_way_round() {
    for (source, target) in [("directory", "/etc/passwd"), ("file", "/etc")] {
        let container = Container::new(&["true"]);
        let host = container.host("data");
        fs::create_dir(host.join("directory")).unwrap();
        fs::write(host.join("file"), "").unwrap();
        let container = container.mount("bind", &host.join(source), target, &["bind", "idmap"]);
        container.run().fails(125, "are you trying to mount a directory onto a file");
    }
}

#[test]
fn working_directories_behind_links_stay_inside() {
    let container = Container::sh("readlink /proc/self/cwd").set("/spec/process/cwd", json!("/link/made"));
    let host = container.host("canary");
    symlink(&host, container.layer().join("link")).unwrap();
    fs::create_dir_all(container.layer().join(host.strip_prefix("/").unwrap())).unwrap();
    assert_eq!(container.run().output(), format!("{}/made\n", host.display()));
    assert_eq!(fs::read_dir(&host).unwrap().count(), 0);
}

#[test]
fn descriptors_of_the_host_are_no_working_directory() {
    for number in 0..64 {
        let cwd = json!(format!("/proc/self/fd/{number}"));
        let container = Container::new(&["cat", "/etc/shadow"]).set("/spec/process/cwd", cwd.clone());
        let ended = container.run();
        assert!(
            (125..128).contains(&ended.code) && ended.out.is_empty(),
            "{number}: {} {}{}",
            ended.code,
            ended.out,
            ended.err
        );
        if number % 16 == 0 {
            let mut second = process(&["pwd"]);
            second["cwd"] = cwd;
            let ended = Container::new(&["sleep", "100"]).set("/exec", json!([second])).run();
            assert!(
                matches!(ended.code, 125..=127) && ended.out.is_empty(),
                "{}: {}{}",
                ended.code,
                ended.out,
                ended.err
            );
        }
    }
}

#[test]
fn nothing_covers_proc() {
    for destination in ["/proc", "/proc/self", "/proc/sys/kernel"] {
        let container = Container::new(&["true"]).mount("bind", Path::new("/tmp"), destination, &["bind"]);
        container.run().fails(125, "inside /proc");
    }
}

#[test]
fn user_files_that_are_no_files() {
    let container = Container::new(&["id"]).set("/user", json!("web"));
    let passwd = container.layer().join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    symlink("/proc/self/environ", &passwd).unwrap();
    container.run().fails(125, "/etc/passwd");
    fs::remove_file(&passwd).unwrap();
    symlink("/dev/zero", &passwd).unwrap();
    container.run().fails(125, "/etc/passwd is no regular file");
    fs::remove_file(&passwd).unwrap();
    fs::File::create(&passwd).unwrap().set_len(4 << 30).unwrap();
    container.run().fails(125, "/etc/passwd is larger than 8 MiB");
}

#[test]
fn users_that_are_none() {
    for user in ["-1", "4294967296", "0x0", "nobody:nogroup", "web:nogroup", "1:2:3"] {
        let ended = Container::new(&["id"]).set("/user", json!(user)).run();
        assert!(ended.code == 125 && ended.out.is_empty(), "{user}: {}{}", ended.out, ended.err);
    }
    Container::new(&["id"]).set("/user", json!("70000")).run().fails(125, "70000");
}

#[test]
fn a_null_device_in_the_image_is_not_used_to_hide() {
    // /dev is the image's own: masks must still be the host's null device.
    let container =
        Container::sh("cat /proc/keys /proc/timer_list").set("/spec/mounts/1/destination", json!("/elsewhere"));
    symlink("/etc/passwd", container.layer().join("dev/null")).unwrap();
    assert_eq!(container.run().output(), "");
}

#[test]
fn malformed_configurations() {
    let cases = [
        ("/spec/mounts/0/destination", json!("/a/../../b"), "must not contain \"..\""),
        ("/spec/linux/uidMappings", json!([]), "needs mappings"),
        ("/spec/process/cwd", json!("relative"), "must be an absolute path"),
        ("/spec/process/env", json!(["=x"]), "invalid environment variable"),
        ("/spec/process/args", json!(["a\u{0}b"]), "null byte"),
        ("/spec/linux/sysctl", json!({ "net.ipv4.no_such": "1" }), "sysctl net.ipv4.no_such=1"),
        ("/spec/linux/sysctl", json!({ "../etc/passwd": "1" }), "malformed name"),
        ("/spec/hostname", json!("x".repeat(65)), "set host name"),
        ("/spec/hooks", json!({ "poststop": [{ "path": "bin/true" }] }), "hooks.poststop[0].path"),
        ("/spec/linux/rootfsPropagation", json!("nonsense"), "unknown value"),
        ("/empty", json!("/no/such/directory"), "/no/such/directory"),
        ("/lower", json!(["/no/such/layer"]), "/no/such/layer"),
    ];
    for (pointer, value, text) in cases {
        Container::new(&["true"]).set(pointer, value).run().fails(125, text);
    }
}

#[test]
fn cover_that_is_not_empty_is_refused() {
    let container = Container::new(&["true"]);
    let layer = container.layer();
    container.set("/empty", json!(layer)).run().fails(125, "is not empty");
}

/// Lengths and counts that no field of a message can hold (CVE-2021-43784): one line, at once.
#[test]
fn oversized_configurations() {
    let ranges: Vec<_> = (0..400).map(|n| json!({"containerID": n, "hostID": BASE + 2 * n, "size": 1})).collect();
    Container::new(&["true"]).set("/spec/linux/uidMappings", json!(ranges)).run().fails(125, "uid_map");
    let container = Container::new(&["true"]).mount("tmpfs", "tmpfs".as_ref(), "/data", &[&"x".repeat(100 << 10)]);
    container.run().fails(125, "tmpfs");
    let long = format!("/{}", "d/".repeat(3000));
    Container::new(&["true"]).mount("tmpfs", "tmpfs".as_ref(), &long, &[]).run().fails(125, "mount tmpfs");
}

/// `release_agent` of a v1 hierarchy would run on the host (CVE-2022-0492).
#[test]
fn cgroups_cannot_be_mounted_or_written_inside() {
    let script = "mkdir /tmp/c; mount -t cgroup -o rdma none /tmp/c || mount -t cgroup2 none /tmp/c; \
        echo x > /sys/fs/cgroup/memory/release_agent; echo x > /sys/fs/cgroup/cgroup.procs; true";
    let ended = Container::sh(script).set("/default_seccomp", json!(true)).run();
    assert!(ended.err.matches("mount:").count() >= 1, "{}", ended.err);
    assert_eq!(ended.out, "");
}

/// Somebody who shares a volume exchanges a directory and a link while containers are made (CVE-2021-30465,
/// CVE-2024-45310): nothing appears outside.
#[test]
fn a_destination_that_is_exchanged_while_it_is_mounted() {
    let container = Container::new(&["true"]);
    let (volume, canary) = (container.host("volume"), container.host("canary"));
    std::fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let racer = {
        let (stop, volume, canary) = (stop.clone(), volume.clone(), canary.clone());
        std::thread::spawn(move || {
            let (place, outside) = (volume.join("x"), format!("../../../../../../../..{}", canary.display()));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = std::fs::create_dir(&place);
                let _ = std::fs::rename(&place, volume.join("y"));
                let _ = symlink(&outside, &place);
                let _ = std::fs::remove_file(&place);
                let _ = std::fs::remove_dir_all(volume.join("y"));
            }
        })
    };
    let container = container.mount("bind", &volume, "/volume", &["rbind", "rw"]);
    let container = container.mount("tmpfs", "tmpfs".as_ref(), "/volume/x/deep", &["size=64k"]);
    let mounts =
        || std::fs::read_to_string("/proc/self/mountinfo").unwrap().matches(&*canary.to_string_lossy()).count();
    for _ in 0..20 {
        container.run();
        assert_eq!((std::fs::read_dir(&canary).unwrap().count(), mounts()), (0, 0));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    racer.join().unwrap();
}
