//! User names and passwords where Docker and Podman keep them: `config.json` with its `auths`, `credHelpers` and
//! `credsStore`, and Podman's `auth.json`. Reading, and for `login` and `logout` writing.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::helper;
use crate::error::{Error, Result, Step};

/// The name under which Docker's tools keep what is for Docker Hub.
const HUB: &str = "https://index.docker.io/v1/";
/// Larger files are no configuration.
const LARGEST: u64 = 4 << 20;

/// How somebody proves to a registry who he is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or personal access token.
    pub password: String,
    /// OAuth2 refresh token, from which short-lived tokens are got.
    pub identity_token: String,
    /// A token that goes to the registry as it is.
    pub registry_token: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?}, …)", self.username)
    }
}

/// Answers with the credentials for a host.
type Ask = dyn Fn(&str) -> Option<Credentials> + Send + Sync;

/// Somebody who knows credentials, asked with a registry's host (`name[:port]`).
#[derive(Clone)]
pub struct Knower(Arc<Ask>);

impl Knower {
    /// `ask` may block; it runs on the thread that needs the credentials.
    pub fn new(ask: impl Fn(&str) -> Option<Credentials> + Send + Sync + 'static) -> Self {
        Knower(Arc::new(ask))
    }

    pub(super) fn ask(&self, host: &str) -> Option<Credentials> {
        (self.0)(host)
    }
}

impl fmt::Debug for Knower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Knower(…)")
    }
}

/// Where `login` put the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In this file, readable for its owner.
    InFile(PathBuf),
    /// In the care of this helper program.
    ByHelper(String),
    /// Nothing was new.
    AsBefore,
}

/// The files that credentials are in.
#[derive(Clone, Debug)]
pub struct Keyring {
    directory: PathBuf,
}

impl Keyring {
    /// With `config.json` in this directory.
    pub fn new(directory: &Path) -> Self {
        Keyring { directory: directory.to_owned() }
    }

    /// What is known for a repository (`host[:port]/path`, or a host alone).
    pub fn find(&self, name: &str) -> Result<Option<Credentials>> {
        let config = read(&self.file())?;
        if let Some(found) = find_in(&config, name)? {
            return Ok(Some(found));
        }
        for path in podman_files() {
            if let Some(found) = find_in(&read(&path)?, name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Keeps credentials for a registry.
    pub fn keep(&self, host: &str, credentials: &Credentials) -> Result<Kept> {
        let key = key(host);
        let config = read(&self.file())?;
        if let Some(name) = helper_for(&config, host) {
            helper::store(&name, &key, credentials)?;
            let entry = json!({});
            self.change(|config| drop(auths(config).insert(key, entry)))?;
            return Ok(Kept::ByHelper(name));
        }
        if config.get("auths").and_then(|auths| auths.get(&key)).map(|entry| decode(entry, &key)).transpose()?.flatten()
            == Some(credentials.clone())
        {
            return Ok(Kept::AsBefore);
        }
        let mut entry = Map::new();
        let joined = format!("{}:{}", credentials.username, credentials.password);
        entry.insert("auth".into(), BASE64_STANDARD.encode(joined).into());
        if !credentials.identity_token.is_empty() {
            entry.insert("identitytoken".into(), credentials.identity_token.clone().into());
        }
        self.change(|config| drop(auths(config).insert(key, entry.into())))?;
        Ok(Kept::InFile(self.file()))
    }

    /// Forgets what is known for a registry; whether there was something.
    pub fn forget(&self, host: &str) -> Result<bool> {
        let key = key(host);
        let config = read(&self.file())?;
        let keys: Vec<String> =
            entries(&config).filter(|(name, _)| same(name, host)).map(|(name, _)| name.into()).collect();
        let helped = match helper_for(&config, host) {
            Some(name) => helper::erase(&name, &key)?,
            None => false,
        };
        if !keys.is_empty() {
            self.change(|config| keys.iter().for_each(|key| drop(auths(config).shift_remove(key))))?;
        }
        Ok(helped || !keys.is_empty())
    }

    fn file(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    /// Changes the file: nobody else does at the same time, and readers see the old or the new one.
    fn change(&self, change: impl FnOnce(&mut Map<String, Value>)) -> Result<()> {
        let directory = &self.directory;
        std::fs::create_dir_all(directory).step(|| format!("make {}", directory.display()))?;
        let lock = File::open(directory).step(|| format!("open {}", directory.display()))?;
        flock(&lock, FlockOperation::LockExclusive).step(|| format!("lock {}", directory.display()))?;
        // A symbolic link stays one.
        let path = std::fs::canonicalize(self.file()).unwrap_or_else(|_| self.file());
        let mut config = match read(&path)? {
            Value::Object(config) => config,
            _ => Map::new(),
        };
        change(&mut config);
        write(&path, &config)
    }
}

/// The member `auths`, made if need be.
fn auths(config: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let slot = config.entry("auths").or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("it was just made an object"),
    }
}

/// The document; null if there is none.
fn read(path: &Path) -> Result<Value> {
    let what = || format!("read {}", path.display());
    match std::fs::metadata(path) {
        Ok(found) if found.len() > LARGEST => Err("larger than 4 MiB").step(what),
        Ok(_) => {
            let text = std::fs::read(path).step(what)?;
            if text.iter().all(u8::is_ascii_whitespace) {
                return Ok(Value::Null);
            }
            serde_json::from_slice(&text).step(what)
        }
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            Ok(Value::Null)
        }
        Err(error) => Err(error).step(what),
    }
}

/// As Docker writes it: indented by tabs, for its owner alone.
fn write(path: &Path, config: &Map<String, Value>) -> Result<()> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let what = || format!("write {}", path.display());
    config.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter)).step(what)?;
    let fresh = path.with_extension(format!("json.{}", std::process::id()));
    let written = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&fresh)
        .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&fresh, path));
    if written.is_err() {
        // The error says what happened; what is left is only rubbish.
        let _ = std::fs::remove_file(&fresh);
    }
    written.step(what)
}

