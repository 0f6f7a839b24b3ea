//! What is on record about processes that were made by `create_exec`: one directory each below the container's state
//! directory, which therefore goes with the container. The first half of an exec's id is its container's, so that an id
//! alone leads to its record.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::ExecConfig;
use crate::request::names;
use crate::{Context as _, Error, Paths, Result, status};

/// How long the record of a process that has ended is kept, as with Docker.
const KEPT: Duration = Duration::from_secs(300);
/// Digits of the container's id in an exec's id.
const SHARED: usize = 32;

/// One process, before, while and after it runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ExecRecord {
    pub(crate) id: String,
    pub(crate) container: String,
    pub(crate) config: ExecConfig,
    /// Nothing is connected.
    pub(crate) detach: bool,
    /// The host's number of the process; 0: it has not been executed.
    pub(crate) pid: i32,
    pid_start: u64,
    pub(crate) exit_code: Option<i32>,
}

impl ExecRecord {
    /// A record of something to be run in that container, written.
    pub(crate) fn create(paths: &Paths, container: &str, config: &ExecConfig) -> Result<Self> {
        let id = format!("{}{}", &container[..SHARED], &names::random_id()?[SHARED..]);
        let record =
            ExecRecord { id, container: container.to_owned(), config: config.clone(), ..ExecRecord::default() };
        let directory = record.directory(paths);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&directory).step(|| format!("make {}", directory.display()))?;
        record.write(paths)?;
        Ok(record)
    }

    /// Finds a record by its whole id.
    pub(crate) fn find(paths: &Paths, container: &str, id: &str) -> Result<Self> {
        let path = paths.container_state(container).join("execs").join(id).join("exec.json");
        let json = fs::read(path).map_err(|_| missing(id))?;
        serde_json::from_slice(&json).step(|| format!("read the record of exec {id}"))
    }

    /// Where it and the socket of its keeper are.
    pub(crate) fn directory(&self, paths: &Paths) -> PathBuf {
        paths.container_state(&self.container).join("execs").join(&self.id)
    }

    /// Replaces what is on record in one step.
    pub(crate) fn write(&self, paths: &Paths) -> Result<()> {
        let directory = self.directory(paths);
        let step = || format!("write the record of exec {}", self.id);
        let json = serde_json::to_vec(self).step(step)?;
        let new = directory.join("exec.json.new");
        status::write_private(&new, &json).and_then(|()| fs::rename(&new, directory.join("exec.json"))).step(step)
    }

    /// The process has been executed.
    pub(crate) fn set_running(&mut self, pid: i32) {
        self.pid = pid;
        self.pid_start = linux::process::start_time(pid).unwrap_or(0);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.exit_code.is_none() && self.pid > 0 && linux::process::start_time(self.pid) == Some(self.pid_start)
    }

    /// Claims the one start that there is.
    pub(crate) fn claim(&self, paths: &Paths) -> Result<()> {
        let claimed = fs::DirBuilder::new().mode(0o700).create(self.directory(paths).join("started"));
        claimed.map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists if self.exit_code.is_some() => {
                Error::conflict(format!("exec command {} has already run", self.id))
            }
            std::io::ErrorKind::AlreadyExists => {
                Error::conflict(format!("exec command {} is already running", self.id))
            }
            std::io::ErrorKind::NotFound => missing(&self.id),
            _ => Error::internal(format!("start exec {}: {error}", self.id)),
        })
    }

    pub(crate) fn is_claimed(&self, paths: &Paths) -> bool {
        self.directory(paths).join("started").exists()
    }
}

/// Docker's words.
pub(crate) fn missing(id: &str) -> Error {
    Error::not_found(format!("No such exec instance: {id}"))
}

/// The beginning of the container's id in an exec's id.
pub(crate) fn container_of(id: &str) -> Result<&str> {
    let valid = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if valid { Ok(&id[..SHARED]) } else { Err(missing(id)) }
}

/// Ids of what was made in a container and has not run to its end.
pub(crate) fn live(paths: &Paths, container: &str) -> Vec<String> {
    let mut ids = ids(paths, container);
    ids.retain(|id| ExecRecord::find(paths, container, id).is_ok_and(|record| record.is_running()));
    ids
}

fn ids(paths: &Paths, container: &str) -> Vec<String> {
    let entries = fs::read_dir(paths.container_state(container).join("execs"));
    let mut ids: Vec<String> =
        entries.into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    ids.sort_unstable();
    ids
}

/// Forgets what has ended a while ago (and what was made but never run): the records live in memory.
pub(crate) fn forget_old(paths: &Paths, container: &str) {
    for id in ids(paths, container) {
        let Ok(record) = ExecRecord::find(paths, container, &id) else { continue };
        let directory = record.directory(paths);
        let changed = fs::metadata(directory.join("exec.json")).and_then(|data| data.modified());
        let old = changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > KEPT));
        if old && !record.is_running() {
            // What stays is forgotten next time, or with the container.
            drop(fs::remove_dir_all(directory));
        }
    }
}
