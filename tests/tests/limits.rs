//! Limits, on whatever cgroup layout the machine has: that they are set, that they bite, and that `update` changes them
//! while the container runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kiste_tests::{Env, wait_until};

/// The value of a limit file of a container's cgroup, named `v1-controller/v1-file` and by its v2 name.
fn limit(env: &Env, name: &str, v1: &str, v2: &str) -> String {
    let id = env.inspect(name)["Id"].as_str().unwrap().to_owned();
    let below = format!("{}/{id}", env.cgroup().trim_start_matches('/'));
    let top = Path::new("/sys/fs/cgroup");
    let file: PathBuf = if top.join("cgroup.controllers").exists() {
        top.join(below).join(v2)
    } else {
        let (controller, file) = v1.split_once('/').expect("controller/file");
        top.join(controller).join(below).join(file)
    };
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    text.trim().to_owned()
}

fn version_2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// One of two texts, by the machine's cgroup version.
fn by_version<'a>(v1: &'a str, v2: &'a str) -> &'a str {
    if version_2() { v2 } else { v1 }
}

#[test]
fn memory() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "-m", "64m", "--memory-reservation", "32m", "--memory-swap", "64m"], "sleep 60");
    assert_eq!(limit(&env, "cc", "memory/memory.limit_in_bytes", "memory.max"), "67108864");
    assert_eq!(limit(&env, "cc", "memory/memory.soft_limit_in_bytes", "memory.low"), "33554432");
    let host = &env.inspect("cc")["HostConfig"];
    assert_eq!((&host["Memory"], &host["MemoryReservation"]), (&67_108_864.into(), &33_554_432.into()));
    env.ok(&["update", "-m", "96m", "--memory-swap", "96m", "cc"]);
    assert_eq!(limit(&env, "cc", "memory/memory.limit_in_bytes", "memory.max"), "100663296");
    assert_eq!(env.inspect("cc")["HostConfig"]["Memory"], 100_663_296);
    env.ok(&["update", "-m", "48m", "--memory-swap", "48m", "cc"]);
    assert_eq!(limit(&env, "cc", "memory/memory.limit_in_bytes", "memory.max"), "50331648");
}

#[test]
fn running_out_of_memory_is_reported() {
    let env = Env::with_busybox();
    let eater = "exec tail -c 200m /dev/zero";
    env.kiste(&["run", "--name", "cc", "-m", "24m", "busybox", "sh", "-c", eater]).fails(137, &[]);
    let state = &env.inspect("cc")["State"];
    assert_eq!((&state["OOMKilled"], &state["ExitCode"]), (&true.into(), &137.into()), "{state}");
    let events =
        env.ok(&["events", "--since", "10m", "--until", "0s", "--filter", "event=oom", "--format", "{{.Action}}"]);
    assert!(events.contains("oom"), "{events}");
    env.kiste(&["run", "--name", "dd", "busybox", "sh", "-c", "kill -9 $$; exit 137"]);
    assert_eq!(env.inspect("dd")["State"]["OOMKilled"], false);
}

#[test]
fn processes() {
    let env = Env::with_busybox();
    env.detached(&["--name", "default"], "sleep 60");
    assert_eq!(limit(&env, "default", "pids/pids.max", "pids.max"), "4096");
    let line = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done 2>/dev/null; wait";
    let output = env.kiste(&["run", "--rm", "--pids-limit", "5", "busybox", "sh", "-c", line]);
    assert!(output.stderr.contains("can't fork") || output.code() != 0, "{output:#?}");
    env.detached(&["--name", "none", "--pids-limit", "-1"], "sleep 60");
    assert_eq!(limit(&env, "none", "pids/pids.max", "pids.max"), "max");
    env.ok(&["update", "--pids-limit", "77", "none"]);
    assert_eq!(limit(&env, "none", "pids/pids.max", "pids.max"), "77");
}

#[test]
fn processors() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "--cpus", "0.5", "--cpu-shares", "2048", "--cpuset-cpus", "0"], "sleep 60");
    assert_eq!(limit(&env, "cc", "cpu/cpu.cfs_quota_us", "cpu.max"), by_version("50000", "50000 100000"));
    assert_eq!(limit(&env, "cc", "cpuset/cpuset.cpus", "cpuset.cpus"), "0");
    if !version_2() {
        assert_eq!(limit(&env, "cc", "cpu/cpu.shares", ""), "2048");
    }
    assert_eq!(env.ok(&["exec", "cc", "grep", "Cpus_allowed_list", "/proc/self/status"]), "Cpus_allowed_list:\t0");
    env.ok(&["update", "--cpus", "1.5", "cc"]);
    assert_eq!(limit(&env, "cc", "cpu/cpu.cfs_quota_us", "cpu.max"), by_version("150000", "150000 100000"));
    env.detached(&["--name", "qq", "--cpu-period", "50000", "--cpu-quota", "10000"], "sleep 60");
    assert_eq!(limit(&env, "qq", "cpu/cpu.cfs_quota_us", "cpu.max"), by_version("10000", "10000 50000"));
    let conflict = ["run", "--rm", "--cpus", "1", "--cpu-quota", "5000", "busybox", "true"];
    env.kiste(&conflict).fails(125, &["Conflicting options: Nano CPUs and CPU Quota cannot both be set"]);
    env.kiste(&["run", "--rm", "--cpuset-cpus", "999", "busybox", "true"]).fails(125, &["cpus"]);
}

