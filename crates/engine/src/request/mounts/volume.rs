//! What volumes can be: the options of the one driver, and a volume as a mount point.

use std::path::Path;

use super::Lookup;
use crate::model::{Map, MountPoint};
use crate::table::MountRecord;
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
