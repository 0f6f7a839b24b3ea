//! Credential helpers: programs called `docker-credential-NAME` that keep passwords elsewhere
//! (github.com/docker/docker-credential-helpers, README, *Development*).

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::json;

use super::credentials::Credentials;
use crate::error::{Error, Result, Step};

/// Longest answer.
const ANSWER: u64 = 1 << 20;
/// The user name that says that the secret is an identity token.
const TOKEN: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// What a helper knows.
pub(crate) fn get(name: &str, key: &str) -> Result<Option<Credentials>> {
    let Some(text) = call(name, "get", key.as_bytes())? else { return Ok(None) };
    let answer: Answer = serde_json::from_slice(&text).step(|| format!("answer of docker-credential-{name}"))?;
    if answer.username.is_empty() && answer.secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(match answer.username.as_str() {
        TOKEN => Credentials { identity_token: answer.secret, ..Credentials::default() },
        _ => Credentials { username: answer.username, password: answer.secret, ..Credentials::default() },
    }))
}

/// Gives a helper something to keep.
pub(crate) fn store(name: &str, key: &str, credentials: &Credentials) -> Result<()> {
    let (username, secret) = match credentials.identity_token.as_str() {
        "" => (credentials.username.as_str(), credentials.password.as_str()),
        token => (TOKEN, token),
    };
    let text = json!({"ServerURL": key, "Username": username, "Secret": secret}).to_string();
    call(name, "store", text.as_bytes()).map(drop)
}

/// Makes a helper forget; whether it knew.
pub(crate) fn erase(name: &str, key: &str) -> Result<bool> {
    Ok(call(name, "erase", key.as_bytes())?.is_some())
}

/// Runs a helper; nothing if it says that it knows nothing.
fn call(name: &str, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>> {
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(Error::Invalid(format!("malformed name of a credential helper: {name:?}")));
    }
    let program = format!("docker-credential-{name}");
    let what = || format!("run {program} {verb}");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .step(what)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says so by its exit code.
        let _ = stdin.write_all(input);
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER).read_to_end(&mut output).step(what)?;
    }
    if child.wait().step(what)?.success() {
        return Ok(Some(output));
    }
    let said = String::from_utf8_lossy(&output);
    if said.contains("credentials not found in native keychain") {
        return Ok(None);
    }
    Err(said.lines().next().unwrap_or("it failed").trim().to_owned()).step(what)
}
