//! The registry's side of `pull` (OCI distribution specification): manifests, blobs and tags, with the anonymous token
//! dance that public registries ask for. What arrives is checked against digests and limits before anybody sees it.

use std::io::Read;
use std::sync::Mutex;

use serde::Deserialize;
use ureq::http::{Response, StatusCode, header};
use ureq::{Body, BodyReader};

use crate::error::{Error, Result};
use crate::http::{Client, Headers};
use crate::{Digest, Reference, dns, limits, manifest};

/// Pages of a list of tags.
const PAGES: usize = 1_000;
/// Bytes of a token, an error or a page of tags.
const ANSWER: u64 = 4 << 20;

/// One repository of one registry.
pub(crate) struct Registry {
    client: Client,
    reference: Reference,
    /// `https://host` or, on this machine only, `http://host`.
    base: String,
    token: Mutex<Option<String>>,
}

/// A manifest or an index, with its digest.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
}

#[derive(Deserialize)]
struct Failures {
    #[serde(default)]
    errors: Vec<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Registry {
    /// Finds out whether the registry speaks https; only one on this machine may speak http instead.
    pub(crate) fn connect(reference: &Reference) -> Result<Self> {
        let client = Client::new();
        let host = match reference.domain() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let mut base = format!("https://{host}");
        let name = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map_or(host, |(name, _)| name);
        if dns::is_loopback(name) && client.get(&format!("{base}/v2/"), &[]).is_err() {
            base = format!("http://{host}");
        }
        Ok(Registry { client, reference: reference.clone(), base, token: Mutex::new(None) })
    }

    /// A manifest or an index by tag or digest.
    pub(crate) fn manifest(&self, name: &str) -> Result<Fetched> {
        let accept = manifest::ACCEPTED.join(", ");
        let mut response = self.get(&format!("manifests/{name}"), &[(header::ACCEPT, &accept)])?;
        if !response.status().is_success() {
            return Err(self.refusal(&mut response, name));
        }
        let announced = response.headers().get("docker-content-digest").cloned();
        let bytes = read_bounded(response, limits::MANIFEST, "manifest")?;
        let digest = Digest::of(&bytes);
        let announced =
            announced.as_ref().and_then(|value| value.to_str().ok()).filter(|text| text.starts_with("sha256:"));
        for expected in [announced, name.contains(':').then_some(name)].into_iter().flatten() {
            if expected != digest.as_str() {
                let text =
                    format!("digest mismatch: manifest {name} of {} is {digest}", self.reference.familiar_name());
                return Err(Error::untrusted(text));
            }
        }
        Ok(Fetched { bytes, digest })
    }

    /// A small blob, whole and checked.
    pub(crate) fn document(&self, digest: &Digest, size: u64) -> Result<Vec<u8>> {
        if size > limits::CONFIG {
            return Err(Error::untrusted(format!("blob {digest} of {size} bytes is too large for a configuration")));
        }
        let mut response = self.get(&format!("blobs/{digest}"), &[])?;
        if !response.status().is_success() {
            return Err(self.refusal(&mut response, digest.as_str()));
        }
        let bytes = read_bounded(response, size, "configuration")?;
        if Digest::of(&bytes) != *digest {
            return Err(Error::untrusted(format!("digest mismatch: blob {digest} is {}", Digest::of(&bytes))));
        }
        Ok(bytes)
    }

    /// A blob's bytes from `offset` on, unchecked: how many of them are to be skipped (a registry may ignore the range).
    pub(crate) fn blob(&self, digest: &Digest, offset: u64) -> Result<(BodyReader<'static>, u64)> {
        let range = format!("bytes={offset}-");
        let headers: &Headers<'_> = if offset > 0 { &[(header::RANGE, &range)] } else { &[] };
        let mut response = self.get(&format!("blobs/{digest}"), headers)?;
        let skip = match response.status() {
            StatusCode::OK => offset,
            StatusCode::PARTIAL_CONTENT if offset > 0 => 0,
            _ => return Err(self.refusal(&mut response, digest.as_str())),
        };
        Ok((response.into_body().into_with_config().limit(u64::MAX).reader(), skip))
    }

    /// All tags of the repository.
    pub(crate) fn tags(&self) -> Result<Vec<String>> {
        let mut path = "tags/list?n=1000".to_owned();
        let mut all = Vec::new();
        for _ in 0..PAGES {
            let mut response = self.get(&path, &[])?;
            if !response.status().is_success() {
                return Err(self.refusal(&mut response, ""));
            }
            let next = response.headers().get(header::LINK).and_then(|link| next_page(link.to_str().ok()?));
            let bytes = read_bounded(response, ANSWER, "list of tags")?;
            let page: Tags = serde_json::from_slice(&bytes)
                .map_err(|cause| Error::untrusted(format!("the registry's list of tags is damaged: {cause}")))?;
            all.extend(page.tags.unwrap_or_default());
            match next {
                Some(next) => path = format!("tags/list?{next}"),
                None => return Ok(all),
            }
        }
        Err(Error::untrusted("the registry's list of tags does not end"))
    }

    /// A GET below the repository, with a token if the registry wants one.
    fn get(&self, path: &str, headers: &Headers<'_>) -> Result<Response<Body>> {
        let url = format!("{}/v2/{}/{path}", self.base, self.reference.path());
        let used = self.token();
        let response = self.send(&url, headers, used.as_deref())?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenge = response.headers().get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
        let Some(challenge) = challenge.and_then(Challenge::parse) else { return Ok(response) };
        // Another thread may have renewed an expired token meanwhile.
        let fresh = match self.token() {
            Some(token) if Some(&token) != used.as_ref() => token,
            _ => self.fetch_token(&challenge)?,
        };
        self.send(&url, headers, Some(&fresh))
    }

    fn send(&self, url: &str, headers: &Headers<'_>, token: Option<&str>) -> Result<Response<Body>> {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let mut headers = headers.to_vec();
        headers.extend(authorization.as_deref().map(|value| (header::AUTHORIZATION, value)));
        self.client.get_patiently(url, &headers)
    }

    fn token(&self) -> Option<String> {
        self.token.lock().map_or(None, |token| token.clone())
    }

    /// Asks the authority that the registry names for a token to pull this repository.
    fn fetch_token(&self, challenge: &Challenge) -> Result<String> {
        let bad = |why: String| Error::Registry(format!("token for {}: {why}", self.reference.familiar_name()));
        if !challenge.realm.starts_with("https://") && !self.base.starts_with("http://") {
            return Err(bad(format!("the registry names an authority without https: {}", challenge.realm)));
        }
        let scope = format!("repository:{}:pull", self.reference.path());
        let separator = if challenge.realm.contains('?') { '&' } else { '?' };
        let url =
            format!("{}{separator}service={}&scope={}", challenge.realm, escape(&challenge.service), escape(&scope));
        let mut response = self.client.get_patiently(&url, &[])?;
        if !response.status().is_success() {
            return Err(self.refusal(&mut response, ""));
        }
        let bytes = read_bounded(response, ANSWER, "token")?;
        let answer: Token = serde_json::from_slice(&bytes).map_err(|cause| bad(format!("damaged answer: {cause}")))?;
        let token = answer.token.or(answer.access_token).ok_or_else(|| bad("the answer has none".into()))?;
        if let Ok(mut slot) = self.token.lock() {
            *slot = Some(token.clone());
        }
        Ok(token)
    }

    /// An error answer in Docker's words.
    fn refusal(&self, response: &mut Response<Body>, what: &str) -> Error {
        let status = response.status();
        let mut bytes = Vec::new();
        // A body that cannot be read only makes the message poorer.
        let _ = response.body_mut().as_reader().take(64 << 10).read_to_end(&mut bytes);
        let failures: Vec<Failure> =
            serde_json::from_slice(&bytes).map(|found: Failures| found.errors).unwrap_or_default();
        let first = failures.first();
        let code = first.map_or("", |failure| failure.code.as_str());
        let detail: String = first.map_or_else(
            || status.to_string(),
            |failure| format!("{}: {}", failure.code.to_lowercase().replace('_', " "), one_line(&failure.message)),
        );
        let name = self.reference.familiar_name();
        Error::Registry(match (code, status) {
            ("NAME_UNKNOWN", _) => format!("repository {name} not found: {detail}"),
            ("DENIED" | "UNAUTHORIZED", _) | (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                format!(
                    "pull access denied for {name}, repository does not exist or may require 'docker login': {detail}"
                )
            }
            ("MANIFEST_UNKNOWN", _) | (_, StatusCode::NOT_FOUND) if !what.is_empty() => {
                let separator = if what.contains(':') { '@' } else { ':' };
                format!("manifest for {name}{separator}{what} not found: {detail}")
            }
            _ => format!("registry {}: {detail}", self.reference.domain()),
        })
    }
}

/// `Bearer realm="…",service="…"`.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: String,
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut found = Challenge { realm: String::new(), service: String::new() };
        while let Some((key, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match key.trim_matches([' ', ',']).to_ascii_lowercase().as_str() {
                "realm" => found.realm = value.to_owned(),
                "service" => found.service = value.to_owned(),
                _ => {}
            }
            rest = after;
        }
        (!found.realm.is_empty()).then_some(found)
    }
}

