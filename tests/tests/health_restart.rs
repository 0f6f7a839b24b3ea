//! Health checks and restart policies.

use std::time::Duration;

use kiste_tests::{Env, wait_until};

fn health(env: &Env, name: &str) -> String {
    env.ok(&["inspect", "-f", "{{.State.Health.Status}}", name])
}

#[test]
fn health_goes_from_starting_to_healthy_to_unhealthy() {
    let env = Env::with_busybox();
    let options = [
        "--name",
        "cc",
        "--health-cmd",
        "test -e /ok && echo fine",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
        "--health-start-period",
        "1s",
    ];
    env.detached(&options, "sleep 0.5; touch /ok; sleep 60");
    assert_eq!(health(&env, "cc"), "starting");
    wait_until("healthy", Duration::from_secs(15), || (health(&env, "cc") == "healthy").then_some(()));
    assert!(env.ok(&["ps", "--format", "{{.Status}}"]).ends_with("(healthy)"));
    let log = &env.inspect("cc")["State"]["Health"]["Log"];
    let last = log.as_array().unwrap().last().unwrap();
    assert_eq!((&last["ExitCode"], &last["Output"]), (&0.into(), &"fine\n".into()));
    env.ok(&["exec", "cc", "rm", "/ok"]);
    wait_until("unhealthy", Duration::from_secs(15), || (health(&env, "cc") == "unhealthy").then_some(()));
    let state = &env.inspect("cc")["State"]["Health"];
    assert!(state["FailingStreak"].as_i64().unwrap() >= 2 && state["Log"].as_array().unwrap().len() <= 5, "{state}");
    let events = env.ok(&[
        "events",
        "--since",
        "10m",
        "--until",
        "0s",
        "--filter",
        "event=health_status",
        "--format",
        "{{.Action}}",
    ]);
    assert_eq!(events.lines().collect::<Vec<_>>(), ["health_status: healthy", "health_status: unhealthy"]);
}

#[test]
fn a_check_that_hangs_counts_as_failed() {
    let env = Env::with_busybox();
    let options = [
        "--name",
        "cc",
        "--health-cmd",
        "sleep 60",
        "--health-interval",
        "100ms",
        "--health-timeout",
        "300ms",
        "--health-retries",
        "1",
    ];
    env.detached(&options, "sleep 60");
    wait_until("unhealthy", Duration::from_secs(15), || (health(&env, "cc") == "unhealthy").then_some(()));
    let state = &env.inspect("cc")["State"]["Health"];
    assert!(state["Log"][0]["Output"].as_str().unwrap().contains("exceeded timeout"), "{state}");
    assert!(env.ok(&["top", "cc"]).matches("sleep 60").count() <= 4, "checks pile up");
}

#[test]
fn an_image_without_and_a_command_with_no_healthcheck() {
    let env = Env::with_busybox();
    let config =
        serde_json::json!({"Cmd": ["sleep", "60"], "Healthcheck": {"Test": ["CMD", "true"], "Interval": 100_000_000}});
    env.load(&kiste_tests::archive::Image::new("health:1", kiste_tests::archive::busybox().layers, config).docker());
    env.ok(&["run", "-d", "--name", "cc", "health:1"]);
    wait_until("healthy", Duration::from_secs(15), || (health(&env, "cc") == "healthy").then_some(()));
    env.ok(&["run", "-d", "--name", "dd", "--no-healthcheck", "health:1"]);
    assert!(env.inspect("dd")["State"].get("Health").is_none_or(serde_json::Value::is_null));
}

fn restarts(env: &Env, name: &str) -> i64 {
    env.inspect(name)["RestartCount"].as_i64().unwrap()
}

#[test]
fn on_failure_tries_as_often_as_told() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "--restart", "on-failure:2"], "echo run; exit 1");
    wait_until("it gives up", Duration::from_secs(20), || (env.status("cc") == "exited").then_some(()));
    assert_eq!(restarts(&env, "cc"), 2);
    assert_eq!(env.ok(&["logs", "cc"]), "run\nrun\nrun");
    env.detached(&["--name", "dd", "--restart", "on-failure"], "exit 0");
    wait_until("success is no failure", Duration::from_secs(10), || (env.status("dd") == "exited").then_some(()));
    assert_eq!(restarts(&env, "dd"), 0);
}

#[test]
fn always_restarts_until_stopped_by_hand() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "--restart", "always"], "sleep 0.2");
    wait_until("two restarts", Duration::from_secs(20), || (restarts(&env, "cc") >= 2).then_some(()));
    env.ok(&["stop", "-t", "0", "cc"]);
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(env.status("cc"), "exited");
    env.ok(&["start", "cc"]);
    assert_eq!(env.status("cc"), "running");
    env.ok(&["rm", "-f", "cc"]);
}

#[test]
fn a_restart_waits_longer_each_time() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc", "--restart", "always"], "date +%s%N");
    std::thread::sleep(Duration::from_secs(4));
    env.ok(&["rm", "-f", "-v", "cc"]);
    let events =
        env.ok(&["events", "--since", "10m", "--until", "0s", "--filter", "event=start", "--format", "{{.TimeNano}}"]);
    let times: Vec<i64> = events.lines().map(|line| line.parse().unwrap()).collect();
    // 0.1, 0.2, 0.4, 0.8, 1.6 s: in four seconds the first start and about five more.
    assert!((4..=7).contains(&times.len()), "{times:?}");
}

#[test]
fn the_policy_can_be_changed() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "sleep 1; exit 1");
    env.ok(&["update", "--restart", "on-failure:1", "cc"]);
    wait_until("it is tried again and given up", Duration::from_secs(20), || {
        (env.status("cc") == "exited" && restarts(&env, "cc") == 1).then_some(())
    });
    env.kiste(&["update", "--restart", "nonsense", "cc"]).fails(125, &["restart policy"]);
}
