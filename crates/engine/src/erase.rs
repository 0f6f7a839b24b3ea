//! Taking a container away for good: what it owns first, its row last, so that whoever is killed half-way leaves a row
//! that says what is still to be done. Whether it may go is decided by the caller, who holds the run lock.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use records::Durability;

use crate::model::Map;
use crate::news::{self, News};
use crate::table::{self, Container};
use crate::{Context, Engine, Result, clock, events, failpoint, tree, volume_table};

impl Engine {
    /// Removes a container that does not run and everything that it owns; with `volumes` also its anonymous volumes.
    /// May be repeated after an interruption.
    pub(crate) fn remove_locked(&self, id: &str, volumes: bool) -> Result<()> {
        self.erase(id, volumes)?.iter().try_for_each(|path| tree::remove(path))
    }

    /// Like [`Engine::remove_locked`], but what takes time is left to the caller: the paths in the answer belong to
    /// nobody any more and are to be removed. Whoever is killed before that leaves them to the next sweep.
    pub(crate) fn erase(&self, id: &str, volumes: bool) -> Result<Vec<PathBuf>> {
        failpoint::hit("remove-begun");
        let container = self.read(|connection| table::find(connection, id))?;
        let lasting = !container.host.auto_remove;
        // One that is removed by its own `--rm` still says `running`, which leads here again after an interruption.
        let volumes = volumes || self.read(|connection| table::removes_volumes(connection, id))?;
        if lasting {
            self.write(Durability::Process, |transaction| table::set_removing(transaction, id, volumes))?;
        }
        failpoint::hit("remove-marked");
        self.remove_run(id);
        let mut trash = Vec::new();
        trash.extend(self.discard(&self.paths().container(id))?);
        failpoint::hit("remove-directory-gone");
        let durability = if lasting { Durability::Power } else { Durability::Process };
        let gone = self.write(durability, |transaction| {
            let anonymous = if volumes { self.last_anonymous(transaction, &container)? } else { Vec::new() };
            table::delete(transaction, id)?;
            anonymous.iter().try_for_each(|name| volume_table::delete(transaction, name))?;
            Ok(anonymous)
        })?;
        failpoint::hit("remove-deleted");
        for name in &gone {
            trash.extend(self.discard(&self.paths().volume(name))?);
            let attributes = Map::from([("driver".to_owned(), "local".to_owned())]);
            drop(events::append(self.paths(), &events::event("volume", "destroy", name, attributes)));
        }
        news::tell(self.paths(), id, News::Removed);
        tree::remove(&self.paths().container_state(id))?;
        self.tell(&container, "destroy");
        Ok(trash)
    }

    /// Moves a directory to where nobody looks for it, in one step; none if it is gone already.
    fn discard(&self, path: &Path) -> Result<Option<PathBuf>> {
        let directory = self.paths().trash();
        let target = directory.join(format!("{}-{}", clock::now(), path.file_name().unwrap_or_default().display()));
        let step = || format!("move {} to {}", path.display(), target.display());
        let rename = || fs::rename(path, &target);
        match rename() {
            Err(error) if error.kind() == ErrorKind::NotFound && !directory.exists() => {
                match crate::make_directory(&directory) {
                    Ok(()) => self.discard(path),
                    Err(_) => tree::remove(path).map(|()| None),
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            // No room for one more name: the directory that is to free some goes at once.
            Err(error) if error.kind() == ErrorKind::StorageFull => tree::remove(path).map(|()| None),
            renamed => renamed.map(|()| Some(target.clone())).step(step),
        }
    }

    /// Anonymous volumes that nobody but this container uses.
    fn last_anonymous(
        &self,
        transaction: &records::rusqlite::Transaction<'_>,
        container: &Container,
    ) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for mount in container.mounts.iter().filter(|mount| mount.anonymous) {
            let users = volume_table::users(transaction, &mount.point.name)?;
            if users.iter().all(|user| *user == container.id) {
                names.push(mount.point.name.clone());
            }
        }
        Ok(names)
    }
}
