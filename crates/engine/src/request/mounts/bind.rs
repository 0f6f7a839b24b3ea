//! Parts of the host's tree: the options of `-v` and `--mount type=bind`.

use std::collections::BTreeSet;
use std::path::Path;

use super::paths::clean;
use crate::model::{Mount, MountPoint};
use crate::table::MountRecord;
use crate::{Error, Result};

pub(super) fn bind_record(
    source: &str,
    target: String,
    mode: &str,
    propagation: &str,
    bind: &str,
    read_only: Option<&str>,
) -> MountRecord {
    let mut options = vec![bind.to_owned(), propagation.to_owned()];
    options.extend(read_only.map(str::to_owned));
    let point = MountPoint {
        kind: "bind".to_owned(),
        source: source.to_owned(),
        destination: target,
        mode: mode.to_owned(),
        rw: read_only.is_none(),
        propagation: propagation.to_owned(),
        ..MountPoint::default()
    };
    MountRecord { point, options, ..MountRecord::default() }
}

/// The options of `-v`.
#[derive(Default)]
pub(super) struct Words {
    pub(super) read_only: bool,
    pub(super) no_copy: bool,
    pub(super) propagation: String,
}

impl Words {
    pub(super) fn parse(mode: &str, bind: bool) -> Result<Self> {
        let bad = || Error::invalid(format!("invalid mode: {mode}"));
        let (mut words, mut seen) = (Words::default(), BTreeSet::new());
        for word in mode.split(',').filter(|_| !mode.is_empty()) {
            let group = match word {
                "ro" | "rw" => "access",
                "z" | "Z" => "label",
                "nocopy" if !bind => "copy",
                "cached" | "delegated" | "consistent" | "default" => "consistency",
                _ if bind && PROPAGATIONS.contains(&word) => "propagation",
                _ => return Err(bad()),
            };
            if !seen.insert(group) {
                return Err(bad());
            }
            match group {
                "access" => words.read_only = word == "ro",
                "copy" => words.no_copy = true,
                "propagation" => word.clone_into(&mut words.propagation),
                _ => {}
            }
        }
        if words.propagation.is_empty() {
            "rprivate".clone_into(&mut words.propagation);
        }
        Ok(words)
    }

    /// The mount option, if read-only: with everything below it, where that is wanted.
    pub(super) fn read_only(&self, recursive: bool) -> Option<&'static str> {
        self.read_only.then_some(if recursive { "rro" } else { "ro" })
    }
}

pub(super) const PROPAGATIONS: &[&str] = &["shared", "rshared", "slave", "rslave", "private", "rprivate"];

pub(super) fn typed_bind(mount: &Mount, target: String) -> Result<MountRecord, String> {
    let options = mount.bind_options.clone().unwrap_or_default();
    if mount.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    if !mount.source.starts_with('/') {
        return Err(format!("invalid mount path: '{}' mount path must be absolute", mount.source));
    }
    let source = clean(&mount.source);
    if !options.create_mountpoint && !Path::new(&source).exists() {
        return Err(format!("bind source path does not exist: {source}"));
    }
    let propagation = if options.propagation.is_empty() { "rprivate" } else { &options.propagation };
    if !PROPAGATIONS.contains(&propagation) {
        return Err(format!("invalid propagation mode: {propagation}"));
    }
    if options.read_only_non_recursive && options.read_only_force_recursive {
        return Err("ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other".to_owned());
    }
    if (options.read_only_non_recursive || options.read_only_force_recursive) && !mount.read_only {
        return Err("mount options conflict: a recursive read-only option without ReadOnly".to_owned());
    }
    let read_only = match (mount.read_only, options.read_only_non_recursive) {
        (false, _) => None,
        (true, true) => Some("ro"),
        (true, false) => Some("rro"),
    };
    let bind = if options.non_recursive { "bind" } else { "rbind" };
    Ok(bind_record(&source, target, "", propagation, bind, read_only))
}
