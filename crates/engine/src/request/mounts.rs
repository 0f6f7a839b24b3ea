//! The grammars of `-v`, `--mount`, `--tmpfs` and `--volumes-from`, and the list of mount points that follows from
//! them and from the image's volumes, by Docker's rules (`daemon/volumes_unix.go`, `volume/mounts/linux_parser.go`).
//! Nothing is made here: what volumes are missing is part of the answer.

use std::collections::BTreeSet;
use std::path::Path;

use records::rusqlite::Connection;

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
            self.anonymous(lookup, target)?
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
            self.anonymous(lookup, target)?
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
        let record = self.anonymous(lookup, target)?;
        self.copy_up.insert(record.point.destination.clone());
        self.mounts.push(record);
        Ok(())
    }

    fn anonymous(&mut self, lookup: &Lookup<'_>, target: String) -> Result<MountRecord> {
        let row = VolumeRow::anonymous(&names::random_id()?);
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

/// Only the built-in driver exists.
pub(crate) fn check_driver(name: &str) -> Result<()> {
    match name {
        "" | "local" => Ok(()),
        other => {
            Err(Error::not_implemented(format!("volume driver {other:?} is not available"))
                .hinted("use the driver local"))
        }
    }
}

/// The options of the driver `local` that are available: a directory of the host's (`type=none,o=bind,device=DIR`).
pub(crate) fn check_options(options: &Map<String>) -> Result<()> {
    if options.is_empty() {
        return Ok(());
    }
    if let Some(key) = options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device")) {
        return Err(
            Error::invalid(format!("invalid option: {key:?}")).hinted("the driver local has type, o and device")
        );
    }
    let get = |key: &str| options.get(key).map_or("", String::as_str);
    let bind = get("o").split(',').all(|word| matches!(word, "bind" | "rbind" | "rw"))
        && matches!(get("type"), "" | "none" | "bind");
    if !bind || !get("o").contains("bind") {
        return Err(Error::not_implemented(format!(
            "volume options type={:?}, o={:?} are not available: only directories of the host",
            get("type"),
            get("o")
        ))
        .hinted("use type=none, o=bind and device=DIRECTORY, or mount the file system on the host first"));
    }
    if !get("device").starts_with('/') || !Path::new(get("device")).is_dir() {
        return Err(Error::invalid(format!(
            "volume option device={:?} is not a directory with an absolute path",
            get("device")
        )));
    }
    Ok(())
}

fn volume_record(lookup: &Lookup<'_>, row: &VolumeRow, target: String) -> MountRecord {
    let point = MountPoint {
        kind: "volume".to_owned(),
        name: row.name.clone(),
        source: row.data(lookup.paths).to_string_lossy().into_owned(),
        destination: target,
        driver: "local".to_owned(),
        rw: true,
        ..MountPoint::default()
    };
    MountRecord { point, options: vec!["rbind".to_owned(), "rprivate".to_owned()], ..MountRecord::default() }
}

fn bind_record(
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
struct Words {
    read_only: bool,
    no_copy: bool,
    propagation: String,
}

impl Words {
    fn parse(mode: &str, bind: bool) -> Result<Self> {
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
    fn read_only(&self, recursive: bool) -> Option<&'static str> {
        self.read_only.then_some(if recursive { "rro" } else { "ro" })
    }
}

const PROPAGATIONS: &[&str] = &["shared", "rshared", "slave", "rslave", "private", "rprivate"];

fn typed_bind(mount: &Mount, target: String) -> Result<MountRecord, String> {
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

fn typed_tmpfs(mount: &Mount, target: String) -> Result<MountRecord, String> {
    if !mount.source.is_empty() {
        return Err("field Source must not be specified".to_owned());
    }
    let given = mount.tmpfs_options.clone().unwrap_or_default();
    if given.size_bytes < 0 || given.mode > 0o7777 {
        return Err("invalid tmpfs size or mode".to_owned());
    }
    let mut options: Vec<String> = Vec::new();
    for option in &given.options {
        options.push(option.join("="));
    }
    if given.size_bytes > 0 {
        options.push(format!("size={}", given.size_bytes));
    }
    if given.mode > 0 {
        options.push(format!("mode={:o}", given.mode));
    }
    if mount.read_only {
        options.push("ro".to_owned());
    }
    let mut record = tmpfs(&target, &options.join(",")).map_err(|e| e.message)?;
    record.point.rw = !mount.read_only;
    Ok(record)
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

/// A tmpfs with the options of `--tmpfs`.
fn tmpfs(target: &str, options: &str) -> Result<MountRecord> {
    let target = clean_target(target).map_err(|e| Error::invalid(format!("invalid tmpfs mount {target:?}: {e}")))?;
    let mut all: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).into();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        if !tmpfs_option_is_known(option) {
            return Err(Error::invalid(format!("invalid tmpfs option {option:?}")).hinted(
                "the options are size, mode, uid, gid, nr_inodes, nr_blocks, ro, rw, [no]exec, [no]suid, [no]dev",
            ));
        }
        let opposite = option.strip_prefix("no").map_or_else(|| format!("no{option}"), str::to_owned);
        all.retain(|other| *other != opposite && other != option);
        all.push(option.to_owned());
    }
    let rw = !all.iter().any(|option| option == "ro");
    let point = MountPoint { kind: "tmpfs".to_owned(), destination: target, rw, ..MountPoint::default() };
    Ok(MountRecord { point, options: all, ..MountRecord::default() })
}

fn tmpfs_option_is_known(option: &str) -> bool {
    const FLAGS: &[&str] = &[
        "ro",
        "rw",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "sync",
        "async",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
    ];
    match option.split_once('=') {
        Some(("size", value)) => value.strip_suffix('%').unwrap_or(value).starts_with(|c: char| c.is_ascii_digit()),
        Some(("mode", value)) => u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777),
        Some(("uid" | "gid" | "nr_inodes" | "nr_blocks", value)) => value.starts_with(|c: char| c.is_ascii_digit()),
        Some(("mpol" | "huge", value)) => !value.is_empty(),
        Some(_) => false,
        None => FLAGS.contains(&option),
    }
}

