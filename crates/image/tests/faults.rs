//! Pulling from servers that break, stall, redirect and lie.

mod common;

use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use common::server::{Answer, Server, ok, status};
use common::*;
use image::{Digest, Error, Store};
use serde_json::{Value, json};

fn blob_path(blob: &[u8]) -> String {
    format!("/v2/x/blobs/{}", Digest::of(blob))
}

#[test]
fn broken_connections_are_resumed() {
    let server = Server::start();
    let noise = noise();
    let (_, _, packed) = server.image(&noise);
    let path = blob_path(&packed);
    let cut = Answer { cut: Some(200_000), ..ok(&packed) };
    let rest = Answer { status: "206 Partial Content", ..ok(&packed[200_000..]) };
    server.answer(&path, vec![cut.clone(), rest]);
    let mut root = Root::new();
    root.pull(&format!("{}/x", server.host)).unwrap();
    let requests = server.requests();
    assert!(requests.iter().any(|request| request.contains("range: bytes=200000-")), "{requests:?}");
    // A registry that ignores the range: what is known already is skipped.
    server.answer(&path, vec![cut, ok(&packed)]);
    let mut other = Root::new();
    other.pull(&format!("{}/x", server.host)).unwrap();
    let base = other.top(&format!("{}/x", server.host));
    assert!(std::fs::read(base.join("f")).unwrap() == noise);
}

#[test]
fn overload_is_waited_for() {
    let server = Server::start();
    let (_, manifest, _) = server.image(b"x");
    let busy = Answer { status: "429 Too Many Requests", headers: vec!["retry-after: 0".into()], ..Answer::default() };
    let broken = Answer { status: "503 Service Unavailable", ..Answer::default() };
    server.answer("/v2/x/manifests/latest", vec![busy, broken, ok(&manifest)]);
    Root::new().pull(&format!("{}/x", server.host)).unwrap();
}

