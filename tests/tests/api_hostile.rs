//! Clients of the Engine API that want to harm: bodies that never end, answers that nobody reads, archives and containers
//! that lead out of the container.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use kiste_tests::archive::Layer;
use kiste_tests::{Api, Env};
use serde_json::json;

/// More than the server has threads.
const STUCK: usize = 300;

#[test]
fn stuck_clients_block_nobody() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    env.ok(&["create", "--name", "web", "busybox", "true"]);
    let begin = |request: &str| {
        let mut stream = api.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let endless = "HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nxx";
    let stuck: Vec<UnixStream> = (0..STUCK)
        .map(|index| match index % 3 {
            0 => begin(&format!("PUT /containers/web/archive?path=/ {endless}")),
            1 => begin(&format!("POST /images/load {endless}")),
            // Nobody reads the answer.
            _ => begin("GET /images/busybox/get HTTP/1.1\r\nHost: x\r\n\r\n"),
        })
        .collect();
    assert_eq!(api.get("/containers/json?all=1").json()[0]["Names"], json!(["/web"]));
    assert_eq!(api.post("/containers/create?name=more", &json!({ "Image": "busybox", "Cmd": ["true"] })).status, 201);
    assert_eq!(api.request("POST", "/containers/more/start", &[], b"").status, 204);
    drop(stuck);
    // Those places are free again: a long verb works too.
    assert_eq!(api.get("/images/busybox/get").status, 200);
}

#[test]
fn a_body_that_nobody_wants_does_not_cost_the_answer() {
    let env = Env::new();
    let api = Api::start(&env);
    let mut stream = api.connect();
    let head = "PUT /containers/nope/archive?path=/ HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
    stream.write_all(&[b'x'; 200_000]).unwrap();
    // The connection is still good.
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("No such container: nope") && rest.contains("HTTP/1.1 200 OK"), "{rest}");
    // There is an end to patience.
    let mut stream = api.connect();
    let endless = "PUT /containers/nope/archive?path=/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n";
    stream.write_all(endless.as_bytes()).unwrap();
    let sent = (0..1000).take_while(|_| stream.write_all(&[b'x'; 65536]).is_ok()).count();
    assert!(sent < 1000, "the connection is closed");
}

#[test]
fn archives_stay_in_the_container() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let (secret, target) = (env.path("secret"), env.path("written"));
    std::fs::write(&secret, "the host's").unwrap();
    // A directory that turns into a link to the root and back all the time.
    let swap =
        "cd /tmp; mkdir -p real; while :; do rm -rf d; mkdir d; rm -rf d; ln -s / d; rm d; ln -s ../../../.. d; done";
    env.detached(&["--name", "web", "--tmpfs", "/tmp"], swap);
    let outside = secret.display().to_string();
    let written = target.display().to_string();
    for base in ["/tmp/d", "/tmp/d/..", "/tmp/d/proc/1/root/../.."] {
        for _ in 0..60 {
            let answer = api.get(&format!("/containers/web/archive?path={base}{outside}"));
            assert!(!answer.text().contains("the host's"), "{base}");
            let file = Layer::new().file(written.trim_start_matches('/'), 0o644, b"x").finish();
            api.request("PUT", &format!("/containers/web/archive?path={base}"), &[], &file);
        }
    }
    // Links that come with the archive lead to places in the container too.
    let links = Layer::new()
        .symlink("up", "../../../../../../..")
        .file(&format!("up{written}"), 0o644, b"x")
        .hardlink("tmp/real/shadow", "../../../../../../../etc/shadow");
    api.request("PUT", "/containers/web/archive?path=/", &[], &links.finish());
    assert!(!target.exists());
    assert_eq!(env.status("web"), "running");
}
