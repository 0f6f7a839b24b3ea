//! Proving who we are: passwords to the registry itself, or tokens from the authority that it names (distribution's token
//! and OAuth2 specifications). Secrets go to nobody else, and to an authority elsewhere only over TLS.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use ureq::http::{Method, Uri, header};

use super::access::without_port;
use super::challenge::{Bearer, Challenge};
use super::credentials::Credentials;
use super::dns::is_loopback;
use super::http::{Client, Payload, read_bounded};
use super::refusal::{Tried, refusal};
use super::url;
use crate::error::{Error, Result};

/// Bytes of a token's answer.
const ANSWER: u64 = 1 << 20;
/// As what we ask for tokens.
const CLIENT: &str = "kiste";

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

/// Our standing with one registry.
pub(crate) struct Authority {
    /// `http(s)://host[:port]` of the registry.
    registry: Uri,
    credentials: Option<Credentials>,
    /// `Authorization` values by what they are good for.
    known: Mutex<HashMap<String, String>>,
}

impl Authority {
    pub(crate) fn new(registry: Uri, credentials: Option<Credentials>) -> Self {
        Authority { registry, credentials, known: Mutex::default() }
    }

    /// The `Authorization` that is good for these scopes, if there is one already.
    pub(crate) fn header(&self, scopes: &str) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(scopes).or_else(|| known.get(EVERYTHING)).cloned()
    }

    /// Meets a challenge of the registry; `used` is what it refused. Nothing: there is no way to meet it.
    pub(crate) fn meet(
        &self,
        client: &Client,
        challenge: &Challenge,
        scopes: &str,
        used: Option<&str>,
    ) -> Result<Option<String>> {
        // Another thread may have renewed an expired token meanwhile.
        if let Some(fresh) = self.header(scopes).filter(|fresh| Some(fresh.as_str()) != used) {
            return Ok(Some(fresh));
        }
        let given = self.credentials.as_ref();
        let (key, header) = match challenge {
            Challenge::Basic => match given.filter(|given| !given.username.is_empty()) {
                Some(given) => (EVERYTHING, basic(given)),
                None => return Err(Error::Refused("no basic auth credentials".into())),
            },
            Challenge::Bearer(_) if given.is_some_and(|given| !given.registry_token.is_empty()) => {
                (EVERYTHING, format!("Bearer {}", given.map_or("", |given| &given.registry_token)))
            }
            Challenge::Bearer(bearer) => (scopes, format!("Bearer {}", self.token(client, bearer, scopes)?)),
        };
        if Some(header.as_str()) == used {
            return Ok(None);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key.to_owned(), header.clone());
        Ok(Some(header))
    }

    /// A refresh token for `login`, if the authority gives any.
    pub(crate) fn refresh_token(&self, client: &Client, bearer: &Bearer) -> Result<Option<String>> {
        let realm = self.realm(bearer)?;
        let answer = self.ask(client, &realm, bearer, &[], true)?;
        Ok(answer.refresh_token.filter(|token| !token.is_empty()))
    }

    fn token(&self, client: &Client, bearer: &Bearer, scopes: &str) -> Result<String> {
        let realm = self.realm(bearer)?;
        let mut all: Vec<&str> = scopes.split_whitespace().collect();
        all.extend(
            bearer.scope.split_whitespace().filter(|more| !scopes.split_whitespace().any(|one| covers(one, more))),
        );
        let answer = match self.credentials.as_ref().map(|given| given.identity_token.as_str()) {
            Some(refresh) if !refresh.is_empty() && self.may_know(&realm) => {
                self.exchange(client, &realm, bearer, &all, refresh)?
            }
            _ => self.ask(client, &realm, bearer, &all, false)?,
        };
        let token = answer.token.or(answer.access_token).filter(|token| is_header_value(token));
        token.ok_or_else(|| self.bad("the authority's answer has no token"))
    }

    /// The authority that the registry names. A registry with TLS cannot send us to one without.
    fn realm(&self, bearer: &Bearer) -> Result<Uri> {
        let realm = url::parse(&bearer.realm)
            .map_err(|cause| self.bad(&format!("the registry names a bad authority: {cause}")))?;
        if realm.scheme_str() != Some("https") && self.registry.scheme_str() == Some("https") {
            return Err(self.bad(&format!("the registry names an authority without https: {}", url::shown(&realm))));
        }
        Ok(realm)
    }

    /// Whether the authority may see our secrets: over TLS, or where the registry itself is.
    fn may_know(&self, realm: &Uri) -> bool {
        let (here, there) = (self.registry.host().unwrap_or(""), realm.host().unwrap_or(""));
        realm.scheme_str() == Some("https") || here == there || (is_loopback(here) && is_loopback(there))
    }

    /// GET, with the password if there is one.
    fn ask(&self, client: &Client, realm: &Uri, bearer: &Bearer, scopes: &[&str], offline: bool) -> Result<Token> {
        let given = self.credentials.as_ref().filter(|given| !given.username.is_empty() && self.may_know(realm));
        let mut query: Vec<(&str, &str)> = Vec::new();
        if !bearer.service.is_empty() {
            query.push(("service", &bearer.service));
        }
        query.extend(scopes.iter().map(|scope| ("scope", *scope)));
        query.extend(given.map(|given| ("account", given.username.as_str())));
        if offline {
            query.extend([("client_id", CLIENT), ("offline_token", "true")]);
        }
        let authorization = given.map(basic);
        let headers: Vec<_> = authorization.iter().map(|value| (header::AUTHORIZATION, value.as_str())).collect();
        let response = client.get_patiently(&Method::GET, &url::with_query(&realm.to_string(), &query), &headers)?;
        self.read(response)
    }

    /// POST, with the refresh token.
    fn exchange(&self, client: &Client, realm: &Uri, bearer: &Bearer, scopes: &[&str], refresh: &str) -> Result<Token> {
        let scope = scopes.join(" ");
        let form = [
            ("grant_type", "refresh_token"),
            ("service", bearer.service.as_str()),
            ("client_id", CLIENT),
            ("scope", &scope),
            ("refresh_token", refresh),
        ];
        let form = url::with_query("", &form);
        let headers = [(header::CONTENT_TYPE, "application/x-www-form-urlencoded")];
        let body = Payload::Bytes(form.trim_start_matches('?').as_bytes());
        self.read(client.change(&Method::POST, realm, &headers, body)?)
    }

    fn read(&self, response: ureq::http::Response<ureq::Body>) -> Result<Token> {
        if !response.status().is_success() {
            return Err(refusal(response, &Tried::Pull(self.name())));
        }
        let bytes = read_bounded(response, ANSWER, "token")?;
        serde_json::from_slice(&bytes).map_err(|cause| self.bad(&format!("the authority's answer is damaged: {cause}")))
    }

    fn name(&self) -> &str {
        self.registry.authority().map_or("", |authority| authority.as_str())
    }

    fn bad(&self, why: &str) -> Error {
        Error::Registry(format!("token for {}: {why}", without_port(self.name())))
    }
}

