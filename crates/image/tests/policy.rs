//! Pulling under a policy: what is rejected, and whose signatures count (made here as cosign makes them).

mod common;

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::server::{Server, ok};
use common::*;
use image::{Digest, Error, Pulled};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

/// A key pair of cosign's usual kind.
struct Signer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let kind = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Signer { pair: EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).unwrap(), random }
    }

    /// The public key as `cosign public-key` prints it.
    fn pem(&self) -> String {
        let mut der =
            b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"
                .to_vec();
        der.extend_from_slice(self.pair.public_key().as_ref());
        let text = BASE64_STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    fn sign(&self, statement: &[u8]) -> String {
        BASE64_STANDARD.encode(self.pair.sign(&self.random, statement).unwrap().as_ref())
    }
}

fn statement(name: &str, digest: &str) -> Vec<u8> {
    let critical = json!({
        "identity": {"docker-reference": name}, "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    });
    json!({"critical": critical, "optional": null}).to_string().into_bytes()
}

/// Puts statements with their signatures where cosign puts them.
fn publish(server: &Server, image: &Digest, signatures: &[(&[u8], String)]) {
    let layers: Vec<Value> = signatures
        .iter()
        .map(|(statement, signature)| {
            server.answer(&format!("/v2/x/blobs/{}", Digest::of(statement)), vec![ok(statement)]);
            let mut layer = descriptor("application/vnd.dev.cosign.simplesigning.v1+json", statement);
            layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
            layer
        })
        .collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, b"{}"), "layers": layers});
    let path = format!("/v2/x/manifests/{}.sig", image.as_str().replace(':', "-"));
    server.answer(&path, vec![ok(manifest.to_string().as_bytes())]);
}

struct World {
    root: Root,
    server: Server,
    digest: Digest,
    name: String,
}

impl World {
    fn new() -> Self {
        let server = Server::start();
        let (_, manifest, _) = server.image(b"x");
        let name = format!("{}/x", server.host);
        World { root: Root::new(), digest: Digest::of(&manifest), name, server }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.root.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn pull(&mut self, requirement: Value) -> Result<Vec<Pulled>, Error> {
        let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": {&self.name: [requirement]}}});
        let mut request = request(&self.name);
        request.access.policy = Some(self.file("policy.json", &policy.to_string()));
        self.root.store.pull(&mut self.root.records, &request, &mut |_, _, _, _| {})
    }

    #[track_caller]
    fn refused(&mut self, requirement: &Value, why: &str) {
        let error = self.pull(requirement.clone()).unwrap_err().to_string();
        assert!(error.contains(why), "wanted {why:?}, got {error:?}");
        assert!(self.root.store.list(self.root.records.read()).unwrap().is_empty());
    }
}

#[test]
fn accepted_rejected_and_not_supported() {
    let mut world = World::new();
    world.refused(&json!({"type": "reject"}), "rejected by policy");
    world.refused(
        &json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}),
        "signedBy, which is not supported",
    );
    world.refused(&json!({"type": "nonsense"}), "unknown policy requirement");
    world.pull(json!({"type": "insecureAcceptAnything"})).unwrap();
}

#[test]
fn signed_by_whom_and_for_what() {
    let mut world = World::new();
    let (ours, theirs) = (Signer::new(), Signer::new());
    let key = world.file("our.pub", &ours.pem());
    let wanted = json!({"type": "sigstoreSigned", "keyPath": key, "signedIdentity": {"type": "matchRepository"}});
    let exact = json!({"type": "sigstoreSigned", "keyData": BASE64_STANDARD.encode(ours.pem())});
    world.refused(&wanted, "it has no signature");

    let (digest, name) = (world.digest.clone(), world.name.clone());
    let good = statement(&name, digest.as_str());
    publish(&world.server, &digest, &[(&good, theirs.sign(&good))]);
    world.refused(&wanted, "another key");
    publish(&world.server, &digest, &[(&good, ours.sign(b"something else"))]);
    world.refused(&wanted, "another key");
    publish(&world.server, &digest, &[(&good, "!".into())]);
    world.refused(&wanted, "it has no signature");

    let other_image = statement(&name, Digest::of(b"other").as_str());
    publish(&world.server, &digest, &[(&other_image, ours.sign(&other_image))]);
    world.refused(&wanted, "the signature is for");
    let other_name = statement("r.example/other", digest.as_str());
    publish(&world.server, &digest, &[(&other_name, ours.sign(&other_name))]);
    world.refused(&wanted, "signed for \"r.example/other\"");

    // One good signature among others is enough; with the usual rule it must be for the tag.
    publish(
        &world.server,
        &digest,
        &[(&good, theirs.sign(&good)), (&other_name, ours.sign(&other_name)), (&good, ours.sign(&good))],
    );
    world.refused(&exact, "signed for");
    world.pull(wanted).unwrap();
}

#[test]
fn a_signed_index_vouches_for_what_is_in_it() {
    let mut world = World::new();
    let signer = Signer::new();
    let key = world.file("key.pub", &signer.pem());
    let (_, manifest, _) = world.server.image(b"x");
    world.server.answer(&format!("/v2/x/manifests/{}", Digest::of(&manifest)), vec![ok(&manifest)]);
    let mut entry = descriptor(MANIFEST, &manifest);
    entry["platform"] = json!({"os": "linux", "architecture": architecture()});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
    world.server.answer("/v2/x/manifests/latest", vec![ok(index.as_bytes())]);
    let digest = Digest::of(index.as_bytes());
    let good = statement(&format!("{}:latest", world.name), digest.as_str());
    publish(&world.server, &digest, &[(&good, signer.sign(&good))]);
    world.pull(json!({"type": "sigstoreSigned", "keyPath": key})).unwrap();
}

#[test]
fn signatures_as_referrers() {
    let mut world = World::new();
    let signer = Signer::new();
    let key = world.file("key.pub", &signer.pem());
    let good = statement(&format!("{}:latest", world.name), world.digest.as_str());
    world.server.answer(&format!("/v2/x/blobs/{}", Digest::of(&good)), vec![ok(&good)]);
    let mut layer = descriptor("application/vnd.dev.cosign.simplesigning.v1+json", &good);
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signer.sign(&good)});
    let kind = "application/vnd.dev.cosign.artifact.sig.v1+json";
    let artifact = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"), "layers": [layer]});
    let artifact = artifact.to_string();
    world.server.answer(&format!("/v2/x/manifests/{}", Digest::of(artifact.as_bytes())), vec![ok(artifact.as_bytes())]);
    let mut entry = descriptor(MANIFEST, artifact.as_bytes());
    entry["artifactType"] = json!(kind);
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
    let wanted = json!({"type": "sigstoreSigned", "keyPath": key});
    // The tag that stands in for the list, then the list itself.
    let (tag, path) = (world.digest.as_str().replace(':', "-"), format!("/v2/x/referrers/{}", world.digest));
    world.server.answer(&format!("/v2/x/manifests/{tag}"), vec![ok(list.as_bytes())]);
    world.pull(wanted.clone()).unwrap();
    let mut other = World { root: Root::new(), ..world };
    other.server.answer(&format!("/v2/x/manifests/{tag}"), vec![common::server::status("404 Not Found", &[])]);
    other.file("key.pub", &signer.pem());
    other.refused(
        &json!({"type": "sigstoreSigned", "keyPath": other.root.directory.path().join("key.pub")}),
        "no signature",
    );
    other.server.answer(&path, vec![ok(list.as_bytes())]);
    other.pull(json!({"type": "sigstoreSigned", "keyPath": other.root.directory.path().join("key.pub")})).unwrap();
}
