//! The file systems of a container: owners, mounts and their options, devices, and what is left on the host.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use common::{Container, process};
use serde_json::json;

fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

#[test]
fn layers_and_changes_hold_the_containers_own_ids() {
    let container =
        Container::sh("stat -c %u:%g /etc/passwd /home/web; touch /a; chown 5:6 /a; mkdir /d; rm /etc/group");
    assert_eq!(container.run().output(), "0:0\n1000:1001\n");
    assert_eq!(owner(container.upper().join("a")), (5, 6));
    assert_eq!(owner(container.upper().join("d")), (0, 0));
    let whiteout = fs::symlink_metadata(container.upper().join("etc/group")).unwrap();
    assert_eq!((whiteout.rdev(), whiteout.mode() & 0o170_000), (0, 0o020_000));
    assert_eq!(owner(container.layer().join("home/web")), (1000, 1001));
}

#[test]
fn what_one_run_changed_the_next_one_sees() {
    let container = Container::sh("cat /a; echo x > /a; ls -ln /a");
    container.run().output();
    assert!(container.run().output().starts_with("x\n"));
}

#[test]
fn bind_mounts_keep_their_owners_on_both_sides() {
    let container =
        Container::sh("stat -c %u:%g /data /data/f; touch /data/new; chown 7 /data/g 2>&1; stat -c %u /data/g");
    let host = container.host("data");
    for (name, id) in [("f", 1234), ("g", 5)] {
        fs::write(host.join(name), "").unwrap();
        chown(host.join(name), Some(id), Some(id)).unwrap();
    }
    let container = container.mount("bind", &host, "/data", &["rbind", "rprivate", "ridmap"]);
    assert_eq!(container.run().output(), "0:0\n1234:1234\n7\n");
    assert_eq!(owner(host.join("new")), (0, 0));
    assert_eq!(owner(host.join("g")), (7, 5));
}

#[test]
fn without_id_mapping_a_bind_mount_belongs_to_nobody() {
    let container = Container::sh("stat -c %u /data; touch /data/x");
    let host = container.host("data");
    let ended = container.mount("bind", &host, "/data", &["bind"]).run();
    assert_eq!(ended.out, "65534\n");
    assert!(ended.err.contains("Permission denied"), "{}", ended.err);
}

#[test]
fn a_file_system_that_cannot_be_id_mapped_is_named_with_a_hint() {
    let container = Container::new(&["true"]).mount("bind", Path::new("/sys/kernel"), "/data", &["bind", "idmap"]);
    container.run().fails(125, "/sys/kernel: its file system cannot be id-mapped; use --userns=host");
}

#[test]
fn read_only_binds_of_files_and_directories() {
    let container = Container::sh("cat /conf/file; echo x > /conf/file; touch /data/x; touch /data/sub/x");
    let host = container.host("data");
    fs::create_dir(host.join("sub")).unwrap();
    fs::write(host.join("file"), "content\n").unwrap();
    let ended = container
        .mount("bind", &host.join("file"), "/conf/file", &["bind", "ro", "idmap"])
        .mount("bind", &host, "/data", &["rbind", "rro", "ridmap"])
        .run();
    assert_eq!(ended.out, "content\n");
    assert_eq!(ended.err.matches("Read-only file system").count(), 3, "{}", ended.err);
}

#[test]
fn flags_of_bind_mounts_hold() {
    let container = Container::sh("/data/run; cat /data/null; mount | grep /data");
    let host = container.host("data");
    fs::copy("/usr/bin/busybox", host.join("run")).unwrap();
    let container = container.mount("bind", &host, "/data", &["bind", "noexec", "nodev", "nosuid", "idmap"]);
    let ended = container.run();
    assert!(ended.err.contains("Permission denied"), "{}", ended.err);
    assert!(ended.out.contains("nosuid,nodev,noexec"), "{}", ended.out);
}

#[test]
fn unknown_options_are_refused() {
    let container = Container::new(&["true"]).mount("bind", Path::new("/tmp"), "/data", &["bind", "nonsense"]);
    container.run().fails(125, "unknown option \"nonsense\"");
    let container = Container::new(&["true"]).mount("tmpfs", Path::new("tmpfs"), "/data", &["nonsense=1"]);
    container.run().fails(125, "\"nonsense=1\"");
}

#[test]
fn tmpfs_with_options() {
    let container = Container::sh("stat -c %a:%u /t; dd if=/dev/zero of=/t/f bs=1k count=100; wc -c < /t/f");
    let ended = container.mount("tmpfs", Path::new("tmpfs"), "/t", &["size=64k", "mode=1770", "uid=5", "noexec"]).run();
    assert_eq!(ended.out, "1770:5\n65536\n", "{}", ended.err);
    assert!(ended.err.contains("No space left"), "{}", ended.err);
}