/// Podman's places, the most special one first.
fn podman_files() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = variable("REGISTRY_AUTH_FILE") {
        return vec![path];
    }
    let home = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    let run = variable("XDG_RUNTIME_DIR");
    let root_run = rustix::process::geteuid().is_root().then(|| PathBuf::from("/run/containers/0/auth.json"));
    let named = [run, home].into_iter().flatten().map(|directory| directory.join("containers/auth.json"));
    named.chain(root_run).collect()
}

fn find_in(config: &Value, name: &str) -> Result<Option<Credentials>> {
    let host = name.split('/').next().unwrap_or(name);
    // A repository's own entry is better than what a helper knows about the host.
    for scope in scopes(name) {
        if let Some((_, entry)) = entries(config).find(|(key, _)| *key == scope)
            && let Some(found) = decode(entry, scope)?
        {
            return Ok(Some(found));
        }
    }
    if let Some(helper) = helper_for(config, host)
        && let Some(found) = helper::get(&helper, &key(host))?
    {
        return Ok(Some(found));
    }
    for (key, entry) in entries(config).filter(|(key, _)| same(key, host)) {
        if let Some(found) = decode(entry, key)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// `host/a/b`, `host/a`: those longer than the host.
fn scopes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |scope| scope.rsplit_once('/').map(|(shorter, _)| shorter))
        .take_while(|scope| scope.contains('/'))
}

fn entries(config: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let auths = config.get("auths").and_then(Value::as_object);
    auths.into_iter().flatten().map(|(key, entry)| (key.as_str(), entry))
}

