//! Sockets whose clients may not do everything: what they may, and every way around it that the Engine API has.

use std::os::unix::fs::PermissionsExt as _;

use kiste_tests::api::Answer;
use kiste_tests::{Api, Env, Netns};
use serde_json::{Value, json};

fn create(api: &Api, name: &str, body: Value) -> Answer {
    api.post(&format!("/containers/create?name={name}"), &body)
}

#[track_caller]
fn forbidden(answer: &Answer) {
    let text = answer.text();
    assert!(answer.status == 403 && text.contains("not allowed here"), "{} {text}", answer.status);
}

#[track_caller]
fn missing(answer: &Answer) {
    assert_eq!(answer.status, 404, "{}", answer.text());
}

/// What a new container refers to is not seen. Not 404: that makes Docker's clients pull the image.
fn refused(answer: &Answer) {
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(["No such", "no such", "not found"].iter().any(|words| answer.text().contains(words)), "{}", answer.text());
}

#[test]
fn who_may_connect_is_said_by_mode_and_group() {
    let env = Env::new();
    let api = Api::start_at(&env, "a.sock", ",mode=640,group=0", &[]);
    assert_eq!(std::fs::metadata(env.path("a.sock")).unwrap().permissions().mode() & 0o777, 0o640);
    drop(api);
    let _api = Api::start(&env);
    assert_eq!(std::fs::metadata(env.path("docker.sock")).unwrap().permissions().mode() & 0o777, 0o660);
    let wrong = format!("unix://{},bogus", env.path("b.sock").display());
    env.kiste(&["serve", "-H", &wrong]).fails(1, &["invalid option \"bogus\"", "read-only, confined, label="]);
    env.kiste(&["serve", "-H", "tcp://0.0.0.0:0"]).fails(1, &["needs --tlsverify"]);
}

#[test]
fn a_read_only_socket_changes_nothing() {
    let env = Env::with_busybox();
    env.detached(&["--name", "web"], "sleep 1000");
    let api = Api::start_at(&env, "ro.sock", ",read-only", &[]);
    assert_eq!(api.get("/containers/web/json").status, 200);
    assert_eq!(api.ok(&["ps", "--format", "{{.Names}}"]), "web");
    for (method, path) in [
        ("POST", "/containers/web/stop"),
        ("POST", "/v1.40/containers/web/exec"),
        ("POST", "/containers/web/attach?stdin=1&stream=1"),
        ("GET", "/containers/web/attach/ws?stdin=1&stream=1"),
        ("PUT", "/containers/web/archive?path=/"),
        ("DELETE", "/containers/web"),
        ("POST", "/images/create?fromImage=x"),
        ("DELETE", "/images/busybox"),
        ("POST", "/volumes/prune"),
        ("POST", "/auth"),
        ("POST", "/build"),
        ("POST", "//containers/web/stop"),
        ("POST", "/containers/web/wait/../stop"),
    ] {
        let answer = api.request(method, path, &[], b"");
        assert!(matches!(answer.status, 403 | 404), "{method} {path}: {} {}", answer.status, answer.text());
    }
    assert_eq!(env.status("web"), "running");
}

/// What a client can write into a request for a container, and must not be given.
fn loosened() -> Vec<(&'static str, Value)> {
    let host =
        |field: &str, value: Value| json!({ "Image": "busybox", "Cmd": ["true"], "HostConfig": { field: value } });
    let mount = |mount: Value| host("Mounts", json!([mount]));
    let volume = |options: Value| {
        mount(json!({ "Type": "volume", "Source": "vv", "Target": "/m",
                      "VolumeOptions": { "DriverConfig": { "Name": "local", "Options": options } } }))
    };
    let bind_option = json!({ "type": "none", "o": "bind", "device": "/etc" });
    let mut all = vec![
        ("privileged", host("Privileged", json!(true))),
        ("bind", host("Binds", json!(["/:/host"]))),
        ("read-only bind", host("Binds", json!(["/etc/passwd:/p:ro"]))),
        ("bind mount", mount(json!({ "Type": "bind", "Source": "/", "Target": "/host" }))),
        ("volume options", volume(bind_option)),
        ("image mount", mount(json!({ "Type": "image", "Source": "host:/", "Target": "/host" }))),
        ("host image", json!({ "Image": "host:/", "Cmd": ["true"] })),
        ("device", host("Devices", json!([{ "PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg" }]))),
        ("device rule", host("DeviceCgroupRules", json!(["a *:* rwm"]))),
        ("device request", host("DeviceRequests", json!([{ "Driver": "cdi", "DeviceIDs": ["a.b/c=d"] }]))),
        ("capability", host("CapAdd", json!(["SYS_ADMIN"]))),
        ("all capabilities", host("CapAdd", json!("ALL"))),
        ("cgroup parent", host("CgroupParent", json!("/system.slice"))),
        ("masked paths", host("MaskedPaths", json!([]))),
        ("read-only paths", host("ReadonlyPaths", json!([]))),
        ("oom score", host("OomScoreAdj", json!(-500))),
        ("ids", host("UsernsMode", json!("keep-id:uid=0,gid=0"))),
    ];
    for option in ["seccomp=unconfined", "seccomp=/etc/shadow", "systempaths=unconfined", "no-new-privileges=false"] {
        all.push((option, host("SecurityOpt", json!([option]))));
    }
    for field in ["NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode"] {
        all.push((field, host(field, json!("host"))));
    }
    all
}

