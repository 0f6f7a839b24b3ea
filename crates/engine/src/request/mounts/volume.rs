//! What volumes can be: the options of the one driver, and a volume as a mount point.

use std::path::Path;

use super::Lookup;
use crate::model::{Map, MountPoint};
use crate::table::MountRecord;
use crate::volume_mount::FileSystem;
use crate::volume_table::VolumeRow;
use crate::{Error, Result};

/// Only the built-in driver exists.
pub(crate) fn check_driver(name: &str) -> Result<()> {
    match name {
        "" | "local" => Ok(()),
        other => Err(Error::not_found(format!("error looking up volume plugin {other}: plugin {other:?} not found"))
            .hinted("the only driver is local")),
    }
}

/// The options of the driver `local` and what each needs beside it (Docker: `volume/local/local_unix.go`).
const OPTIONS: [(&str, &[&str]); 3] = [("device", &["type"]), ("type", &["device"]), ("o", &["device", "type"])];

/// An error if these options make no volume: a file system to mount, or a directory of the host's
/// (`type=none,o=bind,device=DIR`). Whether the file system can be mounted shows when a container starts.
pub(crate) fn check_options(options: &Map<String>) -> Result<()> {
    for key in options.keys() {
        let needs = OPTIONS.iter().find(|(name, _)| name == key).map(|(_, needs)| *needs);
        let needs = needs.ok_or_else(|| match key.as_str() {
            "size" => Error::invalid("quota size requested but no quota support")
                .hinted("a volume of type tmpfs takes o=size=…"),
            _ => Error::invalid(format!("invalid option: {key:?}")).hinted("the driver local has type, o and device"),
        })?;
        if let Some(missing) = needs.iter().find(|needed| !options.contains_key(**needed)) {
            return Err(Error::invalid(format!("missing required option: {missing:?}")));
        }
    }
    let device = options.get("device").map_or("", String::as_str);
    if options.is_empty() || FileSystem::of(options).is_some() {
        return Ok(());
    }
    if !device.starts_with('/') || !Path::new(device).is_dir() {
        let message = format!("volume option device={device:?} is not a directory with an absolute path");
        return Err(Error::invalid(message));
    }
    Ok(())
}

pub(super) fn volume_record(lookup: &Lookup<'_>, row: &VolumeRow, target: String) -> MountRecord {
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