#[test]
fn a_tmpfs_can_take_over_the_images_files() {
    let container = Container::sh("stat -c %u:%g:%a /home /home/web; readlink /home/link; cat /home/web/f");
    fs::write(container.layer().join("home/web/f"), "content\n").unwrap();
    fs::set_permissions(container.layer().join("home/web"), fs::Permissions::from_mode(0o710)).unwrap();
    std::os::unix::fs::symlink("/etc", container.layer().join("home/link")).unwrap();
    let container = container.mount("tmpfs", Path::new("tmpfs"), "/home", &["tmpcopyup"]);
    assert_eq!(container.run().output(), "0:0:755\n1000:1001:710\n/etc\ncontent\n");
}

#[test]
fn read_only_root() {
    let container = Container::sh("touch /x; touch /dev/shm/x && echo shm").set("/spec/root/readonly", json!(true));
    let ended = container.run();
    assert_eq!(ended.out, "shm\n", "{}", ended.err);
    assert!(ended.err.contains("Read-only file system"), "{}", ended.err);
}

#[test]
fn devices_have_their_numbers_modes_and_owners() {
    let device = |path: &str, minor: u32| json!({ "path": path, "type": "c", "major": 1, "minor": minor, "fileMode": 0o640, "uid": 5, "gid": 6 });
    let script = "stat -c %u /dev/mqueue /dev/pts /dev/shm | grep -v '^0$'; stat -c %t:%T:%a:%u:%g /dev/bus/mine /opt/null /dev/null; echo x > /dev/null; \
                  echo x > /dev/full; head -c 3 /dev/zero | wc -c; head -c 1 /opt/null | wc -c; mknod /dev/x c 1 3";
    for host in [false, true] {
        let container = Container::sh(script)
            .add("/spec/linux/devices", device("/dev/bus/mine", 7))
            .add("/spec/linux/devices", device("/opt/null", 3));
        let ended = if host { container.host_user() } else { container }.run();
        assert_eq!(ended.out, "1:7:640:5:6\n1:3:640:5:6\n1:3:666:0:0\n3\n0\n", "{}", ended.err);
        assert!(ended.err.contains("No space left") && ended.err.contains("Operation not permitted"), "{}", ended.err);
    }
}

#[test]
fn hidden_paths_of_a_copy_of_the_machine() {
    let container = Container::sh("ls -A /root; touch /root/x").set("/hidden", json!(["/root", "/no/such"]));
    fs::write(container.layer().join("root/secret"), "").unwrap();
    let ended = container.run();
    assert_eq!(ended.out, "");
    assert!(ended.err.contains("Read-only file system"), "{}", ended.err);
}

#[test]
fn a_directory_as_root() {
    for host in [false, true] {
        let container = Container::sh("stat -c %u /; touch /x; stat -c %u /x").set("/lower", json!([]));
        let root = container.layer();
        let container = container.set("/spec/root/path", json!(root));
        let container = if host { container.host_user() } else { container };
        assert_eq!(container.run().output(), "0\n0\n");
        assert_eq!(owner(root.join("x")), (0, 0));
    }
}

#[test]
fn many_layers() {
    let mut container = Container::sh("ls /many | wc -l; cat /top");
    for number in 0..100 {
        let layer = container.host(&format!("layer{number}"));
        fs::create_dir(layer.join("many")).unwrap();
        fs::write(layer.join(format!("many/{number}")), "").unwrap();
        fs::write(layer.join("top"), format!("{number}\n")).unwrap();
        container.job["lower"].as_array_mut().unwrap().insert(0, json!(layer));
    }
    assert_eq!(container.run().output(), "100\n99\n");
}

#[test]
fn the_working_directory_is_made() {
    let container = Container::sh("readlink /proc/self/cwd; stat -c %u .").set("/spec/process/cwd", json!("/a/b"));
    assert_eq!(container.run().output(), "/a/b\n0\n");
    assert!(container.upper().join("a/b").is_dir());
}

#[test]
fn pipes_can_be_opened_again_by_the_user() {
    // Standard output of the tests is a pipe that only root could open.
    let container = Container::sh("echo again > /dev/stdout; echo error > /dev/stderr").set("/user", json!("web"));
    let ended = container.run();
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, "again\n", "error\n"));
}

#[test]
fn nothing_is_left_on_the_host() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let container =
        Container::new(&["sleep", "100"]).set("/exec", json!([process(&["true"])])).set("/kill", json!(true));
    let path = container.upper();
    assert_eq!(container.run().code, 137);
    assert!(!mounts().contains(path.parent().unwrap().to_str().unwrap()));
    let job: serde_json::Value =
        serde_json::from_slice(&fs::read(path.parent().unwrap().join("job.json")).unwrap()).unwrap();
    let cgroup = job["cgroup"].as_str().unwrap().trim_start_matches('/');
    for hierarchy in ["", "memory", "pids", "unified"] {
        assert!(!Path::new("/sys/fs/cgroup").join(hierarchy).join(cgroup).exists());
    }
}
