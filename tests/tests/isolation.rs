//! What a container sees of the machine, and what it may do: by default, and with the options that open it up.

use std::collections::BTreeMap;

use kiste_tests::Env;

const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

fn host_namespaces() -> BTreeMap<String, String> {
    let link = |name: &str| std::fs::read_link(format!("/proc/thread-self/ns/{name}")).unwrap().display().to_string();
    NAMESPACES.iter().map(|name| ((*name).to_owned(), link(name))).collect()
}

/// Names of the namespaces that a new container with these options shares with the host.
fn shared(env: &Env, options: &[&str]) -> Vec<String> {
    let host = host_namespaces();
    let output =
        env.sh(options, "cd /proc/self/ns; for n in cgroup ipc mnt net pid time user uts; do readlink $n; done");
    let inside: Vec<&str> = output.lines().collect();
    assert_eq!(inside.len(), NAMESPACES.len(), "{output}");
    NAMESPACES.iter().zip(inside).filter(|(name, id)| host[**name] == *id).map(|(name, _)| (*name).to_owned()).collect()
}

#[test]
fn every_namespace_is_its_own() {
    let env = Env::with_busybox();
    assert_eq!(shared(&env, &[]), Vec::<String>::new());
}

#[test]
fn host_namespaces_on_request() {
    let env = Env::with_busybox();
    assert_eq!(shared(&env, &["--uts", "host"]), ["uts"]);
    assert_eq!(shared(&env, &["--userns", "host"]), ["user"]);
    assert_eq!(shared(&env, &["--cgroupns", "host"]), ["cgroup"]);
    assert_eq!(shared(&env, &["--network", "host"]), ["net", "user"]);
    assert_eq!(shared(&env, &["--pid", "host"]), ["pid", "user"]);
    assert_eq!(shared(&env, &["--ipc", "host"]), ["ipc", "user"]);
}

#[test]
fn joining_another_container() {
    let env = Env::with_busybox();
    env.detached(&["--name", "first", "--ipc", "shareable"], "echo x >/dev/shm/mark; sleep 60");
    let namespaces = |name: &str| {
        env.ok(&["exec", name, "sh", "-c", "cd /proc/self/ns; for n in ipc net pid user mnt uts; do readlink $n; done"])
    };
    let first: Vec<String> = namespaces("first").lines().map(str::to_owned).collect();
    let line = "cat /dev/shm/mark; ps -o args | grep -c 'slee[p] 60'; cd /proc/self/ns; for n in ipc net pid user mnt uts; do readlink $n; done";
    let joined =
        env.sh(&["--ipc", "container:first", "--network", "container:first", "--pid", "container:first"], line);
    let joined: Vec<&str> = joined.lines().collect();
    assert_eq!(joined[0], "x", "the same shared memory");
    assert_ne!(joined[1], "0", "the same processes");
    assert_eq!(joined[2..6], first[..4], "ipc, net, pid and user are joined");
    assert_ne!(joined[6], first[4], "the root file system is its own");
    assert_ne!(joined[7], first[5], "the host name is its own");
    env.kiste(&["run", "--rm", "--pid", "container:nosuch", "busybox", "true"]).fails(125, &["nosuch"]);
}

#[test]
fn it_sees_only_its_own_processes_and_interfaces() {
    let env = Env::with_busybox();
    assert_eq!(env.sh(&[], "echo $$; ls /proc | grep -c '^[0-9]'").lines().next(), Some("1"));
    assert_eq!(
        env.sh(&[], "ls /sys/class/net; ip -o addr show lo | grep -o 'inet 127.0.0.1/8'"),
        "eth0\nlo\ninet 127.0.0.1/8"
    );
    assert_eq!(
        env.sh(
            &["--network", "none"],
            "ls /sys/class/net; ping -c 1 127.0.0.1 >/dev/null 2>&1; cat /sys/class/net/lo/operstate"
        ),
        "lo\nunknown"
    );
}

fn status_field(env: &Env, options: &[&str], field: &str) -> String {
    let line = format!("grep '^{field}:' /proc/self/status | cut -f2");
    env.sh(options, &line)
}

#[test]
fn default_privileges() {
    let env = Env::with_busybox();
    // chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot setfcap
    let podman = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31].iter().fold(0u64, |set, bit| set | 1 << bit);
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(u64::from_str_radix(&status_field(&env, &[], set), 16), Ok(podman), "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status_field(&env, &[], set), "0000000000000000", "{set}");
    }
    assert_eq!(status_field(&env, &[], "Seccomp"), "2");
    assert_eq!(status_field(&env, &[], "NoNewPrivs"), "1");
    assert_eq!(status_field(&env, &["-u", "app"], "CapEff"), "0000000000000000");
}