/// A path inside a volume or image: relative, and never out of it.
fn check_subpath(path: &str) -> Result<String> {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") || path.contains('\0') {
        return Err(Error::invalid(format!("subpath {path:?} must be a relative path within the volume")));
    }
    Ok(path.trim_matches('/').to_owned())
}

/// An absolute path in the container in its shortest form.
fn clean_target(target: &str) -> Result<String, String> {
    if !target.starts_with('/') {
        return Err(format!("invalid mount path: '{target}' mount path must be absolute"));
    }
    if target.contains('\0') {
        return Err("invalid mount path: NUL byte".to_owned());
    }
    match clean(target).as_str() {
        "/" => Err("invalid specification: destination can't be '/'".to_owned()),
        cleaned => Ok(cleaned.to_owned()),
    }
}

/// `/a//b/../c/` → `/a/c`, by the text alone.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use records::rusqlite::Connection;

    fn with_lookup<T>(work: impl FnOnce(&Lookup<'_>) -> T) -> T {
        let connection = Connection::open_in_memory().unwrap();
        for migration in table::SCHEMA.migrations {
            connection.execute_batch(migration).unwrap();
        }
        let paths = Paths { root: "/r".into(), state: "/s".into() };
        work(&Lookup { paths: &paths, connection: &connection })
    }

    fn with_binds(binds: &[&str]) -> Result<Resolved> {
        let binds = binds.iter().map(|bind| (*bind).to_owned()).collect();
        let host = HostConfig { binds: Some(binds), ..HostConfig::default() };
        with_lookup(|lookup| resolve(lookup, &Config::default(), &host))
    }

    #[test]
    fn binds_and_volumes_of_v() {
        let resolved = with_binds(&["/etc:/mnt/etc:ro,rslave", "data:/data", "/anon"]).unwrap();
        let bind = resolved.mounts.iter().find(|mount| mount.point.kind == "bind").unwrap();
        assert_eq!(bind.options, ["rbind", "rslave", "rro"]);
        assert!(!bind.point.rw);
        assert_eq!(resolved.new_volumes.len(), 2);
        assert_eq!(resolved.mounts.last().unwrap().point.destination, "/mnt/etc", "parents and shallow ones first");
        let data = resolved.mounts.iter().find(|mount| mount.point.name == "data").unwrap();
        assert_eq!(data.point.source, "/r/volumes/data/_data");
        assert!(resolved.copy_up.contains("/data"));
    }

    #[test]
    fn hostile_and_malformed_specifications() {
        for bad in
            ["a:b:c:d", ":/x", "./rel:/x", "/a:rel", "/a:/", "/a:/b:foo", "/a:/b:ro,rw", "/a:/b:nocopy", "x:/b:rshared"]
        {
            assert!(with_binds(&[bad]).is_err(), "{bad}");
        }
        assert_eq!(with_binds(&["/etc:/x", "/usr:/x/"]).unwrap_err().message, "Duplicate mount point: /x");
    }

    #[test]
    fn typed_mounts() {
        let one = |mount: Mount| {
            let host = HostConfig { mounts: vec![mount], ..HostConfig::default() };
            with_lookup(|lookup| resolve(lookup, &Config::default(), &host))
        };
        let mount = |kind: &str, source: &str| Mount {
            kind: kind.to_owned(),
            source: source.to_owned(),
            target: "/t".to_owned(),
            ..Mount::default()
        };
        let error = one(mount("bind", "/does/not/exist")).unwrap_err();
        assert_eq!(
            error.message,
            "invalid mount config for type \"bind\": bind source path does not exist: /does/not/exist"
        );
        assert!(one(mount("npipe", "x")).is_err());
        assert!(one(Mount { volume_options: Some(Default::default()), ..mount("bind", "/etc") }).is_err());
        let tmpfs = one(mount("tmpfs", "")).unwrap();
        assert_eq!(tmpfs.mounts[0].options, ["noexec", "nosuid", "nodev"]);
        assert!(one(mount("tmpfs", "x")).is_err());
    }

    #[test]
    fn image_volumes_yield_to_explicit_mounts() {
        let config = Config { volumes: Some([("/data".to_owned(), Default::default())].into()), ..Config::default() };
        let host = HostConfig { binds: Some(vec!["/etc:/data".to_owned()]), ..HostConfig::default() };
        let resolved = with_lookup(|lookup| resolve(lookup, &config, &host)).unwrap();
        assert!(resolved.new_volumes.is_empty() && resolved.mounts.len() == 1);
        let resolved = with_lookup(|lookup| resolve(lookup, &config, &HostConfig::default())).unwrap();
        assert!(resolved.mounts[0].anonymous && resolved.copy_up.contains("/data"));
    }

    #[test]
    fn tmpfs_options_override_defaults() {
        assert_eq!(tmpfs("/t", "exec,size=1m").unwrap().options, ["nosuid", "nodev", "exec", "size=1m"]);
        assert!(tmpfs("/t", "bogus").is_err());
        assert_eq!(clean("/a//b/../c/"), "/a/c");
        assert!(check_subpath("../x").is_err() && check_subpath("/x").is_err());
    }
}
