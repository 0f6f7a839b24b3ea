//! The file: which requirements hold for which names. What is not understood is an error, never overlooked.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::identity::Identity;
use super::key::Key;
use crate::Reference;
use crate::error::{Error, Result, Step};

/// The transport that registries are.
const DOCKER: &str = "docker";

/// A policy.
pub(super) struct Policy {
    default: Vec<Requirement>,
    /// Of registries: scope and what holds there.
    scopes: Vec<(String, Vec<Requirement>)>,
    /// Of archives: what holds for every archive of a transport.
    archives: Vec<(String, Vec<Requirement>)>,
}

/// One thing that must be so.
pub(super) enum Requirement {
    /// `insecureAcceptAnything`.
    Accept,
    Reject,
    /// `sigstoreSigned`.
    Signed(Signed),
    /// Known, but not to us.
    Unsupported(String),
}

/// By whom an image must be signed.
pub(super) struct Signed {
    /// Files with keys, and keys themselves (PEM).
    files: Vec<PathBuf>,
    data: Vec<Vec<u8>>,
    pub(super) identity: Identity,
}

impl Policy {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).step(|| format!("read {}", path.display()))?;
        Policy::parse(&text).map_err(|why| Error::Invalid(format!("{}: {why}", path.display())))
    }

    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|cause| cause.to_string())?;
        let file = object(&value, "the policy", &["default", "transports"])?;
        let default = requirements(file.get("default").ok_or("default policy is missing")?)?;
        let (mut scopes, mut archives) = (Vec::new(), Vec::new());
        if let Some(transports) = file.get("transports") {
            for (transport, inner) in transports.as_object().ok_or("transports is no object")? {
                for (scope, list) in inner.as_object().ok_or(format!("transport {transport} is no object"))? {
                    let list = requirements(list)?;
                    if transport == DOCKER {
                        scopes.push((scope.clone(), list));
                    } else if scope.is_empty() {
                        archives.push((transport.clone(), list));
                    }
                }
            }
        }
        Ok(Policy { default, scopes, archives })
    }

    /// What holds for archives of a transport (`docker-archive`, `oci-archive`): where they come from is not known, so
    /// scopes that are paths hold for none.
    pub(super) fn archive_requirements(&self, transport: &str) -> &[Requirement] {
        self.archives.iter().find(|(name, _)| name == transport).map_or(&self.default, |(_, list)| list)
    }

    /// What holds for an image: that of the most special scope.
    pub(super) fn requirements(&self, reference: &Reference) -> &[Requirement] {
        let find =
            |wanted: &str| self.scopes.iter().find(|(scope, _)| scope == wanted).map(|(_, list)| list.as_slice());
        candidates(reference).iter().find_map(|scope| find(scope)).unwrap_or(&self.default)
    }
}

/// Scopes that an image is in, the most special one first.
fn candidates(reference: &Reference) -> Vec<String> {
    let name = reference.name();
    let mut all = vec![reference.to_string()];
    let parents = std::iter::successors(Some(name.as_str()), |name| name.rsplit_once('/').map(|(parent, _)| parent));
    all.extend(parents.map(str::to_owned));
    let mut domain = reference.domain();
    while let Some((_, rest)) = domain.split_once('.') {
        all.push(format!("*.{rest}"));
        domain = rest;
    }
    all.push(String::new());
    all
}

fn requirements(value: &Value) -> Result<Vec<Requirement>, String> {
    let list = value.as_array().filter(|list| !list.is_empty()).ok_or("a list of requirements is missing or empty")?;
    list.iter().map(requirement).collect()
}

fn requirement(value: &Value) -> Result<Requirement, String> {
    let kind = value.get("type").and_then(Value::as_str).ok_or("a requirement without type")?;
    match kind {
        "insecureAcceptAnything" => object(value, kind, &["type"]).map(|_| Requirement::Accept),
        "reject" => object(value, kind, &["type"]).map(|_| Requirement::Reject),
        "sigstoreSigned" => signed(value),
        "signedBy" | "signedBaseLayer" => Ok(Requirement::Unsupported(kind.to_owned())),
        other => Err(format!("unknown policy requirement type {other:?}")),
    }
}