#[test]
fn a_confined_socket_gives_nothing_of_the_hosts() {
    let env = Env::with_busybox();
    let api = Api::start_at(&env, "c.sock", ",confined", &[]);
    for (what, body) in loosened() {
        let answer = create(&api, "xx", body);
        assert!(matches!(answer.status, 403 | 404), "{what}: {} {}", answer.status, answer.text());
    }
    assert_eq!(env.ok(&["ps", "-aq"]), "");
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "");
    // What needs nothing of it works as ever.
    assert_eq!(
        api.ok(&["run", "--rm", "-v", "data:/d", "--cap-drop", "ALL", "--cap-add", "CHOWN", "busybox", "echo", "x"]),
        "x"
    );
    api.ok(&["run", "-d", "--name", "web", "--restart", "always", "-m", "64m", "busybox", "sleep", "1000"]);
    forbidden(&api.post("/containers/web/exec", &json!({ "Cmd": ["sh"], "Privileged": true })));
    assert_eq!(api.ok(&["exec", "web", "echo", "y"]), "y");
    forbidden(&api.post("/containers/web/update", &json!({ "CpuRealtimeRuntime": 1000 })));
    // Images carry no privileges: what is made of one is judged as itself.
    api.ok(&["commit", "web", "made:1"]);
    forbidden(&create(&api, "xx", json!({ "Image": "made:1", "HostConfig": { "Privileged": true } })));
    api.ok(&["rm", "-f", "web"]);
    let options = json!({ "type": "none", "o": "bind", "device": "/" });
    forbidden(&api.post("/volumes/create", &json!({ "Name": "root", "DriverOpts": options })));
    forbidden(
        &api.post("/networks/create", &json!({ "Name": "n", "Driver": "macvlan", "Options": { "parent": "lo" } })),
    );
    forbidden(
        &api.post(
            "/networks/create",
            &json!({ "Name": "n", "Options": { "com.docker.network.bridge.name": "docker0" } }),
        ),
    );
    for path in ["/build?remote=host:/", "/session", "/grpc"] {
        forbidden(&api.post(path, &json!({})));
    }
    for path in ["/images/host:/etc/json", "/images/get?names=host:/etc", "/images/host:/etc/get"] {
        let answer = api.get(path);
        assert!(answer.status != 200 || !answer.text().contains("passwd"), "{path}: {}", answer.status);
    }
}

