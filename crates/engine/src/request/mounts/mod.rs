//! The grammars of `-v`, `--mount`, `--tmpfs` and `--volumes-from`, and the list of mount points that follows from
//! them and from the image's volumes, by Docker's rules (`daemon/volumes_unix.go`, `volume/mounts/linux_parser.go`).
//! Nothing is made here: what volumes are missing is part of the answer.

mod bind;
mod paths;
mod tmpfs;
mod volume;

use std::collections::BTreeSet;
use std::path::Path;

use records::rusqlite::Connection;

use bind::{Words, bind_record, typed_bind};
pub(crate) use paths::clean;
use paths::{check_subpath, clean_target};
use tmpfs::{tmpfs, typed_tmpfs};
use volume::volume_record;
pub(crate) use volume::{check_driver, check_options};

use crate::model::{Config, HostConfig, Map, Mount, MountPoint};
use crate::request::names;
use crate::table::{self, MountRecord};
use crate::volume_table::{self, VolumeRow};
use crate::{Error, Paths, Result};

/// Mount points and what they need.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// By destination, parents first.
    pub(crate) mounts: Vec<MountRecord>,
    /// Volumes that do not exist yet.
    pub(crate) new_volumes: Vec<VolumeRow>,
    /// Destinations of volumes that the image's content is copied into if they are empty.
    pub(crate) copy_up: BTreeSet<String>,
    /// Host directories that `-v` makes where they are missing.
    pub(crate) new_directories: Vec<String>,
}

/// Where volumes and other containers are looked up.
pub(crate) struct Lookup<'a> {
    /// Directories.
    pub(crate) paths: &'a Paths,
    /// Records.
    pub(crate) connection: &'a Connection,
}

/// Works out all mount points.
pub(crate) fn resolve(lookup: &Lookup<'_>, config: &Config, host: &HostConfig) -> Result<Resolved> {
    let mut resolved = Resolved::default();
    for source in host.volumes_from.iter().flatten() {
        resolved.take_from(lookup, source)?;
    }
    let mut explicit = BTreeSet::new();
    for bind in host.binds.iter().flatten() {
        let mount = resolved.bind(lookup, bind)?;
        resolved.place(&mut explicit, mount)?;
    }
    for mount in &host.mounts {
        let mount = resolved.mount(lookup, mount)?;
        resolved.place(&mut explicit, mount)?;
    }
    for (target, options) in &host.tmpfs {
        let mount = tmpfs(target, options)?;
        resolved.place(&mut explicit, mount)?;
    }
    for target in config.volumes.iter().flatten().map(|(target, _)| target) {
        resolved.image_volume(lookup, target)?;
    }
    resolved.mounts.sort_by(|a, b| depth(a).cmp(&depth(b)).then_with(|| a.point.destination.cmp(&b.point.destination)));
    Ok(resolved)
}

fn depth(mount: &MountRecord) -> usize {
    mount.point.destination.split('/').filter(|part| !part.is_empty()).count()
}

impl Resolved {
    /// Adds a mount point that was asked for; it replaces one of `--volumes-from`, but two of the same are a mistake.
    fn place(&mut self, explicit: &mut BTreeSet<String>, mount: MountRecord) -> Result<()> {
        let target = mount.point.destination.clone();
        if !explicit.insert(target.clone()) {
            return Err(Error::invalid(format!("Duplicate mount point: {target}")));
        }
        self.mounts.retain(|other| other.point.destination != target);
        self.mounts.push(mount);
        Ok(())
    }

    /// `--volumes-from NAME[:ro|rw]`.
    fn take_from(&mut self, lookup: &Lookup<'_>, source: &str) -> Result<()> {
        let (name, mode) = source.split_once(':').unwrap_or((source, "rw"));
        let read_only = match mode.split(',').find(|word| !matches!(*word, "ro" | "rw" | "z" | "Z" | "nocopy")) {
            None if !name.is_empty() => mode.split(',').any(|word| word == "ro"),
            _ => return Err(Error::invalid(format!("invalid volumes-from specification: {source}"))),
        };
        for mut mount in table::find(lookup.connection, name)?.mounts {
            if !matches!(mount.point.kind.as_str(), "bind" | "volume") {
                continue;
            }
            if read_only {
                mount.point.rw = false;
            }
            mount.anonymous = false;
            self.mounts.retain(|other| other.point.destination != mount.point.destination);
            self.mounts.push(mount);
        }
        Ok(())
    }

