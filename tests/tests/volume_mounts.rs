//! Volumes that are file systems of their own: mounted while containers use them, and for no longer.

use std::process::Command;

use kiste_tests::{Env, finish, wait_until};

fn make(env: &Env, name: &str, options: [&str; 3]) {
    let [kind, device, words] = options.map(str::to_owned);
    let options = [format!("type={kind}"), format!("device={device}"), format!("o={words}")];
    let [kind, device, words] = options.each_ref().map(String::as_str);
    env.ok(&["volume", "create", "-o", kind, "-o", device, "-o", words, name]);
}

fn mounts(env: &Env) -> usize {
    let below = env.state().join("volumes");
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(&*below.to_string_lossy())).count()
}

#[test]
fn memory_is_shared_while_somebody_uses_it() {
    let env = Env::with_busybox();
    make(&env, "mem", ["tmpfs", "tmpfs", "size=1m,mode=1777,noexec"]);
    assert_eq!(mounts(&env), 0, "nobody uses it yet");
    env.detached(&["--name", "one", "-v", "mem:/m"], "echo x >/m/file; sleep 600");
    assert_eq!(env.sh(&["-v", "mem:/m"], "cat /m/file; grep -c ' /m tmpfs .*noexec.*size=1024k' /proc/mounts"), "x\n1");
    assert_eq!(mounts(&env), 1);
    env.ok(&["restart", "-t", "0", "one"]);
    env.ok(&["stop", "-t", "0", "one"]);
    assert_eq!(mounts(&env), 0, "the last one has gone");
    env.ok(&["start", "one"]);
    env.kiste(&["volume", "rm", "mem"]).fails(1, &["volume is in use"]);
    env.ok(&["rm", "-f", "one"]);
    assert_eq!(mounts(&env), 0);
    env.ok(&["volume", "rm", "mem"]);
    // A killed monitor cannot unmount: whoever records the end does.
    make(&env, "mem", ["tmpfs", "tmpfs", "size=1m"]);
    env.detached(&["--name", "two", "-v", "mem:/m"], "sleep 600");
    for pid in env.monitors().into_iter().chain([env.pid("two")]) {
        kill(pid);
    }
    wait_until("its end is recorded", LIMIT, || (env.status("two") == "exited").then_some(()));
    assert_eq!(mounts(&env), 0);
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// A loop device that goes when the test does.
struct Loop(String);

impl Loop {
    fn of(file: &std::path::Path) -> Self {
        let output = finish(Command::new("losetup").args(["--find", "--show"]).arg(file), None, LIMIT);
        Loop(output.ok().to_owned())
    }
}

const LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

impl Drop for Loop {
    fn drop(&mut self) {
        finish(Command::new("losetup").args(["--detach", &self.0]), None, LIMIT);
    }
}

#[test]
fn a_disk_keeps_what_is_written() {
    let env = Env::with_busybox();
    let file = env.write("disk", "");
    std::fs::File::options().write(true).open(&file).unwrap().set_len(16 << 20).unwrap();
    finish(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&file), None, LIMIT).ok();
    let disk = Loop::of(&file);
    make(&env, "disk", ["ext4", &disk.0, "noatime,ro"]);
    env.kiste(&["run", "--rm", "-v", "disk:/d", "busybox", "touch", "/d/x"]).fails(1, &["Read-only file system"]);
    env.ok(&["volume", "rm", "disk"]);
    make(&env, "disk", ["ext4", &disk.0, "noatime"]);
    assert_eq!(env.sh(&["-v", "disk:/d"], "echo kept >/d/x; chown 1000 /d/x; ls /d"), "lost+found\nx");
    assert_eq!(env.sh(&["-v", "disk:/d:ro"], "cat /d/x; stat -c %u /d/x"), "kept\n1000");
    env.ok(&["create", "--name", "cc", "-v", "disk:/d", "busybox"]);
    assert_eq!(mounts(&env), 0);
    let copy = env.path("copy");
    env.ok(&["cp", "cc:/d/x", copy.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(copy).unwrap(), "kept\n");
    env.ok(&["rm", "cc"]);
    assert_eq!(mounts(&env), 0);
    let bind = env.path("bind");
    std::fs::create_dir(&bind).unwrap();
    make(&env, "bound", ["none", bind.to_str().unwrap(), "bind,ro"]);
    env.kiste(&["run", "--rm", "-v", "bound:/b", "busybox", "touch", "/b/x"]).fails(1, &["Read-only file system"]);
}

#[test]
fn what_cannot_be_mounted_is_named() {
    let env = Env::with_busybox();
    for (options, message) in [
        (&["-o", "type=tmpfs"][..], "missing required option: \"device\""),
        (&["-o", "device=x"], "missing required option: \"type\""),
        (&["-o", "o=ro"], "missing required option: \"device\""),
        (&["-o", "size=1g"], "no quota support"),
        (&["-o", "colour=red"], "invalid option: \"colour\""),
        (&["-o", "type=none", "-o", "o=bind", "-o", "device=/nowhere"], "not a directory"),
    ] {
        env.kiste(&[&["volume", "create"], options].concat()).fails(1, &[message]);
    }
    make(&env, "bad", ["nosuchfs", "x", "password=secret"]);
    let output = env.kiste(&["run", "--name", "cc", "-v", "bad:/d", "busybox", "true"]);
    output.fails(125, &["failed to mount local volume: mount x:", "no such device", "password=****"]);
    assert_eq!(env.ok(&["ps", "-aq"]), "");
    env.ok(&["volume", "rm", "bad"]);
    let mount =
        "type=volume,src=mem,dst=/m,volume-opt=type=tmpfs,volume-opt=device=tmpfs,\"volume-opt=o=size=1m,uid=7\"";
    assert_eq!(env.ok(&["run", "--rm", "--mount", mount, "busybox", "stat", "-c", "%u", "/m"]), "7");
    assert_eq!(mounts(&env), 0);
}
