//! Pushing to real registries (Debian's docker-registry): what is there already, what a neighbour has, what comes from
//! another registry byte for byte, and what is refused.

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::registry::RealRegistry;
use common::server::{Answer, Server, ok, status};
use common::*;
use image::{Access, Credentials, Digest, Driver, Error, Pull, Push, Pushed};
use serde_json::{Value, json};

impl Root {
    fn pulled(&mut self, name: &str, access: &Access) {
        let request = Pull { reference: name.into(), access: access.clone(), ..Pull::default() };
        self.store.pull(&mut self.records, &request, &mut |_, _, _, _| {}).unwrap();
    }

    fn push(&mut self, name: &str, access: &Access) -> Result<(Vec<Pushed>, Vec<String>), Error> {
        let mut said = Vec::new();
        let mut progress = |id: &str, status: &str, _: u64, _: u64| said.push(format!("{id}|{status}"));
        let request = Push { reference: name.into(), access: access.clone(), ..Push::default() };
        let pushed = self.store.push(&mut self.records, &request, &mut progress)?;
        Ok((pushed, said))
    }

    fn tag(&mut self, name: &str, other: &str) {
        let store = &self.store;
        self.records.write(|transaction| store.tag(transaction, name, other)).unwrap();
    }
}

fn layers(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|n| Tar::new().file(&format!("f{n}"), &vec![n; 100_000]).finish()).collect()
}

#[test]
fn as_it_came() {
    let (origin, target) = (RealRegistry::start(), RealRegistry::start());
    let plain = layers(3);
    let packed: Vec<Vec<u8>> = plain.iter().map(|layer| gzip(layer)).collect();
    let (_, manifest) = origin.image("a/b", "one", &plain, &packed);
    let (mut root, nobody) = (Root::new(), nobody());
    let name = format!("{}/a/b:one", origin.host);
    root.pulled(&name, &nobody);

    // To where it came from: everything is there.
    let (pushed, said) = root.push(&name, &nobody).unwrap();
    assert_eq!(pushed[0].digest, Digest::of(&manifest).as_str());
    assert_eq!(said.iter().filter(|line| line.ends_with("|Layer already exists")).count(), 3, "{said:?}");
    assert_eq!(said.last().unwrap(), &format!("|one: digest: {} size: {}", Digest::of(&manifest), manifest.len()));

    // To a neighbour: nothing is sent.
    let neighbour = format!("{}/c:two", origin.host);
    root.tag(&name, &neighbour);
    let (_, said) = root.push(&neighbour, &nobody).unwrap();
    assert_eq!(said.iter().filter(|line| line.ends_with("|Mounted from a/b")).count(), 3, "{said:?}");

    // Elsewhere: the original bytes, and so the same digest.
    let elsewhere = format!("{}/x/y", target.host);
    root.tag(&name, &elsewhere);
    let (pushed, said) = root.push(&elsewhere, &nobody).unwrap();
    assert_eq!(pushed[0].digest, Digest::of(&manifest).as_str());
    assert_eq!(said.iter().filter(|line| line.ends_with("|Pushed")).count(), 3, "{said:?}");
    let mut other = Root::new();
    other.pulled(&elsewhere, &nobody);
    let image = root.store.resolve(root.records.read(), &elsewhere).unwrap();
    assert!(image.repo_digests.contains(&format!("{}/x/y@{}", target.host, Digest::of(&manifest))));
    assert_eq!(other.store.resolve(other.records.read(), &elsewhere).unwrap().id, image.id);
}