    /// One `-v`.
    fn bind(&mut self, lookup: &Lookup<'_>, text: &str) -> Result<MountRecord> {
        let bad = || Error::invalid(format!("invalid volume specification: '{text}'"));
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, mode) = match parts[..] {
            [target] => ("", target, ""),
            [source, target] => (source, target, ""),
            [source, target, mode] => (source, target, mode),
            _ => return Err(bad().hinted("it is [SOURCE:]TARGET[:OPTIONS]")),
        };
        if parts.len() > 1 && source.is_empty() {
            return Err(bad());
        }
        let target = clean_target(target).map_err(|e| Error::invalid(format!("{}: {e}", bad().message)))?;
        let words = Words::parse(mode, source.starts_with('/'))?;
        if source.starts_with('/') {
            let source = clean(source);
            if !Path::new(&source).exists() {
                self.new_directories.push(source.clone());
            }
            return Ok(bind_record(&source, target, mode, &words.propagation, "rbind", words.read_only(true)));
        }
        let mut record = if source.is_empty() {
            self.anonymous(lookup, target, &Map::new(), &Map::new())?
        } else {
            self.volume(lookup, source, target, &Map::new(), &Map::new())?
        };
        record.point.mode = if mode.is_empty() { "z".to_owned() } else { mode.to_owned() };
        record.point.rw &= !words.read_only;
        if !words.no_copy {
            self.copy_up.insert(record.point.destination.clone());
        }
        Ok(record)
    }

    /// One `--mount`.
    fn mount(&mut self, lookup: &Lookup<'_>, mount: &Mount) -> Result<MountRecord> {
        let bad = |what: &str| Error::invalid(format!("invalid mount config for type \"{}\": {what}", mount.kind));
        if mount.target.is_empty() {
            return Err(bad("field Target must not be empty"));
        }
        let target = clean_target(&mount.target).map_err(|e| bad(&e))?;
        let foreign = [
            ("bind", mount.bind_options.is_some(), "BindOptions"),
            ("volume", mount.volume_options.is_some(), "VolumeOptions"),
            ("tmpfs", mount.tmpfs_options.is_some(), "TmpfsOptions"),
            ("image", mount.image_options.is_some(), "ImageOptions"),
        ];
        if let Some((_, _, field)) = foreign.iter().find(|(kind, given, _)| *given && *kind != mount.kind) {
            return Err(bad(&format!("field {field} must not be specified")));
        }
        match mount.kind.as_str() {
            "bind" => {
                let record = typed_bind(mount, target).map_err(|e| bad(&e))?;
                if !Path::new(&record.point.source).exists() {
                    self.new_directories.push(record.point.source.clone());
                }
                Ok(record)
            }
            "volume" => self.typed_volume(lookup, mount, target),
            "tmpfs" => typed_tmpfs(mount, target).map_err(|e| bad(&e)),
            "image" => typed_image(mount, target).map_err(|e| bad(&e)),
            "npipe" | "cluster" => Err(Error::not_implemented(format!("mount type {:?} is not available", mount.kind))
                .hinted("the types are bind, volume, tmpfs and image")),
            other => Err(Error::invalid(format!("mount type unknown: {other:?}"))),
        }
    }

    fn typed_volume(&mut self, lookup: &Lookup<'_>, mount: &Mount, target: String) -> Result<MountRecord> {
        let options = mount.volume_options.clone().unwrap_or_default();
        let driver = options.driver_config.clone().unwrap_or_default();
        check_driver(&driver.name)?;
        let mut record = if mount.source.is_empty() {
            self.anonymous(lookup, target, &driver.options, &options.labels)?
        } else {
            self.volume(lookup, &mount.source, target, &driver.options, &options.labels)?
        };
        record.point.mode = "z".to_owned();
        record.point.rw &= !mount.read_only;
        record.subpath = check_subpath(&options.subpath)?;
        if !options.no_copy && record.subpath.is_empty() {
            self.copy_up.insert(record.point.destination.clone());
        }
        Ok(record)
    }

    /// A volume of the image's (or a bare path of `-v`): anonymous, unless something is mounted there already.
    fn image_volume(&mut self, lookup: &Lookup<'_>, target: &str) -> Result<()> {
        let target =
            clean_target(target).map_err(|e| Error::invalid(format!("invalid volume path {target:?}: {e}")))?;
        if self.mounts.iter().any(|mount| mount.point.destination == target) {
            return Ok(());
        }
        let record = self.anonymous(lookup, target, &Map::new(), &Map::new())?;
        self.copy_up.insert(record.point.destination.clone());
        self.mounts.push(record);
        Ok(())
    }

    fn anonymous(
        &mut self,
        lookup: &Lookup<'_>,
        target: String,
        options: &Map<String>,
        labels: &Map<String>,
    ) -> Result<MountRecord> {
        check_options(options)?;
        let mut row = VolumeRow::anonymous(&names::random_id()?);
        row.options.clone_from(options);
        row.labels.extend(labels.clone());
        let record = MountRecord { anonymous: true, ..volume_record(lookup, &row, target) };
        self.new_volumes.push(row);
        Ok(record)
    }

    fn volume(
        &mut self,
        lookup: &Lookup<'_>,
        name: &str,
        target: String,
        options: &Map<String>,
        labels: &Map<String>,
    ) -> Result<MountRecord> {
        names::check_volume_name(name)?;
        let pending = self.new_volumes.iter().find(|volume| volume.name == name).cloned();
        let row = match pending.map_or_else(|| volume_table::get(lookup.connection, name), |row| Ok(Some(row)))? {
            Some(row) => row,
            None => {
                check_options(options)?;
                let row = VolumeRow::new(name, options.clone(), labels.clone());
                self.new_volumes.push(row.clone());
                row
            }
        };
        Ok(volume_record(lookup, &row, target))
    }
}

fn typed_image(mount: &Mount, target: String) -> Result<MountRecord, String> {
    if mount.source.is_empty() {
        return Err("field Source must not be empty".to_owned());
    }
    let subpath = mount.image_options.as_ref().map_or("", |options| options.subpath.as_str());
    let subpath = check_subpath(subpath).map_err(|e| e.message)?;
    let point = MountPoint {
        kind: "image".to_owned(),
        source: mount.source.clone(),
        destination: target,
        rw: false,
        ..MountPoint::default()
    };
    Ok(MountRecord { point, subpath, ..MountRecord::default() })
}

#[cfg(test)]
mod tests;
