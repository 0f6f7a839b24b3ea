//! The verbs between create and rm, their states, messages and output, and that a container needs nobody but its monitor.

use std::time::{Duration, Instant};

use kiste_tests::{Env, wait_until};

#[test]
fn create_start_stop_start_remove() {
    let env = Env::with_busybox();
    let id = env.ok(&[
        "create",
        "--name",
        "cc",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 4' TERM; echo up; while :; do sleep 0.05; done",
    ]);
    assert_eq!((id.len(), env.status("cc").as_str()), (64, "created"));
    assert_eq!(env.ok(&["start", "cc"]), "cc");
    assert_eq!(env.status("cc"), "running");
    let first = env.pid("cc");
    assert_eq!(env.ok(&["start", "cc"]), "cc", "starting a running container is no error");
    wait_until("its handler is set", Duration::from_secs(10), || env.ok(&["logs", "cc"]).contains("up").then_some(()));
    assert_eq!(env.ok(&["stop", "cc"]), "cc");
    let state = &env.inspect("cc")["State"];
    assert_eq!((&state["Status"], &state["ExitCode"], &state["Pid"]), (&"exited".into(), &4.into(), &0.into()));
    assert_eq!(env.ok(&["stop", "cc"]), "cc", "stopping a stopped container is no error");
    env.ok(&["start", "cc"]);
    assert_ne!(env.pid("cc"), first);
    env.kiste(&["rm", "cc"]).fails(1, &["container is running"]);
    assert_eq!(env.ok(&["rm", "-f", "cc"]), "cc");
    env.kiste(&["start", "cc"]).fails(1, &["no such container: cc"]);
}

#[test]
fn stopping_kills_what_does_not_listen() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "trap '' TERM; while :; do sleep 1; done");
    std::thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    env.ok(&["stop", "-t", "1", "cc"]);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(env.inspect("cc")["State"]["ExitCode"], 137);
}

#[test]
fn the_containers_own_stop_signal_and_time() {
    let env = Env::with_busybox();
    env.detached(
        &["--name", "cc", "--stop-signal", "USR2", "--stop-timeout", "20"],
        "trap 'exit 6' USR2; echo up; while :; do sleep 0.05; done",
    );
    wait_until("its handler is set", Duration::from_secs(10), || env.ok(&["logs", "cc"]).contains("up").then_some(()));
    env.ok(&["stop", "cc"]);
    assert_eq!(env.inspect("cc")["State"]["ExitCode"], 6);
    env.kiste(&["run", "--rm", "--stop-signal", "NOSUCH", "busybox", "true"]).fails(125, &["NOSUCH"]);
    env.kiste(&["kill", "-s", "NOSUCH", "cc"]).fails(1, &["NOSUCH"]);
    env.kiste(&["kill", "cc"]).fails(1, &["is not running"]);
}

#[test]
fn restart_gives_a_new_process() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "sleep 60");
    let before = env.pid("cc");
    assert_eq!(env.ok(&["restart", "-t", "0", "cc"]), "cc");
    assert_eq!(env.status("cc"), "running");
    assert_ne!(env.pid("cc"), before);
}

#[test]
fn wait_gives_the_exit_code_to_everyone() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "sleep 1; exit 33");
    let waiters: Vec<_> =
        (0..5).map(|_| env.command(&["wait", "cc"]).stdout(std::process::Stdio::piped()).spawn().unwrap()).collect();
    for waiter in waiters {
        assert_eq!(String::from_utf8_lossy(&waiter.wait_with_output().unwrap().stdout), "33\n");
    }
    assert_eq!(env.ok(&["wait", "cc"]), "33", "and at once when it is over");
    env.kiste(&["wait", "nosuch"]).fails(1, &["no such container: nosuch"]);
}

#[test]
fn several_arguments_are_treated_one_by_one() {
    let env = Env::with_busybox();
    env.detached(&["--name", "aa"], "sleep 60");
    env.detached(&["--name", "bb"], "sleep 60");
    let output = env.kiste(&["stop", "-t", "0", "aa", "nosuch", "bb"]);
    output.fails(1, &["no such container: nosuch"]);
    assert_eq!(output.stdout, "aa\nbb\n");
    let output = env.kiste(&["rm", "nosuch", "aa", "bb"]);
    output.fails(1, &["no such container: nosuch"]);
    assert_eq!(output.stdout, "aa\nbb\n");
}

#[test]
fn renaming() {
    let env = Env::with_busybox();
    env.ok(&["create", "--name", "old", "busybox", "true"]);
    env.ok(&["create", "--name", "taken", "busybox", "true"]);
    env.ok(&["rename", "old", "new"]);
    assert_eq!(env.inspect("new")["Name"], "/new");
    env.kiste(&["inspect", "old"]).fails(1, &["no such object: old"]);
    env.kiste(&["rename", "new", "taken"]).fails(1, &["taken", "in use"]);
    env.kiste(&["rename", "new", "b@d"]).fails(1, &[]);
    env.kiste(&["run", "--name", "taken", "busybox", "true"])
        .fails(125, &["Conflict. The container name \"/taken\" is already in use by container"]);
    env.kiste(&["run", "--name", "b@d", "busybox", "true"]).fails(125, &["Invalid container name (b@d)"]);
}

