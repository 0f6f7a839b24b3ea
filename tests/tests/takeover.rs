//! What is left half-done by others: removals that were killed, monitors that were stopped, names that have changed.

use std::time::Duration;

use kiste_tests::{Env, wait_until};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_killed_removal_takes_its_volumes_along() {
    for failpoint in ["remove-marked", "remove-directory-gone"] {
        let env = Env::with_busybox();
        env.ok(&["run", "--name", "cc", "-v", "/anon", "-v", "named:/named", "busybox", "true"]);
        let killed = env.kiste_with_env(&["rm", "-v", "cc"], "KISTE_FAILPOINT", failpoint);
        assert_eq!(killed.code(), 137, "{killed:?}");
        assert_eq!(env.ok(&["ps", "-aq"]), "");
        assert_eq!(env.ok(&["volume", "ls", "-q"]), "named", "after {failpoint}");
    }
}

#[test]
fn a_killed_removal_without_volumes_keeps_them() {
    let env = Env::with_busybox();
    env.ok(&["run", "--name", "cc", "-v", "/anon", "busybox", "true"]);
    env.kiste_with_env(&["rm", "cc"], "KISTE_FAILPOINT", "remove-marked");
    assert_eq!(env.ok(&["ps", "-aq"]), "");
    assert_eq!(env.ok(&["volume", "ls", "-q"]).lines().count(), 1);
}

#[test]
fn a_stopped_monitor_is_made_to_go_on() {
    let env = Env::with_busybox();
    for (name, arguments) in [("one", &["stop", "-t", "0"][..]), ("two", &["kill"]), ("three", &["rm", "-f"])] {
        env.detached(&["--name", name], "sleep 600");
        for pid in env.monitors() {
            kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::STOP).unwrap();
        }
        let output = env.kiste(&[arguments, &[name]].concat());
        output.ok();
        assert!(output.stderr.contains("was stopped by a signal"), "{output:?}");
    }
    assert_eq!(env.ok(&["ps", "-q"]), "");
}

#[test]
fn events_have_the_new_name() {
    let env = Env::with_busybox();
    env.detached(&["--name", "before"], "sleep 600");
    env.ok(&["rename", "before", "after"]);
    env.ok(&["kill", "after"]);
    let names = || {
        let format = "{{.Action}} {{.Actor.Attributes.name}}";
        env.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "event=die", "--format", format])
    };
    wait_until("the end is told", Duration::from_secs(5), || (names() == "die after").then_some(()));
}
