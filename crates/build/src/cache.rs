//! Caches elsewhere, as they are asked for: `--cache-from` and `--cache-to`, and the same from a client of BuildKit's
//! protocol. Taking them over and writing them is done in `transfer`.

use std::path::PathBuf;

use crate::{Error, Result};

/// Where steps come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheSource {
    /// An OCI layout on this machine: a directory, perhaps with `:TAG` or `@DIGEST`.
    Directory(String),
    /// An image in a registry: a cache, or an image with its own cache in it.
    Registry(String),
}

/// Where steps go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheTarget {
    /// The place.
    pub place: CachePlace,
    /// `mode=max`: all steps, not only those that led to the result.
    pub all: bool,
    /// `ignore-error`: the build is done whether the cache can be written or not.
    pub optional: bool,
}

/// The place of a [`CacheTarget`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// A directory that becomes an OCI layout, and the tag in it.
    Directory(PathBuf, String),
    /// An image of its own in a registry.
    Registry(String),
    /// In the configuration of the result.
    Inline,
}

/// Attributes by their names, each once.
struct Attributes(Vec<(String, String)>);

impl Attributes {
    fn take(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.swap_remove(at).1)
    }

    fn required(&mut self, kind: &str, key: &str) -> Result<String> {
        let value = self.take(key).filter(|value| !value.is_empty());
        value.ok_or_else(|| Error::new(format!("{key} is required for a cache of type={kind}")))
    }

    /// One that may only have this value, which changes nothing.
    fn only(&mut self, key: &str, value: &str) -> Result<()> {
        match self.take(key) {
            Some(other) if other != value => {
                Err(Error::new(format!("caches with {key}={other} are not supported: only {key}={value}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what nobody has asked for.
    fn end(self, kind: &str) -> Result<()> {
        match self.0.first() {
            Some((key, value)) => Err(Error::new(format!("caches of type={kind} have no {key}={value}"))),
            None => Ok(()),
        }
    }
}

fn unknown(kind: &str) -> Error {
    Error::new(format!("caches of type={kind} are not supported: use type=local, type=registry or type=inline"))
}

/// `type=KIND,KEY=VALUE,…`; a text without a type is a reference.
fn split(text: &str) -> Result<(String, Vec<(String, String)>)> {
    if !text.contains('=') {
        return Ok(("registry".to_owned(), vec![("ref".to_owned(), text.to_owned())]));
    }
    let (mut kind, mut attributes) = (None, Vec::new());
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("type", value)) => kind = Some(value.to_owned()),
            Some((key, value)) => attributes.push((key.to_lowercase(), value.to_owned())),
            None => return Err(Error::new(format!("invalid cache {text:?}: {field:?} is no KEY=VALUE"))),
        }
    }
    Ok((kind.ok_or_else(|| Error::new(format!("invalid cache {text:?}: type is required")))?, attributes))
}

impl CacheSource {
    /// Reads what was typed.
    pub fn parse(text: &str) -> Result<Self> {
        let (kind, attributes) = split(text)?;
        CacheSource::new(&kind, attributes)
    }

    /// Of a kind, with attributes.
    pub fn new(kind: &str, attributes: Vec<(String, String)>) -> Result<Self> {
        let mut attributes = Attributes(attributes);
        let source = match kind {
            "local" => {
                let directory = attributes.required(kind, "src")?;
                CacheSource::Directory(match (attributes.take("digest"), attributes.take("tag")) {
                    (Some(digest), _) => format!("{directory}@{digest}"),
                    (None, Some(tag)) => format!("{directory}:{tag}"),
                    (None, None) => directory,
                })
            }
            "registry" => CacheSource::Registry(attributes.required(kind, "ref")?),
            other => return Err(unknown(other)),
        };
        attributes.end(kind)?;
        Ok(source)
    }

    /// For people.
    pub(crate) fn shown(&self) -> &str {
        match self {
            CacheSource::Directory(text) | CacheSource::Registry(text) => text,
        }
    }
}

impl CacheTarget {
    /// In the result itself.
    pub const INLINE: Self = CacheTarget { place: CachePlace::Inline, all: false, optional: false };

    /// Reads what was typed.
    pub fn parse(text: &str) -> Result<Self> {
        let (kind, attributes) = split(text)?;
        CacheTarget::new(&kind, attributes)
    }

    /// Of a kind, with attributes.
    pub fn new(kind: &str, attributes: Vec<(String, String)>) -> Result<Self> {
        let mut attributes = Attributes(attributes);
        let place = match kind {
            "local" => {
                let tag = attributes.take("tag").unwrap_or_else(|| "latest".to_owned());
                CachePlace::Directory(attributes.required(kind, "dest")?.into(), tag)
            }
            "registry" => CachePlace::Registry(attributes.required(kind, "ref")?),
            "inline" => CachePlace::Inline,
            other => return Err(unknown(other)),
        };
        attributes.only("compression", if kind == "local" { "uncompressed" } else { "gzip" })?;
        attributes.only("image-manifest", "true")?;
        attributes.only("oci-mediatypes", "true")?;
        let all = match attributes.take("mode").as_deref() {
            None | Some("min") => false,
            Some("max") if kind != "inline" => true,
            Some(other) => return Err(Error::new(format!("caches of type={kind} have no mode={other}"))),
        };
        let optional = attributes.take("ignore-error").is_some_and(|value| value == "true" || value == "1");
        attributes.end(kind)?;
        Ok(CacheTarget { place, all, optional })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_and_targets() {
        assert_eq!(CacheSource::parse("user/app:c").unwrap(), CacheSource::Registry("user/app:c".into()));
        assert_eq!(CacheSource::parse("type=local,src=/a,tag=x").unwrap(), CacheSource::Directory("/a:x".into()));
        let target = CacheTarget::parse("type=registry,ref=h/x,mode=max,ignore-error=true").unwrap();
        assert_eq!((target.place, target.all, target.optional), (CachePlace::Registry("h/x".into()), true, true));
        assert_eq!(CacheTarget::parse("type=inline").unwrap(), CacheTarget::INLINE);
        for wrong in ["type=gha", "type=local", "type=registry,ref=x,odd=1", "src=/a", "type=registry"] {
            assert!(CacheSource::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["type=s3,bucket=b", "type=inline,mode=max", "type=local,dest=/a,compression=zstd"] {
            assert!(CacheTarget::parse(wrong).is_err(), "{wrong}");
        }
    }
}