#[test]
fn containers_with_more_can_be_looked_at_only() {
    let env = Env::with_busybox();
    env.ok(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/etc", "etc"]);
    env.detached(&["--name", "big", "--privileged", "-v", "/:/host"], "sleep 1000");
    let api = Api::start_at(&env, "c.sock", ",confined", &[]);
    assert_eq!(api.get("/containers/big/json").status, 200);
    assert_eq!(api.ok(&["ps", "--format", "{{.Names}}"]), "big");
    for (method, path, body) in [
        ("POST", "exec", json!({ "Cmd": ["sh"] })),
        ("POST", "update", json!({ "Memory": 0 })),
        ("POST", "attach?stream=1&stdin=1", Value::Null),
        ("POST", "stop", Value::Null),
        ("POST", "restart", Value::Null),
        ("POST", "rename?name=xx", Value::Null),
        ("GET", "archive?path=/host/etc/shadow", Value::Null),
        ("GET", "export", Value::Null),
        ("GET", "logs?stdout=1", Value::Null),
        ("DELETE", "?force=1", Value::Null),
    ] {
        let path = format!("/containers/big/{path}").replace("/?", "?");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = api.request(method, &path, &[("Content-Type", "application/json")], body.as_bytes());
        assert!(matches!(answer.status, 403 | 501), "{method} {path}: {} {}", answer.status, answer.text());
    }
    forbidden(&api.post("/commit?container=big&repo=x", &json!({})));
    for host in [
        json!({ "VolumesFrom": ["big"] }),
        json!({ "NetworkMode": "container:big" }),
        json!({ "PidMode": "container:big" }),
        json!({ "IpcMode": "container:big" }),
        json!({ "Binds": ["etc:/m"] }),
        json!({ "Mounts": [{ "Type": "volume", "Source": "etc", "Target": "/m" }] }),
    ] {
        forbidden(&create(&api, "xx", json!({ "Image": "busybox", "Cmd": ["true"], "HostConfig": host })));
    }
    env.ok(&["create", "--name", "stopped", "--privileged", "busybox", "true"]);
    assert_eq!(api.post("/containers/prune", &json!({})).json()["ContainersDeleted"], json!([]));
    forbidden(&api.request("DELETE", "/volumes/etc", &[], b""));
    api.post("/volumes/prune?filters={\"all\":[\"1\"]}", &json!({}));
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "etc");
    env.ok(&["rm", "stopped"]);
    // A name that is the beginning of its id leads to the container of that name.
    let prefix = &env.ok(&["inspect", "-f", "{{.Id}}", "big"])[..12];
    assert_eq!(create(&api, prefix, json!({ "Image": "busybox", "Cmd": ["true"] })).status, 201);
    assert_eq!(api.request("DELETE", &format!("/containers/{prefix}"), &[], b"").status, 204);
    forbidden(&api.request("DELETE", &format!("/containers/{prefix}?force=1"), &[], b""));
    assert_eq!(env.status("big"), "running");
}

#[test]
fn networks_on_the_hosts_devices_are_closed_to_confined_containers() {
    let env = Env::with_busybox();
    let netns = Netns::new();
    netns.enter();
    ip("link add dev0 type veth peer name dev1");
    ip("link add br9 type bridge");
    env.ok(&["network", "create", "-d", "macvlan", "-o", "parent=dev0", "lan"]);
    env.ok(&["network", "create", "-o", "com.docker.network.bridge.name=br9", "borrowed"]);
    env.ok(&["create", "--name", "outside", "--network", "lan", "busybox", "true"]);
    let api = Api::start_at(&env, "c.sock", ",confined", &[]);
    assert_eq!(create(&api, "web", json!({ "Image": "busybox", "Cmd": ["true"] })).status, 201);
    for network in ["lan", "borrowed"] {
        let id = env.ok(&["network", "inspect", "-f", "{{.Id}}", network]);
        for name in [network, &id] {
            let host = json!({ "Image": "busybox", "Cmd": ["true"], "HostConfig": { "NetworkMode": name } });
            forbidden(&create(&api, "xx", host));
            let ends = json!({ "EndpointsConfig": { name: {} } });
            let more = json!({ "Image": "busybox", "Cmd": ["true"], "NetworkingConfig": ends });
            forbidden(&create(&api, "xx", more));
            forbidden(&api.post(&format!("/networks/{name}/connect"), &json!({ "Container": "web" })));
            forbidden(&api.request("DELETE", &format!("/networks/{name}"), &[], b""));
        }
    }
    forbidden(&api.post("/containers/outside/start", &json!({})));
    let shared = json!({ "Image": "busybox", "Cmd": ["true"], "HostConfig": { "NetworkMode": "container:outside" } });
    forbidden(&create(&api, "xx", shared));
    assert_eq!(api.post("/networks/prune", &json!({})).json()["NetworksDeleted"], Value::Null);
    // Addresses are asked from the host's own network.
    for address in ["http://127.0.0.1:1/x", "http://localhost:1/x"] {
        forbidden(&api.post(&format!("/images/create?fromSrc={address}&repo=x"), &json!({})));
    }
}

