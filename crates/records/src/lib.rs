//! The one SQLite database of a Kiste root: opens it, brings its schema up to date, runs transactions. What the rows
//! mean is the business of the crates above, each of which owns its tables.

use std::path::Path;

pub use rusqlite;

/// The tables of one room: every statement list is one migration, applied once, in order, never edited afterwards.
pub struct Schema {
    /// Name of the owning crate.
    pub room: &'static str,
    /// Migrations, oldest first.
    pub migrations: &'static [&'static str],
}

/// How durable a commit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives power loss (`synchronous=FULL`).
    Power,
    /// Survives the death of every process (`synchronous=NORMAL`): enough for what a reboot ends anyway.
    Process,
}

/// An open database.
pub struct Records {
    connection: rusqlite::Connection,
}

/// The crate's error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite's own.
    #[error("database {path}: {source}")]
    Sqlite {
        /// The file.
        path: String,
        /// SQLite's error.
        source: rusqlite::Error,
    },
}

impl Records {
    /// Opens (and, if needed, creates and migrates) the database.
    pub fn open(_path: &Path, _durability: Durability, _schemas: &[Schema]) -> Result<Self, Error> {
        todo!()
    }

    /// The connection, for reading.
    pub fn read(&self) -> &rusqlite::Connection {
        &self.connection
    }

    /// Runs `work` in one `BEGIN IMMEDIATE` transaction; an error rolls back. Waits up to 10 s for other writers.
    pub fn write<T, E: From<rusqlite::Error>>(
        &mut self,
        _work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        todo!()
    }
}
