//! The real docker command against `kiste serve`: networks, volumes, events, contexts, the system, and how `docker run`
//! fails.

use std::time::Duration;

use kiste_tests::{Api, Env, wait_until};

#[test]
fn run_fails_as_docker_does() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let run = |arguments: &[&str]| api.docker(&[&["run", "--rm"], arguments].concat());
    run(&["busybox", "nope"]).fails(127, &["executable file not found in $PATH"]);
    run(&["busybox", "/nope"]).fails(127, &["no such file or directory"]);
    run(&["busybox", "/etc"]).fails(126, &[]);
    let plain = format!("{}:/plain", env.write("plain", "no program").display());
    run(&["-v", &plain, "busybox", "/plain"]).fails(126, &["permission denied"]);
    run(&["-w", "relative", "busybox", "true"]).fails(125, &["needs to be an absolute path"]);
    run(&["--network", "nope", "busybox", "true"]).fails(125, &["network nope not found"]);
    run(&["--volumes-from", "nope", "busybox", "true"]).fails(125, &["No such container: nope"]);
    run(&["-p", "1:x", "busybox", "true"]).fails(125, &[]);
    run(&["--cap-add", "NOPE", "busybox", "true"]).fails(125, &["capability"]);
    run(&["--memory", "1", "busybox", "true"]).fails(125, &["Minimum memory limit allowed is 6MB"]);
    assert_eq!(run(&["busybox", "sh", "-c", "sleep 1000 & kill -9 $!; wait $!"]).code(), 137);
    api.ok(&["create", "--name", "taken", "busybox"]);
    api.docker(&["run", "--name", "taken", "busybox"]).fails(125, &["The container name \"/taken\" is already in use"]);
    assert_eq!(api.ok(&["ps", "-aq"]).lines().count(), 1);
}

#[test]
fn volumes_and_networks_have_their_lives() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    assert_eq!(api.ok(&["volume", "create", "--label", "a=b", "data"]), "data");
    api.ok(&["run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", "echo kept >/data/x"]);
    assert_eq!(api.ok(&["run", "--rm", "-v", "data:/data", "busybox", "cat", "/data/x"]), "kept");
    assert_eq!(api.ok(&["volume", "ls", "-q", "--filter", "label=a=b"]), "data");
    assert_eq!(api.ok(&["volume", "inspect", "-f", "{{.Driver}} {{.Scope}}", "data"]), "local local");
    api.ok(&["create", "--name", "user", "-v", "data:/data", "busybox"]);
    api.docker(&["volume", "rm", "data"]).fails(1, &["volume is in use"]);
    api.ok(&["rm", "user"]);
    api.ok(&["volume", "rm", "data"]);
    api.docker(&["volume", "inspect", "data"]).fails(1, &["no such volume"]);
    assert!(api.ok(&["network", "ls", "--format", "{{.Name}}"]).lines().any(|name| name == "bridge"));
    api.docker(&["network", "inspect", "nope"]).fails(1, &["network nope not found"]);
    api.docker(&["network", "rm", "bridge"]).fails(1, &["is a pre-defined network and cannot be removed"]);
}

#[test]
fn events_tell_what_happened() {
    let env = Env::with_busybox();
    let mut api = Api::start(&env);
    let ran = api.docker(&["run", "--name", "web", "--label", "a=b", "busybox", "sh", "-c", "exit 3"]);
    assert_eq!(ran.code(), 3, "{ran:#?}");
    api.ok(&["rm", "web"]);
    // They survive the server.
    api.restart();
    let format = "{{.Type}} {{.Action}} {{index .Actor.Attributes \"exitCode\"}}";
    let until = format!("{}", std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() + 1);
    let asked = ["events", "--since", "1", "--until", &until, "--filter", "container=web", "--format", format];
    let events = api.ok(&asked);
    let told: Vec<&str> = events.lines().map(str::trim).collect();
    let wanted = ["container create", "container attach", "container start", "container die 3", "container destroy"];
    let mut rest = told.iter();
    assert!(wanted.iter().all(|event| rest.any(|line| line == event)), "{told:?}");
    let labelled = ["events", "--since", "1", "--until", &until, "--filter", "label=a=b", "--filter", "event=die"];
    assert_eq!(api.ok(&labelled).lines().count(), 1);
}

#[test]
fn logs_are_followed_until_the_end() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    api.ok(&["run", "-d", "--name", "web", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done"]);
    assert_eq!(api.ok(&["logs", "-f", "web"]), "1\n2\n3");
    assert_eq!(api.ok(&["logs", "-n", "1", "web"]), "3");
    let stamped = api.ok(&["logs", "-t", "-n", "1", "web"]);
    let (time, line) = stamped.split_once(' ').unwrap();
    assert_eq!((time.len(), line), (30, "3"), "{stamped}");
    assert_eq!(api.ok(&["logs", "--since", time, "web"]), "3");
    assert_eq!(api.ok(&["logs", "--until", "1", "web"]), "");
}

#[test]
fn the_system_is_shown_and_pruned() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    api.ok(&["run", "--name", "old", "busybox", "true"]);
    api.ok(&[
        "run",
        "-d",
        "--name",
        "new",
        "--health-cmd",
        "true",
        "--health-interval",
        "100ms",
        "busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(api.ok(&["info", "-f", "{{.ContainersRunning}} {{.ContainersStopped}} {{.OSType}}"]), "1 1 linux");
    assert_eq!(api.ok(&["version", "-f", "{{.Server.APIVersion}} {{.Server.Os}}"]), "1.51 linux");
    wait_until("it is healthy", Duration::from_secs(20), || {
        Some(()).filter(|()| api.ok(&["ps", "--filter", "health=healthy", "-q"]).len() == 12)
    });
    let verbose = api.ok(&["system", "df", "-v"]);
    assert!(verbose.contains("busybox") && verbose.contains("old") && verbose.contains("new"), "{verbose}");
    let pruned = api.ok(&["container", "prune", "-f"]);
    assert!(pruned.contains("Deleted Containers:") && pruned.contains("Total reclaimed space:"), "{pruned}");
    assert_eq!(api.ok(&["ps", "-a", "--format", "{{.Names}}"]), "new");
    api.ok(&["system", "prune", "-f"]);
    let socket = format!("host={}", api.host());
    api.ok(&["context", "create", "other", "--docker", &socket]);
    let through = api.docker_command(&["--context", "other", "ps", "-q"]).env_remove("DOCKER_HOST").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&through.stdout).trim().len(), 12, "{through:?}");
    api.ok(&["update", "--cpu-shares", "512", "new"]);
    assert_eq!(api.ok(&["inspect", "-f", "{{.HostConfig.CpuShares}}", "new"]), "512");
    assert_eq!(api.ok(&["port", "new"]), "");
}
