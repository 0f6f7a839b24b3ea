//! What a container sees and may do, asked from inside on the real kernel.

mod common;

use common::{BASE, Container, process};
use rustix::process::Signal;
use serde_json::json;

const KINDS: [&str; 8] = ["mnt", "uts", "ipc", "pid", "net", "user", "cgroup", "time"];

fn namespaces(of: &str) -> Vec<String> {
    KINDS.map(|kind| std::fs::read_link(format!("{of}/ns/{kind}")).unwrap().display().to_string()).to_vec()
}

#[test]
fn all_eight_namespaces_are_its_own() {
    let running = Container::new(&["sleep", "100"]).start();
    let theirs = namespaces(&format!("/proc/{}", running.pid));
    running.signal(Signal::KILL);
    running.wait();
    for (own, theirs) in namespaces("/proc/self").iter().zip(theirs) {
        assert_ne!(*own, theirs);
    }
}

#[test]
fn root_is_nobody_on_the_host() {
    let running = Container::new(&["sleep", "100"]).start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid)).unwrap();
    running.signal(Signal::KILL);
    running.wait();
    assert!(status.contains(&format!("Uid:\t{BASE}\t{BASE}\t{BASE}\t{BASE}")), "{status}");
    assert!(status.contains(&format!("Gid:\t{BASE}\t{BASE}\t{BASE}\t{BASE}")), "{status}");
}

#[test]
fn privileges_are_exactly_the_configured_ones() {
    let container = Container::new(&["cat", "/proc/self/status"]).set("/default_seccomp", json!(true));
    let status = container.run().output();
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000800405fb",
        "CapEff:\t00000000800405fb",
        "CapBnd:\t00000000800405fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "Groups:\t0 \n",
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
        "Umask:\t0022",
    ] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
}

#[test]
fn another_user_has_no_capabilities() {
    let container = Container::sh("cat /proc/self/status; id; env").set("/user", json!("web"));
    let output = container.run().output();
    assert!(output.contains("CapPrm:\t0000000000000000") && output.contains("CapEff:\t0000000000000000"), "{output}");
    assert!(output.contains("uid=1000(web) gid=1001(web) groups=50(staff),1001(web)"), "{output}");
    assert!(output.contains("HOME=/home/web"), "{output}");
}

#[test]
fn seccomp_blocks_new_user_namespaces_without_no_new_privs_too() {
    for no_new_privs in [true, false] {
        let container = Container::sh("grep NoNewPrivs /proc/self/status; unshare -r true")
            .set("/default_seccomp", json!(true))
            .set("/spec/process/noNewPrivileges", json!(no_new_privs));
        let ended = container.run();
        assert!(ended.out.contains(&format!("NoNewPrivs:\t{}", u8::from(no_new_privs))), "{}", ended.out);
        assert!(ended.err.contains("Operation not permitted"), "{}", ended.err);
    }
}

