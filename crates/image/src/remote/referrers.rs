//! What refers to a manifest (OCI distribution specification 1.1, *Listing Referrers*): the registry's own list, or the one
//! under a tag that stands in for it where the registry keeps none, and which whoever pushes has to keep.

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::{StatusCode, header};

use super::http::read_bounded;
use super::refusal::{Tried, refusal};
use super::registry::{PAGES, Registry, next_page};
use super::url;
use crate::error::{Error, Result};
use crate::manifest::{self, Descriptor};
use crate::{Digest, limits};

/// What of a manifest concerns its relation to another one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Relation {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    annotations: Option<Value>,
}

impl Registry {
    /// The manifests of this kind that refer to another one.
    pub(crate) fn referrers(&self, digest: &Digest, kind: &str) -> Result<Vec<Descriptor>> {
        let mut place = url::with_query(&format!("referrers/{digest}"), &[("artifactType", kind)]);
        let mut all = Vec::new();
        for _ in 0..PAGES {
            let response = self.get(&place, &[(header::ACCEPT, manifest::ACCEPTED[0])])?;
            match response.status() {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED => {
                    let found = self.find_manifest(&stand_in(digest))?;
                    return found.map_or(Ok(Vec::new()), |found| entries(&found.bytes, kind));
                }
                _ => return Err(refusal(response, &Tried::Pull(&self.shown))),
            }
            let next = response.headers().get(header::LINK).and_then(|link| next_page(link.to_str().ok()?));
            all.extend(entries(&read_bounded(response, limits::MANIFEST, "list of referrers")?, kind)?);
            match next {
                Some(query) => place = format!("referrers/{digest}?{query}"),
                None => return Ok(all),
            }
        }
        Err(Error::untrusted("the registry's list of referrers does not end"))
    }

    /// Uploads a manifest or an index; where it refers to another one and the registry keeps no list of that, adds it to
    /// the list that stands in.
    pub(crate) fn publish(&self, name: &str, media_type: &str, bytes: &[u8]) -> Result<()> {
        let keeps = self.put_manifest(name, media_type, bytes)?;
        match relation(media_type, bytes)? {
            Some((subject, entry)) if !keeps => self.add_referrer(&subject, entry),
            _ => Ok(()),
        }
    }

    fn add_referrer(&self, subject: &Digest, entry: Value) -> Result<()> {
        let tag = stand_in(subject);
        let damaged = || Error::untrusted(format!("{tag} of {}, a list of referrers, is no index", self.shown));
        let mut list = match self.find_manifest(&tag)? {
            Some(found) => serde_json::from_slice(&found.bytes).map_err(|_| damaged())?,
            None => json!({"schemaVersion": 2, "mediaType": manifest::ACCEPTED[0], "manifests": []}),
        };
        let manifests = list["manifests"].as_array_mut().ok_or_else(damaged)?;
        if manifests.iter().any(|known| known["digest"] == entry["digest"]) {
            return Ok(());
        }
        manifests.push(entry);
        self.put_manifest(&tag, manifest::ACCEPTED[0], list.to_string().as_bytes()).map(drop)
    }
}

/// The tag that stands in for a list.
fn stand_in(subject: &Digest) -> String {
    subject.as_str().replace(':', "-")
}

fn entries(bytes: &[u8], kind: &str) -> Result<Vec<Descriptor>> {
    let manifest::Document::Index(index) = manifest::parse(bytes, "list of referrers")? else {
        return Err(Error::untrusted("the registry's list of referrers is no index"));
    };
    Ok(index.manifests.into_iter().filter(|one| one.artifact_type.as_deref() == Some(kind)).collect())
}

/// To what a manifest refers, and how it stands in the list of what does so.
fn relation(media_type: &str, bytes: &[u8]) -> Result<Option<(Digest, Value)>> {
    let relation: Relation =
        serde_json::from_slice(bytes).map_err(|cause| Error::untrusted(format!("manifest to push: {cause}")))?;
    let Some(subject) = relation.subject else { return Ok(None) };
    let mut entry = json!({"mediaType": media_type, "digest": Digest::of(bytes).as_str(), "size": bytes.len()});
    let kind = relation.artifact_type.or(relation.config.map(|config| config.media_type));
    if let Some(kind) = kind.filter(|kind| !kind.is_empty()) {
        entry["artifactType"] = kind.into();
    }
    if let Some(annotations) = relation.annotations {
        entry["annotations"] = annotations;
    }
    Ok(Some((subject.digest()?, entry)))
}
