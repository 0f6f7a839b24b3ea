//! Platforms (`os/architecture[/variant]`) and the choice among several, as containerd's `platforms` package does it.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// What an image's programs are made for, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// This machine's.
    pub(crate) fn host() -> Self {
        Platform::normal("linux", std::env::consts::ARCH, None)
    }

    /// From an image's own words.
    pub(crate) fn normal(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let architecture = match architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".into(),
            "i386" | "i686" | "x86" => "386".into(),
            "aarch64" => "arm64".into(),
            "armhf" | "armv7l" => "arm".into(),
            "riscv64gc" => "riscv64".into(),
            "loongarch64" => "loong64".into(),
            "powerpc64le" | "powerpc64" => "ppc64le".into(),
            other => other.to_owned(),
        };
        // The default variants are left out, so that `arm64` and `arm64/v8` are the same.
        let variant = match (architecture.as_str(), variant.unwrap_or("")) {
            (_, "") | ("arm64", "v8" | "8") | ("amd64", "v1") => None,
            ("arm", "7") => Some("v7".into()),
            (_, other) => Some(other.to_ascii_lowercase()),
        };
        Platform { os: os.to_ascii_lowercase(), architecture, variant }
    }

    /// What a configuration says.
    pub(crate) fn of(config: &oci_spec::image::ImageConfiguration) -> Self {
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        Platform::normal(&os, &architecture, config.variant().as_deref())
    }

    /// Whether an image for `other` is what a request for `self` means; a request without a variant takes any.
    pub(crate) fn accepts(&self, other: &Platform) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && (self.variant.is_none() || self.variant == other.variant)
    }

    /// Whether an image for `self` may come in: it must be a Linux image, and what was asked for.
    pub(crate) fn check(&self, wanted: Option<&Platform>, what: &str) -> Result<(), Error> {
        if self.os != "linux" {
            return Err(Error::Platform(format!("{what} is for {self}; only Linux images run here")));
        }
        match wanted {
            Some(wanted) if !wanted.accepts(self) => Err(Error::Platform(format!(
                "{what} was found but does not provide the specified platform ({wanted}); it is for {self}"
            ))),
            _ => Ok(()),
        }
    }

    /// How well `other` fits: fewer is better; `None`: not at all.
    pub(crate) fn distance(&self, other: &Platform) -> Option<u32> {
        self.accepts(other).then_some(match (&self.variant, &other.variant) {
            (wanted, offered) if wanted == offered => 0,
            // For plain `arm` the newest is best: v7 before v6 before v5.
            (_, Some(offered)) => 100 - offered.trim_start_matches('v').parse::<u32>().unwrap_or(0).min(99),
            _ => 1,
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// `os/arch[/variant]`, or one word: an operating system or an architecture.
    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let word =
            |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !parts.iter().all(word) {
            return Err(Error::Invalid(format!(
                "invalid platform {text:?}: want os/architecture[/variant], like linux/amd64"
            )));
        }
        match parts[..] {
            ["linux"] => Ok(Platform::host()),
            [architecture] => Ok(Platform::normal("linux", architecture, None)),
            [os, architecture] => Ok(Platform::normal(os, architecture, None)),
            [os, architecture, variant] => Ok(Platform::normal(os, architecture, Some(variant))),
            _ => Err(Error::Invalid(format!(
                "invalid platform {text:?}: too many parts; want os/architecture[/variant]"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_and_choice() {
        let parse = |text: &str| text.parse::<Platform>().unwrap();
        assert_eq!(parse("linux/x86_64"), parse("amd64"));
        assert_eq!(parse("linux/arm64/v8"), parse("linux/aarch64"));
        assert!(parse("linux/arm/v6").distance(&parse("linux/arm/v7")).is_none());
        assert!(
            parse("linux/arm").distance(&parse("linux/arm/v7")) < parse("linux/arm").distance(&parse("linux/arm/v5"))
        );
        for bad in ["", "a/b/c/d", "linux/", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }
}
