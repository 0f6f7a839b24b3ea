//! `registries.conf` (containers-registries.conf(5), version 2): which names lead where. Mirrors, other locations,
//! registries without TLS, blocked ones, for any prefix of names. What short names mean stands in `short_names`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::short_names::{Mode, ShortNames};
use crate::Reference;
use crate::error::{Error, Result, Step};

/// What all files together say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Conf {
    rules: Vec<Rule>,
    names: ShortNames,
}

/// One `[[registry]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Rule {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
}

/// One `[[registry.mirror]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Mirror {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct FileContent {
    registry: Vec<Rule>,
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<Mode>,
    aliases: BTreeMap<String, String>,
    /// Version 1, which nobody should meet any more.
    registries: Option<toml::Table>,
}

/// A place to look for a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// `host[:port]/path`.
    pub(crate) name: String,
    /// Whether it may come without TLS, or with a certificate that nobody vouches for.
    pub(crate) insecure: bool,
    pub(crate) mirror: bool,
}

impl Conf {
    /// Reads a file and the directory `FILE.d` beside it.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut conf = Conf::default();
        let mut directory = path.as_os_str().to_owned();
        directory.push(".d");
        let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "conf"))
            .collect();
        files.sort();
        for path in [path.to_owned()].into_iter().chain(files) {
            match std::fs::read_to_string(&path) {
                Ok(text) => conf.add(&text).step(|| format!("read {}", path.display()))?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).step(|| format!("read {}", path.display())),
            }
        }
        Ok(conf)
    }

    /// One file alone.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut conf = Conf::default();
        conf.add(text).map(|()| conf)
    }

    /// What a later file says about a prefix replaces what an earlier one said.
    fn add(&mut self, text: &str) -> Result<()> {
        let file: FileContent =
            toml::from_str(text).map_err(|cause| Error::Invalid(cause.to_string().trim().replace('\n', " ")))?;
        if file.registries.is_some() {
            return Err(Error::Invalid("version 1 of registries.conf is not supported".into()));
        }
        for mut rule in file.registry {
            rule.check()?;
            self.rules.retain(|known| known.prefix != rule.prefix);
            self.rules.push(rule);
        }
        self.names.search = file.unqualified_search_registries.unwrap_or(std::mem::take(&mut self.names.search));
        self.names.mode = file.short_name_mode.unwrap_or(self.names.mode);
        self.names.add_aliases(file.aliases)
    }

    /// What a name may mean, best first: never empty.
    pub(crate) fn candidates(&self, name: &str) -> Result<Vec<Reference>> {
        self.names.candidates(name)
    }

    /// Where to look for an image, best place first; an error where it is blocked.
    pub(crate) fn places(&self, reference: &Reference) -> Result<Vec<Place>> {
        let name = reference.name();
        let Some(rule) = self.rule_for(&reference.to_string()) else {
            return Ok(vec![Place { name, insecure: false, mirror: false }]);
        };
        if rule.blocked {
            return Err(Error::Invalid(format!("registry {} is blocked by registries.conf", rule.prefix)));
        }
        let by_digest = reference.digest().is_some();
        let mirrors = rule.mirror.iter().filter(|mirror| mirror.serves(by_digest, rule.mirror_by_digest_only));
        let mut places: Vec<Place> = mirrors
            .map(|mirror| Place {
                name: rule.rewrite(&name, &mirror.location),
                insecure: mirror.insecure,
                mirror: true,
            })
            .collect();
        let name = if rule.location.is_empty() { name } else { rule.rewrite(&name, &rule.location) };
        places.push(Place { name, insecure: rule.insecure, mirror: false });
        Ok(places)
    }

    /// Whether a host may come without TLS.
    pub(crate) fn insecure(&self, host: &str) -> bool {
        let at = |location: &str| location.split('/').next() == Some(host);
        self.rules.iter().any(|rule| {
            (rule.insecure && (at(&rule.location) || (rule.location.is_empty() && rule.matches(host))))
                || rule.mirror.iter().any(|mirror| mirror.insecure && at(&mirror.location))
        })
    }

    /// The rule with the longest prefix of the name.
    fn rule_for(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().filter(|rule| rule.matches(name)).max_by_key(|rule| rule.prefix.len())
    }
}

