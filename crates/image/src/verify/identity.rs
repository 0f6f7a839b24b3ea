//! Whether the name that a signature is for is the name that was asked for (containers-policy.json(5), *signedIdentity*).

use serde_json::Value;

use super::policy::object;
use crate::Reference;

/// The rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Identity {
    /// The same tag of the same repository; by digest, the same repository.
    #[default]
    RepoDigestOrExact,
    /// The same tag of the same repository.
    Exact,
    /// The same repository.
    Repository,
    /// This very name.
    ExactReference(String),
    /// This repository.
    ExactRepository(String),
    /// As the first, with the beginning of the name replaced.
    Remap { prefix: String, signed: String },
}

impl Identity {
    pub(super) fn parse(value: &Value) -> Result<Self, String> {
        let kind = value.get("type").and_then(Value::as_str).ok_or("a signedIdentity without type")?;
        let text = |key: &str| {
            let text = value.get(key).and_then(Value::as_str).map(str::to_owned);
            text.ok_or(format!("signedIdentity {kind}: {key} is missing"))
        };
        let (identity, more): (_, &[&str]) = match kind {
            "matchRepoDigestOrExact" => (Identity::RepoDigestOrExact, &[]),
            "matchExact" => (Identity::Exact, &[]),
            "matchRepository" => (Identity::Repository, &[]),
            "exactReference" => (Identity::ExactReference(text("dockerReference")?), &["dockerReference"]),
            "exactRepository" => (Identity::ExactRepository(text("dockerRepository")?), &["dockerRepository"]),
            "remapIdentity" => {
                let remap = Identity::Remap { prefix: text("prefix")?, signed: text("signedPrefix")? };
                (remap, &["prefix", "signedPrefix"])
            }
            other => return Err(format!("unknown signedIdentity type {other:?}")),
        };
        object(value, kind, &[&["type"], more].concat())?;
        Ok(identity)
    }

    /// Checks the name that was signed against the one that was asked for.
    pub(super) fn check(&self, signed: &str, asked: &Reference) -> Result<(), String> {
        let claim: Reference = signed.parse().map_err(|_| format!("it is signed for the malformed name {signed:?}"))?;
        let fits = match self {
            Identity::RepoDigestOrExact => repo_digest_or_exact(&claim, asked),
            Identity::Exact => asked.tag().is_some() && exact(&claim, asked),
            Identity::Repository => claim.name() == asked.name(),
            Identity::ExactReference(text) => parsed(text).is_some_and(|wanted| exact(&claim, &wanted)),
            Identity::ExactRepository(text) => parsed(text).is_some_and(|wanted| claim.name() == wanted.name()),
            Identity::Remap { prefix, signed } => {
                remapped(asked, prefix, signed).is_some_and(|asked| repo_digest_or_exact(&claim, &asked))
            }
        };
        if fits { Ok(()) } else { Err(format!("it is signed for {signed:?}")) }
    }
}

fn parsed(text: &str) -> Option<Reference> {
    text.parse().ok()
}

fn exact(claim: &Reference, asked: &Reference) -> bool {
    claim.tag().is_some() && claim.name() == asked.name() && claim.tag() == asked.tag()
}

fn repo_digest_or_exact(claim: &Reference, asked: &Reference) -> bool {
    match (asked.digest(), asked.tag()) {
        (Some(_), _) => claim.name() == asked.name(),
        (None, _) => exact(claim, asked),
    }
}

/// The name with its beginning replaced, at a boundary; as it is, where the beginning is another one.
fn remapped(asked: &Reference, prefix: &str, signed: &str) -> Option<Reference> {
    let text = asked.to_string();
    match text.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', ':', '@']) => parsed(&format!("{signed}{rest}")),
        _ => Some(asked.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn rules() {
        let by_digest = format!("r.io/a@{DIGEST}");
        let remap = json!({"type": "remapIdentity", "prefix": "mirror.io/v", "signedPrefix": "r.io"});
        let reference = json!({"type": "exactReference", "dockerReference": "r.io/b:1"});
        let repository = json!({"type": "exactRepository", "dockerRepository": "r.io/b"});
        for (rule, signed, asked, fits) in [
            (json!({"type": "matchRepoDigestOrExact"}), "r.io/a:1", "r.io/a:1", true),
            (json!({"type": "matchRepoDigestOrExact"}), "r.io/a:1", "r.io/a:2", false),
            (json!({"type": "matchRepoDigestOrExact"}), "r.io/a", "r.io/a:1", false),
            (json!({"type": "matchRepoDigestOrExact"}), "r.io/a:1", &by_digest, true),
            (json!({"type": "matchExact"}), "r.io/a:1", &by_digest, false),
            (json!({"type": "matchExact"}), "r.io/a:1", "r.io/a:1", true),
            (json!({"type": "matchRepository"}), "r.io/a", "r.io/a:1", true),
            (json!({"type": "matchRepository"}), "r.io/ab", "r.io/a:1", false),
            (reference.clone(), "r.io/b:1", "r.io/a:1", true),
            (reference, "r.io/b:2", "r.io/a:1", false),
            (repository, "r.io/b:9", "r.io/a:1", true),
            (remap.clone(), "r.io/a:1", "mirror.io/v/a:1", true),
            (remap, "mirror.io/v/a:1", "mirror.io/v/a:1", false),
        ] {
            let identity = Identity::parse(&rule).unwrap();
            assert_eq!(identity.check(signed, &asked.parse().unwrap()).is_ok(), fits, "{rule} {signed} {asked}");
        }
        assert!(Identity::parse(&json!({"type": "matchExact", "prefix": "x"})).is_err());
        assert!(Identity::parse(&json!({"type": "exactReference"})).is_err());
    }
}
