//! Names without a registry (containers-registries.conf(5), *short-name aliasing*). Where `registries.conf` says nothing
//! about them they are Docker Hub's, as Docker's users expect; what it says is followed without asking anybody.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Reference;
use crate::error::{Error, Result};
use crate::reference::{has_registry, split_name};

/// What to do with a name that is in several registries' reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// The name must say which registry it means.
    Enforcing,
    /// The registries are tried in their order.
    #[default]
    Permissive,
    /// The same; Podman would not ask.
    Disabled,
}

/// The settings for short names of all files together.
#[derive(Clone, Debug, Default)]
pub(super) struct ShortNames {
    pub(super) aliases: BTreeMap<String, String>,
    pub(super) search: Vec<String>,
    pub(super) mode: Mode,
}

impl ShortNames {
    /// Adds a later file's aliases, which replace earlier ones; an empty one takes an alias away.
    pub(super) fn add_aliases(&mut self, aliases: BTreeMap<String, String>) -> Result<()> {
        for (name, target) in aliases {
            let (plain, suffix) = split_name(&name);
            if has_registry(plain) || !suffix.is_empty() {
                return Err(Error::Invalid(format!("alias {name:?}: want a name without registry, tag and digest")));
            }
            if target.is_empty() {
                self.aliases.remove(&name);
                continue;
            }
            let (plain, suffix) = split_name(&target);
            if !has_registry(plain) || !suffix.is_empty() || target.parse::<Reference>().is_err() {
                let text = format!("alias {name:?}: {target:?} is no name with a registry and without tag and digest");
                return Err(Error::Invalid(text));
            }
            self.aliases.insert(name, target);
        }
        Ok(())
    }

    /// What a name may mean, best first: never empty.
    pub(super) fn candidates(&self, text: &str) -> Result<Vec<Reference>> {
        let asked: Reference = text.parse()?;
        let (name, suffix) = split_name(text);
        if has_registry(name) {
            return Ok(vec![asked]);
        }
        if let Some(target) = self.aliases.get(name) {
            return Ok(vec![format!("{target}{suffix}").parse()?]);
        }
        match &self.search[..] {
            [] => Ok(vec![asked]),
            [_, _, ..] if self.mode == Mode::Enforcing => Err(Error::Invalid(format!(
                "{name} may be in {}: name the registry, or give an alias (short-name-mode is \"enforcing\")",
                self.search.join(", ")
            ))),
            search => search.iter().map(|registry| format!("{registry}/{text}").parse()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(search: &[&str], mode: Mode) -> ShortNames {
        let mut names =
            ShortNames { search: search.iter().map(|&one| one.to_owned()).collect(), mode, ..ShortNames::default() };
        let aliases = [("fedora", "registry.example/f/fedora"), ("team/app", "other.example/app")];
        names.add_aliases(aliases.map(|(name, target)| (name.to_owned(), target.to_owned())).into()).unwrap();
        names
    }

    fn candidates(names: &ShortNames, text: &str) -> String {
        names.candidates(text).unwrap().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_names_mean() {
        let none = names(&[], Mode::Permissive);
        let two = names(&["a.example", "docker.io"], Mode::Disabled);
        for (names, text, meant) in [
            (&none, "busybox:1", "docker.io/library/busybox:1"),
            (&none, "fedora:40", "registry.example/f/fedora:40"),
            (&two, "busybox", "a.example/busybox docker.io/library/busybox"),
            (&two, "team/app:x", "other.example/app:x"),
            (&two, "team/application", "a.example/team/application docker.io/team/application"),
            (&two, "localhost/x", "localhost/x"),
            (&two, "docker.io/busybox", "docker.io/library/busybox"),
        ] {
            assert_eq!(candidates(names, text), meant, "{text}");
        }
        let strict = names(&["a.example", "b.example"], Mode::Enforcing);
        assert!(strict.candidates("busybox").unwrap_err().to_string().contains("may be in a.example, b.example"));
        assert_eq!(candidates(&strict, "fedora"), "registry.example/f/fedora");
        assert_eq!(candidates(&names(&["a.example"], Mode::Enforcing), "x/y"), "a.example/x/y");
    }

    #[test]
    fn bad_aliases() {
        let mut names = names(&[], Mode::Permissive);
        for (name, target) in [("a.b/c", "d.e/f"), ("x:1", "d.e/f"), ("x", "d/f"), ("x", "d.e/f:1"), ("x", "d.e/F")] {
            assert!(names.add_aliases([(name.to_owned(), target.to_owned())].into()).is_err(), "{name} {target}");
        }
        names.add_aliases([("fedora".to_owned(), String::new())].into()).unwrap();
        assert_eq!(candidates(&names, "fedora"), "docker.io/library/fedora");
    }
}
