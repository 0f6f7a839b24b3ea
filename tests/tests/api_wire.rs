//! The wire details of the Engine API that clients depend on: versions, headers, error bodies, frames, early heads; and
//! requests that are wrong, hostile or cut off.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::time::Duration;

use kiste_tests::{Api, Env, wait_until};
use serde_json::{Value, json};

#[test]
fn versions_are_negotiated() {
    let env = Env::new();
    let api = Api::start(&env);
    let ping = api.get("/_ping");
    assert_eq!((ping.status, ping.text().as_str()), (200, "OK"));
    assert_eq!((ping.header("api-version"), ping.header("ostype")), ("1.51", "linux"));
    assert_eq!(ping.header("cache-control"), "no-cache, no-store, must-revalidate");
    assert_eq!(api.request("HEAD", "/_ping", &[], b"").body, b"");
    for path in ["/version", "/v1.24/version", "/v1.51/version"] {
        assert_eq!(api.get(path).json()["ApiVersion"], "1.51", "{path}");
    }
    let old = api.get("/v1.12/info");
    assert_eq!(old.status, 400);
    assert!(old.json()["message"].as_str().unwrap().starts_with("client version 1.12 is too old. Minimum supported"));
    assert!(api.get("/v1.99/info").text().contains("client version 1.99 is too new"));
    assert_eq!(api.get("/v1.52/info").status, 200);
    assert_eq!(api.get("/info").json()["OSType"], "linux");
}

#[test]
fn what_does_not_exist_is_told_in_dockers_words() {
    let env = Env::new();
    let api = Api::start(&env);
    let told = |method: &str, path: &str| {
        let answer = api.request(method, path, &[], b"");
        assert_eq!(answer.header("content-type"), "application/json", "{method} {path}");
        (answer.status, answer.json()["message"].as_str().unwrap_or_default().to_owned())
    };
    let pages = [("GET", "/nope"), ("DELETE", "/info"), ("POST", "/containers/json"), ("PUT", "/containers/x/start")];
    for (method, path) in pages {
        assert_eq!(told(method, path), (404, "page not found".to_owned()), "{method} {path}");
    }
    for verb in ["start", "stop", "restart", "pause", "unpause", "wait", "attach", "resize?h=1&w=1"] {
        assert_eq!(told("POST", &format!("/containers/x/{verb}")), (404, "No such container: x".to_owned()), "{verb}");
    }
    assert_eq!(told("GET", "/containers/x/json").1, "No such container: x");
    assert_eq!(told("GET", "/containers/x/logs?stdout=1").1, "No such container: x");
    assert_eq!(told("GET", "/images/a/b:c/json"), (404, "No such image: a/b:c".to_owned()));
    assert_eq!(told("GET", "/volumes/x").0, 404);
    assert_eq!(told("GET", "/exec/x/json"), (404, "No such exec instance: x".to_owned()));
    assert_eq!(told("GET", &format!("/exec/{}/json", "a".repeat(64))).0, 404);
    assert_eq!(told("GET", "/services").0, 503);
    assert!(told("GET", "/swarm").1.starts_with("This node is not a swarm manager."));
    assert_eq!(api.get("/plugins").json(), json!([]));
    assert_eq!(told("POST", "/build").0, 400);
}