#[test]
fn compressed_where_nobody_has_it() {
    let registry = RealRegistry::start();
    let (mut root, nobody) = (Root::new(), nobody());
    let name = format!("{}/new/image:1", registry.host);
    let noise = Tar::new().file("noise", &common::noise()).finish();
    root.load(&docker_archive(Some(&name), &[layers(1).remove(0), noise, layers(1).remove(0)])).unwrap();
    let (pushed, said) = root.push(&name, &nobody).unwrap();
    let layers_said = said.iter().filter(|line| line.ends_with("|Pushed")).count();
    assert_eq!(layers_said, 2, "the same content twice is sent once: {said:?}");
    assert!(said.iter().any(|line| line.contains("3 layers were compressed")), "{said:?}");
    // Again, and after everything has been forgotten: the same bytes.
    let (again, said) = root.push(&name, &nobody).unwrap();
    assert_eq!(again[0].digest, pushed[0].digest);
    assert!(!said.iter().any(|line| line.contains("compressed")), "{said:?}");
    let mut other = Root::new();
    other.pulled(&name, &nobody);
    assert_eq!(other.store.resolve(other.records.read(), &name).unwrap().id, pushed[0].id);
    let elsewhere = RealRegistry::start();
    let copy = format!("{}/copy:1", elsewhere.host);
    other.tag(&name, &copy);
    drop(registry);
    let (pushed_again, said) = other.push(&copy, &nobody).unwrap();
    assert_eq!(pushed_again[0].digest, pushed[0].digest, "compressing is always the same: {said:?}");
}

#[test]
fn only_with_the_right_password() {
    let (origin, target) = (RealRegistry::start(), RealRegistry::with_password("u", "secret"));
    let plain = layers(1);
    origin.image("x", "1", &plain, &[gzip(&plain[0])]);
    let (mut root, nobody) = (Root::new(), nobody());
    let (name, elsewhere) = (format!("{}/x:1", origin.host), format!("{}/x:1", target.host));
    root.pulled(&name, &nobody);
    root.tag(&name, &elsewhere);
    let error = root.push(&elsewhere, &nobody).unwrap_err().to_string();
    assert_eq!(error, "no basic auth credentials");
    let user = |password: &str| Access {
        credentials: Some(Credentials { username: "u".into(), password: password.into(), ..Credentials::default() }),
        ..nobody.clone()
    };
    let error = root.push(&elsewhere, &user("wrong")).unwrap_err().to_string();
    assert!(error.contains("unauthorized") || error.contains("401"), "{error}");
    let error = image::log_in(&user("wrong"), &target.host).unwrap_err().to_string();
    assert!(error.ends_with("/v2/ failed with status: 401 Unauthorized"), "{error}");
    image::log_in(&user("secret"), &target.host).unwrap();
    root.push(&elsewhere, &user("secret")).unwrap();
    Root::new().pulled(&elsewhere, &user("secret"));
}

#[test]
fn a_password_is_for_the_registry_that_it_was_given_for() {
    let (origin, target) = (Server::start(), RealRegistry::with_password("u", "secret"));
    let (_, _, packed) = origin.image(b"x");
    let (mut root, nobody) = (Root::new(), nobody());
    let (name, elsewhere) = (format!("{}/x:latest", origin.host), format!("{}/x:1", target.host));
    root.pulled(&name, &nobody);
    root.tag(&name, &elsewhere);
    let challenge = "www-authenticate: Basic realm=\"x\"".to_owned();
    origin.answer(&format!("/v2/x/blobs/{}", Digest::of(&packed)), vec![status("401 Unauthorized", &[challenge])]);
    origin.answer("/v2/", vec![ok(b"")]);
    let user = Credentials { username: "u".into(), password: "secret".into(), ..Credentials::default() };
    let (_, said) = root.push(&elsewhere, &Access { credentials: Some(user), ..nobody }).unwrap();
    assert_eq!(origin.count("authorization"), 0, "{:?}", origin.requests());
    assert!(said.iter().any(|line| line.contains("1 layer was compressed")), "{said:?}");
}

#[test]
fn layers_that_are_kept_as_files() {
    let registry = RealRegistry::start();
    let (mut root, nobody) = (Root::storing_as(Driver::Directory), nobody());
    let name = format!("{}/files:1", registry.host);
    // GNU tar's padding to ten kilobytes: made anew, the archive is another one.
    let mut layer = layers(1).remove(0);
    layer.resize(layer.len().next_multiple_of(10_240), 0);
    root.load(&docker_archive(Some(&name), &[layer])).unwrap();
    let (_, said) = root.push(&name, &nobody).unwrap();
    assert!(
        said.iter().any(|line| line.contains("are not kept, only their files: it was pushed as sha256:")),
        "{said:?}"
    );
    let mut other = Root::new();
    other.pulled(&name, &nobody);
    assert_eq!(std::fs::read(other.top(&name).join("f0")).unwrap(), vec![0; 100_000]);
}