fn ip(line: &str) {
    assert!(std::process::Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
}

#[test]
fn a_socket_with_a_label_sees_its_own_only() {
    let env = Env::with_busybox();
    env.detached(&["--name", "other", "-v", "secret:/s"], "echo x > /s/x; sleep 1000");
    env.ok(&["network", "create", "theirs"]);
    let api = Api::start_at(&env, "l.sock", ",label=team=a", &[]);
    // The label cannot be chosen.
    let id = api.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--label",
        "team=b",
        "-v",
        "data:/d",
        "-v",
        "/anonymous",
        "busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(api.get("/containers/web/json").json()["Config"]["Labels"]["team"], "a");
    assert_eq!(api.ok(&["ps", "-a", "--format", "{{.Names}}"]), "web");
    assert_eq!(api.ok(&["volume", "ls", "-q"]).lines().count(), 2);
    api.ok(&["network", "create", "mine"]);
    assert_eq!(api.ok(&["network", "ls", "--format", "{{.Name}}", "--filter", "type=custom"]), "mine");
    api.ok(&["network", "connect", "mine", "web"]);
    let other = env.ok(&["inspect", "-f", "{{.Id}}", "other"]);
    for name in ["other", &other, &other[..12]] {
        missing(&api.get(&format!("/containers/{name}/json")));
        let archive = api.get(&format!("/containers/{name}/archive?path=/s/x"));
        assert_eq!(archive.status, 404, "{}", archive.text());
        missing(&api.get(&format!("/containers/{name}/logs?stdout=1")));
        missing(&api.post(&format!("/containers/{name}/exec"), &json!({ "Cmd": ["sh"] })));
        missing(&api.post(&format!("/containers/{name}/kill"), &json!({})));
        missing(&api.post(&format!("/commit?container={name}"), &json!({})));
        missing(&api.request("DELETE", &format!("/containers/{name}?force=1"), &[], b""));
        missing(&api.post("/networks/mine/connect", &json!({ "Container": name })));
        missing(&api.get(&format!("/containers/json?filters={{\"before\":[\"{name}\"]}}")));
        for host in [
            json!({ "NetworkMode": format!("container:{name}") }),
            json!({ "PidMode": format!("container:{name}") }),
            json!({ "VolumesFrom": [name] }),
            json!({ "Links": [format!("{name}:x")] }),
        ] {
            refused(&create(&api, "xx", json!({ "Image": "busybox", "Cmd": ["true"], "HostConfig": host })));
        }
    }
    refused(&create(&api, "xx", json!({ "Image": "busybox", "HostConfig": { "Binds": ["secret:/s"] } })));
    refused(&create(&api, "xx", json!({ "Image": "busybox", "HostConfig": { "NetworkMode": "theirs" } })));
    missing(&api.get("/volumes/secret"));
    missing(&api.request("DELETE", "/volumes/secret?force=0", &[], b""));
    missing(&api.request("DELETE", "/networks/theirs", &[], b""));
    missing(&api.post("/networks/theirs/connect", &json!({ "Container": "web" })));
    // An exec of another's container is not found by its id.
    let full = Api::start(&env);
    let exec = full.post("/containers/other/exec", &json!({ "Cmd": ["true"] })).json()["Id"].clone();
    missing(&api.get(&format!("/exec/{}/json", exec.as_str().unwrap())));
    missing(&api.post(&format!("/exec/{}/start", exec.as_str().unwrap()), &json!({ "Detach": true })));
    // Names of everybody's images stay what they are; own images come and go.
    forbidden(&api.post("/commit?container=web&repo=busybox&tag=latest", &json!({})));
    forbidden(&api.post("/images/busybox/tag?repo=x&tag=1", &json!({})));
    forbidden(&api.request("DELETE", "/images/busybox?force=1", &[], b""));
    assert!(api.request("POST", "/images/load", &[], b"x").text().contains("not allowed here"));
    forbidden(&api.get("/system/df"));
    api.ok(&["commit", "web", "own:1"]);
    api.ok(&["rmi", "own:1"]);
    // Nor does what is pruned take others' things away.
    for what in ["container", "volume", "network", "image"] {
        api.ok(&[what, "prune", "-f"]);
    }
    assert_eq!(env.status("other"), "running");
    assert!(env.ok(&["volume", "ls", "-q"]).contains("secret") && env.ok(&["network", "ls"]).contains("theirs"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let events = api.get(&format!("/events?since=0&until={now:.9}")).text();
    assert!(events.contains(&id) && !events.contains(&other), "{events}");
    api.ok(&["rm", "-f", "-v", "web"]);
}
