//! Flags of instructions (`--from=…`): which are known, and their values.

use crate::error::suggestion;
use crate::{Error, Result};

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Bool,
    Text,
    Texts,
}

/// The flags that were given.
#[derive(Debug, Default)]
pub(super) struct Flags(Vec<(&'static str, String)>);

impl Flags {
    /// Checks the written flags against the known ones.
    pub(super) fn parse(written: &[String], known: &[(&'static str, Kind)]) -> Result<Self> {
        let mut flags = Flags::default();
        for flag in written {
            let (dashed, value) = flag.split_once('=').map_or((flag.as_str(), None), |(n, v)| (n, Some(v)));
            let name = dashed.trim_start_matches("--");
            let Some((name, kind)) = known.iter().find(|(known, _)| *known == name) else {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                return Err(Error::new(format!("unknown flag: {dashed}{}", suggestion(name, &names))));
            };
            if *kind != Kind::Texts && flags.text(name).is_some() {
                return Err(Error::new(format!("duplicate flag specified: {dashed}")));
            }
            flags.0.push((name, check(dashed, value, *kind)?));
        }
        Ok(flags)
    }

    /// The value, if the flag was given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a flag that may stay away.
    pub(super) fn owned(&self, name: &str) -> String {
        self.text(name).unwrap_or_default().to_owned()
    }

    /// All values of a flag that may be repeated.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.clone()).collect()
    }

    /// A switch: none if it was not given.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value == "true")
    }
}

fn check(dashed: &str, value: Option<&str>, kind: Kind) -> Result<String> {
    let missing = || Error::new(format!("missing a value on flag: {dashed}"));
    if kind != Kind::Bool {
        return value.map(str::to_owned).ok_or_else(missing);
    }
    match value.map(str::to_lowercase).as_deref() {
        Some("") => Err(missing()),
        None | Some("true") => Ok("true".to_owned()),
        Some("false") => Ok("false".to_owned()),
        Some(_) => {
            Err(Error::new(format!("expecting boolean value for flag {dashed}, not: {}", value.unwrap_or_default())))
        }
    }
}
