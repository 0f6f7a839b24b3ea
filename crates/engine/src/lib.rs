//! Every verb of the product as a plain function from a typed request to a typed answer, and the monitor that owns one
//! container. The faces (command line, HTTP) only translate: this crate knows no clap, no HTTP and no terminal.

#![recursion_limit = "256"] // Docker's documents are long `json!` literals.

mod bounds;
mod cdi;
pub mod clock;
mod confinement;
mod copy_up;
pub mod detach;
mod disk;
mod erase;
pub mod error;
mod events;
mod exec_record;
pub mod failpoint;
mod files;
mod filters;
mod glob;
mod ids;
mod links;
mod log;
pub mod model;
pub mod monitor;
mod naming;
mod networking;
mod news;
pub mod plan;
mod reconcile;
mod request;
pub mod session;
mod shared_memory;
mod spawn;
mod spec;
pub mod status;
mod store_lock;
mod table;
mod tree;
mod user_network;
mod verbs;
mod view;
mod volume_mount;
mod volume_table;
mod wake;
mod writable;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use records::rusqlite::{Connection, Transaction};
use records::{Durability, Records};

pub use image::{Change, ChangeKind};
/// For faces that must know whether a client has read what it was sent.
pub use linux::memory::trim as release_memory;
pub use linux::socket::unread;
pub use sandbox::rootless;

pub use bounds::Bounds;
pub use error::{Context, Error, ErrorKind, Result, plain};
pub use files::unpack::unpack_archive;
pub use session::Session;
pub use verbs::*;

/// Where everything is: `--root` (kept for ever) and `--state` (gone after a reboot).
#[derive(Clone, Debug)]
pub struct Paths {
    /// `/var/lib/kiste` by default.
    pub root: PathBuf,
    /// `/run/kiste` by default.
    pub state: PathBuf,
}

impl Paths {
    /// Directory of what a container keeps: `upper/`, `work/`, logs, `hosts`, `resolv.conf`, `hostname`.
    pub fn container(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// Directory of a container's present run: `plan.json`, `status.json`, `monitor.sock`, `lock`.
    pub fn container_state(&self, id: &str) -> PathBuf {
        self.state.join("containers").join(id)
    }

    /// Where layers are mounted.
    pub(crate) fn layers(&self) -> PathBuf {
        self.state.join("layers")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join("kiste.db")
    }

    /// The event log: one JSON object a line.
    pub fn events(&self) -> PathBuf {
        self.root.join("events.log")
    }

    /// What belonged to removed containers and volumes and is still to be deleted.
    pub(crate) fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Directory of a volume; its data is in `_data` below.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name)
    }
}

/// The engine over one root and one state directory. Cheap to open: directories are made and the database is opened on
/// first use.
pub struct Engine {
    paths: Paths,
    records: Mutex<Option<Records>>,
    notices: Mutex<Vec<String>>,
    bounds: Bounds,
}

impl Engine {
    /// An engine over these directories. Nothing is touched yet.
    pub fn new(paths: Paths) -> Self {
        Engine::bounded(paths, Bounds::default())
    }

    /// An engine whose callers reach no more than that.
    pub fn bounded(paths: Paths, bounds: Bounds) -> Self {
        Engine { paths, records: Mutex::new(None), notices: Mutex::new(Vec::new()), bounds }
    }

    /// What callers may reach.
    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The directories.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The directory for what stays.
    pub fn root(&self) -> &Path {
        &self.paths.root
    }

    /// Things that the user should know about what was found and repaired on the way; taken, so told once.
    pub fn notices(&self) -> Vec<String> {
        std::mem::take(&mut self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves a notice for the user.
    pub(crate) fn note(&self, notice: impl Into<String>) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice.into());
    }

    /// The image store of this root.
    pub(crate) fn images(&self) -> image::Store {
        image::Store::new(&self.paths.root).mounting_below(&self.paths.layers()).knowing_the_host(!self.bounds.confined)
    }

    /// Reads records. `work` must not call `read`, `write` or `with_records` again.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.with_records(|records| work(records.read()))
    }

    /// Changes records in one transaction, which an error rolls back. `work` must not call `read`, `write` or
    /// `with_records` again.
    pub(crate) fn write<T>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T>,
    ) -> Result<T> {
        self.with_records(|records| {
            let level = if durability == Durability::Power { "FULL" } else { "NORMAL" };
            records.read().pragma_update(None, "synchronous", level)?;
            records.write(work)
        })
    }

    /// The open records; opens them (and makes the root directory) on first use.
    pub(crate) fn with_records<T>(&self, work: impl FnOnce(&mut Records) -> Result<T>) -> Result<T> {
        let mut slot: MutexGuard<'_, Option<Records>> = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(self.open_records()?);
        }
        match slot.as_mut() {
            Some(records) => work(records),
            None => Err(Error::internal("the records are not open")),
        }
    }

    /// Tidies the records if they are open; waits for the disk, so for a process that has answered everybody.
    pub(crate) fn settle_records(&self) {
        if let Some(records) = &*self.records.lock().unwrap_or_else(PoisonError::into_inner) {
            records.settle();
        }
    }

    fn open_records(&self) -> Result<Records> {
        make_directory(&self.paths.root)?;
        Records::open(
            &self.paths.database(),
            Durability::Process,
            &[image::store::SCHEMA, table::SCHEMA, network::table::SCHEMA],
        )
        .map_err(|e| Error::internal(e.to_string()).hinted_if(e.hint()))
    }
}

/// Makes a directory, and its parents, that others may pass through (a container's root is nobody on the host) but not
/// list.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if path.is_dir() {
        return Ok(());
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(path);
    made.map_err(|e| match e.kind() {
        std::io::ErrorKind::PermissionDenied => Error::internal(format!("create {}: {e}", path.display()))
            .hinted("run as root, or choose a directory of your own with --root and --state"),
        _ => Error::internal(format!("create {}: {e}", path.display())),
    })
}