#[test]
fn privileges_on_request() {
    let env = Env::with_busybox();
    assert_eq!(status_field(&env, &["--cap-drop", "ALL"], "CapEff"), "0000000000000000");
    let bits = u64::from_str_radix(&status_field(&env, &["--cap-drop", "all", "--cap-add", "net_raw"], "CapEff"), 16);
    assert_eq!(bits, Ok(1 << 13));
    assert_eq!(status_field(&env, &["--security-opt", "seccomp=unconfined"], "Seccomp"), "0");
    assert_eq!(status_field(&env, &["--security-opt", "no-new-privileges=false"], "NoNewPrivs"), "0");
    assert_eq!(status_field(&env, &["--privileged"], "Seccomp"), "0");
    let host = std::fs::read_to_string("/proc/self/status").unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    assert_eq!(status_field(&env, &["--privileged"], "CapEff"), host);
    env.kiste(&["run", "--rm", "--cap-add", "nosuch", "busybox", "true"]).fails(125, &["nosuch"]);
}

#[test]
fn kernel_files_are_masked_or_read_only() {
    let env = Env::with_busybox();
    let line = "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | grep -vc :; \
                for f in /proc/sys/kernel/panic /proc/sysrq-trigger /sys/kernel/mm/ksm/run; do (echo 0 >$f) 2>/dev/null && echo \"wrote $f\"; done; true";
    assert_eq!(env.sh(&[], line).lines().next(), Some("0"));
    assert!(!env.sh(&[], line).contains("wrote"), "{}", env.sh(&[], line));
    let mounts = env.sh(&[], "cat /proc/mounts");
    let options = |target: &str| {
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(target));
        line.unwrap_or_else(|| panic!("{target}: {mounts}")).split(' ').nth(3).unwrap().to_owned()
    };
    for target in ["/sys", "/proc/sys", "/sys/fs/cgroup"] {
        assert!(options(target).split(',').any(|option| option == "ro"), "{target}: {}", options(target));
    }
    for target in ["/proc", "/sys", "/dev/pts", "/dev/shm", "/dev/mqueue"] {
        assert!(
            options(target).contains("nosuid") && options(target).contains("noexec"),
            "{target}: {}",
            options(target)
        );
    }
}

#[test]
fn devices_are_the_minimal_ones_and_work() {
    let env = Env::with_busybox();
    let names = env.sh(&[], "ls /dev | sort | tr '\\n' ' '");
    assert_eq!(names.trim(), "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero");
    assert_eq!(
        env.sh(
            &[],
            "echo x >/dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; stat -c %t:%T /dev/null"
        ),
        "4\n4\n1:3"
    );
    assert_eq!(env.sh(&[], "echo x >/dev/full 2>/dev/null || echo full"), "full");
    assert_eq!(env.sh(&["--device", "/dev/null:/dev/hole:rw"], "echo x >/dev/hole; stat -c %t:%T /dev/hole"), "1:3");
    env.kiste(&["run", "--rm", "--device", "/dev/no-such", "busybox", "true"]).fails(125, &["/dev/no-such"]);
}

#[test]
fn dangerous_calls_are_refused() {
    let env = Env::with_busybox();
    let refused = |options: &[&str], line: &str| {
        let output = env.kiste(&[&["run", "--rm"], options, &["busybox", "sh", "-c", line]].concat());
        assert_ne!(output.code(), 0, "{line}: {output:#?}");
    };
    refused(&[], "mknod /null c 1 3");
    refused(&[], "mount -t tmpfs t /tmp");
    refused(&[], "unshare -U true");
    refused(&[], "unshare -m true");
    refused(&[], "hostname other");
    refused(&[], "date -s 2020-01-01 2>&1 | grep -v 'not permitted' | grep date");
    refused(&[], "ip link set lo down");
    refused(&[], "dmesg");
    refused(
        &["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"],
        "mount -t cgroup2 c /tmp && test -w /tmp/cgroup.procs && echo 1 >/tmp/cgroup.procs",
    );
}

#[test]
fn a_seccomp_profile_of_the_users_is_obeyed() {
    let env = Env::with_busybox();
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 11}]}"#;
    let file = env.write("profile.json", profile);
    let option = format!("seccomp={}", file.display());
    let output = env.sh(&["--security-opt", &option], "mkdir /x 2>&1; ls -d /bin");
    assert!(output.contains("Resource temporarily unavailable") && output.ends_with("/bin"), "{output}");
    let broken = env.write("broken.json", "{");
    let option = format!("seccomp={}", broken.display());
    env.kiste(&["run", "--rm", "--security-opt", &option, "busybox", "true"]).fails(125, &["seccomp"]);
}

#[test]
fn nothing_of_the_engine_is_reachable() {
    let env = Env::with_busybox();
    // No inherited descriptors besides the standard ones (3 is ls's own), no path of the host in the environment.
    assert_eq!(env.sh(&[], "ls /proc/self/fd | tr '\\n' ' '").trim(), "0 1 2 3");
    let exe = env.sh(&[], "readlink /proc/1/exe");
    assert_eq!(exe, "/bin/busybox");
    let mounts = env.sh(&[], "cat /proc/self/mountinfo | cut -d' ' -f5 | sort");
    assert!(!mounts.lines().any(|point| point.contains("kiste-test") || point.contains("old")), "{mounts}");
}
