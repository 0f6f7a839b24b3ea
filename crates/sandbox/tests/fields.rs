//! Fields of the configuration, each asked for from inside on the real kernel: what `docs/runtime.md` says is carried out
//! and no other test of this crate looks at.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{BASE, Container, process};
use serde_json::{Value, json};

#[test]
fn personality_and_memory_policy_hold_for_all_processes() {
    let script = "busybox uname -m; grep -m1 -o 'bind[^ ]*' /proc/self/numa_maps";
    let container = Container::sh(&format!("{script}; sleep 2"))
        .set("/spec/linux/personality", json!({"domain": "LINUX32"}))
        .set("/spec/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}))
        .set("/exec", json!([process(&["sh", "-c", script])]))
        .set("/kill", json!(true));
    let out = container.run().out;
    assert_eq!(out.matches("i686").count(), 2, "{out}");
    assert_eq!(out.matches("bind=static:0").count(), 2, "{out}");
}

#[test]
fn scheduling_is_as_configured() {
    // Fields 19 and 41 of stat are nice value and policy (proc(5)).
    let script = "set -- $(cat /proc/self/stat); shift 18; echo nice $1; shift 22; echo policy $1; busybox ionice";
    let ask = |scheduler: Value, priority: Value| {
        let container = Container::sh(script).set("/spec/process/scheduler", scheduler);
        container.set("/spec/process/ioPriority", priority).run().output()
    };
    let idle = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0});
    assert_eq!(ask(json!({"policy": "SCHED_BATCH", "nice": 7}), idle), "nice 7\npolicy 3\nidle\n");
    let best = json!({"class": "IOPRIO_CLASS_BE", "priority": 6});
    assert_eq!(ask(json!({"policy": "SCHED_IDLE"}), best), "nice 0\npolicy 5\nbest-effort: prio 6\n");
}

#[test]
fn further_processes_run_on_their_cpus() {
    let mut further = process(&["grep", "Cpus_allowed_list", "/proc/self/status"]);
    further["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    let container = Container::new(&["sleep", "10"]).set("/exec", json!([further])).set("/kill", json!(true));
    assert_eq!(container.run().out, "Cpus_allowed_list:\t0\n");
    let mut further = process(&["true"]);
    further["execCPUAffinity"] = json!({"final": "4090"});
    let container = Container::new(&["sleep", "10"]).set("/exec", json!([further]));
    container.run().fails(125, "process.execCPUAffinity.final");
}

#[test]
fn capability_sets_are_exactly_the_configured_ones() {
    let sets = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"],
        "ambient": ["CAP_CHOWN", "CAP_KILL"],
    });
    let container = Container::new(&["grep", "Cap", "/proc/self/status"]);
    let container = container.set("/spec/process/capabilities", sets).set("/user", json!("web"));
    let out = container.run().output();
    // Ambient must be permitted and inheritable; after `execve` it is all that another user than root still has.
    for line in [
        "CapInh:\t0000000000000401",
        "CapPrm:\t0000000000000001",
        "CapBnd:\t0000000000000421",
        "CapAmb:\t0000000000000001",
    ] {
        assert!(out.contains(line), "{line} is not in\n{out}");
    }
}

#[test]
fn several_ranges_of_ids() {
    let map = json!([
        {"containerID": 0, "hostID": BASE, "size": 1000},
        {"containerID": 1000, "hostID": BASE + 5000, "size": 10},
        {"containerID": 2000, "hostID": BASE + 9000, "size": 63536},
    ]);
    let container = Container::sh(
        "cat /proc/self/uid_map | wc -l; id -u; touch /tmp/x; chown 2005:1001 /tmp/x; stat -c %u:%g /tmp/x",
    );
    let container = container.set("/user", json!("web")).set("/user", json!("0"));
    let container = container.set("/spec/linux/uidMappings", map.clone()).set("/spec/linux/gidMappings", map);
    let upper = container.upper();
    assert_eq!(container.run().output(), "3\n0\n2005:1001\n");
    let stat = std::fs::metadata(upper.join("tmp/x")).unwrap();
    // The upper directory holds the container's own ids.
    assert_eq!((std::os::unix::fs::MetadataExt::uid(&stat), std::os::unix::fs::MetadataExt::gid(&stat)), (2005, 1001));
}

