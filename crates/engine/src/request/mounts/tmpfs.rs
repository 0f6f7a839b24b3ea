//! File systems in memory: `--tmpfs` and `--mount type=tmpfs`.

use super::paths::clean_target;
use crate::model::{Mount, MountPoint};
use crate::table::MountRecord;
use crate::{Error, Result};

pub(super) fn typed_tmpfs(mount: &Mount, target: String) -> Result<MountRecord, String> {
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

/// A tmpfs with the options of `--tmpfs`.
pub(super) fn tmpfs(target: &str, options: &str) -> Result<MountRecord> {
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
