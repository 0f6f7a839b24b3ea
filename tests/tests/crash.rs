//! `kill -9` at every step: what was acknowledged is still there, what was not leaves nothing, and everything stays
//! manageable. The steps are the engine's own list of failpoints; the end of each world checks for leaks.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use kiste_tests::{Env, Output, finish, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// Names from the engine's table.
fn failpoints() -> Vec<&'static str> {
    let source = include_str!("../../crates/engine/src/failpoint.rs");
    let (_, table) = source.split_once("pub const NAMES: &[&str] = &[").expect("the table");
    let (table, _) = table.split_once("];").expect("the table's end");
    let names: Vec<_> = table.split('"').skip(1).step_by(2).collect();
    assert!(names.len() > 10, "{names:?}");
    names
}

fn with_failpoint(env: &Env, failpoint: &str, arguments: &[&str]) -> Output {
    let mut command = env.command(arguments);
    command.env("KISTE_FAILPOINT", failpoint).env("KISTE_FAILPOINT_LOG", env.path("failpoints"));
    let output = finish(&mut command, None, Duration::from_secs(60));
    let expected = output.status.signal() == Some(9) || matches!(output.code(), 0 | 1 | 125 | 137 | 255);
    assert!(expected && !output.stderr.contains("panicked"), "at {failpoint}: {output:#?}");
    output
}

fn containers(env: &Env) -> Vec<String> {
    env.ok(&["ps", "-a", "--format", "{{.Names}}"]).lines().map(str::to_owned).collect()
}

/// Panics unless the tests of a scenario died at each of these steps: else they would prove nothing about them.
fn reached(env: &Env, prefixes: &[&str]) {
    let log = std::fs::read_to_string(env.path("failpoints")).unwrap_or_default();
    let died: Vec<&str> = log.lines().collect();
    let concerned = failpoints().into_iter().filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    let missed: Vec<&str> = concerned.filter(|name| !died.contains(name)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

/// Whatever happened, the container can be removed and its name used again.
fn manageable(env: &Env, failpoint: &str) {
    if containers(env).iter().any(|name| name == "cc") {
        // With --rm its monitor may be faster, which is no error.
        env.ok(&["rm", "-f", "-v", "cc"]);
    }
    let again = env.kiste(&["run", "--rm", "--name", "cc", "busybox", "echo", "again"]);
    assert_eq!(again.ok(), "again", "after {failpoint}");
    let remains = env.remains();
    assert!(remains.is_empty(), "after {failpoint}, left behind: {remains:#?}");
}

#[test]
fn killed_while_a_detached_container_starts() {
    let env = Env::with_busybox();
    for failpoint in failpoints() {
        let output =
            with_failpoint(&env, failpoint, &["run", "-d", "--name", "cc", "-v", "/data", "busybox", "sleep", "60"]);
        let names = containers(&env);
        if output.code() == 0 {
            assert_eq!(names, ["cc"], "acknowledged, then lost at {failpoint}");
            let status = env.status("cc");
            assert!(["running", "exited", "created"].contains(&status.as_str()), "{status} at {failpoint}");
        }
        manageable(&env, failpoint);
    }
    reached(&env, &["create-", "start-p", "start-m", "start-h", "monitor-"]);
}

#[test]
fn killed_while_starting_again() {
    let env = Env::with_busybox();
    for failpoint in failpoints() {
        env.ok(&["run", "--name", "cc", "busybox", "sh", "-c", "test -e /second && sleep 60; touch /second"]);
        let output = with_failpoint(&env, failpoint, &["start", "cc"]);
        assert_eq!(containers(&env), ["cc"], "at {failpoint}");
        if output.code() == 0 {
            assert!(["running", "exited"].contains(&env.status("cc").as_str()), "at {failpoint}");
        }
        manageable(&env, failpoint);
    }
    reached(&env, &["start-", "monitor-"]);
}

#[test]
fn killed_while_a_container_runs_to_its_end() {
    let env = Env::with_busybox();
    for failpoint in failpoints() {
        let output = with_failpoint(&env, failpoint, &["run", "--name", "cc", "busybox", "sh", "-c", "exit 0"]);
        if output.code() == 0 {
            wait_until("its end is recorded", Duration::from_secs(10), || (env.status("cc") == "exited").then_some(()));
        }
        manageable(&env, failpoint);
    }
    reached(&env, &["create-", "monitor-", "exit-"]);
}

#[test]
fn killed_while_a_container_removes_itself() {
    let env = Env::with_busybox();
    for failpoint in failpoints() {
        with_failpoint(&env, failpoint, &["run", "--rm", "--name", "cc", "-v", "/data", "busybox", "true"]);
        manageable(&env, failpoint);
        assert_eq!(env.ok(&["volume", "ls", "-q"]), "", "at {failpoint}");
    }
    reached(&env, &["exit-seen", "remove-"]);
}

#[test]
fn killed_while_stopping() {
    let env = Env::with_busybox();
    for failpoint in failpoints() {
        let started = with_failpoint(&env, failpoint, &["run", "-d", "--name", "cc", "busybox", "sleep", "60"]);
        if started.code() == 0 {
            // The program does not listen to SIGTERM, so that both signals are needed.
            let seconds = if failpoint.starts_with("stop-") { "1" } else { "0" };
            let output = with_failpoint(&env, failpoint, &["stop", "-t", seconds, "cc"]);
            assert_eq!(containers(&env), ["cc"], "at {failpoint}");
            if output.code() == 0 {
                assert_eq!(env.status("cc"), "exited", "acknowledged, yet it runs: {failpoint}");
            }
        }
        manageable(&env, failpoint);
    }
    reached(&env, &["stop-"]);
}

#[test]
fn killed_while_removing() {
    let env = Env::with_busybox();
    for failpoint in failpoints() {
        let id = env.ok(&["run", "-d", "--name", "cc", "-v", "/data", "busybox", "sleep", "60"]);
        let output = with_failpoint(&env, failpoint, &["rm", "-f", "-v", "cc"]);
        let left = containers(&env);
        if output.code() == 0 {
            assert_eq!(left, Vec::<String>::new(), "acknowledged, yet it is there: {failpoint}");
            assert!(!env.root().join("containers").join(&id).exists(), "at {failpoint}");
        }
        manageable(&env, failpoint);
    }
    reached(&env, &["remove-"]);
}

fn kill_monitors(env: &Env) {
    let monitors = env.monitors();
    assert!(!monitors.is_empty(), "no monitor to kill");
    for pid in monitors {
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    }
    wait_until("the monitor is dead", Duration::from_secs(5), || env.monitors().is_empty().then_some(()));
}

#[test]
fn a_killed_monitor_is_replaced_and_said_so() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "trap 'exit 21' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done");
    let pid = env.pid("cc");
    wait_until("it writes", Duration::from_secs(10), || (env.ok(&["logs", "cc"]).lines().count() > 3).then_some(()));
    kill_monitors(&env);
    let output = env.kiste(&["ps", "--format", "{{.Names}} {{.State}}"]);
    assert_eq!(output.ok(), "cc running");
    assert!(output.stderr.contains("monitor") && output.stderr.contains('c'), "{output:#?}");
    assert_eq!(env.kiste(&["ps", "-q"]).stderr, "", "said once");
    assert_eq!(env.pid("cc"), pid, "the process goes on");
    let before = env.ok(&["logs", "cc"]).lines().count();
    wait_until("its output is kept again", Duration::from_secs(10), || {
        (env.ok(&["logs", "cc"]).lines().count() > before + 3).then_some(())
    });
    assert_eq!(env.ok(&["exec", "cc", "echo", "in"]), "in");
    env.ok(&["stop", "cc"]);
    let code = env.inspect("cc")["State"]["ExitCode"].as_i64();
    assert!(matches!(code, Some(21 | 255)), "{code:?}");
    env.ok(&["start", "cc"]);
    assert_eq!(env.status("cc"), "running");
}