#[test]
fn wrong_requests_change_nothing() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let kind = [("Content-Type", "application/json")];
    let create = |body: &[u8], headers: &[(&str, &str)]| api.request("POST", "/containers/create", headers, body);
    let wrong: [(&[u8], &str); 9] = [
        (b"{", "invalid JSON: "),
        (b"x", "invalid JSON: "),
        (b" ", "invalid JSON: got EOF while reading request body"),
        (b"{} {}", "unexpected content after JSON"),
        (b"[]", "invalid JSON: "),
        (b"\"\"", "invalid JSON: "),
        (br#"{"Image":5}"#, "invalid JSON: "),
        (br#"{"Image":"busybox","HostConfig":{"Memory":"much"}}"#, "invalid JSON: HostConfig: "),
        (br#"{"Image":"busybox","HostConfig":{"Binds":["relative:/x:bogus"]}}"#, ""),
    ];
    for (body, message) in wrong {
        let answer = create(body, &kind);
        assert_eq!(answer.status, 400, "{:?}: {answer:?}", String::from_utf8_lossy(body));
        assert!(answer.json()["message"].as_str().unwrap().starts_with(message), "{}", answer.text());
    }
    assert!(create(b"{}", &[("Content-Type", "text/plain")]).text().contains("must be 'application/json'"));
    assert_eq!(create(b"", &kind).status, 400);
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert_eq!(create(&deep, &kind).status, 400);
    assert_eq!(create(&vec![b' '; 9 << 20], &kind).status, 413);
    for name in ["a", "-x", "a%20b", "..%2Fx", "%00", "a%2Fb"] {
        let path = format!("/containers/create?name={name}");
        let answer = api.request("POST", &path, &kind, br#"{"Image":"busybox","Cmd":["true"]}"#);
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
    }
    let unknown = api.post("/containers/create", &json!({ "Image": "nonexistent" }));
    assert_eq!((unknown.status, unknown.json()["message"].as_str()), (404, Some("No such image: nonexistent:latest")));
    for filters in ["x", "{\"bogus\":[\"a\"]}", "{\"status\":[\"bogus\"]}", "[]"] {
        assert_eq!(api.get(&format!("/containers/json?filters={filters}")).status, 400, "{filters}");
    }
    assert_eq!(api.get("/containers/json?limit=x").status, 400);
    assert_eq!(api.get("/events?since=bogus").status, 400);
    assert_eq!(api.get("/containers/json?all=1").json(), json!([]));
}

#[test]
fn garbage_and_cut_off_requests_harm_nobody() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let body = br#"{"Image":"busybox","Cmd":["true"]}"#;
    let head = format!(
        "POST /containers/create?name=whole HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let whole = [head.as_bytes(), body].concat();
    for length in (0..whole.len()).step_by(7) {
        let mut stream = api.connect();
        stream.write_all(&whole[..length]).unwrap();
    }
    for garbage in [
        &b"\0\0\0\0"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = api.connect();
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
    api.exchange(long.as_bytes());
    let lying = "POST /images/load HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nshort";
    let mut stream = api.connect();
    stream.write_all(lying.as_bytes()).unwrap();
    drop(stream);
    let smuggled = "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    api.exchange(format!("{smuggled}Connection: close\r\n\r\n").as_bytes());
    assert_eq!(api.get("/containers/json?all=1").json(), json!([]));
    assert_eq!(api.get("/_ping").status, 200);
}

#[test]
fn an_ambiguous_id_is_refused() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let mut ids: Vec<String> = Vec::new();
    let (first, second) = loop {
        let id =
            api.post("/containers/create", &json!({ "Image": "busybox" })).json()["Id"].as_str().unwrap().to_owned();
        if let Some(twin) = ids.iter().find(|other| other[..1] == id[..1]) {
            break (twin.clone(), id);
        }
        ids.push(id);
    };
    let answer = api.get(&format!("/containers/{}/json", &first[..1]));
    assert_eq!(answer.status, 400, "{} {second}: {}", first, answer.text());
    assert!(answer.text().to_lowercase().contains("multiple ids found with provided prefix"), "{}", answer.text());
}

#[test]
fn logs_and_streams_are_framed() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let create = json!({ "Image": "busybox", "Cmd": ["sh", "-c", "echo out; echo err >&2"] });
    let id = api.post("/containers/create?name=web", &create).json()["Id"].as_str().unwrap().to_owned();
    assert_eq!(api.request("POST", "/containers/web/start", &[], b"").status, 204);
    assert_eq!(api.request("POST", "/containers/web/wait", &[], b"").json(), json!({ "StatusCode": 0 }));
    assert_eq!(api.request("POST", "/containers/web/stop", &[], b"").status, 304);
    let logs = api.get("/containers/web/logs?stdout=1&stderr=1&timestamps=0");
    assert_eq!(logs.header("content-type"), "application/vnd.docker.multiplexed-stream");
    assert_eq!(logs.body, b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n");
    assert_eq!(
        api.get("/v1.41/containers/web/logs?stderr=1").header("content-type"),
        "application/vnd.docker.raw-stream"
    );
    assert_eq!(api.get("/containers/web/logs?stderr=1").body, b"\x02\0\0\0\0\0\0\x04err\n");
    assert_eq!(api.get("/containers/web/logs?stdout=1&tail=0").body, b"");
    assert_eq!(api.get("/containers/web/logs").status, 400);
    let stamped = api.get("/containers/web/logs?stdout=1&timestamps=1").body;
    assert_eq!(&stamped[8 + 19..8 + 20], b".", "nine decimals: {:?}", String::from_utf8_lossy(&stamped));
    // Without an upgrade the streams are the body.
    let attached = api.request("POST", "/containers/web/attach?logs=1&stdout=1", &[], b"");
    assert_eq!((attached.status, attached.body.as_slice()), (200, &b"\x01\0\0\0\0\0\0\x04out\n"[..]));
    assert_eq!(api.request("POST", "/containers/web/wait?condition=bogus", &[], b"").status, 400);
    assert_eq!(
        api.request("POST", "/containers/web/start", &[("Content-Type", "application/json")], b"{\"a\":1}     ").status,
        400
    );
    assert_eq!(api.request("DELETE", &format!("/containers/{id}"), &[], b"").status, 204);
}

/// Reads the head of an answer.
fn head(reader: &mut impl std::io::BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "closed after {head:?}");
    }
    head
}

#[test]
fn a_wait_that_has_begun_misses_nothing() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    for (condition, remove) in [("next-exit", false), ("removed", true)] {
        let create =
            json!({ "Image": "busybox", "Cmd": ["sh", "-c", "exit 7"], "HostConfig": { "AutoRemove": remove } });
        assert_eq!(api.post(&format!("/containers/create?name=w-{condition}"), &create).status, 201);
        let mut waiting = api.connect();
        let request = format!("POST /containers/w-{condition}/wait?condition={condition} HTTP/1.1\r\nHost: x\r\n\r\n");
        waiting.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(waiting);
        // The head comes before the container has even begun.
        assert!(head(&mut reader).starts_with("HTTP/1.1 200 OK"));
        assert_eq!(api.request("POST", &format!("/containers/w-{condition}/start"), &[], b"").status, 204);
        let mut lines = String::new();
        while !lines.contains("StatusCode") {
            assert!(reader.read_line(&mut lines).unwrap() > 0, "{lines}");
        }
        assert!(lines.contains("{\"StatusCode\":7}"), "{condition}: {lines}");
    }
}

