//! Reading from one repository of one registry: manifests, blobs, tags.

use std::io::Read;
use std::sync::Arc;

use serde::Deserialize;
use ureq::http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use ureq::{Body, ResponseExt};

use super::access::Settings;
use super::authority::Authority;
use super::challenge::Challenge;
use super::endpoint::Endpoint;
use super::http::{Client, Headers, Payload, read_bounded, stream};
use super::refusal::{Tried, refusal};
use super::url;
use crate::error::{Error, Result};
use crate::{Digest, limits, manifest};

/// Pages of a list.
pub(super) const PAGES: usize = 1_000;
/// Entries asked for in one page.
const PAGE: &str = "1000";
/// Bytes of one page.
const ANSWER: u64 = 4 << 20;

/// One repository of one registry.
pub(crate) struct Registry {
    pub(super) client: Client,
    pub(crate) endpoint: Endpoint,
    /// The repository as its user named it, for messages.
    pub(crate) shown: String,
    /// `https://host` or, where that is allowed, `http://host`.
    pub(super) base: String,
    authority: Authority,
    /// What tokens are to be good for.
    scope: String,
}

/// What a token must be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    Pull,
    Push,
    /// To list what the registry has.
    Catalog,
    /// Nothing but to be known.
    None,
}

/// A manifest or an index, with its digest.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

impl Registry {
    /// Finds out whether the registry speaks https; one that needs to prove nothing may speak http instead.
    pub(crate) fn connect(settings: &Arc<Settings>, endpoint: &Endpoint, shown: &str, right: Right) -> Result<Self> {
        let client = Client::new(settings);
        let mut base = format!("https://{}", endpoint.host);
        if endpoint.insecure && settings.trust(&endpoint.host)?.roots.is_empty() {
            let plain = format!("http://{}", endpoint.host);
            let secure = client.get(&Method::GET, &format!("{base}/v2/"), &[]);
            if secure.is_err() {
                base = plain;
            }
        }
        let scope = match right {
            Right::Pull => format!("repository:{}:pull", endpoint.path),
            Right::Push => format!("repository:{}:pull,push", endpoint.path),
            Right::Catalog => "registry:catalog:*".to_owned(),
            Right::None => String::new(),
        };
        let authority = Authority::new(url::parse(&base)?, settings.credentials(&endpoint.name, endpoint.mirror)?);
        Ok(Registry { client, endpoint: endpoint.clone(), shown: shown.to_owned(), base, authority, scope })
    }

    /// The URL of something that belongs to the registry as a whole.
    pub(super) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    /// A manifest or an index by tag or digest.
    pub(crate) fn manifest(&self, name: &str) -> Result<Fetched> {
        let accept = manifest::ACCEPTED.join(", ");
        let response = self.get(&format!("manifests/{name}"), &[(header::ACCEPT, &accept)])?;
        if !response.status().is_success() {
            return Err(refusal(response, &Tried::Manifest(&self.shown, name)));
        }
        let text =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        let (media_type, announced) = (text("content-type"), text("docker-content-digest"));
        if media_type.starts_with("text/html") {
            let text = format!("registry of {}: answers with a web page instead of a manifest", self.shown);
            return Err(Error::untrusted(text));
        }
        let bytes = read_bounded(response, limits::MANIFEST, "manifest")?;
        let digest = Digest::of(&bytes);
        let announced = Some(announced.as_str()).filter(|text| text.starts_with("sha256:"));
        for expected in [announced, name.contains(':').then_some(name)].into_iter().flatten() {
            if expected != digest.as_str() {
                let text = format!("digest mismatch: manifest {name} of {} is {digest}", self.shown);
                return Err(Error::untrusted(text));
            }
        }
        Ok(Fetched { bytes, digest })
    }

    /// A small blob, whole and checked.
    pub(crate) fn document(&self, digest: &Digest, size: u64) -> Result<Vec<u8>> {
        if size > limits::CONFIG {
            return Err(Error::untrusted(format!("blob {digest} of {size} bytes is too large for a document")));
        }
        let response = self.get(&format!("blobs/{digest}"), &[])?;
        if !response.status().is_success() {
            return Err(refusal(response, &Tried::Manifest(&self.shown, digest.as_str())));
        }
        let bytes = read_bounded(response, size, "configuration")?;
        if Digest::of(&bytes) != *digest {
            return Err(Error::untrusted(format!("digest mismatch: blob {digest} is {}", Digest::of(&bytes))));
        }
        Ok(bytes)
    }

