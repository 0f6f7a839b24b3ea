//! `login` and `search`: what is asked of a registry as a whole.

use std::sync::Arc;

use serde::Deserialize;
use ureq::http::{Method, StatusCode};

use super::access::{Access, Settings};
use super::endpoint::Endpoint;
use super::http::{Client, read_bounded};
use super::refusal::{Tried, one_line, refusal};
use super::registry::{Registry, Right};
use super::url;
use crate::error::{Error, Result};

/// Where Docker Hub's index is.
const HUB: &str = "index.docker.io";
/// Bytes of a list of results.
const ANSWER: u64 = 8 << 20;

/// One result of `search`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Name to pull it by.
    pub name: String,
    /// What its owners say about it.
    #[serde(deserialize_with = "or_empty")]
    pub description: String,
    /// How many people like it.
    pub star_count: i64,
    /// Whether it is one of Docker's official images.
    pub is_official: bool,
    /// Whether it was built by Docker Hub.
    pub is_automated: bool,
}

fn or_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct Results {
    results: Option<Vec<Found>>,
}

/// Checks the credentials of `access` with a registry (`host[:port]`); a token to keep instead of the password, if the
/// registry's authority gives one.
pub fn log_in(access: &Access, host: &str) -> Result<Option<String>> {
    let settings = Arc::new(Settings::read(access)?);
    let endpoint = Endpoint::of_host(&settings, host);
    Registry::connect(&settings, &endpoint, host, Right::None)?.log_in()
}

/// Searches Docker Hub, or the registry that `term` begins with: by the index of old, else in the list of its
/// repositories.
pub fn search(access: &Access, term: &str, limit: usize) -> Result<Vec<Found>> {
    if term.contains("://") {
        return Err(Error::Invalid("invalid repository name: repository name should not have a scheme".into()));
    }
    let (host, wanted) = match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => ("docker.io", term),
    };
    let settings = Arc::new(Settings::read(access)?);
    let hub = host == "docker.io" || host == HUB;
    let endpoint = Endpoint::of_host(&settings, if hub { HUB } else { host });
    let endpoint = Endpoint { host: if hub { HUB.to_owned() } else { endpoint.host.clone() }, ..endpoint };
    let registry = Registry::connect(&settings, &endpoint, host, Right::Catalog)?;
    let (count, wanted) = (limit.to_string(), wanted.trim_start_matches("library/"));
    let place = url::with_query(&registry.at("v1/search"), &[("q", wanted), ("n", &count)]);
    let response = Client::new(&settings).get_patiently(&Method::GET, &place, &[])?;
    let mut found = match response.status() {
        status if status.is_success() => {
            let bytes = read_bounded(response, ANSWER, "list of results")?;
            let results: Results = serde_json::from_slice(&bytes)
                .map_err(|cause| Error::untrusted(format!("the registry's list of results is damaged: {cause}")))?;
            results.results.unwrap_or_default()
        }
        StatusCode::NOT_FOUND if !hub => in_catalog(&registry, wanted)?,
        _ => return Err(refusal(response, &Tried::Other(host))),
    };
    found.truncate(limit);
    for one in &mut found {
        one.name = one_line(&one.name);
        one.description = one.description.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if !hub {
            one.name = format!("{host}/{}", one.name.trim_start_matches(&format!("{host}/")));
        }
    }
    Ok(found)
}

fn in_catalog(registry: &Registry, wanted: &str) -> Result<Vec<Found>> {
    let all = registry.catalog()?.into_iter().filter(|name| name.contains(wanted));
    Ok(all.map(|name| Found { name, ..Found::default() }).collect())
}