/// Passes connections on to a registry, but of the first upload only so many bytes; then it hangs up. Its address.
fn breaking_relay(target: String, cut: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let broken = Arc::new(AtomicBool::new(false));
    // Ends with the test's process.
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(&target).unwrap();
            let broken = Arc::clone(&broken);
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || forward(client, server, cut, &broken));
        }
    });
    address
}

fn forward(mut client: TcpStream, mut server: TcpStream, cut: u64, broken: &AtomicBool) {
    let (mut buffer, mut own) = ([0; 16384], 0);
    while let Ok(got) = client.read(&mut buffer) {
        if got == 0 || server.write_all(&buffer[..got]).is_err() {
            break;
        }
        own += got as u64;
        if own > cut && !broken.swap(true, Ordering::Relaxed) {
            break;
        }
    }
    for stream in [client, server] {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

#[test]
fn a_broken_upload_is_mended() {
    let registry = RealRegistry::start();
    let address = breaking_relay(registry.host.clone(), 2_000_000);
    let (mut root, nobody) = (Root::new(), nobody());
    let noise: Vec<u8> = (0..3u8).flat_map(|turn| common::noise().into_iter().map(move |byte| byte ^ turn)).collect();
    let layer = Tar::new().file("noise", &noise).finish();
    let name = format!("{address}/x:1");
    root.load(&docker_archive(Some(&name), &[layer])).unwrap();
    root.push(&name, &nobody).unwrap();
    // What arrived is what was meant: the registry and whoever pulls it checked the digest.
    Root::new().pulled(&format!("{}/x:1", registry.host), &nobody);
}

#[test]
fn an_interrupted_upload_goes_on_where_the_registry_remembers_it() {
    let (server, origin) = (Server::start(), RealRegistry::start());
    let plain = [Tar::new().file("noise", &common::noise()).finish()];
    let packed = gzip(&plain[0]);
    origin.image("x", "1", &plain, std::slice::from_ref(&packed));
    let (mut root, nobody) = (Root::new(), nobody());
    let (came, name) = (format!("{}/x:1", origin.host), format!("{}/x:1", server.host));
    root.pulled(&came, &nobody);
    root.tag(&came, &name);
    let begun = status("202 Accepted", &["location: /upload".into()]);
    server.answer("POST /v2/x/blobs/uploads/", vec![begun.clone()]);
    server.answer("PATCH /upload", vec![Answer { deaf: Some(500_000), ..Answer::default() }, begun]);
    server.answer("/upload", vec![status("204 No Content", &["range: 0-499999".into(), "location: /upload".into()])]);
    server.answer("PUT /upload", vec![status("201 Created", &[])]);
    server.answer("PUT /v2/x/manifests/1", vec![status("201 Created", &[])]);
    root.push(&name, &nobody).unwrap();
    let rest = format!("content-range: 500000-{}\ncontent-length: {}\n", packed.len() - 1, packed.len() - 500_000);
    let requests = server.requests();
    let second = requests.iter().rfind(|request| request.starts_with("patch ")).unwrap();
    assert!(rest.lines().all(|line| second.contains(line)), "{second}");
    assert_eq!(server.count(&format!("put /upload?digest={}", Digest::of(&packed))), 1);
}

#[test]
fn large_layers_go_in_pieces_where_they_must() {
    let server = Server::start();
    let (mut root, nobody) = (Root::new(), nobody());
    let name = format!("{}/x:1", server.host);
    let noise: Vec<u8> = (0..9u8).flat_map(|turn| common::noise().into_iter().map(move |byte| byte ^ turn)).collect();
    root.load(&docker_archive(Some(&name), &[Tar::new().file("noise", &noise).finish()])).unwrap();
    let begun = status("202 Accepted", &["location: /upload?state=a%2Bb".into()]);
    server.answer("POST /v2/x/blobs/uploads/", vec![begun.clone()]);
    server.answer("PATCH /upload", vec![status("413 Payload Too Large", &[]), begun]);
    server.answer("PUT /upload", vec![status("201 Created", &[])]);
    server.answer("PUT /v2/x/manifests/1", vec![status("201 Created", &[])]);
    root.push(&name, &nobody).unwrap();
    assert_eq!((server.count("content-range: 0-8388607\n"), server.count("content-range: 8388608-")), (1, 1));
    assert_eq!(server.count("put /upload?state=a%2bb&digest=sha256:"), 2, "{:?}", server.requests());
}

#[test]
fn what_cannot_be_pushed() {
    let (mut root, nobody) = (Root::new(), nobody());
    let error = root.push("127.0.0.1:1/x", &nobody).unwrap_err().to_string();
    assert_eq!(error, "An image does not exist locally with the tag: 127.0.0.1:1/x");
    root.load(&docker_archive(Some("127.0.0.1:1/x:1"), &layers(1))).unwrap();
    let error = root.push("127.0.0.1:1/x:2", &nobody).unwrap_err().to_string();
    assert_eq!(error, "tag does not exist: 127.0.0.1:1/x:2");
    let error = root.push("127.0.0.1:1/x:1", &nobody).unwrap_err();
    assert!(matches!(error, Error::Registry(_)), "nobody listens there: {error}");
    let digest = format!("x@{}", Digest::of(b""));
    assert_eq!(root.push(&digest, &nobody).unwrap_err().to_string(), "cannot push a digest reference");
}

#[test]
fn searching_a_registry_without_an_index() {
    let registry = RealRegistry::start();
    let plain = layers(1);
    for name in ["team/web", "team/db", "other"] {
        registry.image(name, "1", &plain, &[gzip(&plain[0])]);
    }
    let found = image::search(&nobody(), &format!("{}/team", registry.host), 25).unwrap();
    let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, [format!("{}/team/db", registry.host), format!("{}/team/web", registry.host)]);
    assert_eq!(image::search(&nobody(), &format!("{}/team", registry.host), 1).unwrap().len(), 1);
}

#[test]
fn what_refers_to_another_image_is_listed() {
    let registry = RealRegistry::start();
    let (mut root, nobody) = (Root::new(), nobody());
    let (subject, layer) = (descriptor(MANIFEST, b"another image"), layers(1).remove(0));
    let config = configuration(&[Digest::of(&layer)], json!({}));
    let manifest = oci_manifest(&config, &[gzip(&layer)]);
    let mut document: Value = serde_json::from_slice(&manifest).unwrap();
    (document["subject"], document["annotations"]) = (subject, json!({"why": "a test"}));
    let text = document.to_string();
    [gzip(&layer), config].iter().for_each(|blob| registry.blob("from", blob));
    registry.manifest("from", "1", MANIFEST, text.as_bytes());
    let (name, copy) = (format!("{}/from:1", registry.host), format!("{}/to/it:1", registry.host));
    root.pulled(&name, &nobody);
    root.tag(&name, &copy);
    // Twice: it is listed once.
    root.push(&copy, &nobody).unwrap();
    root.push(&copy, &nobody).unwrap();
    let tag = Digest::of(b"another image").as_str().replace(':', "-");
    let list = ureq::get(format!("http://{}/v2/to/it/manifests/{tag}", registry.host)).header("accept", INDEX).call();
    let list: Value = serde_json::from_str(&list.unwrap().body_mut().read_to_string().unwrap()).unwrap();
    let entry = json!({"mediaType": MANIFEST, "digest": Digest::of(text.as_bytes()).as_str(), "size": text.len(),
        "artifactType": "application/vnd.oci.image.config.v1+json", "annotations": {"why": "a test"}});
    assert_eq!(list["manifests"], json!([entry]), "docker-registry 2 keeps no lists itself");
}