#[test]
fn a_processor_limit_bites() {
    let env = Env::with_busybox();
    let line = "timeout 2 sh -c 'while :; do :; done'; awk '{print $1}' /proc/1/schedstat 2>/dev/null; times | tail -1";
    let output = env.sh(&["--cpus", "0.2"], line);
    let seconds = output.lines().last().and_then(|line| line.split('m').nth(1)).and_then(|rest| rest.split('s').next());
    let seconds: f64 = seconds.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{output}"));
    assert!(seconds < 1.0, "used {seconds} s of a processor in 2 s with a limit of 0.2: {output}");
}

#[test]
fn devices() {
    let env = Env::with_busybox();
    // Even with the capability and a node of its own making, a device that is not allowed does not open.
    let options = ["--userns", "host", "--cap-add", "MKNOD"];
    let line = "mknod /tun c 10 200 && : </tun";
    let output = env.kiste(&[&["run", "--rm"], &options[..], &["busybox", "sh", "-c", line]].concat());
    assert_ne!(output.code(), 0);
    assert!(output.stderr.contains("not permitted"), "{output:#?}");
    let allowed = [&options[..], &["--device-cgroup-rule", "c 10:200 r"]].concat();
    let output = env
        .kiste(&[&["run", "--rm"], &allowed[..], &["busybox", "sh", "-c", "mknod /tun c 10 200 && : </tun"]].concat());
    // A kernel without that driver says so; the limit would say something else.
    assert!(!output.stderr.contains("not permitted"), "{output:#?}");
    env.kiste(&["run", "--rm", "--device-cgroup-rule", "x 1:1 r", "busybox", "true"]).fails(125, &["x 1:1 r"]);
}

#[test]
fn block_devices() {
    let env = Env::with_busybox();
    let device = std::fs::read_dir("/sys/block").unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    let device =
        device.filter(|name| name.starts_with("vd") || name.starts_with("sd") || name.starts_with("nvme")).min();
    let device = device.expect("the machine has a disk");
    let number = std::fs::read_to_string(format!("/sys/block/{device}/dev")).unwrap();
    let option = format!("/dev/{device}:1mb");
    env.detached(&["--name", "cc", "--device-write-bps", &option], "sleep 60");
    let value = limit(&env, "cc", "blkio/blkio.throttle.write_bps_device", "io.max");
    assert!(value.contains(number.trim()) && value.contains("1048576"), "{value}");
    env.kiste(&["run", "--rm", "--device-write-bps", "/dev/no-such:1mb", "busybox", "true"])
        .fails(125, &["/dev/no-such"]);
}

#[test]
fn freezing() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "while :; do echo x; sleep 0.05; done");
    env.ok(&["pause", "cc"]);
    assert_eq!(env.status("cc"), "paused");
    let count = || env.ok(&["logs", "cc"]).lines().count();
    std::thread::sleep(Duration::from_millis(200));
    let before = count();
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(count(), before, "it goes on although frozen");
    env.kiste(&["exec", "cc", "true"]).fails(1, &["is paused"]);
    env.kiste(&["pause", "cc"]).fails(1, &["is already paused"]);
    env.ok(&["unpause", "cc"]);
    wait_until("it goes on", Duration::from_secs(10), || (count() > before).then_some(()));
    env.kiste(&["unpause", "cc"]).fails(1, &["is not paused"]);
    env.ok(&["pause", "cc"]);
    env.ok(&["rm", "-f", "cc"]);
}

#[test]
fn use_is_shown() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "-m", "64m"], "sleep 60 & sleep 60 & wait");
    let line = env.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "cc"]);
    assert!(line.starts_with("cc 3 ") && line.ends_with("/ 64MiB"), "{line}");
    let table = env.ok(&["top", "cc", "-o", "pid,comm"]);
    assert_eq!(table.lines().filter(|line| line.contains("sleep")).count(), 2, "{table}");
}
