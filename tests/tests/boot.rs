//! What a reboot leaves, and `system start`, which a machine calls once after it.

use std::path::Path;
use std::time::Duration;

use kiste_tests::{Env, wait_until};
use rustix::process::{Pid, Signal, kill_process};

const LIMIT: Duration = Duration::from_secs(30);

/// Everything that runs dies at once, and what was in memory is gone.
fn power_cut(env: &Env, containers: &[&str]) {
    let processes = containers.iter().map(|name| env.pid(name));
    for pid in env.monitors().into_iter().chain(processes.collect::<Vec<_>>()) {
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
        wait_until("it is dead", LIMIT, || (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(()));
    }
    std::fs::remove_dir_all(env.state().join("containers")).unwrap();
}

fn running(env: &Env) -> Vec<String> {
    let mut names: Vec<_> = env.ok(&["ps", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn restart_policies_decide_who_comes_back() {
    let env = Env::with_busybox();
    for (name, policy) in
        [("always", "always"), ("unless", "unless-stopped"), ("failure", "on-failure:3"), ("never", "no")]
    {
        env.detached(&["--name", name, "--restart", policy], "sleep 600");
    }
    env.detached(&["--name", "joins", "--restart", "always", "--network", "container:always"], "sleep 600");
    env.detached(&["--name", "stopped", "--restart", "unless-stopped"], "sleep 600");
    env.detached(&["--name", "stopped-always", "--restart", "always"], "sleep 600");
    env.ok(&["stop", "-t", "0", "stopped", "stopped-always"]);
    env.ok(&["create", "--name", "created", "--restart", "always", "busybox", "true"]);
    env.ok(&["run", "--name", "done", "--restart", "on-failure", "busybox", "true"]);
    env.detached(&["--name", "gone", "--rm"], "sleep 600");
    power_cut(&env, &["always", "unless", "failure", "never", "joins", "gone"]);
    let mut started: Vec<_> = env.ok(&["system", "start"]).lines().map(str::to_owned).collect();
    assert_eq!(started.last().map(String::as_str), Some("joins"), "after the one that it joins: {started:?}");
    started.sort();
    assert_eq!(started, ["always", "failure", "joins", "stopped-always", "unless"]);
    assert_eq!(running(&env), started);
    assert_eq!(env.ok(&["system", "start"]), "", "nothing is left to do");
    assert_eq!(env.inspect("never")["State"]["ExitCode"], 255);
    env.kiste(&["inspect", "gone"]).fails(1, &["no such object"]);
}

#[test]
fn one_that_cannot_start_does_not_keep_the_others_from_it() {
    let env = Env::with_busybox();
    let data = env.path("data");
    std::fs::create_dir(&data).unwrap();
    let bind = format!("type=bind,src={},dst=/d", data.display());
    env.detached(&["--name", "broken", "--restart", "always", "--mount", &bind], "sleep 600");
    env.detached(&["--name", "whole", "--restart", "always"], "sleep 600");
    power_cut(&env, &["broken", "whole"]);
    std::fs::remove_dir(&data).unwrap();
    let output = env.kiste(&["system", "start"]);
    output.fails(1, &["kiste: broken: "]);
    assert_eq!(output.stdout, "whole\n");
    assert_eq!(running(&env), ["whole"]);
}

#[test]
fn a_state_directory_removed_by_hand_leaves_nothing_running() {
    let env = Env::with_busybox();
    for policy in ["no", "always"] {
        env.detached(&["--name", "cc", "--restart", policy], "sleep 600");
        let process = env.pid("cc");
        std::fs::remove_dir_all(env.state().join("containers")).unwrap();
        let output = env.kiste(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
        assert!(output.stdout.starts_with("cc Exited (137)"), "{output:?}");
        assert!(output.stderr.contains("was removed while container cc ran"), "{output:?}");
        wait_until("it is dead", LIMIT, || (!Path::new(&format!("/proc/{process}/exe")).exists()).then_some(()));
        env.ok(&["start", "cc"]);
        assert_eq!(env.status("cc"), "running");
        env.ok(&["rm", "-f", "cc"]);
    }
}
