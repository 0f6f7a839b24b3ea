//! The real docker command against `kiste serve`: the life of a container as its users know it.

use std::time::Duration;

use kiste_tests::{Api, Env, Terminal, wait_until};

#[test]
fn a_container_runs_in_the_foreground() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let output = api.docker(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((output.code(), output.stdout.as_str(), output.stderr.as_str()), (3, "out\n", "err\n"));
    let echoed = api.docker_with_input(&["run", "--rm", "-i", "busybox", "cat"], b"hello");
    assert_eq!(echoed.ok(), "hello");
    api.docker(&["run", "--rm", "busybox", "nonexistent"]).fails(127, &["executable file not found"]);
    api.docker(&["run", "--rm", "nonexistent:image", "true"]).fails(125, &[]);
    assert_eq!(api.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_container_lives_in_the_background() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let id = api.ok(&["run", "-d", "--name", "web", "busybox", "sh", "-c", "echo out; echo err >&2; sleep 1000"]);
    assert_eq!(id.len(), 64);
    assert_eq!(api.ok(&["ps", "--format", "{{.Names}} {{.Image}} {{.State}}"]), "web busybox running");
    let logs = wait_until("both lines are logged", Duration::from_secs(10), || {
        Some(api.docker(&["logs", "web"])).filter(|logs| logs.stdout.len() + logs.stderr.len() == 8)
    });
    assert_eq!((logs.stdout.as_str(), logs.stderr.as_str()), ("out\n", "err\n"));
    assert_eq!(api.ok(&["inspect", "-f", "{{.State.Status}} {{.Name}}", "web"]), "running /web");
    assert!(api.ok(&["top", "web"]).contains("sleep 1000"));
    api.ok(&["rename", "web", "site"]);
    api.ok(&["pause", "site"]);
    assert_eq!(env.status("site"), "paused");
    api.ok(&["unpause", "site"]);
    api.docker(&["rm", "site"]).fails(1, &["container is running"]);
    api.ok(&["stop", "-t", "0", "site"]);
    assert_eq!(api.ok(&["wait", "site"]), "137");
    api.ok(&["start", "site"]);
    api.ok(&["restart", "-t", "0", "site"]);
    api.ok(&["kill", "site"]);
    api.ok(&["rm", "-f", "site"]);
    api.docker(&["logs", "site"]).fails(1, &["No such container: site"]);
}

#[test]
fn programs_are_executed_in_a_container() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    api.ok(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]);
    assert_eq!(api.ok(&["exec", "web", "echo", "x"]), "x");
    assert_eq!(api.docker(&["exec", "web", "sh", "-c", "exit 7"]).code(), 7);
    // The end of the client's input is the end of the program's.
    assert_eq!(api.docker_with_input(&["exec", "-i", "web", "cat"], b"typed").ok(), "typed");
    let missing = api.docker(&["exec", "web", "nonexistent"]);
    assert_eq!(missing.code(), 127, "{missing:#?}");
    assert!(missing.stdout.contains("executable file not found"), "{missing:#?}");
    // A child that keeps the streams open does not hold up the end.
    assert_eq!(api.ok(&["exec", "web", "sh", "-c", "sleep 60 & echo done"]), "done");
    api.ok(&["exec", "-d", "web", "touch", "/made"]);
    wait_until("the detached program has run", Duration::from_secs(10), || {
        Some(()).filter(|()| api.docker(&["exec", "web", "test", "-f", "/made"]).code() == 0)
    });
    api.ok(&["pause", "web"]);
    api.docker(&["exec", "web", "true"]).fails(1, &["is paused, unpause the container before exec"]);
    api.ok(&["unpause", "web"]);
    api.ok(&["stop", "-t", "0", "web"]);
    api.docker(&["exec", "web", "true"]).fails(1, &["is not running"]);
}

