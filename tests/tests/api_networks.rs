//! Networks through the Engine API: the wire, and the real docker command.

use kiste_tests::{Api, Env};
use serde_json::{Value, json};

fn message(answer: &kiste_tests::api::Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn networks_are_made_shown_and_removed() {
    let env = Env::new();
    let api = Api::start(&env);
    let range =
        json!({ "Subnet": "10.77.0.0/24", "IPRange": "10.77.0.128/25", "AuxiliaryAddresses": { "a": "10.77.0.5" } });
    let made = api.post(
        "/networks/create",
        &json!({ "Name": "n1", "CheckDuplicate": true, "Driver": "bridge", "Labels": { "a": "b" }, "Attachable": true,
                 "IPAM": { "Driver": "default", "Options": null, "Config": [range] }, "Options": null }),
    );
    assert_eq!((made.status, &made.json()["Warning"]), (201, &json!("")));
    let shown = api.get("/networks/n1").json();
    assert_eq!(shown["Id"], made.json()["Id"]);
    let wanted = json!({ "Subnet": "10.77.0.0/24", "IPRange": "10.77.0.128/25", "Gateway": "10.77.0.128",
                         "AuxiliaryAddresses": { "a": "10.77.0.5" } });
    assert_eq!(shown["IPAM"], json!({ "Driver": "default", "Options": null, "Config": [wanted] }));
    let ids = |path: &str| {
        let list = api.get(path).json();
        list.as_array().unwrap().iter().map(|one| one["Name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(r#"/networks?filters={"type":["builtin"]}"#), ["bridge", "host", "none"]);
    assert_eq!(ids(r#"/networks?filters={"label":{"a=b":true}}"#), ["n1"]);
    assert_eq!(ids(r#"/v1.24/networks?filters={"dangling":["true"],"scope":["local"],"driver":["bridge"]}"#), ["n1"]);
    assert_eq!(api.get(r#"/networks?filters={"scope":["swarm"]}"#).text(), "[]\n");
    let again = api.post("/networks/create", &json!({ "Name": "n1" }));
    assert_eq!((again.status, message(&again).as_str()), (409, "network with name n1 already exists"));
    assert_eq!(api.request("DELETE", "/networks/n1", &[], b"").status, 204);
    assert_eq!(api.post("/networks/prune", &json!({})).json(), json!({ "NetworksDeleted": null }));
}

#[test]
fn what_cannot_be_is_refused_in_dockers_words() {
    let env = Env::new();
    let api = Api::start(&env);
    let refused = |body: Value| {
        let answer = api.post("/networks/create", &body);
        (answer.status, message(&answer))
    };
    assert_eq!(refused(json!({})), (400, "invalid name: name is empty".to_owned()));
    assert_eq!(refused(json!([])).0, 400);
    let predefined = "operation is not permitted on predefined bridge network ";
    assert_eq!(refused(json!({ "Name": "bridge" })), (403, predefined.to_owned()));
    let scope = "cannot create a swarm scoped network when swarm is not active";
    assert_eq!(refused(json!({ "Name": "n", "Scope": "swarm" })), (403, scope.to_owned()));
    assert_eq!(refused(json!({ "Name": "n", "ConfigOnly": true })).0, 501);
    assert_eq!(refused(json!({ "Name": "n", "EnableIPv4": false })), (400, "IPv4 or IPv6 must be enabled".to_owned()));
    assert_eq!(refused(json!({ "Name": "n", "Driver": "nope" })).0, 404);
    for (method, path, status, text) in [
        ("GET", "/networks/nope", 404, "network nope not found"),
        ("GET", "/networks/bridge?scope=swarm", 404, "network bridge not found"),
        ("GET", "/networks?filters={\"bogus\":[\"x\"]}", 400, "invalid filter 'bogus'"),
        ("DELETE", "/networks/bridge", 403, "bridge is a pre-defined network and cannot be removed"),
        ("DELETE", "/networks/nope", 404, "network nope not found"),
        ("PUT", "/networks/bridge", 404, "page not found"),
    ] {
        let answer = api.request(method, path, &[], b"");
        assert_eq!((answer.status, message(&answer).as_str()), (status, text), "{method} {path}");
    }
    let verbose = api.get("/networks/bridge?verbose=x");
    assert!(message(&verbose).starts_with("invalid value for verbose: x: strconv.ParseBool"), "{verbose:?}");
    for verb in ["connect", "disconnect"] {
        let path = format!("/networks/bridge/{verb}");
        let told = |body: Value| {
            let answer = api.post(&path, &body);
            (answer.status, message(&answer))
        };
        assert_eq!(told(json!({})), (400, "invalid name or ID supplied: \"\"".to_owned()));
        assert_eq!(told(json!({ "Container": "nope" })), (404, "No such container: nope".to_owned()));
    }
}

/// What containers have in a network, by their names.
fn members(api: &Api, network: &str) -> Vec<String> {
    let shown = api.get(&format!("/networks/{network}")).json();
    let mut names: Vec<String> =
        shown["Containers"].as_object().unwrap().values().map(|one| one["Name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn endpoints_are_asked_for_at_the_creation_of_a_container() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    api.ok(&["network", "create", "--subnet", "10.78.1.0/24", "one"]);
    api.ok(&["network", "create", "--subnet", "10.78.2.0/24", "two"]);
    let endpoint = |address: &str, mac: &str, priority: i64| {
        json!({ "IPAMConfig": { "IPv4Address": address }, "Aliases": ["www"], "MacAddress": mac, "GwPriority": priority,
                "Links": null, "DriverOpts": { "com.docker.network.endpoint.ifname": format!("net{priority}") } })
    };
    let body = json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"],
        "HostConfig": { "NetworkMode": "one", "CgroupParent": env.cgroup() },
        "NetworkingConfig": { "EndpointsConfig": {
            "one": endpoint("10.78.1.9", "02:00:00:00:01:09", 1), "two": endpoint("10.78.2.9", "", 5) } },
    });
    assert_eq!(api.post("/containers/create?name=web", &body).status, 201);
    api.ok(&["start", "web"]);
    let networks = api.get("/containers/web/json").json()["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks["one"]["IPAddress"], "10.78.1.9");
    assert_eq!(networks["one"]["MacAddress"], "02:00:00:00:01:09");
    assert_eq!(networks["two"]["IPAddress"], "10.78.2.9");
    assert_eq!(networks["two"]["Aliases"], json!(["www"]));
    assert!(api.ok(&["exec", "web", "ip", "route"]).contains("default via 10.78.2.1 dev net5"));
    assert_eq!((members(&api, "one"), members(&api, "two")), (vec!["web".to_owned()], vec!["web".to_owned()]));
    let in_use = api.request("DELETE", "/networks/one", &[], b"");
    assert_eq!(in_use.status, 403);
    assert!(message(&in_use).contains("has active endpoints (name:\"web\" id:\""), "{}", message(&in_use));
    // Names lead to it from another container.
    let found = api.ok(&["run", "--rm", "--network", "two", "busybox", "nslookup", "-type=a", "www"]);
    assert!(found.contains("10.78.2.9"), "{found}");
}

#[test]
fn containers_come_and_go_while_they_run() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    api.ok(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]);
    api.ok(&["network", "create", "--subnet", "10.79.0.0/24", "-o", "com.docker.network.driver.mtu=1400", "net"]);
    api.ok(&["network", "connect", "--ip", "10.79.0.7", "--alias", "www", "net", "web"]);
    assert!(api.ok(&["exec", "web", "ip", "addr"]).contains("10.79.0.7/24"));
    assert_eq!(members(&api, "net"), ["web"]);
    api.docker(&["network", "connect", "net", "web"]).fails(1, &["already exists in network net"]);
    api.docker(&["network", "rm", "net"]).fails(1, &["has active endpoints"]);
    api.ok(&["network", "disconnect", "net", "web"]);
    api.docker(&["network", "disconnect", "net", "web"]).fails(1, &["is not connected to network net"]);
    assert!(!api.ok(&["exec", "web", "ip", "addr"]).contains("10.79.0.7/24"));
    assert_eq!(
        api.ok(&["network", "ls", "--filter", "type=custom", "--format", "{{.Name}} {{.Driver}}"]),
        "net bridge"
    );
    assert_eq!(
        api.ok(&["network", "inspect", "-f", "{{index .Options \"com.docker.network.driver.mtu\"}}", "net"]),
        "1400"
    );
    assert_eq!(api.ok(&["network", "prune", "-f"]), "Deleted Networks:\nnet");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let events = api.get(&format!("/events?since=0&until={now:.9}&filters={{\"type\":[\"network\"]}}")).text();
    let actions: Vec<Value> =
        events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["Action"].clone()).collect();
    // The first is the container's start, in the default network.
    assert_eq!(actions, ["connect", "create", "connect", "disconnect", "destroy", "prune"]);
}

#[test]
fn starts_and_ends_are_events_of_networks_and_links_can_be_removed() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    api.ok(&["network", "create", "net"]);
    let id = api.ok(&["run", "-d", "--name", "job", "--network", "net", "busybox", "true"]);
    assert_eq!(api.ok(&["wait", "job"]), "0");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let filters = "{\"network\":[\"net\"],\"event\":[\"connect\",\"disconnect\"]}";
    let events = api.get(&format!("/events?since=0&until={now:.9}&filters={filters}")).text();
    let told: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.iter().map(|event| &event["Action"]).collect::<Vec<_>>(), ["connect", "disconnect"], "{events}");
    for event in &told {
        assert_eq!(event["Actor"]["Attributes"]["container"], id.as_str());
        assert_eq!(event["Actor"]["Attributes"]["type"], "bridge");
    }
    api.ok(&["run", "-d", "--name", "db", "busybox", "sleep", "1000"]);
    api.ok(&["run", "-d", "--name", "web", "--link", "db:store", "busybox", "sleep", "1000"]);
    assert!(api.ok(&["exec", "web", "cat", "/etc/hosts"]).contains("store"));
    assert_eq!(api.request("DELETE", "/containers/web/store?link=1", &[], b"").status, 204);
    assert!(!api.ok(&["exec", "web", "cat", "/etc/hosts"]).contains("store"));
    assert_eq!(api.request("DELETE", "/containers/web/store?link=1", &[], b"").status, 404);
    assert_eq!(api.ok(&["ps", "-q"]).lines().count(), 2);
}
