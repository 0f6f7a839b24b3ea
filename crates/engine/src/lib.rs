//! Every verb of the product as a plain function from a typed request to a typed answer, and the monitor that owns one
//! container. The faces (command line, HTTP) only translate: this crate knows no clap, no HTTP and no terminal.

pub mod error;
pub mod model;
pub mod monitor;
pub mod plan;
pub mod session;
mod verbs;

use std::path::{Path, PathBuf};

pub use error::{Context, Error, ErrorKind, Result};
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

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join("kiste.db")
    }

    /// The event log: one JSON object a line.
    pub fn events(&self) -> PathBuf {
        self.root.join("events.log")
    }
}

/// The engine over one root and one state directory. Cheap to open: directories are made and the database is opened on
/// first use.
pub struct Engine {
    paths: Paths,
}

impl Engine {
    /// An engine over these directories. Nothing is touched yet.
    pub fn new(paths: Paths) -> Self {
        Engine { paths }
    }

    /// The directories.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The directory for what stays.
    pub fn root(&self) -> &Path {
        &self.paths.root
    }
}