#[test]
fn a_terminal_reaches_through() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let mut shell = Terminal::start(&api.docker_command(&["run", "-it", "--name", "web", "busybox", "sh"]));
    shell.expect("/ # ");
    shell.send("stty size\n");
    shell.expect("24 80");
    // Detached, it goes on.
    shell.send("\u{10}\u{11}");
    assert_eq!(shell.wait().code(), Some(0));
    assert_eq!(env.status("web"), "running");
    let mut second = Terminal::start(&api.docker_command(&["exec", "-it", "web", "sh"]));
    second.expect("/ # ");
    second.send("stty size; exit 4\n");
    second.expect("24 80");
    assert_eq!(second.wait().code(), Some(4));
    let mut again = Terminal::start(&api.docker_command(&["attach", "web"]));
    again.send("exit 6\n");
    assert_eq!(again.wait().code(), Some(6));
}

#[test]
fn containers_do_not_notice_the_end_of_the_server() {
    let env = Env::with_busybox();
    let mut api = Api::start(&env);
    api.ok(&["run", "-d", "--name", "web", "busybox", "sh", "-c", "sleep 1000 & trap 'exit 5' TERM; echo up; wait"]);
    let pid = env.pid("web");
    api.restart();
    assert_eq!(env.pid("web"), pid);
    wait_until("it has said so", Duration::from_secs(10), || Some(()).filter(|()| api.ok(&["logs", "web"]) == "up"));
    api.ok(&["stop", "web"]);
    assert_eq!(api.ok(&["wait", "web"]), "5");
}

#[test]
fn a_container_becomes_an_image() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    api.ok(&["run", "--name", "web", "busybox", "sh", "-c", "echo x >/new; rm /bin/ls"]);
    assert_eq!(api.ok(&["diff", "web"]), "C /bin\nD /bin/ls\nA /new");
    let id = api.ok(&["commit", "-m", "why", "-c", "CMD [\"cat\", \"/new\"]", "web", "made:1"]);
    assert_eq!(api.ok(&["inspect", "-f", "{{.Id}} {{.Comment}}", "made:1"]), format!("{id} why"));
    assert_eq!(api.ok(&["run", "--rm", "made:1"]), "x");
    assert!(api.ok(&["history", "made:1"]).contains("why"));
    let archive = env.path("tree.tar");
    api.ok(&["export", "-o", archive.to_str().unwrap(), "web"]);
    let imported = api.docker_with_input(&["import", "-", "flat:1"], &std::fs::read(archive).unwrap());
    assert!(imported.ok().starts_with("sha256:"), "{imported:#?}");
    assert_eq!(api.ok(&["run", "--rm", "flat:1", "cat", "/new"]), "x");
    api.ok(&["rmi", "made:1", "flat:1"]);
    api.ok(&["rm", "web"]);
}

#[test]
fn what_a_container_uses_is_measured() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    api.ok(&["run", "-d", "--name", "web", "--pids-limit", "50", "busybox", "sleep", "1000"]);
    let line = api.ok(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "web"]);
    assert_eq!(line, "web 1");
    let sample = api.get("/containers/web/stats?stream=0&one-shot=1").json();
    assert_eq!(sample["pids_stats"]["limit"], 50);
    assert!(sample["cpu_stats"]["system_cpu_usage"].as_u64().unwrap() > 0);
    assert_eq!(sample["precpu_stats"]["cpu_usage"]["total_usage"], 0);
    api.ok(&["kill", "web"]);
    assert_eq!(api.get("/containers/web/stats?stream=0").json()["memory_stats"], serde_json::json!({}));
}

#[test]
fn images_go_out_and_come_back() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let archive = env.path("saved.tar");
    api.ok(&["tag", "busybox", "other:1"]);
    api.ok(&["save", "-o", archive.to_str().unwrap(), "busybox", "other:1"]);
    api.ok(&["rmi", "busybox", "other:1"]);
    assert_eq!(api.ok(&["images", "-q"]), "");
    let loaded = api.ok(&["load", "-i", archive.to_str().unwrap()]);
    assert!(loaded.contains("Loaded image: other:1"), "{loaded}");
    let damaged = env.write("damaged.tar", b"no archive");
    assert_eq!(api.docker(&["load", "-i", damaged.to_str().unwrap()]).code(), 1);
    assert!(api.ok(&["system", "df"]).contains("Images          1"), "{}", api.ok(&["system", "df"]));
    assert!(api.ok(&["image", "prune", "-af"]).contains("untagged: other:1"));
    assert_eq!(api.ok(&["images", "-q"]), "");
}
