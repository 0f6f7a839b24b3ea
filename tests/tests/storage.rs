//! How images and the changes of containers are stored: disk quotas, `system check`.

use kiste_tests::{Env, fixtures};

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