#[test]
fn monitor_and_container_killed_together() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "sleep 60");
    let pid = env.pid("cc");
    kill_monitors(&env);
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    wait_until("it is known to have ended", Duration::from_secs(5), || (env.status("cc") == "exited").then_some(()));
    env.ok(&["start", "cc"]);
    assert_eq!(env.status("cc"), "running");
}

#[test]
fn after_a_reboot_nothing_runs_and_nothing_is_lost() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "echo kept >/kept; sleep 60");
    wait_until("it has written", Duration::from_secs(10), || {
        (env.kiste(&["exec", "cc", "cat", "/kept"]).code() == 0).then_some(())
    });
    let pid = env.pid("cc");
    kill_monitors(&env);
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    wait_until("the process is gone", Duration::from_secs(5), || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    env.unmount_layers();
    std::fs::remove_dir_all(env.state()).unwrap();
    wait_until("it is known to have ended", Duration::from_secs(5), || (env.status("cc") == "exited").then_some(()));
    env.ok(&["start", "cc"]);
    assert_eq!(env.ok(&["exec", "cc", "cat", "/kept"]), "kept");
}

#[test]
fn killed_while_creating_and_removing() {
    let env = Env::with_busybox();
    for failpoint in failpoints() {
        let output = with_failpoint(&env, failpoint, &["create", "--name", "cc", "busybox", "true"]);
        if output.code() == 0 {
            assert_eq!(containers(&env), ["cc"], "acknowledged, then lost at {failpoint}");
            let output = with_failpoint(&env, failpoint, &["rm", "cc"]);
            assert!(output.code() != 0 || containers(&env).is_empty(), "acknowledged, yet it is there: {failpoint}");
        }
        manageable(&env, failpoint);
    }
}