#[test]
fn listing_with_filters() {
    let env = Env::with_busybox();
    env.detached(&["--name", "up", "--label", "k=v"], "sleep 60");
    env.kiste(&["run", "--name", "done", "busybox", "sh", "-c", "exit 3"]).fails(3, &[]);
    env.ok(&["create", "--name", "made", "busybox", "true"]);
    let names = |arguments: &[&str]| env.ok(&[&["ps", "--format", "{{.Names}}"], arguments].concat());
    assert_eq!(names(&[]), "up");
    assert_eq!(names(&["-a"]), "made\ndone\nup");
    assert_eq!(names(&["-l"]), "made");
    assert_eq!(names(&["-n", "2"]), "made\ndone");
    assert_eq!(names(&["-a", "-f", "status=exited"]), "done");
    assert_eq!(names(&["-a", "-f", "exited=3"]), "done");
    assert_eq!(names(&["-f", "label=k"]), "up");
    assert_eq!(names(&["-f", "label=k=w"]), "");
    assert_eq!(names(&["-a", "-f", "name=^m"]), "made");
    assert_eq!(names(&["-a", "-f", "ancestor=busybox", "-f", "status=created"]), "made");
    env.kiste(&["ps", "-f", "nosuch=1"]).fails(1, &["invalid filter"]);
    let table = env.ok(&["ps", "-a"]);
    assert!(table.starts_with("CONTAINER ID   IMAGE     COMMAND"), "{table}");
    assert!(table.contains("Exited (3) ") && table.contains("Up ") && table.contains("Created"), "{table}");
    assert_eq!(env.ok(&["container", "prune", "-f"]).lines().filter(|line| line.len() == 64).count(), 2);
    assert_eq!(names(&["-a"]), "up");
}

#[test]
fn attaching_to_a_running_container() {
    let env = Env::with_busybox();
    env.ok(&["create", "-i", "--name", "cc", "busybox", "sh", "-c", "read line; echo got $line; exit 8"]);
    let output = env.kiste_with_input(&["start", "-a", "-i", "cc"], b"hello\n");
    assert_eq!((output.code(), output.stdout.as_str()), (8, "got hello\n"), "{output:#?}");
    env.detached(&["-i", "--name", "dd"], "read line; echo got $line");
    let output = env.kiste_with_input(&["attach", "dd"], b"late\n");
    assert_eq!((output.code(), output.stdout.as_str()), (0, "got late\n"), "{output:#?}");
    env.kiste(&["attach", "dd"]).fails(1, &["stopped container"]);
}

#[test]
fn a_detached_container_needs_no_client() {
    let env = Env::with_busybox();
    // A client in the foreground that is killed takes nothing with it.
    let mut client =
        env.command(&["run", "--name", "cc", "busybox", "sh", "-c", "while :; do echo x; sleep 0.05; done"]);
    let mut client = client.stdout(std::process::Stdio::null()).spawn().unwrap();
    wait_until("it runs", Duration::from_secs(20), || env.kiste(&["logs", "cc"]).stdout.contains('x').then_some(()));
    client.kill().unwrap();
    client.wait().unwrap();
    let before = env.ok(&["logs", "cc"]).lines().count();
    wait_until("it goes on", Duration::from_secs(10), || {
        (env.ok(&["logs", "cc"]).lines().count() > before + 5).then_some(())
    });
    assert_eq!(env.status("cc"), "running");
}

#[test]
fn a_client_passes_signals_on() {
    let env = Env::with_busybox();
    let mut client = env.command(&[
        "run",
        "--name",
        "cc",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 12' TERM; echo up; while :; do sleep 0.05; done",
    ]);
    let mut client = client.stdout(std::process::Stdio::null()).spawn().unwrap();
    wait_until("its handler is set", Duration::from_secs(20), || {
        env.kiste(&["logs", "cc"]).stdout.contains("up").then_some(())
    });
    let pid = rustix::process::Pid::from_child(&client);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(12));
}

#[test]
fn events_tell_the_story() {
    let env = Env::with_busybox();
    env.ok(&["run", "--rm", "--name", "cc", "--label", "k=v", "busybox", "true"]);
    let actions =
        env.ok(&["events", "--since", "10m", "--until", "0s", "--filter", "type=container", "--format", "{{.Action}}"]);
    assert_eq!(actions.lines().collect::<Vec<_>>(), ["create", "attach", "start", "die", "destroy"]);
    let die = env.ok(&["events", "--since", "10m", "--until", "0s", "--filter", "event=die", "--format", "{{json .}}"]);
    let die: serde_json::Value = serde_json::from_str(&die).unwrap();
    assert_eq!(die["Actor"]["Attributes"]["exitCode"], "0");
    assert_eq!(die["Actor"]["Attributes"]["name"], "cc");
    assert_eq!(die["Actor"]["Attributes"]["image"], "busybox");
    assert_eq!(die["Actor"]["Attributes"]["k"], "v");
}

#[test]
fn events_are_followed() {
    let env = Env::with_busybox();
    let mut follower = env.command(&["events", "--format", "{{.Action}}", "--filter", "event=start"]);
    let mut follower = follower.stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    env.sh(&[], "true");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(follower.stdout.take().unwrap()), &mut line).unwrap();
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert_eq!(line, "start\n");
}