    /// A blob's bytes from `offset` on, unchecked: how many of them are to be skipped (a registry may ignore the range).
    pub(crate) fn blob(&self, digest: &Digest, offset: u64) -> Result<(Box<dyn Read + Send>, u64)> {
        self.ranged(offset, |headers| self.get(&format!("blobs/{digest}"), headers), digest.as_str())
    }

    /// The same from a place outside of the registry, which learns nothing about us.
    pub(crate) fn foreign_blob(&self, place: &str, offset: u64) -> Result<(Box<dyn Read + Send>, u64)> {
        if !place.starts_with("https://") && !self.base.starts_with("http://") {
            return Err(Error::untrusted(format!("foreign layer at {place:?}: only https is fetched")));
        }
        self.ranged(offset, |headers| self.client.get_patiently(&Method::GET, place, headers), place)
    }

    fn ranged(
        &self,
        offset: u64,
        get: impl Fn(&Headers<'_>) -> Result<Response<Body>>,
        what: &str,
    ) -> Result<(Box<dyn Read + Send>, u64)> {
        let range = format!("bytes={offset}-");
        let ranged = [(header::RANGE, range.as_str())];
        let mut response = get(if offset > 0 { &ranged } else { &[] })?;
        if offset > 0 && response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            response = get(&[])?;
        }
        let skip = match response.status() {
            StatusCode::OK => offset,
            StatusCode::PARTIAL_CONTENT if offset > 0 => skipped(response.headers(), offset)?,
            _ => return Err(refusal(response, &Tried::Manifest(&self.shown, what))),
        };
        Ok((Box::new(stream(response)), skip))
    }

    /// All tags of the repository.
    pub(crate) fn tags(&self) -> Result<Vec<String>> {
        let page = |bytes: &[u8]| serde_json::from_slice(bytes).map(|page: Tags| page.tags.unwrap_or_default());
        self.pages(&format!("v2/{}/tags/list", self.endpoint.path), "list of tags", page)
    }

    /// All repositories of the registry.
    pub(crate) fn catalog(&self) -> Result<Vec<String>> {
        let page =
            |bytes: &[u8]| serde_json::from_slice(bytes).map(|page: Catalog| page.repositories.unwrap_or_default());
        self.pages("v2/_catalog", "list of repositories", page)
    }

    fn pages<T>(
        &self,
        path: &str,
        what: &str,
        parse: impl Fn(&[u8]) -> Result<Vec<T>, serde_json::Error>,
    ) -> Result<Vec<T>> {
        let mut place = format!("{}/{path}?n={PAGE}", self.base);
        let mut all = Vec::new();
        for _ in 0..PAGES {
            let response = self.read(&Method::GET, &place, &[])?;
            if !response.status().is_success() {
                return Err(refusal(response, &Tried::Pull(&self.shown)));
            }
            let next = response.headers().get(header::LINK).and_then(|link| next_page(link.to_str().ok()?));
            let bytes = read_bounded(response, ANSWER, what)?;
            let page = parse(&bytes)
                .map_err(|cause| Error::untrusted(format!("the registry's {what} is damaged: {cause}")))?;
            all.extend(page);
            match next {
                Some(query) => place = format!("{}/{path}?{query}", self.base),
                None => return Ok(all),
            }
        }
        Err(Error::untrusted(format!("the registry's {what} does not end")))
    }