#[test]
fn mounts_with_mappings_of_their_own() {
    let mut container = Container::new(&["stat", "-c", "%u:%g", "/data/file"]);
    let data = container.host("data");
    std::fs::write(data.join("file"), "").unwrap();
    std::os::unix::fs::chown(data.join("file"), Some(1000), Some(1000)).unwrap();
    let map = json!([{"containerID": 1000, "hostID": BASE + 7, "size": 1}]);
    // Without the word `idmap`, the mappings alone say it.
    for options in [json!(["rbind", "ridmap"]), json!(["bind"])] {
        let mount = json!({"type": "bind", "source": data, "destination": "/data", "options": options,
            "uidMappings": map, "gidMappings": map});
        container = container.add("/spec/mounts", mount);
        assert_eq!(container.run().output(), "7:7\n");
        container.job["spec"]["mounts"].as_array_mut().unwrap().pop();
    }
}

#[test]
fn owners_in_a_mounted_overlay_are_the_containers() {
    let container = Container::sh("stat -c %u:%g /data/one /data/two; touch /data/x");
    let layers = ["one", "two"].map(|name| {
        let directory = container.host(name);
        std::fs::write(directory.join(name), "").unwrap();
        std::os::unix::fs::chown(directory.join(name), Some(1000), Some(1001)).unwrap();
        format!("lowerdir+={}", directory.display())
    });
    let container = container.mount("overlay", "overlay".as_ref(), "/data", &["ro", "idmap", &layers[0], &layers[1]]);
    let ended = container.run();
    assert_eq!(ended.out, "1000:1001\n1000:1001\n", "{}", ended.err);
    assert!(ended.err.contains("Read-only"), "{}", ended.err);
}

#[test]
fn a_part_of_an_overlay_is_looked_for_inside() {
    let mounted = |subpath: &str| {
        let container = Container::sh("cat /data/file; ls /data");
        let layers = ["one", "two"].map(|name| {
            let directory = container.host(name);
            std::fs::create_dir_all(directory.join("sub")).unwrap();
            std::fs::write(directory.join("sub/file"), name).unwrap();
            std::fs::write(directory.join("sub").join(name), "").unwrap();
            let _ = std::os::unix::fs::symlink("/sub", directory.join("link"));
            let _ = std::os::unix::fs::symlink("../../../../../../etc", directory.join("out"));
            format!("lowerdir+={}", directory.display())
        });
        let subpath = format!("x-kiste.subpath={subpath}");
        let options = ["ro", "idmap", &subpath, &layers[0], &layers[1]];
        container.mount("overlay", "overlay".as_ref(), "/data", &options).run()
    };
    for path in ["sub", "link"] {
        assert_eq!(mounted(path).output(), "onefile\none\ntwo\n", "{path}");
    }
    mounted("out").fails(125, "cannot access path out");
    mounted("missing").fails(125, "cannot access path missing");
}

#[test]
fn mount_options_of_whole_file_systems() {
    let words = ["sync", "dirsync", "lazytime", "iversion", "silent", "loud", "nomand", "noatime", "rnodev", "nosuid"];
    let container = Container::new(&["grep", " /data ", "/proc/mounts"]);
    let line = container.mount("tmpfs", "tmpfs".as_ref(), "/data", &words).run().output();
    for word in ["sync", "dirsync", "lazytime", "noatime", "nodev", "nosuid"] {
        assert!(line.split([' ', ',']).any(|option| option == word), "{word} is not in {line}");
    }
    let container = Container::new(&["true"]);
    let data = container.host("data");
    // As with mount(8), they say nothing about a bind mount.
    container.mount("bind", &data, "/data", &["bind", "sync", "async"]).run().output();
    let container = Container::new(&["true"]);
    let data = container.host("data");
    container.mount("bind", &data, "/data", &["bind", "size=1k"]).run().fails(125, "unknown option \"size=1k\"");
}