fn signed(value: &Value) -> Result<Requirement, String> {
    for foreign in
        ["fulcio", "pki", "rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"]
    {
        if value.get(foreign).is_some() {
            return Ok(Requirement::Unsupported(format!("sigstoreSigned with {foreign}")));
        }
    }
    let known = ["type", "keyPath", "keyPaths", "keyData", "keyDatas", "signedIdentity"];
    let fields = object(value, "sigstoreSigned", &known)?;
    let ways = known[1..5].iter().filter(|name| fields.contains_key(**name)).count();
    if ways != 1 {
        return Err("sigstoreSigned: want exactly one of keyPath, keyPaths, keyData and keyDatas".into());
    }
    let files = texts(fields, "keyPath", "keyPaths")?.into_iter().map(PathBuf::from).collect();
    let data = texts(fields, "keyData", "keyDatas")?;
    let decode =
        |text: String| BASE64_STANDARD.decode(text).map_err(|_| "sigstoreSigned: keyData is not base64".to_owned());
    let identity = fields.get("signedIdentity").map_or(Ok(Identity::default()), Identity::parse)?;
    Ok(Requirement::Signed(Signed { files, data: data.into_iter().map(decode).collect::<Result<_, _>>()?, identity }))
}

/// One text or several.
fn texts(fields: &Map<String, Value>, one: &str, several: &str) -> Result<Vec<String>, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or(format!("{one} is no text"));
    let list = match (fields.get(one), fields.get(several)) {
        (Some(value), _) => vec![value],
        (None, Some(values)) => {
            values.as_array().filter(|list| !list.is_empty()).ok_or(format!("{several} is no list"))?.iter().collect()
        }
        (None, None) => Vec::new(),
    };
    list.into_iter().map(text).collect()
}

/// An object with no other fields than these.
pub(super) fn object<'v>(value: &'v Value, what: &str, known: &[&str]) -> Result<&'v Map<String, Value>, String> {
    let fields = value.as_object().ok_or(format!("{what} is no object"))?;
    match fields.keys().find(|key| !known.contains(&key.as_str())) {
        Some(other) => Err(format!("{what}: unknown key {other:?}")),
        None => Ok(fields),
    }
}

impl Signed {
    /// The keys; any of them will do.
    pub(super) fn keys(&self) -> Result<Vec<Key>> {
        let files = self.files.iter().map(|path| {
            let text = std::fs::read(path).step(|| format!("read {}", path.display()))?;
            Key::parse(&text).map_err(|why| Error::Invalid(format!("{}: {why}", path.display())))
        });
        let data =
            self.data.iter().map(|text| Key::parse(text).map_err(|why| Error::Invalid(format!("keyData: {why}"))));
        files.chain(data).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(policy: &Policy, name: &str) -> String {
        let reference: Reference = name.parse().unwrap();
        let words = policy.requirements(&reference.or_latest()).iter().map(|one| match one {
            Requirement::Accept => "accept",
            Requirement::Reject => "reject",
            Requirement::Signed(_) => "signed",
            Requirement::Unsupported(_) => "unsupported",
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_most_special_scope_decides() {
        let text = r#"{"default": [{"type": "reject"}], "transports": {
            "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]},
            "docker": {
                "docker.io/library": [{"type": "insecureAcceptAnything"}],
                "docker.io/library/bad:1": [{"type": "reject"}],
                "r.example/team/app": [{"type": "sigstoreSigned", "keyPath": "/k"}, {"type": "insecureAcceptAnything"}],
                "*.corp.example": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]
            }}}"#;
        let policy = Policy::parse(text.as_bytes()).unwrap();
        for (name, what) in [
            ("busybox", "accept"),
            ("bad:1", "reject"),
            ("bad:2", "accept"),
            ("docker.io/other/x", "reject"),
            ("r.example/team/app:v", "signed accept"),
            ("r.example/team/application", "reject"),
            ("a.corp.example/x", "unsupported"),
            ("corp.example/x", "reject"),
        ] {
            assert_eq!(of(&policy, name), what, "{name}");
        }
        assert!(matches!(policy.archive_requirements("docker-archive"), [Requirement::Reject]));
        assert!(matches!(policy.archive_requirements("docker-daemon"), [Requirement::Accept]));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let one = |requirement: &str| format!(r#"{{"default": [{requirement}]}}"#);
        for bad in [
            "{}".to_owned(),
            r#"{"default": []}"#.into(),
            r#"{"default": [{"type": "reject"}], "more": 1}"#.into(),
            one(r#"{"type": "whatever"}"#),
            one(r#"{"type": "insecureAcceptAnything", "keyPath": "/x"}"#),
            one(r#"{"type": "sigstoreSigned"}"#),
            one(r#"{"type": "sigstoreSigned", "keyPath": "/x", "keyData": "eA=="}"#),
            one(r#"{"type": "sigstoreSigned", "keyData": "!"}"#),
            one(r#"{"type": "sigstoreSigned", "keyPath": "/x", "signedIdentity": {"type": "any"}}"#),
            one(r#"{"keyPath": "/x"}"#),
        ] {
            assert!(Policy::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