#[test]
fn only_standard_streams_are_open() {
    let container = Container::new(&["ls", "/proc/self/fd"]);
    // 3 is the directory that ls reads.
    assert_eq!(container.run().output().split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

#[test]
fn masked_and_readonly_paths() {
    let script = "wc -c < /proc/keys; ls -A /sys/firmware | wc -l; echo x > /proc/keys && echo null; \
                  echo 1 > /proc/sys/kernel/domainname; mkdir /sys/firmware/x; \
                  echo x > /sys/kernel/profiling";
    let ended = Container::sh(script).run();
    assert_eq!(ended.out, "0\n0\nnull\n", "{}", ended.err);
    assert_eq!(ended.err.matches("Read-only file system").count(), 3, "{}", ended.err);
}

#[test]
fn cgroups_are_visible_from_the_containers_own_root_and_read_only() {
    let script = "cat /proc/self/cgroup; find /sys/fs/cgroup -maxdepth 2 -name cgroup.procs | wc -l; \
                  for d in /sys/fs/cgroup /sys/fs/cgroup/memory; do mkdir $d/x 2>&1; done";
    let ended = Container::sh(script).run();
    let lines: Vec<&str> = ended.out.lines().filter(|line| line.contains("::") || line.contains(":/")).collect();
    assert!(
        !lines.is_empty() && lines.iter().all(|line| line.ends_with(":/") || line.contains("mkdir")),
        "{}",
        ended.out
    );
    assert!(!ended.out.contains("\n0\n"), "{}", ended.out);
    assert!(ended.out.contains("Read-only file system"), "{}", ended.out);
}

#[test]
fn host_name_and_loopback() {
    let output = Container::sh("hostname; ifconfig").run().output();
    assert!(output.starts_with("box\n") && output.contains("127.0.0.1"), "{output}");
    assert_eq!(output.matches("Link encap").count(), 1, "{output}");
}

#[test]
fn clocks_are_offset() {
    let container = Container::new(&["cat", "/proc/uptime"])
        .set("/spec/linux/timeOffsets", json!({ "boottime": { "secs": 1_000_000_000, "nanosecs": 0 } }));
    assert!(container.run().output().starts_with("1000"));
}

#[test]
fn sysctls_limits_and_scores() {
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni; \
                  grep -E 'open files|stack' /proc/self/limits; cat /proc/self/oom_score_adj; umask";
    let container = Container::sh(script)
        .set("/spec/linux/sysctl", json!({ "net.ipv4.ip_unprivileged_port_start": "7", "kernel.shmmni": "99" }))
        .set("/spec/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]))
        .set("/spec/process/oomScoreAdj", json!(500))
        .set("/spec/process/user/umask", json!(0o077));
    let output = container.run().output();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words[..2], ["7", "99"], "{output}");
    assert!(output.contains("\n500\n0077\n"), "{output}");
    let files: Vec<&str> =
        output.lines().find(|line| line.contains("open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3..5], ["100", "200"], "{output}");
}

#[test]
fn a_lower_oom_score_is_clamped_not_refused() {
    let container = Container::new(&["cat", "/proc/self/oom_score_adj"]).set("/spec/process/oomScoreAdj", json!(-998));
    assert!(["0\n", "-998\n"].contains(&container.run().output().as_str()));
}

#[test]
fn terminal_is_a_real_one() {
    let container =
        Container::sh("tty; stty size; ls -l /dev/console; echo hello > /dev/tty; true").set("/terminal", json!(true));
    let output = container.run().output().replace('\r', "");
    assert!(output.starts_with("/dev/pts/0\n24 80\n"), "{output}");
    assert!(output.contains("hello\n") && output.contains("136,   0"), "{output}");
}

#[test]
fn init_reaps_orphans_and_ends_as_the_program() {
    // The orphan ends before the list is made; nobody but PID 1 can have reaped it.
    let script = "(sh -c 'sleep 0 & exec sleep 0' &) ; sleep 0.2; ps; grep Seccomp: /proc/1/status; exit 7";
    for no_new_privs in [true, false] {
        let container = Container::sh(script)
            .set("/init", json!(true))
            .set("/default_seccomp", json!(true))
            .set("/spec/process/noNewPrivileges", json!(no_new_privs));
        let ended = container.run();
        assert_eq!(ended.code, 7, "{}", ended.err);
        assert!(ended.out.contains("1 root     kiste-init\n") && !ended.out.contains(" Z "), "{}", ended.out);
        assert!(ended.out.contains("Seccomp:\t2"), "{}", ended.out);
    }
}

#[test]
fn init_reports_what_is_wrong_with_the_program() {
    let container = Container::new(&["nosuch"]).set("/init", json!(true));
    container.run().fails(127, "executable file not found in $PATH");
}

#[test]
fn init_hands_signals_on() {
    let container =
        Container::sh("trap 'exit 9' 37; touch /ready; while :; do sleep 0.01; done").set("/init", json!(true));
    let running = container.start();
    let ready = running.container.upper().join("ready");
    while !ready.exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    // SIGRTMIN+3, with which systemd is stopped.
    linux::signal::send(running.pid, 37).unwrap();
    assert_eq!(running.wait().code, 9);
}

#[test]
fn exec_joins_everything() {
    let script = "for n in mnt uts ipc pid net user cgroup time; do \
                  [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo $n differs; done; \
                  id; grep -E 'Cap|NoNew|Seccomp:' /proc/self/status; cat /proc/self/cgroup; ls /proc/self/fd";
    for host in [false, true] {
        let container = Container::new(&["sleep", "100"])
            .set("/exec", json!([process(&["sh", "-c", script]), process(&["id"])]))
            .set("/exec_users", json!(["", "web:staff"]))
            .set("/default_seccomp", json!(true))
            .set("/kill", json!(true));
        let ended = if host { container.host_user() } else { container }.run();
        assert_eq!(ended.code, 137, "{}", ended.err);
        assert_eq!(ended.err.matches("exec 0 in").count(), 2, "{}", ended.err);
        assert!(!ended.out.contains("differs"), "{}", ended.out);
        for text in [
            "uid=0(root) gid=0(root) groups=0(root)",
            "uid=1000(web) gid=50(staff) groups=50(staff)",
            "CapEff:\t00000000800405fb",
            "CapInh:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(ended.out.contains(text), "{text} is not in {}", ended.out);
        }
        let groups: Vec<&str> = ended.out.lines().filter(|line| line.contains(":/")).collect();
        assert!(!groups.is_empty() && groups.iter().all(|line| line.ends_with(":/")), "{}", ended.out);
    }
}

#[test]
fn exec_with_a_terminal_in_a_directory_that_must_exist() {
    let mut with_terminal = process(&["sh", "-c", "tty; stty size; readlink /proc/self/cwd"]);
    with_terminal["terminal"] = json!(true);
    with_terminal["cwd"] = json!("/home/web");
    let container = Container::new(&["sleep", "100"]).set("/exec", json!([with_terminal])).set("/kill", json!(true));
    let output = container.run().out.replace('\r', "");
    assert_eq!(output, "/dev/pts/0\n24 80\n/home/web\n");
    let mut elsewhere = process(&["true"]);
    elsewhere["cwd"] = json!("/no/such/directory");
    let container = Container::new(&["sleep", "100"]).set("/exec", json!([elsewhere]));
    container.run().fails(127, "chdir to cwd (\"/no/such/directory\") failed: no such file or directory");
}

#[test]
fn namespaces_of_another_container_are_joined() {
    let first = Container::new(&["sleep", "100"]).start();
    let joined = ["user", "network", "ipc", "pid"];
    let mut second =
        Container::sh("readlink /proc/self/ns/net; readlink /proc/self/ns/user; ps; id; touch /x; ls -ln /x; mount");
    second.namespaces(|kind| !joined.contains(&kind));
    for (kind, file) in [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("pid", "pid")] {
        let path = format!("/proc/{}/ns/{file}", first.pid);
        second = second.add("/spec/linux/namespaces", json!({ "type": kind, "path": path }));
    }
    let theirs = namespaces(&format!("/proc/{}", first.pid));
    let ended = second.run();
    first.signal(Signal::KILL);
    first.wait();
    let output = ended.output();
    assert!(output.contains(&theirs[4]) && output.contains(&theirs[5]), "{output}");
    assert!(output.contains("sleep 100") && output.contains("uid=0(root)"), "{output}");
    assert!(output.contains("sysfs on /sys") && output.contains("0        0"), "{output}");
}

#[test]
fn host_namespaces_with_an_own_user_namespace() {
    let mut container =
        Container::sh("readlink /proc/self/ns/net; readlink /proc/self/ns/pid; ls /proc/1 /sys/class/net");
    container.namespaces(|kind| !["network", "pid"].contains(&kind));
    let output = container.run().output();
    let own = namespaces("/proc/self");
    assert!(output.contains(&own[4]) && output.contains(&own[3]), "{output}");
}

#[test]
fn a_container_cannot_look_into_a_process_that_joins_it() {
    // CVE-2016-9962: PID 1 looks at every process that it can see, all the time.
    let spy = "while :; do for p in /proc/[0-9]*; do readlink $p/exe; readlink $p/cwd; readlink $p/root; \
               for f in $p/fd/*; do readlink $f; done; cat $p/environ; done; done 2>/dev/null > /log";
    for host in [false, true] {
        let container = Container::sh(spy).set("/exec", json!(vec![process(&["true"]); 40])).set("/kill", json!(true));
        let container = if host { container.host_user() } else { container };
        assert_eq!(container.run().err.matches("exec 0 in").count(), 40);
        let seen = std::fs::read_to_string(container.upper().join("log")).unwrap();
        assert!(seen.contains("/bin/busybox"), "the spy saw nothing");
        for secret in ["sandbox-try", "CARGO", "job.json", "/sys/fs/cgroup"] {
            assert!(!seen.contains(secret), "{secret} was seen");
        }
    }
}