#[test]
fn killed_while_restarting() {
    let env = Env::with_busybox();
    for failpoint in failpoints() {
        env.detached(&["--name", "cc"], "sleep 60");
        let output = with_failpoint(&env, failpoint, &["restart", "-t", "0", "cc"]);
        assert_eq!(containers(&env), ["cc"], "at {failpoint}");
        if output.code() == 0 {
            assert_eq!(env.status("cc"), "running", "acknowledged, yet it is ended: {failpoint}");
        }
        manageable(&env, failpoint);
    }
}

#[test]
fn a_restart_policy_outlives_the_monitor() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "--restart", "always"], "sleep 60");
    let first = env.pid("cc");
    kill_monitors(&env);
    assert_eq!(env.pid("cc"), first, "adopted");
    kill_process(Pid::from_raw(first.cast_signed()).unwrap(), Signal::KILL).unwrap();
    let again = |before: u32| {
        let now = env.pid("cc");
        (env.status("cc") == "running" && ![0, before].contains(&now)).then_some(now)
    };
    let second = wait_until("the new monitor has restarted it", Duration::from_secs(10), || again(first));
    kill_monitors(&env);
    kill_process(Pid::from_raw(second.cast_signed()).unwrap(), Signal::KILL).unwrap();
    // Whether the next command finds it dead, or still dying and then its new monitor does.
    wait_until("it has been started again", Duration::from_secs(10), || again(second));
}

#[test]
fn followers_and_waiters_outlive_the_monitor() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "i=0; while [ $i -lt 30 ]; do echo $i; i=$((i+1)); sleep 0.05; done; exit 5");
    let line = |verb: &[&str]| {
        let mut command = env.command(verb);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    };
    let (logs, wait) = (line(&["logs", "-f", "cc"]), line(&["wait", "cc"]));
    wait_until("it writes", Duration::from_secs(10), || (env.ok(&["logs", "cc"]).lines().count() > 3).then_some(()));
    kill_monitors(&env);
    env.ok(&["ps"]);
    let logs = String::from_utf8(logs.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(logs.lines().collect::<Vec<_>>(), (0..30).map(|i| i.to_string()).collect::<Vec<_>>());
    assert_eq!(wait.wait_with_output().unwrap().stdout, b"5\n");
    assert_eq!(env.inspect("cc")["State"]["ExitCode"], 5);
}

/// Nobody ever sees an ended container without the code with which it ended.
#[test]
fn an_end_is_never_seen_without_its_code() {
    let env = Env::with_busybox();
    for _ in 0..5 {
        env.detached(&["--name", "cc"], "sleep 0.2; exit 5");
        wait_until("it has ended", Duration::from_secs(10), || {
            let seen = env.ok(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "cc"]);
            assert!(["running 0", "exited 5"].contains(&seen.as_str()), "{seen}");
            (seen == "exited 5").then_some(())
        });
        env.ok(&["rm", "cc"]);
    }
}

/// Monitors die at any moment while commands of all kinds go on; afterwards every container obeys.
#[test]
fn monitors_die_under_load() {
    let env = Env::with_busybox();
    let names = ["aa", "bb", "cc"];
    for name in names {
        env.detached(&["--name", name], "trap 'exit 7' TERM; while :; do echo x; sleep 0.02; done");
    }
    let verbs: [&[&str]; 9] = [
        &["exec", "NAME", "true"],
        &["ps", "-a"],
        &["stop", "-t", "1", "NAME"],
        &["start", "NAME"],
        &["pause", "NAME"],
        &["unpause", "NAME"],
        &["restart", "-t", "1", "NAME"],
        &["start", "NAME"],
        &["kill", "NAME"],
    ];
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (env, names) = (&env, &names);
            scope.spawn(move || {
                for turn in 0..30 {
                    let name = names[(worker + turn) % names.len()];
                    let verb = verbs[(worker * 4 + turn * 5) % verbs.len()];
                    let arguments: Vec<&str> = verb.iter().map(|w| if *w == "NAME" { name } else { w }).collect();
                    let output = env.kiste(&arguments);
                    assert!(!output.stderr.contains("panicked") && !output.stderr.contains("database"), "{output:#?}");
                }
            });
        }
        for turn in 0..15 {
            std::thread::sleep(Duration::from_millis(70));
            if let Some(pid) = env.monitors().get(turn % names.len()) {
                let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
            }
        }
    });
    for name in names {
        env.kiste(&["unpause", name]);
        env.ok(&["restart", "-t", "1", name]);
        assert_eq!(env.ok(&["exec", name, "echo", "in"]), "in");
        env.ok(&["stop", name]);
        assert_eq!(env.status(name), "exited");
    }
}