#[test]
fn remounts_change_what_is_there() {
    let container = Container::sh("touch /data/x; grep ' /data ' /proc/mounts");
    let container = container.mount("tmpfs", "tmpfs".as_ref(), "/data", &["size=4096k"]);
    let container = container.mount("tmpfs", "tmpfs".as_ref(), "/data", &["remount", "ro", "size=64k", "noexec"]);
    let ended = container.run();
    assert!(ended.err.contains("Read-only"), "{}", ended.err);
    assert!(
        ended.out.contains("ro,") && ended.out.contains("noexec") && ended.out.contains("size=64k"),
        "{}",
        ended.out
    );
    let container = Container::new(&["true"]).mount("tmpfs", "tmpfs".as_ref(), "/etc", &["remount", "ro"]);
    container.run().fails(125, "remount /etc");
}

#[test]
fn a_tmpfs_looks_like_the_directory_that_it_covers() {
    let container = Container::new(&["stat", "-c", "%a", "/tmp", "/root", "/new", "/home"]);
    std::fs::set_permissions(container.layer().join("root"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
    let tmpfs =
        |container: Container, path: &str, options: &[&str]| container.mount("tmpfs", "tmpfs".as_ref(), path, options);
    let container =
        tmpfs(tmpfs(tmpfs(tmpfs(container, "/tmp", &[]), "/root", &[]), "/new", &[]), "/home", &["mode=711"]);
    assert_eq!(container.run().output(), "1777\n700\n1777\n711\n");
}

#[test]
fn devices_of_every_kind_anywhere() {
    let devices = json!([
        {"type": "p", "path": "/dev/pipe", "fileMode": 384},
        {"type": "u", "path": "/dev/sub/zero", "major": 1, "minor": 5, "uid": 5, "gid": 6},
        {"type": "c", "path": "/srv/null", "major": 1, "minor": 3, "fileMode": 438},
    ]);
    let container = Container::sh("stat -c '%F %a %u %g %t:%T' /dev/pipe /dev/sub/zero /srv/null");
    let out = container.set("/spec/linux/devices", devices).run().output();
    assert_eq!(out, "fifo 600 0 0 0:0\ncharacter special file 666 5 6 1:5\ncharacter special file 666 0 0 1:3\n");
    let node = |path: &str| json!([{"type": "c", "path": path, "major": 1, "minor": 3}]);
    Container::new(&["true"])
        .set("/spec/linux/devices", node("/etc/passwd"))
        .run()
        .fails(125, "linux.devices: /etc/passwd exists");
    Container::new(&["true"]).set("/spec/linux/devices", node("/home")).run().fails(125, "linux.devices: /home exists");
}

#[test]
fn contradictions_name_the_field() {
    let one = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 10}]);
    let overlap =
        json!([{"containerID": 0, "hostID": BASE, "size": 10}, {"containerID": 5, "hostID": BASE + 100, "size": 10}]);
    let limit = |soft: u32| json!({"type": "RLIMIT_NOFILE", "soft": soft, "hard": 5});
    let cases: [(&str, Value, &str); 22] = [
        ("/spec/linux/maskedPaths", json!(["proc"]), "linux.maskedPaths[0]"),
        ("/spec/linux/readonlyPaths", json!(["/a/../b"]), "linux.readonlyPaths[0]"),
        ("/spec/linux/timeOffsets", json!({"realtime": {"secs": 1}}), "linux.timeOffsets: unknown clock"),
        ("/spec/linux/timeOffsets", json!({"monotonic": {"nanosecs": 1_000_000_000}}), "nanosecs"),
        ("/spec/linux/uidMappings", json!([]), "linux.uidMappings"),
        ("/spec/linux/uidMappings", overlap, "linux.uidMappings[1]: the range overlaps"),
        ("/spec/linux/gidMappings", json!([{"containerID": 0, "hostID": 0, "size": 0}]), "linux.gidMappings[0]: size"),
        ("/spec/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation"),
        ("/spec/linux/sysctl", json!({"kernel.core_pattern": "|/bin/sh"}), "separate kernel namespace"),
        ("/spec/linux/sysctl", json!({"kernel.hostname": "x"}), "conflicts with the OCI"),
        ("/spec/linux/personality", json!({"domain": "LINUX", "flags": ["x"]}), "linux.personality.flags"),
        ("/spec/linux/intelRdt", json!({"closID": "a/b"}), "linux.intelRdt: closID"),
        (
            "/spec/linux/devices",
            json!([{"type": "a", "path": "/dev/x", "major": 1, "minor": 1}]),
            "linux.devices[0].type",
        ),
        (
            "/spec/linux/devices",
            json!([{"type": "c", "path": "dev/x", "major": 1, "minor": 1}]),
            "linux.devices[0].path",
        ),
        (
            "/spec/linux/devices",
            json!([{"type": "c", "path": "/dev/x", "major": -1, "minor": 1}]),
            "linux.devices[0].major",
        ),
        ("/spec/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}), "defaultAction"),
        ("/spec/process/rlimits", json!([limit(1), limit(1)]), "process.rlimits[1]: RLIMIT_NOFILE occurs twice"),
        ("/spec/process/rlimits", json!([limit(6)]), "process.rlimits[0]"),
        ("/spec/process/oomScoreAdj", json!(1001), "process.oomScoreAdj"),
        (
            "/spec/process/scheduler",
            json!({"policy": "SCHED_FIFO", "nice": 0, "runtime": 4}),
            "process.scheduler.runtime",
        ),
        ("/spec/process/ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 9}), "process.ioPriority"),
        ("/spec/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}), "linux.memoryPolicy MPOL_BIND"),
    ];
    for (pointer, value, expected) in cases {
        Container::new(&["true"]).set(pointer, value).run().fails(125, expected);
    }
    let mut container = Container::new(&["true"]);
    container.namespaces(|kind| kind != "uts");
    container.run().fails(125, "hostname: unable to set hostname without a private UTS namespace");
    let mut container = Container::new(&["true"]).set("/spec/linux/timeOffsets", json!({"monotonic": {"secs": 1}}));
    container.namespaces(|kind| kind != "time");
    container.run().fails(125, "time namespace isn't enabled");
    let container = Container::new(&["true"]).host_user().set("/spec/linux/uidMappings", one(0));
    container.run().fails(125, "linux.uidMappings: user namespace mappings specified");
    let container = Container::new(&["true"]).host_user();
    let data = container.host("data");
    container.mount("bind", &data, "/data", &["bind", "idmap"]).run().fails(125, "idmap needs");
    let mut mount = json!({"type": "bind", "source": "/tmp", "destination": "/data", "options": ["bind", "idmap"]});
    mount["uidMappings"] = one(0);
    Container::new(&["true"]).add("/spec/mounts", mount).run().fails(125, "both uidMappings and gidMappings");
}

/// Where nothing of the kind is there, the error says so; nothing runs without what was asked for.
#[test]
fn hardware_and_modules_that_are_missing_are_named() {
    let has = |file: &str| std::path::Path::new(file).exists();
    if !has("/sys/fs/resctrl/schemata") {
        let container = Container::new(&["true"]).set("/spec/linux/intelRdt", json!({"enableMonitoring": true}));
        container.run().fails(125, "linux.intelRdt: no resctrl file system is mounted");
    }
    if !has("/sys/module/apparmor/parameters/enabled") {
        let container = Container::new(&["true"]).set("/spec/process/apparmorProfile", json!("docker-default"));
        container.run().fails(125, "process.apparmorProfile: config provided but apparmor not supported");
    }
    if !has("/sys/fs/selinux/enforce") {
        let container = Container::new(&["true"]).set("/spec/process/selinuxLabel", json!("a:b:c:d"));
        container.run().fails(125, "process.selinuxLabel: selinux label is specified");
        let container = Container::new(&["true"]).set("/spec/linux/mountLabel", json!("a:b:c:d"));
        container.run().fails(125, "linux.mountLabel: selinux label is specified");
    }
}

/// An agent that answers calls.
struct Agent {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Agent {
    fn start(socket: &std::path::Path, errno: i32) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agent.py");
        let mut command = Command::new("python3");
        let mut process =
            command.arg(script).arg(socket).arg(errno.to_string()).stdout(Stdio::piped()).spawn().unwrap();
        let mut agent = Self { output: BufReader::new(process.stdout.take().unwrap()), process };
        assert_eq!(agent.line(), "ready");
        agent
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// What it was sent last.
    fn state(&mut self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn an_agent_answers_notified_calls() {
    for no_new_privileges in [true, false] {
        let container = Container::sh("mkdir /tmp/x; sleep 5");
        let socket = container.host("agent").join("socket");
        let mut agent = Agent::start(&socket, libc_exdev());
        let profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket, "listenerMetadata": "meta",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        });
        let mut further = process(&["mkdir", "/tmp/y"]);
        further["noNewPrivileges"] = json!(no_new_privileges);
        let container = container
            .set("/spec/linux/seccomp", profile)
            .set("/spec/process/noNewPrivileges", json!(no_new_privileges))
            .set("/exec", json!([further]))
            .set("/kill", json!(true));
        let ended = container.run();
        assert_eq!(ended.err.matches("cross-device link").count(), 2, "{}", ended.err);
        let (first, second) = (agent.state(), agent.state());
        let state = &first["state"];
        assert_eq!((&first["fds"], &state["fds"]), (&json!(1), &json!(["seccompFd"])));
        assert_eq!((&state["metadata"], &state["state"]["id"]), (&json!("meta"), &json!("try")));
        assert_eq!((&state["state"]["status"], &state["state"]["bundle"]), (&json!("creating"), &json!("/bundle")));
        assert_eq!(state["pid"], state["state"]["pid"]);
        assert_eq!(
            (&second["state"]["state"]["pid"], &second["state"]["state"]["status"]),
            (&state["pid"], &json!("running"))
        );
        assert_ne!(second["state"]["pid"], state["pid"]);
    }
}

fn libc_exdev() -> i32 {
    rustix::io::Errno::XDEV.raw_os_error()
}

#[test]
fn an_agent_that_is_not_there_is_an_error() {
    let container = Container::new(&["true"]);
    let socket = container.host("agent").join("socket");
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket,
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    });
    container.set("/spec/linux/seccomp", profile).run().fails(125, "linux.seccomp.listenerPath: send the listener to");
}

/// A device on the host, one end of a pair, gone with the test.
struct Device(String);

impl Device {
    fn new(suffix: &str) -> Self {
        let name = format!("kt{}{suffix}", std::process::id());
        ip(&["link", "add", &name, "type", "veth", "peer", "name", &format!("{name}p")]);
        Self(name)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Usually it has gone with the container's network namespace.
        let _ = Command::new("ip").args(["link", "del", &self.0]).stderr(Stdio::null()).status();
    }
}

fn ip(words: &[&str]) {
    assert!(Command::new("ip").args(words).status().unwrap().success(), "ip {words:?}");
}

#[test]
fn network_devices_move_with_their_addresses() {
    let (renamed, kept, numbered) = (Device::new("a"), Device::new("b"), Device::new("c"));
    ip(&["addr", "add", "198.51.100.7/28", "dev", &renamed.0]);
    ip(&["addr", "add", "2001:db8:77::7/64", "dev", &renamed.0]);
    ip(&["addr", "add", "169.254.7.7/16", "dev", &renamed.0, "scope", "link"]);
    ip(&["link", "set", &renamed.0, "up"]);
    let mut devices = json!({});
    devices[&renamed.0] = json!({"name": "eth7"});
    devices[&kept.0] = json!({});
    devices[&numbered.0] = json!({"name": "net%d"});
    let script = format!("busybox ip addr show eth7; busybox ip link show {}; busybox ip link show net0", kept.0);
    let out = Container::sh(&script).set("/spec/linux/netDevices", devices).run().output();
    assert!(out.contains("inet 198.51.100.7/28") && out.contains("inet6 2001:db8:77::7/64"), "{out}");
    assert!(!out.contains("169.254.7.7") && out.matches(",UP").count() == 3, "{out}");
}

#[test]
fn network_devices_that_cannot_move_are_named() {
    let device = Device::new("d");
    let wanted = |name: &str, to: &str| json!({ name: {"name": to} });
    let cases = [
        (wanted("kt-no-such", "eth0"), "find network device kt-no-such"),
        (wanted(&device.0, "lo"), "move into the container's network namespace"),
        (wanted(&device.0, "a/b"), "invalid network device name \"a/b\""),
        (wanted("much-too-long-a-name", "x"), "invalid network device name"),
    ];
    for (devices, text) in cases {
        Container::new(&["true"]).set("/spec/linux/netDevices", devices).run().fails(125, text);
    }
    let mut container = Container::new(&["true"]).set("/spec/linux/netDevices", wanted(&device.0, "eth0"));
    container.namespaces(|kind| kind != "network");
    container.run().fails(125, "without a NET namespace");
    // Nothing has become of it.
    ip(&["link", "show", &device.0]);
}
