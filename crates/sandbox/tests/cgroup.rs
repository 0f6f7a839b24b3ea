//! cgroups on the real kernel of this machine, whichever layout it has. Needs root; everything is made below
//! `/kiste-test-PID-…` and taken away again. What only one version has is tested where that version is.

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use sandbox::cgroup::{self, Cgroup, Entry, Version};

/// A cgroup of a test, removed with its parent at the end.
struct Scratch {
    parent: String,
    cgroup: Option<Cgroup>,
}

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let parent = format!("/kiste-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let cgroup = Cgroup::create(&format!("{parent}/leaf")).expect("make a cgroup (this test needs root)");
        Scratch { parent, cgroup: Some(cgroup) }
    }

    fn leaf(&self) -> String {
        format!("{}/leaf", self.parent)
    }

    fn file(&self, controller: &str, file: &str) -> PathBuf {
        let directories = self.directories();
        let found =
            directories.iter().find(|(name, _)| name.is_empty() || name.split(',').any(|each| each == controller));
        found.unwrap_or_else(|| panic!("no {controller} controller")).1.join(file)
    }

    fn read(&self, controller: &str, file: &str) -> String {
        fs::read_to_string(self.file(controller, file)).unwrap().trim().to_owned()
    }

    fn apply(&self, json: &str) -> std::io::Result<()> {
        (**self).apply(&serde_json::from_str::<LinuxResources>(json).unwrap())
    }

    fn spawn(&self, script: &str) -> Child {
        spawn_in(self, script)
    }
}

/// A shell that enters the cgroup by itself, as a container's first process does on v1, and runs the script.
fn spawn_in(cgroup: &Cgroup, script: &str) -> Child {
    let file = if cgroup::version() == Version::V1 { "tasks" } else { "cgroup.procs" };
    let enter: String = cgroup
        .directories()
        .iter()
        .map(|(_, path)| format!("echo 0 > {}/{file} || exit 99\n", path.display()))
        .collect();
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{enter}echo ready\n{script}")).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    assert_eq!(read_line(&mut child), "ready", "the shell could not enter its cgroup");
    child
}

/// One line of the child's output, and not a byte more: the rest is for whoever reads next.
fn read_line(child: &mut Child) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while child.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

impl std::ops::Deref for Scratch {
    type Target = Cgroup;

    fn deref(&self) -> &Cgroup {
        self.cgroup.as_ref().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.cgroup.take());
        let removed = Cgroup::open(&self.parent).and_then(Cgroup::remove);
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

fn v1() -> bool {
    cgroup::version() == Version::V1
}

/// Waits for what the kernel does in its own time.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[test]
fn is_made_in_every_hierarchy_and_removed_from_all() {
    let scratch = Scratch::new();
    let directories = scratch.directories();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let kind = if v1() { "cgroup" } else { "cgroup2" };
    let mounted: HashSet<&str> = mounts
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            // The same hierarchy may be mounted more than once; its options name it.
            (fields[2] == kind).then_some(fields[3])
        })
        .collect();
    assert_eq!(directories.len(), mounted.len(), "{directories:?} {mounted:?}");
    assert!(directories.iter().all(|(_, path)| path.join("cgroup.procs").exists()));
    drop(scratch);
    assert!(directories.iter().all(|(_, path)| !path.exists() && !path.parent().unwrap().exists()));
}