    /// A manifest that need not be there.
    pub(crate) fn find_manifest(&self, name: &str) -> Result<Option<Fetched>> {
        let accept = manifest::ACCEPTED.join(", ");
        let response = self.request(&Method::HEAD, &format!("manifests/{name}"), &[(header::ACCEPT, &accept)])?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            _ => self.manifest(name).map(Some),
        }
    }

    /// A GET below the repository.
    pub(super) fn get(&self, path: &str, headers: &Headers<'_>) -> Result<Response<Body>> {
        self.request(&Method::GET, path, headers)
    }

    pub(super) fn request(&self, method: &Method, path: &str, headers: &Headers<'_>) -> Result<Response<Body>> {
        self.read(method, &format!("{}/v2/{}/{path}", self.base, self.endpoint.path), headers)
    }

    /// A GET or HEAD, with the proof that the registry wants.
    fn read(&self, method: &Method, place: &str, headers: &Headers<'_>) -> Result<Response<Body>> {
        self.authorized(None, |authorization| {
            let mut headers = headers.to_vec();
            headers.extend(authorization.map(|value| (header::AUTHORIZATION, value)));
            self.client.get_patiently(method, place, &headers)
        })
    }

    /// A request that changes something. What can be read only once must not be the first request.
    pub(super) fn write(
        &self,
        method: &Method,
        place: &Uri,
        headers: &Headers<'_>,
        more_scope: Option<&str>,
        payload: Payload<'_>,
    ) -> Result<Response<Body>> {
        let ours = url::origin(place) == self.base;
        let mut payload = Some(payload);
        self.authorized(more_scope, |authorization| {
            let mut headers = headers.to_vec();
            headers.extend(authorization.filter(|_| ours).map(|value| (header::AUTHORIZATION, value)));
            let payload = match &mut payload {
                Some(Payload::Bytes(bytes)) => Payload::Bytes(bytes),
                Some(Payload::None) => Payload::None,
                once => once.take().ok_or_else(|| Error::Registry("the registry's token has expired".into()))?,
            };
            self.client.change(method, place, &headers, payload)
        })
    }

    /// Sends, and once more when the registry itself (not somebody it redirects to) wants to know who we are.
    fn authorized(
        &self,
        more_scope: Option<&str>,
        mut send: impl FnMut(Option<&str>) -> Result<Response<Body>>,
    ) -> Result<Response<Body>> {
        let scopes = match more_scope {
            Some(more) => format!("{} {more}", self.scope),
            None => self.scope.clone(),
        };
        let used = self.authority.header(&scopes);
        let response = send(used.as_deref())?;
        if response.status() != StatusCode::UNAUTHORIZED || url::origin(response.get_uri()) != self.base {
            return Ok(response);
        }
        let Some(challenge) = Challenge::of(response.headers()) else { return Ok(response) };
        match self.authority.meet(&self.client, &challenge, &scopes, used.as_deref())? {
            Some(fresh) => send(Some(&fresh)),
            None => Ok(response),
        }
    }

    /// Tries to log in; a token to keep instead of the password, if the registry's authority gives one.
    pub(crate) fn log_in(&self) -> Result<Option<String>> {
        let place = format!("{}/v2/", self.base);
        let response = self.client.get_patiently(&Method::GET, &place, &[])?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return if response.status().is_success() {
                Ok(None)
            } else {
                Err(refusal(response, &Tried::Other(&self.shown)))
            };
        }
        let challenge = Challenge::of(response.headers());
        let refresh = match &challenge {
            Some(Challenge::Bearer(bearer)) => self.authority.refresh_token(&self.client, bearer)?,
            _ => None,
        };
        let response = self.read(&Method::GET, &place, &[])?;
        match response.status() {
            StatusCode::UNAUTHORIZED => {
                Err(Error::Refused(format!("login attempt to {place} failed with status: {}", response.status())))
            }
            status if status.is_success() => Ok(refresh),
            _ => Err(refusal(response, &Tried::Other(&self.shown))),
        }
    }
}

/// How many bytes of a partial answer are before `offset`.
fn skipped(headers: &HeaderMap, offset: u64) -> Result<u64> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(0) };
    let start =
        value.to_str().ok().and_then(|text| text.strip_prefix("bytes ")?.split('-').next()?.parse::<u64>().ok());
    match start {
        Some(start) if start <= offset => Ok(offset - start),
        _ => Err(Error::untrusted(format!("the registry sends another range than the one from byte {offset} on"))),
    }
}

/// The query of the page that `Link: <…?QUERY>; rel="next"` names.
pub(super) fn next_page(link: &str) -> Option<String> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(())?;
    let (_, query) = target.split_once('?')?;
    query.bytes().all(|b| b.is_ascii_graphic()).then(|| query.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        assert_eq!(next_page("</v2/a/tags/list?last=b&n=2>; rel=\"next\"").unwrap(), "last=b&n=2");
        assert_eq!(next_page("</v2/a>; rel=\"prev\""), None);
    }

    #[test]
    fn ranges() {
        let headers = |text: &str| HeaderMap::from_iter([(header::CONTENT_RANGE, text.parse().unwrap())]);
        assert_eq!(skipped(&headers("bytes 10-19/20"), 10).unwrap(), 0);
        assert_eq!(skipped(&headers("bytes 0-19/20"), 10).unwrap(), 10);
        assert_eq!(skipped(&HeaderMap::new(), 10).unwrap(), 0);
        assert!(skipped(&headers("bytes 11-19/20"), 10).is_err());
        assert!(skipped(&headers("nonsense"), 10).is_err());
    }
}