#[test]
fn tokens_and_redirects_keep_credentials_at_home() {
    let (registry, authority, storage) = (Server::start(), Server::start(), Server::start());
    let (config, manifest, packed) = registry.image(b"x");
    let challenge = Answer {
        status: "401 Unauthorized",
        headers: vec![format!("www-authenticate: Bearer realm=\"http://{}/token\",service=\"reg\"", authority.host)],
        ..Answer::default()
    };
    registry.answer("/v2/x/manifests/latest", vec![challenge, ok(&manifest)]);
    authority.answer("/token?service=reg&scope=repository:x:pull", vec![ok(br#"{"token":"secret-token"}"#)]);
    let elsewhere = Answer {
        status: "307 Temporary Redirect",
        headers: vec![format!("location: http://{}/store", storage.host)],
        ..Answer::default()
    };
    registry.answer(&format!("/v2/x/blobs/{}", Digest::of(&packed)), vec![elsewhere]);
    storage.answer("/store", vec![ok(&packed)]);
    let mut root = Root::new();
    let pulled = root.pull(&format!("{}/x", registry.host)).unwrap();
    assert_eq!(pulled.id, Digest::of(&config).as_str());
    let with =
        |server: &Server| server.requests().iter().filter(|request| request.contains("bearer secret-token")).count();
    assert!(with(&registry) >= 3, "{:?}", registry.requests());
    assert_eq!((with(&storage), with(&authority)), (0, 0));
    assert!(storage.requests().iter().all(|request| !request.contains("authorization")));
}

/// Pulls, expects refusal for the reason given, and that nothing is left.
fn refused(server: &Server, why: &str) {
    let mut root = Root::new();
    let error = root.pull(&format!("{}/x", server.host)).expect_err(why);
    let text = error.to_string();
    assert!(text.contains(why), "wanted {why:?}, got {text:?}");
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(error.hint().is_some(), "{text}");
    root.assert_empty();
}

#[test]
fn registries_that_lie() {
    let server = Server::start();
    let (config, manifest, packed) = server.image(b"x");
    let layer_path = format!("/v2/x/blobs/{}", Digest::of(&packed));
    let config_path = format!("/v2/x/blobs/{}", Digest::of(&config));
    let other = gzip(&Tar::new().file("evil", b"x").finish());

    server.answer(&layer_path, vec![ok(&other)]);
    refused(&server, "");
    let mut long = packed.clone();
    long.extend_from_slice(&packed);
    server.answer(&layer_path, vec![ok(&long)]);
    refused(&server, "sends more than the");
    server.answer(
        &layer_path,
        vec![Answer {
            status: "404 Not Found",
            body: b"{\"errors\":[{\"code\":\"BLOB_UNKNOWN\",\"message\":\"a\\nb\"}]}".to_vec(),
            ..Answer::default()
        }],
    );
    refused(&server, "blob unknown: a b");
    server.answer(&layer_path, vec![ok(&packed)]);

    server.answer(&config_path, vec![ok(b"{}")]);
    refused(&server, "digest mismatch");
    server.answer(&config_path, vec![ok(&config)]);

    let set = |change: &dyn Fn(&mut Value)| {
        let mut value: Value = serde_json::from_slice(&manifest).unwrap();
        change(&mut value);
        server.answer("/v2/x/manifests/latest", vec![ok(value.to_string().as_bytes())]);
    };
    set(&|m| m["config"]["digest"] = json!("sha256:../../../../etc/passwd"));
    refused(&server, "invalid digest");
    set(&|m| m["layers"][0]["digest"] = json!("sha512:00"));
    refused(&server, "unsupported digest");
    set(&|m| m["layers"] = json!([]));
    refused(&server, "0 layers");
    set(&|m| m["layers"] = json!(vec![descriptor(LAYER, &packed); 10_000]));
    refused(&server, "10000 layers");
    set(&|m| m["config"]["size"] = json!(1u64 << 40));
    refused(&server, "too large");
    set(&|m| m["manifests"] = json!([]));
    refused(&server, "contradict");
    set(&|m| m["schemaVersion"] = json!(1));
    refused(&server, "schema version 1");
    server.answer("/v2/x/manifests/latest", vec![ok(&vec![b' '; 5 << 20])]);
    refused(&server, "larger than");
    let lying = Answer { headers: vec![format!("docker-content-digest: {}", Digest::of(b"else"))], ..ok(&manifest) };
    server.answer("/v2/x/manifests/latest", vec![lying]);
    refused(&server, "digest mismatch");
    let round =
        Answer { status: "302 Found", headers: vec!["location: /v2/x/manifests/latest".into()], ..Answer::default() };
    server.answer("/v2/x/manifests/latest", vec![round]);
    refused(&server, "redirects");
    let denied = Answer {
        status: "403 Forbidden",
        body: br#"{"errors":[{"code":"DENIED","message":"no"}]}"#.to_vec(),
        ..Answer::default()
    };
    server.answer("/v2/x/manifests/latest", vec![denied]);
    refused(&server, "pull access denied for");
}

#[test]
fn nobody_there() {
    let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut root = Root::new();
    let error = root.pull(&format!("{host}/x")).unwrap_err();
    assert!(matches!(error, Error::Registry(_)) && error.hint().is_some(), "{error}");
    root.assert_empty();
}

/// A pull that fails half-way, as one that was killed does.
fn interrupted(server: &Server, root: &mut Root, packed: &[u8]) {
    let gone = status("404 Not Found", &[]);
    server.answer(&blob_path(packed), vec![Answer { cut: Some(500_000), ..ok(packed) }, gone]);
    root.pull(&format!("{}/x", server.host)).unwrap_err();
    assert_eq!(root.store.interrupted_downloads(), 500_000);
}

#[test]
fn an_interrupted_pull_goes_on_in_a_new_process() {
    let server = Server::start();
    let (_, _, packed) = server.image(&noise());
    let mut root = Root::new();
    interrupted(&server, &mut root, &packed);
    // What a new process has is a store of its own over the same directory.
    root.store = Store::new(root.directory.path());
    root.records = open(root.directory.path());
    server.answer(&blob_path(&packed), vec![Answer { status: "206 Partial Content", ..ok(&packed[500_000..]) }]);
    root.pull(&format!("{}/x", server.host)).unwrap();
    assert_eq!(server.count("range: bytes=500000-"), 2, "once in vain, once by the new process");
    assert_eq!(root.store.interrupted_downloads(), 0);
    assert_eq!(std::fs::read_dir(root.directory.path().join("partial")).unwrap().count(), 0);
}

#[test]
fn a_damaged_beginning_is_found_out() {
    let server = Server::start();
    let (_, _, packed) = server.image(&noise());
    let (path, mut root) = (blob_path(&packed), Root::new());
    for (at, text) in [(0, &b"rubbish"[..]), (400_000, b"rubbish")] {
        interrupted(&server, &mut root, &packed);
        let file = root.directory.path().join("partial").join(Digest::of(&packed).hex());
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[at..at + text.len()].copy_from_slice(text);
        std::fs::write(&file, bytes).unwrap();
        let rest = Answer { status: "206 Partial Content", ..ok(&packed[500_000..]) };
        server.answer(&path, vec![rest, ok(&packed)]);
        root.pull(&format!("{}/x", server.host)).unwrap();
        root = Root::new();
    }
    // What is longer than the layer is not even tried.
    interrupted(&server, &mut root, &packed);
    let file = root.directory.path().join("partial").join(Digest::of(&packed).hex());
    std::fs::write(&file, vec![0; packed.len() + 1]).unwrap();
    server.answer(&path, vec![ok(&packed)]);
    root.pull(&format!("{}/x", server.host)).unwrap();
}

#[test]
fn other_ranges_than_asked_for() {
    let server = Server::start();
    let (_, _, packed) = server.image(&noise());
    let path = blob_path(&packed);
    let rest = |from: usize, said: usize| Answer {
        headers: vec![format!("content-range: bytes {said}-{}/{}", packed.len() - 1, packed.len())],
        status: "206 Partial Content",
        ..ok(&packed[from..])
    };
    let cut = Answer { cut: Some(500_000), ..ok(&packed) };
    // From an earlier byte on, and saying so; all, because the range is refused.
    server.answer(&path, vec![cut.clone(), rest(400_000, 400_000)]);
    Root::new().pull(&format!("{}/x", server.host)).unwrap();
    server.answer(&path, vec![cut.clone(), status("416 Range Not Satisfiable", &[]), ok(&packed)]);
    Root::new().pull(&format!("{}/x", server.host)).unwrap();
    // A later byte, or another one than it says: both found out.
    server.answer(&path, vec![cut.clone(), rest(600_000, 600_000)]);
    refused(&server, "another range");
    server.answer(&path, vec![cut, rest(400_000, 500_000)]);
    refused(&server, "");
}

#[test]
fn pulls_at_the_same_time_share_the_work() {
    let server = Server::start();
    let (_, _, packed) = server.image(b"x");
    let (sender, receiver) = channel();
    let hold = Some(Arc::new(Mutex::new(receiver)));
    server.answer(&blob_path(&packed), vec![Answer { hold, ..ok(&packed) }]);
    let root = Root::new();
    let name = format!("{}/x", server.host);
    let pull = || {
        let store = Store::new(root.directory.path());
        let waiting = |_: &str, status: &str, _: u64, _: u64| {
            if status == "Waiting" {
                sender.send(()).unwrap();
            }
        };
        store.pull(&mut open(root.directory.path()), &request(&name), &mut { waiting }).unwrap()
    };
    std::thread::scope(|scope| {
        let (one, other) = (scope.spawn(pull), scope.spawn(pull));
        assert_eq!(one.join().unwrap()[0].id, other.join().unwrap()[0].id);
    });
    assert_eq!(server.count(&blob_path(&packed)), 1);
}

#[test]
fn bodies_without_end() {
    let server = Server::start();
    let (config, manifest, packed) = server.image(b"x");
    let endless = |body: &[u8]| Answer { endless: true, ..ok(body) };
    server.answer(&blob_path(&packed), vec![endless(&packed)]);
    refused(&server, "sends more than the");
    server.answer(&blob_path(&packed), vec![ok(&packed)]);
    server.answer(&blob_path(&config), vec![endless(&config)]);
    refused(&server, "larger than");
    server.answer(&blob_path(&config), vec![ok(&config)]);
    server.answer("/v2/x/manifests/latest", vec![endless(&[b' '; 65536])]);
    refused(&server, "larger than");
    let page = Answer { headers: vec!["content-type: text/html".into()], ..ok(b"<html>hello</html>") };
    server.answer("/v2/x/manifests/latest", vec![page]);
    refused(&server, "web page");
    server.answer("/v2/x/manifests/latest", vec![ok(b"<html>hello</html>")]);
    refused(&server, "no image manifest");
    server.answer("/v2/x/manifests/latest", vec![ok(&manifest)]);
    Root::new().pull(&format!("{}/x", server.host)).unwrap();
}

#[test]
fn errors_without_end() {
    let server = Server::start();
    server.image(b"x");
    let broken = |code| Answer { headers: vec!["retry-after: 0".into()], ..status(code, &[]) };
    server.answer("/v2/x/manifests/latest", vec![broken("500 Internal Server Error")]);
    refused(&server, "500 Internal Server Error");
    assert_eq!(server.count("/v2/x/manifests/latest"), 5);
    server.answer("/v2/x/manifests/latest", vec![broken("429 Too Many Requests")]);
    refused(&server, "429 Too Many Requests");
}

#[test]
fn authorities_that_must_not_be_asked() {
    let server = Server::start();
    server.image(b"x");
    for realm in ["file:///etc/shadow", "gopher://127.0.0.1/", "http://", "//nowhere", "http://u:p@127.0.0.1/"] {
        let headers = [format!("www-authenticate: Bearer realm=\"{realm}\",service=\"s\"")];
        server.answer("/v2/x/manifests/latest", vec![status("401 Unauthorized", &headers)]);
        refused(&server, "bad authority");
    }
    // Whoever the registry redirects to has no business to ask who we are.
    let (evil, user) = (Server::start(), image::Credentials { username: "u".into(), ..Default::default() });
    let (_, manifest, packed) = server.image(b"x");
    server.answer("/v2/x/manifests/latest", vec![ok(&manifest)]);
    let elsewhere = status("307 Temporary Redirect", &[format!("location: http://{}/blob", evil.host)]);
    server.answer(&blob_path(&packed), vec![elsewhere]);
    let challenge = format!("www-authenticate: Bearer realm=\"http://{}/token\",service=\"s\"", evil.host);
    evil.answer("/blob", vec![status("401 Unauthorized", &[challenge])]);
    let mut request = request(&format!("{}/x", server.host));
    request.access.credentials = Some(user);
    let mut root = Root::new();
    root.store.pull(&mut root.records, &request, &mut |_, _, _, _| {}).unwrap_err();
    assert_eq!((evil.count("/token"), evil.count("authorization")), (0, 0), "{:?}", evil.requests());
}

#[test]
fn foreign_layers_come_from_elsewhere_without_credentials() {
    let (server, elsewhere) = (Server::start(), Server::start());
    let (_, manifest, packed) = server.image(b"x");
    let mut document: Value = serde_json::from_slice(&manifest).unwrap();
    document["layers"][0]["urls"] = json!([format!("http://{}/layer", elsewhere.host)]);
    server.answer("/v2/x/manifests/latest", vec![ok(document.to_string().as_bytes())]);
    server.answer(&blob_path(&packed), vec![status("404 Not Found", &[])]);
    elsewhere.answer("/layer", vec![ok(&packed)]);
    Root::new().pull(&format!("{}/x", server.host)).unwrap_err();
    assert_eq!(elsewhere.requests().len(), 0, "its type says that the registry has it");
    document["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    server.answer("/v2/x/manifests/latest", vec![ok(document.to_string().as_bytes())]);
    Root::new().pull(&format!("{}/x", server.host)).unwrap();
    assert_eq!((elsewhere.requests().len(), elsewhere.count("authorization")), (1, 0));
}

#[test]
fn redirects_to_what_is_no_web_server() {
    let server = Server::start();
    let (_, _, packed) = server.image(b"x");
    for place in ["file:///etc/passwd", "gopher://127.0.0.1/x", "http://u:p@127.0.0.1/x", "unix:/run/docker.sock", ""] {
        let away = status("307 Temporary Redirect", &[format!("location: {place}")]);
        server.answer(&blob_path(&packed), vec![away]);
        refused(&server, "redirect");
    }
}

#[test]
fn lists_of_tags_without_end() {
    let (server, other) = (Server::start(), Server::start());
    server.image(b"x");
    let next = format!("link: <http://{}/v2/x/tags/list?last=latest>; rel=\"next\"", other.host);
    let page = Answer { headers: vec![next], ..ok(br#"{"name":"x","tags":["latest"]}"#) };
    server.answer("/v2/x/tags/list", vec![page]);
    let all = image::Pull { all_tags: true, ..request(&format!("{}/x", server.host)) };
    let mut root = Root::new();
    let error = root.store.pull(&mut root.records, &all, &mut |_, _, _, _| {}).unwrap_err().to_string();
    assert!(error.contains("does not end"), "{error}");
    assert_eq!(other.requests().len(), 0, "the next page is the same registry's");
}

#[test]
fn indexes_of_indexes() {
    let server = Server::start();
    let (_, manifest, _) = server.image(b"x");
    let mut inner = descriptor(MANIFEST, &manifest);
    server.answer(&format!("/v2/x/manifests/{}", Digest::of(&manifest)), vec![ok(&manifest)]);
    for depth in 0..8 {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "depth": depth, "manifests": [inner]}).to_string();
        inner = descriptor(INDEX, index.as_bytes());
        server.answer(&format!("/v2/x/manifests/{}", Digest::of(index.as_bytes())), vec![ok(index.as_bytes())]);
        server.answer("/v2/x/manifests/latest", vec![ok(index.as_bytes())]);
        match depth {
            0..4 => drop(Root::new().pull(&format!("{}/x", server.host)).unwrap()),
            _ => refused(&server, "nested more than"),
        }
    }
}
