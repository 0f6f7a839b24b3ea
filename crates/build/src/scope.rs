//! The variables of a build: what platforms, the command line, ARG and ENV say, and in what order they win.

use crate::words::{self, Expanded, Style, Variables};
use crate::{Error, Result};

/// Proxies may be given for any build without being declared, and leave no trace in it.
const UNDECLARED: &[&str] = &["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// Names and values; the last of a name wins.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    values: Vec<(String, String)>,
}

impl Variables for Scope {
    fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Scope {
    /// Sets one.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.values.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.values.push((name.to_owned(), value.to_owned())),
        }
    }

    /// `name=value` lines, as processes get them.
    pub fn environment(&self) -> Vec<String> {
        self.values.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Expands one word.
    pub fn word(&self, text: &str, escape: char) -> Result<String> {
        self.expand(text, Style::new(escape)).map(|expanded| expanded.text)
    }

    /// Expands a word that may become several.
    pub fn words(&self, text: &str, escape: char) -> Result<Vec<String>> {
        self.expand(text, Style::new(escape)).map(|expanded| expanded.words)
    }

    fn expand(&self, text: &str, style: Style) -> Result<Expanded> {
        words::expand(text, self, style)
    }
}

/// What the command line said with `--build-arg`.
#[derive(Clone, Debug, Default)]
pub struct BuildArguments(pub Vec<(String, String)>);

impl BuildArguments {
    /// The value for a declared ARG.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Proxies, which need no ARG.
    pub fn proxies(&self) -> impl Iterator<Item = &(String, String)> {
        self.0.iter().filter(|(name, _)| UNDECLARED.contains(&name.to_lowercase().as_str()))
    }
}

/// `os/arch[/variant]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Always `linux`.
    pub os: String,
    /// As Go names it.
    pub architecture: String,
    /// Or empty.
    pub variant: String,
}

impl Platform {
    /// This machine's.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// Reads one.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parts = text.to_lowercase();
        parts = parts.replace("x86_64", "amd64").replace("aarch64", "arm64");
        let mut parts = parts.split('/').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None) if !os.is_empty() && !architecture.is_empty() => {
                let variant = variant.unwrap_or_default();
                // v8 is what arm64 means.
                let variant = if architecture == "arm64" && variant == "v8" { String::new() } else { variant };
                Ok(Platform { os, architecture, variant })
            }
            _ => Err(Error::new(format!("failed to parse platform {text}: {text:?} is an invalid platform"))),
        }
    }

    /// As it is written.
    pub fn shown(&self) -> String {
        let variant = if self.variant.is_empty() { String::new() } else { format!("/{}", self.variant) };
        format!("{}/{}{variant}", self.os, self.architecture)
    }

    /// The predefined arguments about it: `TARGETPLATFORM` and its parts, or `BUILDPLATFORM` and its.
    pub fn arguments(&self, prefix: &str) -> Vec<(String, String)> {
        let parts = [
            ("PLATFORM", self.shown()),
            ("OS", self.os.clone()),
            ("ARCH", self.architecture.clone()),
            ("VARIANT", self.variant.clone()),
        ];
        parts.into_iter().map(|(name, value)| (format!("{prefix}{name}"), value)).collect()
    }
}
