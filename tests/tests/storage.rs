//! How images and the changes of containers are stored: disk quotas, `system check`.

use std::time::Duration;

use kiste_tests::archive::{self, Image, Layer};
use kiste_tests::{Env, fixtures, wait_until};
use serde_json::json;

/// `--storage-opt size=`: what a container may change is bounded, lasts as long as the container, and leaves nothing.
#[test]
fn a_disk_quota() {
    let env = Env::with_busybox();
    let line = "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; wc -c < /big; echo kept > /kept 2>/dev/null; sync";
    let options = ["run", "--name", "box", "--storage-opt", "size=32m", "busybox", "sh", "-c", line];
    let written: u64 = env.kiste(&options).stdout.trim().parse().unwrap();
    assert!((8 << 20..32 << 20).contains(&written), "{written} bytes");
    assert_eq!(env.inspect("box")["HostConfig"]["StorageOpt"]["size"], "32m");
    assert!(env.ok(&["diff", "box"]).contains("A /big"));
    // What was written is there in the next run, and after a reboot.
    env.unmount_layers();
    env.ok(&["start", "-a", "box"]);
    let second = env.sh(&["--storage-opt", "size=16m"], "dd if=/dev/zero of=/f bs=1M count=10 2>/dev/null; wc -c < /f");
    assert!(second.parse::<u64>().unwrap() < 16 << 20);
    env.ok(&["rm", "box"]);
    env.kiste(&["create", "--storage-opt", "size=1m", "busybox"]).fails(1, &["smallest is 16m"]);
    env.kiste(&["create", "--storage-opt", "size=x", "busybox"]).fails(1, &["invalid size: 'x'"]);
    env.kiste(&["create", "--storage-opt", "inodes=5", "busybox"]).fails(1, &["unknown option inodes"]);
}

#[test]
fn the_store_is_checked_and_mended() {
    let env = Env::with_busybox();
    assert!(env.ok(&["system", "check"]).ends_with("1 images, 1 layers: 0 problems, 0 mended"));
    let layer = std::fs::read_dir(env.root().join("layers/sha256")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(layer.join("index.erofs"), "nonsense").unwrap();
    env.kiste(&["system", "check"]).fails(1, &[]);
    assert!(env.ok(&["system", "check", "--repair"]).contains("made again from the archive"));
    assert_eq!(env.sh(&[], "echo works"), "works");
    std::fs::write(layer.join("tar"), "nonsense").unwrap();
    assert!(env.ok(&["system", "check", "--repair"]).contains("forgotten"));
    assert_eq!(env.ok(&["images", "-q"]), "");
    env.load(fixtures::busybox());
    assert_eq!(env.sh(&[], "echo again"), "again");
}

/// As on kernels that do not mount EROFS images from files.
#[test]
fn layers_through_loop_devices() {
    let env = Env::new();
    let mut layers = archive::busybox().layers;
    // More than eight, so that there is one index over all of them.
    layers.extend((0..10).map(|n| Layer::new().file(&format!("number/{n}"), 0o644, &vec![b'a'; 5000]).finish()));
    let file = env.write("deep.tar", Image::new("deep:1", layers, json!({"Cmd": ["sh"]})).docker());
    let looped = |arguments: &[&str]| env.kiste_with_env(arguments, "KISTE_EROFS_BACKING", "loop").ok().to_owned();
    let devices = || {
        let backing = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("loop/backing_file")).ok();
        let all = std::fs::read_dir("/sys/block").unwrap().flatten().filter_map(backing);
        all.filter(|path| path.contains(env.root().to_str().unwrap())).count()
    };
    assert!(looped(&["info", "--format", "{{json .DriverStatus}}"]).contains("through loop devices"));
    assert!(env.ok(&["info", "--format", "{{json .DriverStatus}}"]).contains("from files"));
    looped(&["load", "-i", file.to_str().unwrap()]);
    let line = "cat /number/* | wc -c; rm /number/3; ls /number | wc -l";
    assert_eq!(looped(&["run", "--name", "cc", "deep:1", "sh", "-c", line]), "50000\n9");
    assert_eq!(looped(&["diff", "cc"]), "C /number\nD /number/3");
    assert!(devices() > 10, "an index and its archives: {}", devices());
    looped(&["rm", "cc"]);
    looped(&["rmi", "deep:1"]);
    wait_until("the devices are gone", Duration::from_secs(10), || (devices() == 0).then_some(()));
}
