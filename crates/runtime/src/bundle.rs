//! A bundle: its configuration read, checked as far as a runtime's callers must be told early, and its root file system.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

use crate::error::Step;
use crate::{Error, Result};

/// Largest configuration that is read, in bytes.
const LIMIT: u64 = 16 << 20;

/// What a container is made from.
pub(crate) struct Bundle {
    /// Its directory, absolute.
    pub(crate) path: PathBuf,
    /// The configuration.
    pub(crate) spec: Spec,
    /// The same, byte for byte.
    pub(crate) json: Vec<u8>,
    /// The root file system, absolute.
    pub(crate) rootfs: PathBuf,
    /// What of the configuration cannot be carried out, and is no error.
    pub(crate) warnings: Vec<String>,
}

impl Bundle {
    /// Reads the bundle in `directory`; `config` is another configuration than its `config.json`.
    pub(crate) fn load(directory: &Path, config: Option<&Path>) -> Result<Self> {
        let path = directory.canonicalize().step(|| format!("open the bundle {}", directory.display()))?;
        let file = config.map_or_else(|| path.join("config.json"), Path::to_path_buf);
        let json = read(&file)?;
        let (mut spec, warnings) = read_spec(&json).map_err(|error| error.during(&file.display().to_string()))?;
        let rootfs = rootfs(&path, &spec)?;
        resolve_sources(&path, &mut spec);
        Ok(Self { path, spec, json, rootfs, warnings })
    }
}

/// Reads a file of the caller's, up to a limit.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let what = || format!("open {}", path.display());
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(format!("JSON specification file {} not found", path.display())),
        _ => Error::new(format!("{}: {}", what(), crate::error::plain(&error.to_string()))),
    })?;
    let mut json = Vec::with_capacity(file.metadata().map_or(0, |data| data.len().min(LIMIT) as usize));
    file.take(LIMIT + 1).read_to_end(&mut json).step(what)?;
    match json.len() as u64 > LIMIT {
        true => Err(Error::new(format!("{}: larger than {LIMIT} bytes", path.display()))),
        false => Ok(json),
    }
}

/// Reads and checks a configuration.
pub(crate) fn parse(json: &[u8]) -> Result<Spec> {
    read_spec(json).map(|(spec, _)| spec)
}

/// Likewise, with warnings.
fn read_spec(json: &[u8]) -> Result<(Spec, Vec<String>)> {
    let (spec, warnings) = sandbox::config::parse(json).step(|| "parse the configuration".into())?;
    check_version(spec.version())?;
    let process = spec.process().as_ref();
    process.map_or(Ok(()), check_process)?;
    Ok((spec, warnings))
}

/// Sources of bind mounts count from the bundle (runtime-spec, config.md "Mounts").
fn resolve_sources(bundle: &Path, spec: &mut Spec) {
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let words = mount.options().as_deref().unwrap_or_default();
        let bind = mount.typ().as_deref() == Some("bind") || words.iter().any(|word| word == "bind" || word == "rbind");
        let relative = mount.source().clone().filter(|source| bind && !source.as_os_str().is_empty());
        if let Some(source) = relative {
            mount.set_source(Some(bundle.join(source)));
        }
    }
}

/// Version 1 in all its releases; `1.0.2-dev` and the like are what engines write.
fn check_version(version: &str) -> Result<()> {
    let numbers: Vec<&str> = version.split(['-', '+']).next().unwrap_or_default().split('.').collect();
    match numbers[..] {
        ["1", minor, patch] if minor.parse::<u32>().is_ok() && patch.parse::<u32>().is_ok() => Ok(()),
        [""] => Err(Error::new("ociVersion: missing from the configuration")),
        _ => Err(Error::new(format!("ociVersion: {version:?} is not supported; this runtime carries out 1.x.y"))),
    }
}

/// What holds for the first process as for further ones.
pub(crate) fn check_process(process: &Process) -> Result<()> {
    if process.cwd().as_os_str().is_empty() {
        return Err(Error::new("process.cwd: Cwd property must not be empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::new("process.cwd: Cwd must be an absolute path"));
    }
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::new("process.args: args must not be empty"));
    }
    Ok(())
}

fn rootfs(bundle: &Path, spec: &Spec) -> Result<PathBuf> {
    let Some(root) = spec.root() else { return Err(Error::new("root: missing from the configuration")) };
    if root.path().as_os_str().is_empty() {
        return Err(Error::new("root.path: must not be empty"));
    }
    let path = bundle.join(root.path());
    let resolved = path.canonicalize().step(|| format!("root.path: invalid rootfs {}", path.display()))?;
    match resolved.is_dir() {
        true => Ok(resolved),
        false => Err(Error::new(format!("root.path: invalid rootfs {}: not a directory", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        parse(json.as_bytes()).err().map_or(String::new(), |error| error.text)
    }

    #[test]
    fn versions() {
        for good in ["1.0.0", "1.0.2-dev", "1.3.0+dev", "1.9.9"] {
            assert!(check_version(good).is_ok(), "{good}");
        }
        for bad in ["", "2.0.0", "1.0", "1", "x", "1.x.0", "0.9.0"] {
            assert!(check_version(bad).unwrap_err().text.starts_with("ociVersion"), "{bad}");
        }
    }

    #[test]
    fn errors_name_the_field() {
        let with = |process: &str| format!(r#"{{"ociVersion":"1.0.0","process":{process}}}"#);
        assert!(error(&with(r#"{"user":{},"cwd":"","args":["a"]}"#)).contains("process.cwd"));
        assert!(error(&with(r#"{"user":{},"cwd":"x","args":["a"]}"#)).contains("process.cwd"));
        assert!(error(&with(r#"{"user":{},"cwd":"/","args":[]}"#)).contains("process.args"));
        assert!(error(&with(r#"{"user":{},"cwd":"/"}"#)).contains("process.args"));
        assert_eq!(error(&with(r#"{"user":{},"cwd":"/","args":["a"],"env":null,"unknown":{}}"#)), "");
        assert!(error("{").contains("parse the configuration"));
    }
}