#[test]
fn a_connection_becomes_the_streams_of_a_container() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let create =
        json!({ "Image": "busybox", "Cmd": ["sh", "-c", "cat; echo end >&2"], "OpenStdin": true, "StdinOnce": true });
    assert_eq!(api.post("/containers/create?name=web", &create).status, 201);
    let mut stream = api.connect();
    stream
        .write_all(b"POST /containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n")
        .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let told = head(&mut reader);
    assert!(told.starts_with("HTTP/1.1 101 "), "{told}");
    assert!(told.contains("Content-Type: application/vnd.docker.multiplexed-stream\r\n"), "{told}");
    assert!(told.contains("Upgrade: tcp\r\n"), "{told}");
    assert_eq!(api.request("POST", "/containers/web/start", &[], b"").status, 204);
    stream.write_all(b"typed").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    // Two streams have no common order.
    let frames = [&b"\x01\0\0\0\0\0\0\x05typed"[..], b"\x02\0\0\0\0\0\0\x04end\n"];
    assert!(all == frames.concat() || all == [frames[1], frames[0]].concat(), "{:?}", String::from_utf8_lossy(&all));
}

#[test]
fn events_are_replayed_and_followed() {
    let env = Env::with_busybox();
    let mut api = Api::start(&env);
    api.ok(&["run", "--rm", "--name", "first", "busybox", "true"]);
    api.restart();
    let filters = "filters={\"type\":[\"container\"],\"event\":[\"die\"]}";
    let mut stream = api.connect();
    stream.write_all(format!("GET /events?since=1&{filters} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    head(&mut reader);
    let mut next = || loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0);
        if line.starts_with('{') {
            return serde_json::from_str::<Value>(&line).unwrap();
        }
    };
    let replayed = next();
    assert_eq!((&replayed["Action"], &replayed["status"]), (&json!("die"), &json!("die")));
    assert_eq!(replayed["Actor"]["Attributes"]["name"], "first");
    assert_eq!(replayed["from"], "busybox");
    api.docker(&["run", "--rm", "--name", "second", "busybox", "false"]);
    let followed = next();
    assert_eq!(followed["Actor"]["Attributes"]["exitCode"], "1");
    assert_eq!(followed["scope"], "local");
}

#[test]
fn slow_and_vanished_readers_cost_little() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let line = "dd if=/dev/zero bs=1M count=40 2>/dev/null | tr '\\0' x; sleep 1000";
    api.ok(&["run", "-d", "--name", "web", "busybox", "sh", "-c", line]);
    let slow: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = api.connect();
            stream.write_all(b"GET /containers/web/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream
        })
        .collect();
    wait_until("the log is written", Duration::from_secs(60), || {
        Some(()).filter(|()| api.docker(&["logs", "--tail", "1", "web"]).stdout.contains('x'))
    });
    assert_eq!(api.get("/_ping").status, 200);
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", api.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap().trim().to_owned();
        line.trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    assert!(memory() < 40 << 10, "{} KiB", memory());
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", api.pid())).unwrap().count();
    let before = descriptors();
    drop(slow);
    wait_until("their connections are closed", Duration::from_secs(20), || {
        Some(()).filter(|()| descriptors() + 40 <= before)
    });
}