/// The helper program that `config.json` names for a host.
fn helper_for(config: &Value, host: &str) -> Option<String> {
    let special = config.get("credHelpers").and_then(Value::as_object);
    let special = special.and_then(|map| map.iter().find(|(key, _)| same(key, host))).map(|(_, name)| name);
    let name = special.or_else(|| config.get("credsStore"))?.as_str()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// Whether a key of the file means this host: `https://host/v1/` is an old spelling of `host`.
fn same(key: &str, host: &str) -> bool {
    let plain = |text: &str| {
        let text = text.trim_start_matches("https://").trim_start_matches("http://");
        let name = text.split('/').next().unwrap_or(text).to_ascii_lowercase();
        match name.as_str() {
            "docker.io" | "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
            _ => name,
        }
    };
    let is_host = !key.contains('/') || key.contains("://") || key.ends_with("/v1/") || key.ends_with("/v2/");
    is_host && plain(key) == plain(host)
}

/// The key under which Docker keeps what is for a host.
fn key(host: &str) -> String {
    if same(host, "docker.io") { HUB.to_owned() } else { host.to_owned() }
}

/// One entry; nothing if it is a mere mark that a helper knows more.
fn decode(entry: &Value, key: &str) -> Result<Option<Credentials>> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let mut found = Credentials {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
    };
    let packed = text("auth");
    if !packed.is_empty() {
        let bad = || Error::Invalid(format!("credentials for {key}: `auth` is not base64 of user:password"));
        let plain = BASE64_STANDARD.decode(packed.trim()).map_err(|_| bad())?;
        let plain = String::from_utf8(plain).map_err(|_| bad())?;
        let (username, password) = plain.split_once(':').ok_or_else(bad)?;
        (found.username, found.password) = (username.to_owned(), password.trim_matches('\0').to_owned());
    }
    Ok((found != Credentials::default()).then_some(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Credentials {
        Credentials { username: name.into(), password: "p:w".into(), ..Credentials::default() }
    }

    #[test]
    fn kept_found_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let keyring = Keyring::new(&directory.path().join("new"));
        assert_eq!(keyring.find("r:5000/a/b").unwrap(), None);
        keyring.keep("r:5000", &user("u")).unwrap();
        keyring.keep("docker.io", &user("hub")).unwrap();
        assert_eq!(keyring.find("r:5000/a/b").unwrap(), Some(user("u")));
        assert_eq!(keyring.find("index.docker.io").unwrap(), Some(user("hub")));
        assert_eq!(keyring.find("r/a").unwrap(), None);
        let text = std::fs::read_to_string(keyring.file()).unwrap();
        assert!(text.contains("\t\"auths\"") && text.contains(HUB), "{text}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(keyring.file()).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        assert!(keyring.forget("r:5000").unwrap());
        assert!(!keyring.forget("r:5000").unwrap());
        assert_eq!(keyring.find("r:5000").unwrap(), None);
    }

    #[test]
    fn what_is_not_ours_stays() {
        let directory = tempfile::tempdir().unwrap();
        let keyring = Keyring::new(directory.path());
        std::fs::write(keyring.file(), r#"{"detachKeys":"ctrl-x","auths":{"a":{"auth":"dTpw"}},"x":[1]}"#).unwrap();
        keyring.keep("b", &user("u")).unwrap();
        let value = read(&keyring.file()).unwrap();
        assert_eq!((value["detachKeys"].as_str(), value["x"][0].as_i64()), (Some("ctrl-x"), Some(1)));
        assert_eq!(keyring.find("a").unwrap().unwrap().username, "u");
    }

    #[test]
    fn spellings_of_keys() {
        let config = |key: &str| json!({"auths": {key: {"auth": BASE64_STANDARD.encode("u:p")}}});
        for (key, name, found) in [
            ("https://r.example/v1/", "r.example/x", true),
            ("r.example", "r.example/x", true),
            ("r.example/team", "r.example/team/x", true),
            ("r.example/team", "r.example/other/x", false),
            ("r.example/team", "r.example", false),
            ("https://index.docker.io/v1/", "docker.io/library/x", true),
            ("r.example:5000", "r.example/x", false),
            ("evil.r.example", "r.example/x", false),
        ] {
            assert_eq!(find_in(&config(key), name).unwrap().is_some(), found, "{key} {name}");
        }
        let bad = json!({"auths": {"a": {"auth": "!"}}});
        assert!(find_in(&bad, "a").is_err());
        assert_eq!(find_in(&json!({"auths": {"a": {}}}), "a").unwrap(), None);
        assert!(!format!("{:?}", user("u")).contains("p:w"));
    }
}
