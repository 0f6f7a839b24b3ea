//! What requests that lead to a registry have in common: the client's credentials, and the platform that it wants.

use std::collections::HashMap;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use engine::Credentials;
use hyper::StatusCode;
use image::{Access, Knower};
use serde::Deserialize;
use serde_json::json;

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;

/// Where the server's own settings for registries are: those of the user who runs it are not its clients'.
const SETTINGS: &str = "/etc/kiste";

/// Docker's clients write base64 for URLs, with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Docker's `AuthConfig`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct AuthConfig {
    username: String,
    password: String,
    auth: String,
    serveraddress: String,
    identitytoken: String,
    registrytoken: String,
}

impl AuthConfig {
    fn credentials(self) -> Option<Credentials> {
        let (mut username, mut password) = (self.username, self.password);
        if username.is_empty()
            && let Some((name, word)) = decode(&self.auth.replace('+', "-").replace('/', "_"))
                .and_then(|bytes| String::from_utf8(bytes).ok()?.split_once(':').map(|(a, b)| (a.into(), b.into())))
        {
            (username, password) = (name, word);
        }
        let credentials =
            Credentials { username, password, identity_token: self.identitytoken, registry_token: self.registrytoken };
        (credentials != Credentials::default()).then_some(credentials)
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// How the registry is asked: with the credentials of `X-Registry-Auth`, which is passed over if it is malformed, as
/// with Docker.
pub(crate) fn access(request: &Request) -> Access {
    let header = request.headers.get("x-registry-auth").and_then(|value| decode(value.to_str().ok()?));
    let given: Option<AuthConfig> = header.and_then(|json| serde_json::from_slice(&json).ok());
    Access { config: Some(SETTINGS.into()), credentials: given.and_then(AuthConfig::credentials), ..Access::default() }
}

/// How the registries of a build are asked: with the credentials that `X-Registry-Config` has for each.
pub(crate) fn access_of_all(request: &Request) -> Access {
    let header = request.headers.get("x-registry-config").and_then(|value| decode(value.to_str().ok()?));
    let given: HashMap<String, AuthConfig> =
        header.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
    let known = given.into_iter().filter_map(|(name, config)| Some((host(&name), config.credentials()?)));
    let known: HashMap<String, Credentials> = known.collect();
    let knower = Knower::new(move |name| known.get(&host(name)).cloned());
    Access { config: Some(SETTINGS.into()), knower: Some(knower), ..Access::default() }
}

/// The registry that a key of credentials is about: `https://index.docker.io/v1/` and its like are Docker's own.
fn host(key: &str) -> String {
    let name = key.split_once("://").map_or(key, |(_, rest)| rest);
    match name.split('/').next().unwrap_or_default() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    }
}

/// `platform` as a JSON document (`{"os":…,"architecture":…,"variant":…}`), as `os/arch[/variant]`.
pub(crate) fn platform(request: &Request) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Platform {
        os: String,
        architecture: String,
        #[serde(default)]
        variant: String,
    }
    let Some(text) = request.text("platform") else { return Ok(None) };
    if !text.starts_with('{') {
        return Ok(Some(text.to_owned()));
    }
    let platform: Platform = serde_json::from_str(text)
        .map_err(|error| Failure::bad_request(format!("failed to parse platform: {error}")))?;
    let parts = [platform.os, platform.architecture, platform.variant];
    Ok(Some(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")))
}

/// `POST /auth`: checks credentials with a registry.
pub(crate) async fn log_in(request: &mut Request, served: &Served) -> Result<Reply> {
    let given: AuthConfig = request.json().await?;
    let host = given.serveraddress.trim_start_matches("https://").trim_start_matches("http://");
    let host = host.split('/').next().unwrap_or_default();
    let host = if host.is_empty() { "index.docker.io".to_owned() } else { host.to_owned() };
    let access = Access { config: Some(SETTINGS.into()), credentials: given.credentials(), ..Access::default() };
    let token = served.engines.run(move |engine| engine.log_in(&host, &access)).await;
    let token = token.map_err(|failure| match failure.status {
        StatusCode::FORBIDDEN => Failure { status: StatusCode::UNAUTHORIZED, ..failure },
        _ => failure,
    })?;
    reply::ok(&json!({ "Status": "Login Succeeded", "IdentityToken": token.unwrap_or_default() }))
}

/// `GET /distribution/{name}/json`: what the registry has under a name.
pub(crate) async fn distribution(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let (name, access) = (name.to_owned(), access(request));
    let found = served.engines.run(move |engine| engine.distribution(&name, &access)).await?;
    reply::ok(&json!({
        "Descriptor": { "mediaType": found.media_type, "digest": found.digest, "size": found.size },
        "Platforms": found.platforms,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_in_three_shapes() {
        let read = |json: &str| serde_json::from_str::<AuthConfig>(json).unwrap().credentials();
        assert_eq!(read(r#"{"username":"a","password":"b"}"#).unwrap().password, "b");
        assert_eq!(read(r#"{"auth":"YTpi"}"#).unwrap().username, "a");
        assert_eq!(read(r#"{"identitytoken":"t"}"#).unwrap().identity_token, "t");
        assert!(read("{}").is_none());
        assert_eq!(host("https://index.docker.io/v1/"), host("docker.io"));
        assert_eq!(host("localhost:5000"), "localhost:5000");
        assert_eq!(decode("e30").unwrap(), b"{}");
        assert_eq!(decode("e30=").unwrap(), b"{}");
    }
}
