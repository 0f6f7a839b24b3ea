//! A registry's error answers in Docker's words.

use std::io::Read;

use serde::Deserialize;
use ureq::Body;
use ureq::http::{Response, StatusCode};

use super::http::stream;
use crate::error::Error;

#[derive(Deserialize)]
struct Failures {
    #[serde(default)]
    errors: Vec<Failure>,
}

#[derive(Default, Deserialize)]
struct Failure {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What was tried, for the message.
pub(crate) enum Tried<'t> {
    /// To read something of the repository.
    Pull(&'t str),
    /// To read a manifest by tag or digest.
    Manifest(&'t str, &'t str),
    /// To write to the repository.
    Push(&'t str),
    /// Something else, with the name of the place.
    Other(&'t str),
}

/// The error for an answer that is no success.
pub(crate) fn refusal(response: Response<Body>, tried: &Tried<'_>) -> Error {
    let status = response.status();
    let mut bytes = Vec::new();
    // A body that cannot be read only makes the message poorer.
    let _ = stream(response).take(64 << 10).read_to_end(&mut bytes);
    let failures = serde_json::from_slice(&bytes).map_or_else(|_| Vec::new(), |found: Failures| found.errors);
    let first = failures.into_iter().next().unwrap_or_default();
    let detail = match first.code.as_str() {
        "" => status.to_string(),
        code => format!("{}: {}", code.to_lowercase().replace('_', " "), one_line(&first.message)),
    };
    let forbidden = matches!(first.code.as_str(), "DENIED" | "UNAUTHORIZED")
        || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    Error::Refused(match *tried {
        Tried::Push(_) if forbidden => detail,
        Tried::Pull(name) | Tried::Manifest(name, _) if forbidden => {
            format!("pull access denied for {name}, repository does not exist or may require 'docker login': {detail}")
        }
        Tried::Pull(name) | Tried::Manifest(name, _) if first.code == "NAME_UNKNOWN" => {
            format!("repository {name} not found: {detail}")
        }
        Tried::Manifest(name, tag) if first.code == "MANIFEST_UNKNOWN" || status == StatusCode::NOT_FOUND => {
            let separator = if tag.contains(':') { '@' } else { ':' };
            format!("manifest for {name}{separator}{tag} not found: {detail}")
        }
        Tried::Pull(name) | Tried::Manifest(name, _) | Tried::Push(name) | Tried::Other(name) => {
            format!("registry of {name}: {detail}")
        }
    })
}

/// A registry's words without anything that could disturb a terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str, tried: &Tried<'_>) -> String {
        let body = Body::builder().data(body.to_owned());
        refusal(Response::builder().status(status).body(body).unwrap(), tried).to_string()
    }

    #[test]
    fn words() {
        let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest\nunknown"}]}"#;
        assert_eq!(
            said(404, unknown, &Tried::Manifest("r/x", "1")),
            "manifest for r/x:1 not found: manifest unknown: manifest unknown"
        );
        assert!(said(403, "<html>", &Tried::Pull("r/x")).starts_with("pull access denied for r/x"));
        assert_eq!(said(500, "", &Tried::Push("r/x")), "registry of r/x: 500 Internal Server Error");
        assert_eq!(one_line("a\nb\x1b[2J"), "a b [2J");
    }
}
