//! Image references (`[host[:port]/]path[:tag][@digest]`) and their two spellings, full and familiar. The grammar and
//! the messages are those of github.com/distribution/reference, which Docker and Podman use.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, Error};

/// The registry that a name without one belongs to.
const DEFAULT_DOMAIN: &str = "docker.io";
/// An older name of it.
const LEGACY_DOMAIN: &str = "index.docker.io";
/// Where its official images are.
const OFFICIAL: &str = "library/";
/// Longest repository name.
const MAX_NAME: usize = 255;
/// Longest tag.
const MAX_TAG: usize = 128;

/// A parsed, complete reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry: `host[:port]`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// With the tag `latest` if there is neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// The same repository with another tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, Error> {
        if !is_tag(tag) {
            return Err(Error::Invalid(format!(
                "invalid tag {tag:?}: want letters, digits, `_`, `.` and `-`, at most 128"
            )));
        }
        Ok(Reference { tag: Some(tag.into()), digest: None, ..self.clone() })
    }

    /// `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// `busybox`: as people write it.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        match self.path.strip_prefix(OFFICIAL) {
            // What looks like an id would be taken for one.
            Some(rest) if !rest.contains('/') && !is_hex_id(rest) => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The familiar name with tag and digest.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text = format!("{text}:{tag}");
        }
        if let Some(digest) = &self.digest {
            text = format!("{text}@{digest}");
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.name()))
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if is_hex_id(text) {
            return Err(invalid(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        let (domain, path) = split_domain(name);
        check_path(&path)?;
        if !is_domain(&domain) || tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid("invalid reference format"));
        }
        Ok(Reference { domain, path, tag: tag.map(str::to_owned), digest })
    }
}

/// Whether the text is a whole image id without its algorithm.
pub(crate) fn is_hex_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn invalid(text: impl Into<String>) -> Error {
    Error::Invalid(text.into())
}

fn parse_digest(text: &str) -> Result<Digest, Error> {
    text.parse().map_err(|_| invalid("invalid reference format"))
}

/// Whether a name says which registry it belongs to.
pub(crate) fn has_registry(name: &str) -> bool {
    name.split_once('/').is_some_and(|(first, _)| is_registry(first))
}

/// Name, and tag and digest with their marks.
pub(crate) fn split_name(text: &str) -> (&str, &str) {
    let rest = text.split('@').next().unwrap_or(text);
    text.split_at(split_tag(rest).0.len())
}

/// Whether the first component of several is a registry: it has a dot, a colon or a capital, or is `localhost`.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first
}

/// A colon after the last slash begins the tag.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let start = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[start..].rfind(':') {
        Some(colon) => (&text[..start + colon], Some(&text[start + colon + 1..])),
        None => (text, None),
    }
}

/// The first component is a registry if it looks like one.
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    let official = domain == DEFAULT_DOMAIN && !path.contains('/');
    (domain.to_owned(), if official { format!("{OFFICIAL}{path}") } else { path.to_owned() })
}

fn check_path(path: &str) -> Result<(), Error> {
    if path.len() > MAX_NAME {
        return Err(invalid("repository name must not be more than 255 characters"));
    }
    if path.split('/').all(is_path_component) {
        return Ok(());
    }
    let lower = path.to_lowercase();
    if lower != path && lower.split('/').all(is_path_component) {
        return Err(invalid(format!("invalid reference format: repository name ({path}) must be lowercase")));
    }
    Err(invalid("invalid reference format"))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    word(first)
        && word(last)
        && bytes.split(|&b| word(b)).all(|separator| match separator {
            b"" | b"." | b"_" | b"__" => true,
            dashes => dashes.iter().all(|&b| b == b'-'),
        })
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`
fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Host name or `[IPv6]`, and optionally a port.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(colon) if !text.ends_with(']') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    };
    let port_fits = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let host_fits = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(is_domain_component),
    };
    port_fits && host_fits
}

fn is_domain_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn normalises_as_docker_does() {
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
            ("foo/bar", "docker.io/foo/bar", "foo/bar"),
            ("library/foo/bar", "docker.io/library/foo/bar", "library/foo/bar"),
            ("localhost/bar", "localhost/bar", "localhost/bar"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"),
            ("Host/a", "Host/a", "Host/a"),
            ("ghcr.io/o/a-b__c.d---e", "ghcr.io/o/a-b__c.d---e", "ghcr.io/o/a-b__c.d---e"),
        ] {
            let reference: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar), "{text}");
        }
        let both: Reference = format!("a.b/c:d@{DIGEST}").parse().unwrap();
        let id = format!("library/{}", &DIGEST[7..]);
        assert_eq!(id.parse::<Reference>().unwrap().familiar(), id, "without the prefix it would be an id");
        assert_eq!((both.tag(), both.digest().unwrap().as_str()), (Some("d"), DIGEST));
        assert_eq!("busybox".parse::<Reference>().unwrap().or_latest().familiar(), "busybox:latest");
    }

    #[test]
    fn refuses_what_docker_refuses() {
        let long = "a".repeat(300);
        let hex = &DIGEST[7..];
        for (text, why) in [
            ("", "invalid reference format"),
            ("Foo", "repository name (library/Foo) must be lowercase"),
            (":tag", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a@sha256:12", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a.-b", "invalid reference format"),
            ("../a", "invalid reference format"),
            ("-a/b.c", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a:b c", "invalid reference format"),
            (long.as_str(), "must not be more than 255"),
            (hex, "cannot specify 64-byte hexadecimal strings"),
        ] {
            let error = text.parse::<Reference>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
