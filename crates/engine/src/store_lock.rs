//! Who may clean up: makers of containers and volumes hold a shared lock on the root from the first directory to the
//! committed record; a sweep takes it exclusively, so that what it finds without a record is truly nobody's. The lock
//! dies with its process.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::{Context as _, Engine, Result, table, tree, volume_table};

/// The lock, shared or exclusive, until it is dropped.
pub(crate) struct Making(#[allow(dead_code, reason = "held for its lock")] File);

fn open(root: &Path) -> Result<File> {
    let path = root.join("making.lock");
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    opened.step(|| format!("open {}", path.display()))
}

impl Engine {
    /// Announces that directories are about to be made.
    pub(crate) fn making(&self) -> Result<Making> {
        crate::make_directory(&self.paths().root)?;
        let file = open(&self.paths().root)?;
        flock(&file, FlockOperation::LockShared).step(|| "lock making.lock".to_owned())?;
        Ok(Making(file))
    }

    /// Waits until nobody makes directories, and keeps it so while the answer lives.
    pub(crate) fn alone(&self) -> Result<Making> {
        crate::make_directory(&self.paths().root)?;
        let file = open(&self.paths().root)?;
        flock(&file, FlockOperation::LockExclusive).step(|| "lock making.lock".to_owned())?;
        Ok(Making(file))
    }

    /// Removes directories of containers and volumes that no record names: what a killed `create` or `rm` left behind.
    /// Does nothing while somebody makes a container.
    pub(crate) fn sweep(&self) -> Result<()> {
        if !self.has_strays()? {
            return Ok(());
        }
        let file = open(&self.paths().root)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        for (directory, name) in self.strays()? {
            let path = self.paths().root.join(directory).join(name);
            tree::remove(&path)?;
        }
        Ok(())
    }

    fn has_strays(&self) -> Result<bool> {
        Ok(!self.strays()?.is_empty())
    }

    /// Directories without a record.
    fn strays(&self) -> Result<Vec<(&'static str, String)>> {
        // The directories are read first: what is made after that is not looked at.
        let on_disk = |directory: &'static str| -> Vec<(&'static str, String)> {
            let entries = fs::read_dir(self.paths().root.join(directory)).into_iter().flatten().flatten();
            entries.filter_map(|entry| Some((directory, entry.file_name().into_string().ok()?))).collect()
        };
        let found: Vec<_> = on_disk("containers").into_iter().chain(on_disk("volumes")).collect();
        if found.is_empty() {
            return Ok(found);
        }
        let known = self.read(|connection| {
            let mut known = table::ids(connection)?;
            known.extend(volume_table::all(connection)?.into_iter().map(|volume| volume.name));
            Ok(known.into_iter().collect::<std::collections::HashSet<_>>())
        })?;
        Ok(found.into_iter().filter(|(_, name)| !known.contains(name)).collect())
    }
}