/// The query of the page that `Link: <…?QUERY>; rel="next"` names.
fn next_page(link: &str) -> Option<String> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(())?;
    let (_, query) = target.split_once('?')?;
    query.bytes().all(|b| b.is_ascii_graphic()).then(|| query.to_owned())
}

fn read_bounded(response: Response<Body>, limit: u64, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader().take(limit + 1);
    reader.read_to_end(&mut bytes).map_err(|cause| Error::Registry(format!("read the {what}: {cause}")))?;
    if bytes.len() as u64 > limit {
        return Err(Error::untrusted(format!("the registry's {what} is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Percent-encodes for a query.
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A registry's words without anything that could disturb a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let parsed = Challenge::parse(r#"Bearer realm="https://a.b/token",service="reg, x",scope="repository:x:pull""#);
        assert_eq!(parsed, Some(Challenge { realm: "https://a.b/token".into(), service: "reg, x".into() }));
        assert_eq!(Challenge::parse("Bearer realm=https://a,service=b").unwrap().service, "b");
        for bad in ["", "Basic realm=\"x\"", "Bearer", "Bearer service=\"x\"", "Bearer realm=\"x"] {
            assert_eq!(Challenge::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn pages_and_escapes() {
        assert_eq!(next_page("</v2/a/tags/list?last=b&n=2>; rel=\"next\"").unwrap(), "last=b&n=2");
        assert_eq!(next_page("</v2/a>; rel=\"prev\""), None);
        assert_eq!(escape("a b&c:d/e"), "a%20b%26c:d/e");
        assert_eq!(one_line("a\nb\x1b[2J"), "a b [2J");
    }
}
