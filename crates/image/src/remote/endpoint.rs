//! From a reference to the places where its image may be: mirrors first, by the rules of `registries.conf`.

use super::access::Settings;
use crate::Reference;
use crate::error::Result;

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `name[:port]` to connect to.
    pub(crate) host: String,
    /// The repository there.
    pub(crate) path: String,
    /// `host/path` under which credentials for it are kept.
    pub(crate) name: String,
    /// Whether it may come without TLS, or with a certificate that nobody vouches for.
    pub(crate) insecure: bool,
    pub(crate) mirror: bool,
}

impl Endpoint {
    /// Where to pull from, best place first.
    pub(crate) fn for_pull(settings: &Settings, reference: &Reference) -> Result<Vec<Self>> {
        let places = settings.conf.places(reference)?;
        places
            .into_iter()
            .map(|place| {
                let located: Reference = place.name.parse()?;
                Ok(Endpoint::at(settings, &located, place.insecure, place.mirror))
            })
            .collect()
    }

    /// Where to push to: mirrors only copy.
    pub(crate) fn for_push(settings: &Settings, reference: &Reference) -> Result<Self> {
        let mut all = Endpoint::for_pull(settings, reference)?;
        let last = all.pop();
        Ok(last.unwrap_or_else(|| Endpoint::at(settings, reference, false, false)))
    }

    /// The registry itself, whatever the repository.
    pub(crate) fn of_host(settings: &Settings, host: &str) -> Self {
        let (host, domain) = (connect_to(host), host.to_owned());
        Endpoint { insecure: settings.insecure(&host), host, path: String::new(), name: domain, mirror: false }
    }

    fn at(settings: &Settings, located: &Reference, insecure: bool, mirror: bool) -> Self {
        let host = connect_to(located.domain());
        Endpoint {
            insecure: insecure || settings.insecure(&host),
            host,
            path: located.path().to_owned(),
            name: located.name(),
            mirror,
        }
    }
}

/// Docker Hub is reached under another name.
fn connect_to(domain: &str) -> String {
    match domain {
        "docker.io" | "index.docker.io" => "registry-1.docker.io".to_owned(),
        other => other.to_owned(),
    }
}
