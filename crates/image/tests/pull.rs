//! Pulling: from a real registry (Debian's docker-registry), and from a server that breaks, stalls, redirects and lies.

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use common::registry::RealRegistry;
use common::*;
use image::{Digest, Error, Pull, Pulled};
use serde_json::{Value, json};

fn request(reference: &str) -> Pull {
    Pull { reference: reference.to_owned(), access: nobody(), ..Pull::default() }
}

impl Root {
    fn pull(&mut self, reference: &str) -> Result<Pulled, Error> {
        self.pull_with(reference, None).map(|(pulled, _)| pulled)
    }

    fn pull_with(&mut self, reference: &str, platform: Option<&str>) -> Result<(Pulled, Vec<String>), Error> {
        let mut said = Vec::new();
        let mut progress = |id: &str, status: &str, done: u64, total: u64| {
            said.push(format!("{id}|{status}|{done}|{total}"));
        };
        let request = Pull { platform: platform.map(str::to_owned), ..request(reference) };
        let mut pulled = self.store.pull(&mut self.records, &request, &mut progress)?;
        Ok((pulled.remove(0), said))
    }
}

fn layers(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|n| Tar::new().file(&format!("f{n}"), &vec![n; 100_000]).finish()).collect()
}

#[test]
fn from_a_real_registry() {
    let registry = RealRegistry::start();
    let plain = layers(5);
    let mut packed: Vec<Vec<u8>> = plain.iter().map(|layer| gzip(layer)).collect();
    packed[1] = zstd::encode_all(&plain[1][..], 3).unwrap();
    packed[2] = plain[2].clone();
    let (config, manifest) = registry.image("a/b", "one", &plain, &packed);
    let mut root = Root::new();
    let reference = format!("{}/a/b:one", registry.host);
    let (pulled, said) = root.pull_with(&reference, None).unwrap();
    let digest = Digest::of(&manifest);
    assert_eq!(pulled.id, Digest::of(&config).as_str());
    assert_eq!(
        (pulled.name.as_str(), pulled.digest.as_str(), pulled.up_to_date),
        (&*reference, digest.as_str(), false)
    );
    let image = root.store.resolve(root.records.read(), &reference).unwrap();
    assert_eq!(std::fs::read(root.top(&reference).join("f4")).unwrap(), vec![4; 100_000]);
    assert_eq!((image.layers.len(), image.size), (5, 500_000));
    assert_eq!(image.repo_digests, [format!("{}/a/b@{digest}", registry.host)]);
    for word in [
        "Pulling from a/b",
        "Pulling fs layer",
        "Downloading",
        "Pull complete",
        "Digest: sha256:",
        "Status: Downloaded newer",
    ] {
        assert!(said.iter().any(|line| line.contains(word)), "{word}: {said:?}");
    }
    // Again: nothing to do. By digest: a digest name only. Another tag that shares layers: only the new one comes.
    assert!(root.pull(&reference).unwrap().up_to_date);
    let by_digest = format!("{}/a/b@{digest}", registry.host);
    assert_eq!(root.pull(&by_digest).unwrap().id, pulled.id);
    assert_eq!(
        root.store.resolve(root.records.read(), &by_digest).unwrap().repo_tags,
        std::slice::from_ref(&reference)
    );
    let more = layers(6);
    let mut more_packed = packed.clone();
    more_packed.push(gzip(&more[5]));
    registry.image("a/b", "two", &more, &more_packed);
    let (_, said) = root.pull_with(&format!("{}/a/b:two", registry.host), None).unwrap();
    assert_eq!(said.iter().filter(|line| line.contains("Already exists")).count(), 5);
    assert_eq!(said.iter().filter(|line| line.contains("Pull complete")).count(), 1);

    let all = Pull { all_tags: true, ..request(&format!("{}/a/b", registry.host)) };
    assert_eq!(root.store.pull(&mut root.records, &all, &mut |_, _, _, _| {}).unwrap().len(), 2);
    let one = Pull { all_tags: true, ..request(&reference) };
    let error = root.store.pull(&mut root.records, &one, &mut |_, _, _, _| {}).unwrap_err();
    assert!(error.to_string().contains("--all-tags"), "{error}");

    let error = root.pull(&format!("{}/a/b:nope", registry.host)).unwrap_err().to_string();
    assert!(
        error.contains(&format!("manifest for {}/a/b:nope not found: manifest unknown: ", registry.host)),
        "{error}"
    );
    let error = root.pull(&format!("{}/nope", registry.host)).unwrap_err().to_string();
    assert!(error.contains("not found"), "{error}");
    assert!(!root.store.has_leftovers());
}

