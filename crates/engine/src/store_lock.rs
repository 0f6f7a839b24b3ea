//! Who may clean up: makers of containers and volumes hold a shared lock on the root from the first directory to the
//! committed record; a sweep takes it exclusively, so that what it finds without a record is truly nobody's. The lock
//! dies with its process.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::{Context as _, Engine, Paths, Result, disk, status, table, tree, volume_table};

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

    /// The only one who makes and fills volumes until the answer is dropped: two that fill the same one would each take
    /// the other's files for a fault, and who fails takes away what he has made.
    pub(crate) fn filling(&self) -> Result<Making> {
        let path = self.paths().root.join("volumes.lock");
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.step(|| format!("open {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive).step(|| "lock volumes.lock".to_owned())?;
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
    /// Images are the store's own business, which is told to look too.
    /// Does nothing while somebody makes a container.
    pub(crate) fn sweep(&self) -> Result<()> {
        let images = self.images();
        if images.has_leftovers() {
            self.with_records(|records| Ok(images.sweep_leftovers(records)?))?;
        }
        if !self.has_strays()? {
            return Ok(());
        }
        let file = open(&self.paths().root)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        for path in self.strays()? {
            disk::release(&path);
            tree::remove(&path)?;
        }
        Ok(())
    }

    fn has_strays(&self) -> Result<bool> {
        Ok(!self.strays()?.is_empty())
    }

    /// Directories without a record, and state directories without a record that nobody is responsible for.
    fn strays(&self) -> Result<Vec<PathBuf>> {
        // The directories are read first: what is made after that is not looked at.
        let Paths { root, state } = self.paths();
        let found: Vec<PathBuf> =
            [root.join("containers"), root.join("volumes"), self.paths().trash(), state.join("containers")]
                .iter()
                .flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten())
                .map(|entry| entry.path())
                .collect();
        if found.is_empty() {
            return Ok(found);
        }
        let known = self.read(|connection| {
            let mut known: HashSet<String> = table::ids(connection)?.into_iter().collect();
            known.extend(volume_table::all(connection)?.into_iter().map(|volume| volume.name));
            Ok(known)
        })?;
        let is_stray = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if known.contains(name.as_ref()) {
                return false;
            }
            !path.starts_with(state) || !status::is_held(self.paths(), &name)
        };
        Ok(found.into_iter().filter(is_stray).collect())
    }
}