impl Rule {
    fn check(&mut self) -> Result<()> {
        for text in
            [&mut self.prefix, &mut self.location].into_iter().chain(self.mirror.iter_mut().map(|m| &mut m.location))
        {
            *text = text.trim_end_matches('/').to_owned();
            if text.contains("://") {
                return Err(Error::Invalid(format!("{text:?}: want host/path without http:// or https://")));
            }
        }
        if self.prefix.is_empty() {
            self.prefix.clone_from(&self.location);
        }
        if self.prefix.is_empty() {
            return Err(Error::Invalid("a [[registry]] without prefix and location".into()));
        }
        if self.mirror.iter().any(|mirror| mirror.location.is_empty()) {
            return Err(Error::Invalid(format!("a mirror of {} without location", self.prefix)));
        }
        let words = ["", "all", "digest-only", "tag-only"];
        match self.mirror.iter().find(|mirror| !words.contains(&mirror.pull_from_mirror.as_str())) {
            Some(bad) => Err(Error::Invalid(format!("unknown pull-from-mirror {:?}", bad.pull_from_mirror))),
            None => Ok(()),
        }
    }

    /// Whether the name begins with the prefix, at a boundary. `*.domain` matches every host below.
    fn matches(&self, name: &str) -> bool {
        if let Some(domain) = self.prefix.strip_prefix('*') {
            let host = name.split(['/', ':', '@']).next().unwrap_or(name);
            let port_too = name.split('/').next().unwrap_or(name);
            return host.ends_with(domain) || port_too.ends_with(domain);
        }
        name.strip_prefix(&self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
    }

    /// The name with the prefix replaced by a location.
    fn rewrite(&self, name: &str, location: &str) -> String {
        let rest = match self.prefix.starts_with('*') {
            true => name.find('/').map_or("", |slash| &name[slash..]),
            // The prefix may be longer than the name: then it had the tag in it.
            false => name.get(self.prefix.len()..).unwrap_or(""),
        };
        format!("{location}{rest}")
    }
}

impl Mirror {
    fn serves(&self, by_digest: bool, digest_only: bool) -> bool {
        match self.pull_from_mirror.as_str() {
            "digest-only" => by_digest,
            "tag-only" => !by_digest,
            _ => by_digest || !digest_only,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn conf(text: &str) -> Conf {
        let mut conf = Conf::default();
        conf.add(text).unwrap();
        conf
    }

    fn places(conf: &Conf, name: &str) -> Vec<String> {
        let reference: Reference = name.parse().unwrap();
        conf.places(&reference).unwrap().into_iter().map(|place| place.name).collect()
    }

    #[test]
    fn mirrors_and_locations() {
        let conf = conf(
            r#"
            [[registry]]
            prefix = "docker.io"
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.local:5000/hub"
            insecure = true
            [[registry.mirror]]
            location = "digests.local"
            pull-from-mirror = "digest-only"
            [[registry]]
            prefix = "a.example/team"
            location = "b.example/other"
            [[registry]]
            prefix = "*.corp.example"
            insecure = true
            "#,
        );
        assert_eq!(places(&conf, "busybox"), ["mirror.local:5000/hub/library/busybox", "docker.io/library/busybox"]);
        let pinned = format!("busybox@{DIGEST}");
        assert_eq!(places(&conf, &pinned)[1], "digests.local/library/busybox");
        assert_eq!(places(&conf, "a.example/team/x:1"), ["b.example/other/x"]);
        assert_eq!(places(&conf, "a.example/teamwork/x"), ["a.example/teamwork/x"]);
        assert_eq!(places(&conf, "r.corp.example/x"), ["r.corp.example/x"]);
        assert!(conf.insecure("r.corp.example") && conf.insecure("mirror.local:5000"));
        assert!(!conf.insecure("b.example") && !conf.insecure("docker.io"));
        assert!(conf.places(&"r.corp.example/x".parse().unwrap()).unwrap()[0].insecure);
    }

    #[test]
    fn the_longest_prefix_and_the_last_file_decide() {
        let mut conf = conf("[[registry]]\nprefix='a.b'\nblocked=true\n[[registry]]\nprefix='a.b/ok'\n");
        assert!(conf.places(&"a.b/x".parse().unwrap()).unwrap_err().to_string().contains("blocked"));
        assert_eq!(places(&conf, "a.b/ok/x"), ["a.b/ok/x"]);
        conf.add("[[registry]]\nprefix='a.b'\n").unwrap();
        assert_eq!(places(&conf, "a.b/x"), ["a.b/x"]);
    }

    #[test]
    fn malformed_files() {
        for bad in [
            "[[registry]]\n",
            "[[registry]]\nlocation='https://x'\n",
            "[[registry]]\nlocation='x'\n[[registry.mirror]]\ninsecure=true\n",
            "[[registry]]\nlocation='x'\n[[registry.mirror]]\nlocation='y'\npull-from-mirror='never'\n",
            "[registries.search]\nregistries=['x']\n",
            "nonsense",
        ] {
            assert!(Conf::default().add(bad).is_err(), "{bad}");
        }
    }
}