/// Key of what is good for every scope.
const EVERYTHING: &str = "";

fn basic(given: &Credentials) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", given.username, given.password)))
}

/// Whether the scope `repository:x:pull,push` grants what `repository:x:pull` asks for.
fn covers(one: &str, asked: &str) -> bool {
    match (one.rsplit_once(':'), asked.rsplit_once(':')) {
        (Some((name, granted)), Some((other, wanted))) if name == other => {
            wanted.split(',').all(|word| granted.split(',').any(|have| have == word))
        }
        _ => one == asked,
    }
}

fn is_header_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(registry: &str) -> Authority {
        let user = Credentials { username: "u".into(), password: "p".into(), ..Credentials::default() };
        Authority::new(registry.parse().unwrap(), Some(user))
    }

    #[test]
    fn who_may_be_an_authority() {
        let to = |registry: &str, realm: &str| {
            let bearer = Bearer { realm: realm.into(), ..Bearer::default() };
            let authority = authority(registry);
            authority.realm(&bearer).map(|realm| authority.may_know(&realm))
        };
        assert!(to("https://r.example", "https://auth.example/token").unwrap());
        assert!(to("http://r.example", "http://r.example:81/token").unwrap());
        assert!(to("http://127.0.0.1:5000", "http://localhost:5001/token").unwrap());
        assert!(!to("http://r.example", "http://evil.example/token").unwrap());
        for bad in ["http://auth.example/token", "file:///etc/shadow", "ftp://x/", "//x", "", "https://u:p@x/"] {
            assert!(to("https://r.example", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn scopes() {
        assert!(covers("repository:x:pull,push", "repository:x:pull"));
        assert!(!covers("repository:x:pull", "repository:x:pull,push"));
        assert!(!covers("repository:x:pull", "repository:y:pull"));
        assert!(covers("registry:catalog:*", "registry:catalog:*"));
    }
}