#[test]
fn platforms_from_a_real_registry() {
    let registry = RealRegistry::start();
    let layer = layers(1);
    let packed = [gzip(&layer[0])];
    let (native, manifest) = registry.image("p", "native", &layer, &packed);
    let foreign = String::from_utf8(native.clone()).unwrap().replace(architecture(), "s390x").into_bytes();
    let foreign_manifest = oci_manifest(&foreign, &packed);
    registry.blob("p", &foreign);
    registry.manifest("p", "foreign", MANIFEST, &foreign_manifest);
    let entry = |blob: &[u8], architecture: &str| {
        let mut one = descriptor(MANIFEST, blob);
        one["platform"] = json!({"os": "linux", "architecture": architecture});
        one
    };
    let list = [entry(&foreign_manifest, "s390x"), entry(&manifest, architecture())];
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": list}).to_string();
    registry.manifest("p", "latest", INDEX, index.as_bytes());
    let mut root = Root::new();
    let name = format!("{}/p", registry.host);
    let (pulled, _) = root.pull_with(&name, None).unwrap();
    assert_eq!(
        (pulled.id.as_str(), pulled.digest),
        (Digest::of(&native).as_str(), Digest::of(index.as_bytes()).to_string())
    );
    let (pulled, _) = root.pull_with(&name, Some("linux/s390x")).unwrap();
    assert_eq!(pulled.id, Digest::of(&foreign).as_str());
    let error = root.pull_with(&name, Some("linux/mips64")).unwrap_err();
    assert!(matches!(error, Error::Platform(_)) && error.to_string().contains("linux/s390x"), "{error}");
    let error = root.pull_with(&format!("{name}:foreign"), Some(architecture())).unwrap_err();
    assert!(matches!(error, Error::Platform(_)), "{error}");
}

/// Self-signed, for this test alone, and worth nothing elsewhere.
const KEY: &str = include_str!("data/key.pem");
const CERTIFICATE: &str = include_str!("data/certificate.pem");

#[test]
fn over_https() {
    let directory = tempfile::tempdir().unwrap();
    let (key, certificate) = (directory.path().join("key"), directory.path().join("certificate"));
    std::fs::write(&key, KEY).unwrap();
    std::fs::write(&certificate, CERTIFICATE).unwrap();
    let registry = RealRegistry::start_with(&format!(
        "  tls:\n    certificate: {}\n    key: {}\n",
        certificate.display(),
        key.display()
    ));
    // It answers plain HTTP with an error only, so this answer came through TLS.
    let error = Root::new().pull(&format!("{}/x:y", registry.host)).unwrap_err().to_string();
    assert!(error.contains("not found: ") && error.contains("unknown"), "{error}");
}

/// What the server below answers to a path, the first time and later.
type Answers = Arc<Mutex<HashMap<String, Vec<Answer>>>>;

#[derive(Clone, Default)]
struct Answer {
    status: &'static str,
    headers: Vec<String>,
    body: Vec<u8>,
    /// Sends only so much of the body and hangs up.
    cut: Option<usize>,
}

fn ok(body: &[u8]) -> Answer {
    Answer { status: "200 OK", body: body.to_vec(), ..Answer::default() }
}

/// A small HTTP server that answers by a table and keeps the requests.
struct Server {
    host: String,
    answers: Answers,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (answers, seen) = (Answers::default(), Arc::<Mutex<Vec<String>>>::default());
        let (table, log) = (Arc::clone(&answers), Arc::clone(&seen));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (table, log) = (Arc::clone(&table), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &table, &log));
            }
        });
        Server { host, answers, seen }
    }

    fn answer(&self, path: &str, answers: Vec<Answer>) {
        self.answers.lock().unwrap().insert(path.to_owned(), answers);
    }

    /// An image of one layer under `x:latest`; configuration, manifest and layer.
    fn image(&self, content: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let layer = Tar::new().file("f", content).finish();
        let packed = gzip(&layer);
        let config = configuration(&[Digest::of(&layer)], json!({}));
        let manifest = oci_manifest(&config, std::slice::from_ref(&packed));
        self.answer("/v2/x/manifests/latest", vec![ok(&manifest)]);
        self.answer(&format!("/v2/x/blobs/{}", Digest::of(&config)), vec![ok(&config)]);
        self.answer(&format!("/v2/x/blobs/{}", Digest::of(&packed)), vec![ok(&packed)]);
        (config, manifest, packed)
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// Answers one request and closes. What is no HTTP (a TLS greeting) is dropped.
fn serve(mut stream: TcpStream, table: &Answers, log: &Mutex<Vec<String>>) {
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return;
        }
        let Ok(line) = String::from_utf8(line) else { return };
        if request.is_empty() && !line.starts_with("GET ") {
            return;
        }
        if line == "\r\n" {
            break;
        }
        request.push_str(&line.to_lowercase().replace("\r\n", "\n"));
    }
    let path = request.split(' ').nth(1).unwrap_or("").to_owned();
    log.lock().unwrap().push(request);
    let answer = {
        let mut table = table.lock().unwrap();
        match table.get_mut(&path) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => Answer { status: "404 Not Found", ..Answer::default() },
        }
    };
    let head = format!(
        "HTTP/1.1 {}\r\ncontent-length: {}\r\nconnection: close\r\n{}\r\n",
        answer.status,
        answer.body.len(),
        answer.headers.iter().map(|line| format!("{line}\r\n")).collect::<String>()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&answer.body[..answer.cut.unwrap_or(answer.body.len())]);
}

#[test]
fn broken_connections_are_resumed() {
    let server = Server::start();
    let noise: Vec<u8> = (0..300_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let (_, _, packed) = server.image(&noise);
    let path = format!("/v2/x/blobs/{}", Digest::of(&packed));
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
