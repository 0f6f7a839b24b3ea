//! `kiste exec`: a second process in a running container, with the same isolation and limits as the first.

use std::time::Duration;

use kiste_tests::{Env, wait_until};

#[test]
fn it_joins_every_namespace_and_the_cgroup() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "--hostname", "box"], "sleep 60");
    let line = "hostname; for n in cgroup ipc mnt net pid time user uts; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] || echo differs $n; done; cat /proc/self/cgroup >/a; cat /proc/1/cgroup >/b; cmp /a /b && echo same";
    assert_eq!(env.ok(&["exec", "cc", "sh", "-c", line]), "box\nsame");
}

#[test]
fn it_has_the_containers_privileges() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "--cap-drop", "CHOWN"], "sleep 60");
    let line = "for p in 1 self; do grep -E '^(Cap|Seccomp:|NoNewPrivs)' /proc/$p/status >/status.$p; done; cmp /status.1 /status.self && echo same";
    assert_eq!(env.ok(&["exec", "cc", "sh", "-c", line]), "same");
    assert_eq!(
        env.ok(&["exec", "-u", "app", "cc", "sh", "-c", "id -u; grep CapEff /proc/self/status | cut -f2; echo $HOME"]),
        "1000\n0000000000000000\n/home/app"
    );
    assert_eq!(env.ok(&["exec", "cc", "sh", "-c", "ls /proc/self/fd | tr '\\n' ' '"]).trim(), "0 1 2 3");
}

#[test]
fn environment_directory_and_streams() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "-e", "A=1", "-w", "/tmp"], "sleep 60");
    assert_eq!(env.ok(&["exec", "-e", "B=2", "cc", "sh", "-c", "echo $A$B; pwd"]), "12\n/tmp");
    assert_eq!(env.ok(&["exec", "-w", "/etc", "cc", "pwd"]), "/etc");
    let output = env.kiste(&["exec", "cc", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(env.kiste_with_input(&["exec", "-i", "cc", "cat"], b"in").ok(), "in");
    assert_eq!(env.kiste_with_input(&["exec", "cc", "cat"], b"in").ok(), "");
}

#[test]
fn detached_it_outlives_its_client() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "sleep 60");
    assert_eq!(env.ok(&["exec", "-d", "cc", "sh", "-c", "sleep 0.5; echo x >/done"]), "");
    wait_until("it is done", Duration::from_secs(10), || {
        (env.kiste(&["exec", "cc", "cat", "/done"]).code() == 0).then_some(())
    });
}

#[test]
fn it_ends_with_the_container() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "sleep 60");
    let mut exec = env.command(&["exec", "cc", "sleep", "60"]).spawn().unwrap();
    wait_until("it runs", Duration::from_secs(10), || {
        env.ok(&["exec", "cc", "ps"]).contains("sleep 60\n").then_some(())
    });
    env.ok(&["kill", "cc"]);
    assert_eq!(exec.wait().unwrap().code(), Some(137));
    env.kiste(&["exec", "cc", "true"]).fails(1, &["is not running"]);
}

#[test]
fn memory_limits_cover_it() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "-m", "24m"], "sleep 60");
    let output = env.kiste(&["exec", "cc", "sh", "-c", "tail -c 200m /dev/zero; echo $?"]);
    assert!(output.stdout.trim() == "137" || output.code() == 137, "{output:#?}");
}

#[test]
fn a_privileged_one() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "sleep 60");
    let line = "grep -E '^CapEff' /proc/self/status | cut -f2";
    let plain = u64::from_str_radix(&env.ok(&["exec", "cc", "sh", "-c", line]), 16).unwrap();
    let privileged = u64::from_str_radix(&env.ok(&["exec", "--privileged", "cc", "sh", "-c", line]), 16).unwrap();
    assert!(privileged & plain == plain && privileged.count_ones() > 30, "{privileged:x}");
}
