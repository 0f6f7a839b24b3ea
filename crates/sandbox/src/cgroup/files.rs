//! Reading and writing cgroup files, with errors that say what was written where and why it was refused. Knows no
//! controller.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// One value for one file, with what users call it.
pub(super) struct Setting {
    /// File name within the cgroup's directory.
    pub(super) file: String,
    /// What is written.
    pub(super) value: String,
}

impl Setting {
    pub(super) fn new(file: impl Into<String>, value: impl ToString) -> Self {
        Setting { file: file.into(), value: value.to_string() }
    }
}

/// Writes one value with one system call, as the kernel wants it.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    raw_write(path, value).map_err(|error| explain(path, value, &error))
}

fn raw_write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// Writes settings that constrain each other (memory and memory+swap, quota and burst): a value that is refused as
/// invalid is tried again after another one has been taken, so that raising and lowering both work in one call.
pub(super) fn write_together(directory: &Path, settings: &[Setting]) -> io::Result<()> {
    let mut pending: Vec<&Setting> = settings.iter().collect();
    while !pending.is_empty() {
        let mut refused = Vec::new();
        let mut first_error = None;
        for setting in &pending {
            let path = directory.join(&setting.file);
            match raw_write(&path, &setting.value) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    first_error.get_or_insert_with(|| explain(&path, &setting.value, &error));
                    refused.push(*setting);
                }
                Err(error) => return Err(explain(&path, &setting.value, &error)),
            }
        }
        match first_error {
            Some(error) if refused.len() == pending.len() => return Err(error),
            _ => pending = refused,
        }
    }
    Ok(())
}

/// The error of a refused write, with what the kernel means by it for this file.
fn explain(path: &Path, value: &str, error: &io::Error) -> io::Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let reason = match (error.raw_os_error(), name.as_ref()) {
        (Some(libc::EBUSY), "memory.limit_in_bytes" | "memory.max" | "memory.memsw.limit_in_bytes") => {
            "; the limit is below what is in use and cannot be reclaimed"
        }
        (Some(libc::EINVAL), "memory.limit_in_bytes") => {
            "; a memory limit must not exceed the memory+swap limit: set both at the same time"
        }
        (Some(libc::EINVAL), "memory.memsw.limit_in_bytes") => {
            "; the memory+swap limit must not be below the memory limit: set both at the same time"
        }
        (Some(libc::ENOENT), "memory.memsw.limit_in_bytes" | "memory.swap.max") => {
            "; this kernel does not account swap; hint: boot with `swapaccount=1` or set no swap limit"
        }
        (Some(libc::EINVAL), "cpu.cfs_quota_us" | "cpu.cfs_period_us" | "cpu.max") => {
            "; the period must be 1000 to 1000000 µs, the quota at least 1000 µs and within the limits of parent and children"
        }
        (Some(libc::EINVAL), "cpu.cfs_burst_us" | "cpu.max.burst") => "; the burst must not exceed the quota",
        (Some(libc::EINVAL | libc::ERANGE | libc::EACCES), "cpuset.cpus" | "cpuset.mems") => {
            "; not a list of CPUs or memory nodes that the parent has"
        }
        (Some(libc::ENODEV | libc::ENXIO), _) => "; no such block device",
        (Some(libc::ENOENT | libc::EACCES), _) if !path.exists() => {
            "; this kernel has no such setting, or its controller is off here"
        }
        _ => "",
    };
    let text = format!("write {:?} to {}: {error}{reason}", value.trim_end(), path.display());
    io::Error::new(error.kind(), text)
}

/// Reads a file as text, naming it in errors.
pub(super) fn read(path: &Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| io::Error::new(error.kind(), format!("read {}: {error}", path.display())))
}

/// Reads a single number; `max` and nothing are `None`.
pub(super) fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number behind `key` in a file of `key value` lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

/// The directories below `directory` (child cgroups), itself last: the order in which they can be removed.
pub(super) fn tree(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    collect(directory, &mut all)?;
    Ok(all)
}

fn collect(directory: &Path, all: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            match collect(&entry.path(), all) {
                // Removed by somebody else meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
    }
    all.push(directory.to_owned());
    Ok(())
}
