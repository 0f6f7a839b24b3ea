//! Documents from registries and settings, changed at random: each is understood or refused, and none makes a panic.

use proptest::prelude::*;

use crate::fuzz;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn seeds() -> Vec<String> {
    let layer =
        format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{DIGEST}","size":7}}"#);
    let kind = "application/vnd.oci.image.config.v1+json";
    let configuration = format!(r#"{{"mediaType":"{kind}","digest":"{DIGEST}","size":7}}"#);
    let platform = r#""platform":{"os":"linux","architecture":"arm","variant":"v7"}"#;
    vec![
        format!(r#"{{"schemaVersion":2,"config":{configuration},"layers":[{layer},{layer}]}}"#),
        format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"m","digest":"{DIGEST}","size":9,{platform}}}]}}"#),
        format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}},"config":{{"Env":["A=b"]}}}}"#
        ),
        r#"Bearer realm="https://a.b/token",service="reg, x",scope="repository:x:pull""#.to_owned(),
        "[[registry]]\nprefix='a.b/c'\nlocation='d.e'\n[[registry.mirror]]\nlocation='f:5000'\n".to_owned(),
        "registry.example:5000/a/b-c__d:tag".to_owned(),
    ]
}

/// A seed with pieces cut out, put in and turned around.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0u8..4, any::<u8>());
    (prop::sample::select(seeds()), prop::collection::vec(change, 1..6)).prop_map(|(seed, changes)| {
        let mut bytes = seed.into_bytes();
        for (one, other, kind, byte) in changes {
            if bytes.is_empty() {
                break;
            }
            let (one, other) = (one.index(bytes.len()), other.index(bytes.len()));
            let range = one.min(other)..one.max(other);
            match kind {
                0 => bytes[one] = byte,
                1 => drop(bytes.drain(range)),
                2 => bytes.insert(one, byte),
                _ => {
                    let piece = bytes[range].to_vec();
                    bytes.splice(one..one, piece);
                }
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn understood_or_refused(bytes in mutated()) {
        fuzz::documents(&bytes);
        fuzz::reference(&bytes);
    }
}