/// Opens a web socket (RFC 6455) on a container's streams.
fn web_socket(
    api: &Api<'_>,
    path: &str,
) -> (std::os::unix::net::UnixStream, BufReader<std::os::unix::net::UnixStream>) {
    let mut stream = api.connect();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13";
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let told = head(&mut reader);
    assert!(told.starts_with("HTTP/1.1 101 "), "{told}");
    // The answer to the key that the standard has for an example.
    assert!(told.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{told}");
    (stream, reader)
}

#[test]
fn a_web_socket_becomes_the_streams_of_a_container() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let create = json!({ "Image": "busybox", "Cmd": ["sh", "-c", "read line; echo $line >&2"], "OpenStdin": true, "StdinOnce": true });
    assert_eq!(api.post("/containers/create?name=web", &create).status, 201);
    assert_eq!(api.get("/containers/web/attach/ws?stream=1").status, 400);
    let (mut stream, mut reader) = web_socket(&api, "/containers/web/attach/ws?stream=1&stdin=1&stdout=1&stderr=1");
    assert_eq!(api.request("POST", "/containers/web/start", &[], b"").status, 204);
    // A masked text message, the mask being zero; what comes back is binary and not framed a second time.
    stream.write_all(b"\x81\x86\0\0\0\0typed\n").unwrap();
    let mut message = [0; 8];
    std::io::Read::read_exact(&mut reader, &mut message).unwrap();
    assert_eq!(&message, b"\x82\x06typed\n");
    let mut close = [0; 2];
    std::io::Read::read_exact(&mut reader, &mut close).unwrap();
    assert_eq!(close[0], 0x88, "the end of the container is the end of the connection");
}

#[test]
fn lists_show_ports_networks_and_what_their_version_had() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let create = json!({ "Image": "busybox", "Cmd": ["sleep", "1000"], "ExposedPorts": { "81/tcp": {} },
        "HostConfig": { "PortBindings": { "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "" }] } } });
    assert_eq!(api.post("/containers/create?name=web", &create).status, 201);
    assert_eq!(api.request("POST", "/containers/web/start", &[], b"").status, 204);
    let row = api.get("/containers/json").json()[0].clone();
    let ports = row["Ports"].as_array().unwrap();
    let of = |number: u64| ports.iter().find(|port| port["PrivatePort"] == number).unwrap_or_else(|| panic!("{row}"));
    assert_eq!((&of(80)["IP"], &of(80)["Type"]), (&json!("127.0.0.1"), &json!("tcp")));
    assert!(of(80)["PublicPort"].as_u64().unwrap() > 0);
    assert_eq!(of(81), &json!({ "PrivatePort": 81, "Type": "tcp" }));
    assert_eq!(row["HostConfig"]["NetworkMode"], "bridge");
    let inspected = api.get("/containers/web/json").json();
    let address = inspected["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap().to_owned();
    assert!(!address.is_empty());
    assert_eq!(row["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], address.as_str());
    assert_eq!(inspected["NetworkSettings"]["IPAddress"], address.as_str());
    assert!(api.get("/v1.52/containers/web/json").json()["NetworkSettings"].get("IPAddress").is_none());
    assert_eq!(api.get("/v1.52/containers/json").json()[0]["Health"]["Status"], "none");
    assert!(api.get("/v1.43/images/json").json()[0]["VirtualSize"].as_u64().unwrap() > 0);
    assert!(api.get("/images/json").json()[0].get("VirtualSize").is_none());
    assert!(api.get("/v1.44/images/busybox/json").json()["ContainerConfig"].is_object());
    assert!(api.get("/images/busybox/json").json().get("ContainerConfig").is_none());
    let usage = api.get("/v1.52/system/df?verbose=0").json();
    assert_eq!((&usage["ImageUsage"]["TotalCount"], usage.get("Images")), (&json!(1), None));
    assert_eq!(
        api.post(
            "/v1.43/containers/create",
            &json!({ "Image": "busybox", "NetworkingConfig": {
        "EndpointsConfig": { "a": {}, "b": {} } } })
        )
        .status,
        400
    );
    assert_eq!(api.request("DELETE", "/containers/web?force=1", &[], b"").status, 204);
}

#[test]
fn a_registry_is_asked_about_an_image() {
    let registry = kiste_tests::Registry::start();
    let image = kiste_tests::archive::busybox();
    let name = registry.push("tools/busybox", "1", &image);
    let env = Env::new();
    let api = Api::start(&env);
    let found = api.get(&format!("/distribution/{name}/json")).json();
    assert_eq!(found["Descriptor"]["mediaType"], "application/vnd.oci.image.manifest.v1+json", "{found}");
    assert!(found["Descriptor"]["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(found["Platforms"][0]["os"], "linux");
    let missing = api.get(&format!("/distribution/{name}x/json"));
    assert_eq!(missing.status, 404, "{}", missing.text());
}
