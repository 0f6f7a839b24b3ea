//! Pulling from a real registry (Debian's docker-registry).

mod common;

use common::registry::RealRegistry;
use common::*;
use image::{Digest, Error, Pull};
use serde_json::json;

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
