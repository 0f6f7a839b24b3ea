//! What containers under `kiste runtime` see mounted: whose their files are, and what is read-only or hidden, as other
//! runtimes show it.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use kiste_tests::Bundle;
use serde_json::{Value, json};

/// The first id of the containers' user namespaces.
const FIRST: u32 = 200_000;

fn give_away(path: &Path) {
    lchown(path, Some(FIRST), Some(FIRST)).expect("we are root");
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).expect("a directory").for_each(|entry| give_away(&entry.expect("an entry").path()));
    }
}

fn in_user_namespace(bundle: &mut Bundle) {
    let map = json!([{"containerID": 0, "hostID": FIRST, "size": 1000}]);
    let linux = &mut bundle.config["linux"];
    linux["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
    (linux["uidMappings"], linux["gidMappings"]) = (map.clone(), map);
}

fn mount<'a>(bundle: &'a mut Bundle, destination: &str) -> &'a mut Value {
    let mounts = bundle.config["mounts"].as_array_mut().expect("a list");
    mounts.iter_mut().find(|mount| mount["destination"] == destination).expect(destination)
}

/// The files of a bundle belong to whom they belong: nobody maps them once more.
#[test]
fn roots_are_not_mapped_again() {
    let mut bundle =
        Bundle::new("stat -c %u /bin /data/file; echo made > /made && mkdir /mnt-made 2>/dev/null; ls /below");
    in_user_namespace(&mut bundle);
    for name in ["data", "below"] {
        fs::create_dir(bundle.path(name)).unwrap();
        fs::write(bundle.path(name).join("file"), "x").unwrap();
    }
    give_away(&bundle.path("rootfs"));
    give_away(&bundle.path("data"));
    let bind =
        |source: &str, destination: &str| json!({"source": source, "destination": destination, "options": ["bind"]});
    let more = [bind("data", "/data"), bind("below", "/below")];
    bundle.config["mounts"].as_array_mut().unwrap().extend(more);
    assert_eq!(bundle.run("c").lines(), ["0", "0", "file"]);
    assert_eq!(fs::metadata(bundle.path("rootfs/made")).unwrap().uid(), FIRST);
}

#[test]
fn a_read_only_dev_is_read_only_in_the_end() {
    let mut bundle =
        Bundle::new("echo x > /dev/null && ls /dev/shm /dev/pts/ptmx; grep -c ' /dev tmpfs ro,' /proc/mounts");
    mount(&mut bundle, "/dev")["options"] = json!(["nosuid", "ro", "mode=755"]);
    assert_eq!(bundle.run("c").lines().last().copied(), Some("1"));
    bundle.set_line("echo x > /dev/new || echo refused");
    assert_eq!(bundle.run("c").lines(), ["refused"]);
}

/// With `--no-pivot` the host's tree stays in the mount namespace: no whole procfs may be found there, or a user namespace
/// inside could mount one without what hides its parts.
#[test]
fn without_pivot_root_no_whole_procfs_is_left() {
    let bundle = Bundle::new("grep -c ' - proc \\| - sysfs ' /proc/self/mountinfo");
    let own: usize = bundle.run("c").ok().parse().unwrap();
    bundle.write("c");
    assert_eq!(bundle.runtime(&["run", "--no-pivot", "c"]).ok().parse::<usize>().unwrap(), own);
}

#[test]
fn empty_paths_of_namespaces_are_none() {
    let mut bundle = Bundle::new("ls /proc/1/comm");
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().unwrap() {
        namespace["path"] = "".into();
    }
    assert_eq!(bundle.run("c").ok(), "/proc/1/comm");
}

/// Terminals of processes in the foreground: what they write goes into pipes line by line, as from runc.
#[test]
fn newlines_of_terminals_stay_newlines() {
    let mut bundle = Bundle::new("echo one; echo two");
    bundle.config["process"]["terminal"] = true.into();
    assert_eq!(bundle.run("c").stdout, "one\ntwo\n");
}