#[test]
fn open_finds_it_and_says_when_there_is_none() {
    let scratch = Scratch::new();
    assert_eq!(Cgroup::open(&scratch.leaf()).unwrap().directories(), scratch.directories());
    let error = Cgroup::open("/kiste-test-none/leaf").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_left_over_empty_one_is_replaced_and_a_used_one_is_not() {
    let scratch = Scratch::new();
    scratch.apply(r#"{"pids": {"limit": 7}}"#).unwrap();
    drop(Cgroup::create(&scratch.leaf()).unwrap());
    assert_eq!(scratch.usage().unwrap().pids_limit, None, "the old limit is gone");
    let mut child = scratch.spawn("exec sleep 60");
    let error = Cgroup::create(&scratch.leaf()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{error}");
    assert_eq!(scratch.processes().unwrap(), [child.id() as i32], "the used one is still whole");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for path in ["", "/", "relative", "/a/../b", "/a//b", "/a/./b", "/a\n", "//"] {
        let error = Cgroup::create(path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{path:?}");
    }
}

#[test]
fn a_process_enters_by_what_entry_hands_out() {
    let scratch = Scratch::new();
    let entry = scratch.entry().unwrap();
    let inherit = |fd: &OwnedFd| rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
    let script = match &entry {
        Entry::V1(tasks) => {
            tasks.iter().for_each(inherit);
            assert_eq!(tasks.len(), scratch.directories().len());
            tasks.iter().map(|fd| format!("echo 0 >&{}\n", fd.as_raw_fd())).collect::<String>()
        }
        Entry::V2(directory) => {
            inherit(directory);
            format!("echo 0 > /proc/self/fd/{}/cgroup.procs\n", directory.as_raw_fd())
        }
    };
    // `dash` takes descriptors above 9 only by their /proc names, so a fresh process of another shell is used.
    let output = Command::new("bash").arg("-c").arg(format!("{script}cat /proc/self/cgroup")).output().unwrap();
    let memberships = String::from_utf8(output.stdout).unwrap();
    let inside = memberships.lines().filter(|line| line.ends_with(&scratch.leaf())).count();
    assert_eq!(inside, scratch.directories().len(), "{memberships}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn limits_arrive_in_the_kernel() {
    let scratch = Scratch::new();
    scratch
        .apply(
            r#"{"memory": {"limit": 67108864, "swap": 134217728, "reservation": 33554432},
                "cpu": {"shares": 512, "quota": 50000, "period": 100000, "burst": 20000, "cpus": "0", "mems": "0"},
                "pids": {"limit": 42}}"#,
        )
        .unwrap();
    let usage = scratch.usage().unwrap();
    assert_eq!((usage.memory_limit, usage.pids_limit), (Some(67_108_864), Some(42)));
    assert_eq!(scratch.read("cpuset", "cpuset.cpus"), "0");
    let expected: &[(&str, &str, &str)] = match v1() {
        true => &[
            ("memory", "memory.memsw.limit_in_bytes", "134217728"),
            ("memory", "memory.soft_limit_in_bytes", "33554432"),
            ("cpu", "cpu.shares", "512"),
            ("cpu", "cpu.cfs_quota_us", "50000"),
            ("cpu", "cpu.cfs_burst_us", "20000"),
        ],
        false => &[
            ("", "memory.swap.max", "67108864"),
            ("", "memory.low", "33554432"),
            ("", "cpu.weight", "59"),
            ("", "cpu.max", "50000 100000"),
            ("", "cpu.max.burst", "20000"),
        ],
    };
    for (controller, file, value) in expected {
        assert_eq!(scratch.read(controller, file), *value, "{file}");
    }
}

#[test]
fn limits_that_depend_on_each_other_move_up_and_down_in_one_call() {
    let scratch = Scratch::new();
    let steps =
        [(64, 64, 20_000, 10_000), (256, 512, 200_000, 150_000), (32, 48, 10_000, 5_000), (512, 600, 90_000, 0)];
    for (memory, swap, quota, burst) in steps {
        let bytes = |mebibytes: u64| mebibytes << 20;
        let json = format!(
            r#"{{"memory": {{"limit": {}, "swap": {}}}, "cpu": {{"quota": {quota}, "burst": {burst}}}}}"#,
            bytes(memory),
            bytes(swap)
        );
        scratch.apply(&json).unwrap();
        assert_eq!(scratch.usage().unwrap().memory_limit, Some(bytes(memory)));
    }
    scratch.apply(r#"{"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}}"#).unwrap();
    let usage = scratch.usage().unwrap();
    assert_eq!((usage.memory_limit, usage.pids_limit), (None, None));
    let swap = if v1() { "memory.memsw.limit_in_bytes" } else { "memory.swap.max" };
    assert!(matches!(scratch.read("memory", swap).as_str(), "max" | "9223372036854771712"));
}

#[test]
fn errors_name_file_value_and_reason() {
    let scratch = Scratch::new();
    let refused = |json: &str| scratch.apply(json).unwrap_err().to_string();
    let error = refused(r#"{"cpu": {"cpus": "4000"}}"#);
    assert!(error.contains("cpuset.cpus") && error.contains("4000") && error.contains("parent"), "{error}");
    let error = refused(r#"{"memory": {"limit": 67108864, "swap": 33554432}}"#);
    assert!(error.contains("33554432") && error.contains("memory limit"), "{error}");
    let error = refused(r#"{"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}"#);
    assert!(error.contains("../x"), "{error}");
    let error = refused(r#"{"memory": {"kernel": 1000000}}"#);
    assert!(error.contains("kernel memory"), "{error}");
    let error = refused(r#"{"rdma": {"mlx5_1": {"hcaHandles": 1}}}"#);
    assert!(error.contains("rdma"), "{error}");
    let other_version = if v1() { r#"{"unified": {"memory.high": "1"}}"# } else { r#"{"memory": {"swappiness": 1}}"# };
    let error = refused(other_version);
    assert!(error.contains("cgroup v"), "{error}");
}

#[test]
fn block_devices_are_throttled() {
    let Some((major, minor)) = some_disk() else { return };
    let scratch = Scratch::new();
    let device = format!(r#"[{{"major": {major}, "minor": {minor}, "rate": 1048576}}]"#);
    let json = format!(
        r#"{{"blockIO": {{"throttleReadBpsDevice": {device}, "throttleWriteBpsDevice": {device},
            "throttleReadIOPSDevice": {device}, "throttleWriteIOPSDevice": {device}}}}}"#
    );
    scratch.apply(&json).unwrap();
    match v1() {
        true => {
            for file in ["read_bps", "write_bps", "read_iops", "write_iops"] {
                let value = scratch.read("blkio", &format!("blkio.throttle.{file}_device"));
                assert_eq!(value, format!("{major}:{minor} 1048576"), "{file}");
            }
        }
        false => assert_eq!(
            scratch.read("io", "io.max"),
            format!("{major}:{minor} rbps=1048576 wbps=1048576 riops=1048576 wiops=1048576")
        ),
    }
    let error = scratch.apply(r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 1, "rate": 1}]}}"#);
    assert!(error.unwrap_err().to_string().contains("no such block device"));
}

/// Numbers of the first whole disk; every machine with a disk has one.
fn some_disk() -> Option<(u32, u32)> {
    let mut disks = fs::read_dir("/sys/block").ok()?.flatten();
    let numbers = disks.find_map(|disk| fs::read_to_string(disk.path().join("dev")).ok())?;
    let (major, minor) = numbers.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[test]
fn block_weights_are_taken_where_the_kernel_has_them() {
    let scratch = Scratch::new();
    let (controller, files) =
        if v1() { ("blkio", ["blkio.weight", "blkio.bfq.weight"]) } else { ("io", ["io.bfq.weight", "io.weight"]) };
    let result = scratch.apply(r#"{"blockIO": {"weight": 500}}"#);
    match files.iter().find(|file| scratch.file(controller, file).exists()) {
        Some(file) => {
            result.unwrap();
            let weight = if *file == "io.weight" { "4950" } else { "500" };
            assert!(scratch.read(controller, file).ends_with(weight), "{file}");
        }
        None => assert!(result.unwrap_err().to_string().contains("no such setting")),
    }
}

/// Docker's default rules in short: nothing, but for `/dev/null` and `/dev/zero`.
const FEW_DEVICES: &str = r#"{"devices": [
    {"allow": false, "access": "rwm"},
    {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    {"allow": true, "type": "c", "major": 1, "minor": 5, "access": "r"}]}"#;

/// What a process in the cgroup can do with some devices, as `echo` and `head` see it.
fn device_access(scratch: &Scratch) -> Vec<bool> {
    let script = "(: > /dev/null) && echo y || echo n; (: < /dev/zero) && echo y || echo n; \
                  (: > /dev/zero) && echo y || echo n; (: < /dev/urandom) && echo y || echo n";
    let output = scratch.spawn(&format!("exec 2>&1; {script}")).wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().filter(|line| line.len() == 1).map(|line| line == "y").collect()
}

#[test]
fn devices_are_filtered_and_the_filter_is_exchanged() {
    let scratch = Scratch::new();
    assert_eq!(device_access(&scratch), [true; 4]);
    scratch.apply(FEW_DEVICES).unwrap();
    assert_eq!(device_access(&scratch), [true, true, false, false]);
    let more = FEW_DEVICES.replace(r#""minor": 5"#, r#""minor": 9"#);
    scratch.apply(&more).unwrap();
    assert_eq!(device_access(&scratch), [true, false, false, true]);
    let all_but_one = r#"{"devices": [{"allow": true, "access": "rwm"},
        {"allow": false, "type": "c", "major": 1, "minor": 9, "access": "r"}]}"#;
    scratch.apply(all_but_one).unwrap();
    assert_eq!(device_access(&scratch), [true, true, true, false]);
    scratch.apply(r#"{"devices": [{"allow": true, "access": "rwm"}]}"#).unwrap();
    assert_eq!(device_access(&scratch), [true; 4]);
}

#[test]
fn an_exchange_of_the_filter_never_denies_what_both_allow() {
    let scratch = Scratch::new();
    scratch.apply(FEW_DEVICES).unwrap();
    let child = scratch.spawn("i=0; while [ $i -lt 20000 ]; do : > /dev/null || echo denied; i=$((i+1)); done");
    for minor in [9, 5, 8, 5, 9].repeat(20) {
        scratch.apply(&FEW_DEVICES.replace(r#""minor": 5"#, &format!(r#""minor": {minor}"#))).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

#[test]
fn freezing_stops_and_thawing_goes_on() {
    let scratch = Scratch::new();
    let mut child = scratch.spawn("while :; do :; done");
    let busy = || scratch.usage().unwrap().cpu_total;
    eventually("the loop uses CPU time", || busy() > 20_000_000);
    scratch.freeze(true).unwrap();
    scratch.freeze(true).unwrap();
    let frozen = busy();
    std::thread::sleep(Duration::from_millis(50));
    assert!(busy() - frozen < 5_000_000, "a frozen loop uses CPU time");
    scratch.freeze(false).unwrap();
    eventually("the loop goes on", || busy() > frozen + 20_000_000);
    scratch.kill().unwrap();
    assert!(!child.wait().unwrap().success());
}

#[test]
fn killing_ends_all_even_frozen_ones_and_children_below() {
    let scratch = Scratch::new();
    let mut child = scratch.spawn("for i in 1 2 3 4 5; do (sleep 60 & sleep 60) & done; wait");
    eventually("all processes are there", || scratch.processes().unwrap().len() >= 11);
    let processes = scratch.processes().unwrap();
    scratch.freeze(true).unwrap();
    scratch.kill().unwrap();
    child.wait().unwrap();
    eventually("all are gone", || processes.iter().all(|pid| !is_running(*pid as u32)));
}

#[test]
fn removal_takes_processes_and_child_cgroups_along() {
    let scratch = Scratch::new();
    let nested = Cgroup::create(&format!("{}/nested/deeper", scratch.leaf())).unwrap();
    // In the lowest one: on v2 only leaves have processes.
    let mut child = spawn_in(&nested, "sleep 60 & sleep 60");
    eventually("both are there", || scratch.processes().unwrap().len() >= 2);
    Cgroup::open(&scratch.leaf()).unwrap().remove().unwrap();
    assert!(nested.directories().iter().chain(&scratch.directories()).all(|(_, path)| !path.exists()));
    child.wait().unwrap();
    // Removing what is gone is no error.
    nested.remove().unwrap();
}

#[test]
fn running_out_of_memory_is_noticed_and_counted() {
    let scratch = Scratch::new();
    scratch.apply(r#"{"memory": {"limit": 8388608, "swap": 8388608}}"#).unwrap();
    let notice = scratch.oom_events().unwrap();
    assert_eq!(scratch.oom_kills(), 0);
    let mut child = scratch.spawn("exec tail /dev/zero");
    assert!(!child.wait().unwrap().success());
    assert_eq!((scratch.oom_kills(), scratch.usage().unwrap().oom_kills), (1, 1));
    let mut buffer = [0; 512];
    assert!(rustix::io::read(&notice, &mut buffer).unwrap() >= 8, "the descriptor is readable");
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_when_asked_to_check() {
    let scratch = Scratch::new();
    let mut child = scratch.spawn("x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo full; sleep 60");
    assert_eq!(read_line(&mut child), "full");
    // v1 refuses by itself what it cannot reclaim; v2 would kill.
    let error = scratch.apply(r#"{"memory": {"limit": 8388608, "swap": 8388608, "checkBeforeUpdate": true}}"#);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("in use") && error.contains("8388608"), "{error}");
    assert!(is_running(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn usage_tells_what_was_used() {
    let scratch = Scratch::new();
    let mut child = scratch.spawn("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 60");
    eventually("CPU time, memory and pids are counted", || {
        let usage = scratch.usage().unwrap();
        usage.cpu_total > 10_000_000 && usage.cpu_user > 0 && usage.memory > 0 && usage.pids >= 1
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn pids_limit_holds() {
    let scratch = Scratch::new();
    scratch.apply(r#"{"pids": {"limit": 3}}"#).unwrap();
    let mut child = scratch.spawn("exec 2>&1; for i in 1 2 3 4 5; do sleep 60 & done; wait");
    let complaint = read_line(&mut child);
    assert!(complaint.contains("fork"), "the shell was refused a fork: {complaint:?}");
    assert!(scratch.usage().unwrap().pids <= 3);
    scratch.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_host_is_asked_what_it_can() {
    assert!(cgroup::has_controller("pids") && cgroup::has_controller("memory") && cgroup::has_controller("cpuacct"));
    assert!(!cgroup::has_controller("no-such-controller"));
    let scratch = Scratch::new();
    let swap = if v1() { "memory.memsw.limit_in_bytes" } else { "memory.swap.max" };
    assert_eq!(cgroup::accounts_swap(), scratch.file("memory", swap).exists());
}

#[test]
fn a_cgroup_of_the_unified_hierarchy_is_made_where_a_manager_uses_it() {
    let scratch = Scratch::new();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let managed = v1() && own.lines().any(|line| line.starts_with("0::/") && line != "0::/");
    assert_eq!(scratch.unified_entry().unwrap().is_some(), managed);
}

#[test]
fn huge_pages_are_limited_where_the_host_can() {
    let scratch = Scratch::new();
    let sizes = fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let kibibytes =
        |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok();
    let size: u64 = sizes.filter_map(kibibytes).filter(|size| *size < 1 << 20).min().unwrap_or(2048);
    let name = if size >= 1024 { format!("{}MB", size >> 10) } else { format!("{size}KB") };
    let result =
        scratch.apply(&format!(r#"{{"hugepageLimits": [{{"pageSize": "{name}", "limit": {}}}]}}"#, size << 10));
    match cgroup::has_controller("hugetlb") {
        true => {
            result.unwrap();
            let file = format!("hugetlb.{name}.{}", if v1() { "limit_in_bytes" } else { "max" });
            assert_eq!(scratch.read("hugetlb", &file), (size << 10).to_string());
        }
        false => assert!(result.unwrap_err().to_string().contains("hugetlb")),
    }
}

#[test]
fn settings_in_the_hosts_own_terms_are_for_v2() {
    let scratch = Scratch::new();
    let result = scratch.apply(r#"{"unified": {"memory.high": "33554432", "pids.max": "77"}}"#);
    match v1() {
        true => assert!(result.unwrap_err().to_string().contains("cgroup v2")),
        false => {
            result.unwrap();
            assert_eq!([scratch.read("", "memory.high"), scratch.read("", "pids.max")], ["33554432", "77"]);
        }
    }
}

#[test]
fn many_are_made_and_removed_at_once_below_a_parent_that_nobody_made() {
    let scratch = Scratch::new();
    for round in 0..5 {
        // The parent is new in every round: all race to make it, and to make its cpuset usable.
        let parent = format!("{}/round{round}", scratch.parent);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = format!("{parent}/{number}");
                scope.spawn(move || {
                    let cgroup = Cgroup::create(&path).unwrap();
                    cgroup.apply(&serde_json::from_str::<LinuxResources>(FEW_DEVICES).unwrap()).unwrap();
                    let mut child = spawn_in(&cgroup, "exec sleep 60");
                    assert_eq!(cgroup.processes().unwrap(), [child.id() as i32]);
                    cgroup.remove().unwrap();
                    assert!(!child.wait().unwrap().success());
                });
            }
        });
    }
}
