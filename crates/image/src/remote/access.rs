//! Who asks registries, and the settings of this machine and user that decide how: credentials, certificates,
//! `registries.conf`.

use std::path::{Path, PathBuf};

use super::certs::Trust;
use super::conf::Conf;
use super::credentials::{Credentials, Keyring, Knower};
use super::dns::is_loopback;
use crate::Reference;
use crate::error::Result;

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Directory of the user's `config.json`; by default `$DOCKER_CONFIG`, else `~/.docker`.
    pub config: Option<PathBuf>,
    /// Credentials for this request alone, instead of those that are kept.
    pub credentials: Option<Credentials>,
    /// Who is asked before those that are kept: a client that has credentials for several registries.
    pub knower: Option<Knower>,
    /// `registries.conf`, instead of that of the user or the machine.
    pub registries: Option<PathBuf>,
    /// `policy.json`, instead of that of the user or the machine.
    pub policy: Option<PathBuf>,
}

impl Access {
    /// The user's credentials.
    pub fn keyring(&self) -> Keyring {
        Keyring::new(&self.directory())
    }

    /// Where `config.json` and its neighbours are.
    pub(crate) fn directory(&self) -> PathBuf {
        let default = || variable("DOCKER_CONFIG").unwrap_or(variable("HOME").unwrap_or_default().join(".docker"));
        self.config.clone().unwrap_or_else(default)
    }
}

/// Everything that decides how registries are asked, read once.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) conf: Conf,
    keyring: Keyring,
    given: Option<Credentials>,
    knower: Option<Knower>,
    certs: Vec<PathBuf>,
    /// What says which images may come in.
    pub(crate) policy: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn read(access: &Access) -> Result<Self> {
        let places = ["/etc/kiste/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"];
        let own = access.directory().join("certs.d");
        let conf = access.registries.clone().or_else(registries_conf);
        Ok(Settings {
            conf: conf.map_or_else(|| Ok(Conf::default()), |path| Conf::read(&path))?,
            policy: access.policy.clone().or_else(policy),
            keyring: access.keyring(),
            given: access.credentials.clone(),
            knower: access.knower.clone(),
            certs: [own].into_iter().chain(places.map(PathBuf::from)).collect(),
        })
    }

    /// What a name may mean, by the settings of the machine and the user: besides what it means to Docker.
    pub(crate) fn other_meanings(name: &str) -> Vec<Reference> {
        // Settings that are damaged are found by whoever pulls.
        let conf = registries_conf().and_then(|path| Conf::read(&path).ok());
        conf.and_then(|conf| conf.candidates(name).ok()).unwrap_or_default()
    }

    /// The same for registries besides the one that the request is about: what was given for that one is not theirs.
    pub(crate) fn for_others(&self) -> Self {
        Settings { given: None, ..self.clone() }
    }

    /// What to prove to a repository (`host[:port]/path`) who we are with. Those given for one request are for the
    /// registry that was asked for, not for its mirrors.
    pub(crate) fn credentials(&self, name: &str, mirror: bool) -> Result<Option<Credentials>> {
        if let Some(given) = self.given.as_ref().filter(|_| !mirror) {
            return Ok(Some(given.clone()).filter(|given| *given != Credentials::default()));
        }
        let host = name.split('/').next().unwrap_or(name);
        match self.knower.as_ref().and_then(|knower| knower.ask(host)) {
            Some(known) => Ok(Some(known)),
            None => self.keyring.find(name),
        }
    }

    /// The certificates for a host (`name[:port]`).
    pub(crate) fn trust(&self, host: &str) -> Result<Trust> {
        let directory = self.certs.iter().map(|place| place.join(host)).find(|place| place.is_dir());
        directory.map_or_else(|| Ok(Trust::default()), |directory| Trust::read(&directory))
    }

    /// Whether a host needs to prove nothing: one on this machine, or one that the settings name.
    pub(crate) fn insecure(&self, host: &str) -> bool {
        is_loopback(without_port(host)) || self.conf.insecure(host)
    }
}

/// `name:port` → `name`.
pub(crate) fn without_port(host: &str) -> &str {
    host.rsplit_once(':').filter(|_| !host.ends_with(']')).map_or(host, |(name, _)| name)
}

/// The first `registries.conf` that exists.
fn registries_conf() -> Option<PathBuf> {
    variable("CONTAINERS_REGISTRIES_CONF").or_else(|| places("registries.conf").find(|path| exists(path)))
}

/// The first `policy.json` that exists.
pub(crate) fn policy() -> Option<PathBuf> {
    variable("KISTE_SIGNATURE_POLICY").or_else(|| places("policy.json").find(|path| path.exists()))
}

/// Where a file of settings may be, the user's before the machine's.
fn places(name: &str) -> impl Iterator<Item = PathBuf> {
    let home = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    let user = home.map(|home| home.join("containers"));
    let machine = ["/etc/kiste", "/etc/containers"].map(PathBuf::from);
    user.into_iter().chain(machine).map(move |directory| directory.join(name))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn exists(path: &Path) -> bool {
    let mut directory = path.as_os_str().to_owned();
    directory.push(".d");
    path.is_file() || Path::new(&directory).is_dir()
}
