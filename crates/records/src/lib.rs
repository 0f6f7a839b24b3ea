//! The one SQLite database of a Kiste root: opens it, brings its schema up to date, runs transactions. What the rows
//! mean is the business of the crates above, each of which owns its tables.

mod migrate;
mod reserve;
mod shared;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

pub use rusqlite;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

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

impl Durability {
    fn pragma(self) -> &'static str {
        match self {
            Durability::Power => "FULL",
            Durability::Process => "NORMAL",
        }
    }
}

/// An open database.
pub struct Records {
    connection: Connection,
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
    /// The directory or the lock file around the database.
    #[error("database {path}: {source}")]
    Io {
        /// The file or directory.
        path: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// Written by a newer program.
    #[error(
        "database {path} was written by a newer Kiste: {room} tables at version {found}, this program knows {known}"
    )]
    Newer {
        /// The file.
        path: String,
        /// The owning crate.
        room: String,
        /// Version in the file.
        found: usize,
        /// Version of this program.
        known: usize,
    },
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Sqlite { source, .. } => hint(source),
            Error::Io { source, .. } => io_hint(source),
            Error::Newer { .. } => Some("use the newer program, or another directory with --root"),
        }
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            Error::Sqlite { source, .. } => source.sqlite_error_code() == Some(ErrorCode::DiskFull),
            Error::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Error::Newer { .. } => false,
        }
    }
}

/// What the user can do about an SQLite error, where that is known.
pub fn hint(error: &rusqlite::Error) -> Option<&'static str> {
    match error.sqlite_error_code()? {
        ErrorCode::DiskFull => Some("the disk is full: free some space"),
        ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => Some(NEED_ROOT),
        ErrorCode::DatabaseBusy => Some("another kiste command holds the database: try again"),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            Some("the database file is damaged: restore it, or start afresh with another --root")
        }
        _ => None,
    }
}

const NEED_ROOT: &str = "not writable: run as root, or give a directory of your own with --root";

fn io_hint(error: &std::io::Error) -> Option<&'static str> {
    match error.kind() {
        std::io::ErrorKind::StorageFull => Some("the disk is full: free some space"),
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => Some(NEED_ROOT),
        _ => None,
    }
}

/// Pages in the write-ahead log after which a commit moves them into the database: 1 MiB. Only a backstop, because that
/// commit waits for the disk: [`Records::settle`] does it when nobody waits.
const CHECKPOINT_PAGES: u32 = 256;
/// Pages in the log from which [`Records::settle`] moves them. The first opener after the last close reads and checks
/// the whole log again, on the start path of a command: about 10 µs a page.
const SETTLE_PAGES: i64 = 32;

impl Records {
    /// Opens (and, if needed, creates and migrates) the database. On the start path of every command: when nothing is
    /// to be migrated this is one open, one `PRAGMA user_version`, no write and no sync.
    pub fn open(path: &Path, durability: Durability, schemas: &[Schema]) -> Result<Self, Error> {
        let sqlite = |source| Error::Sqlite { path: path.display().to_string(), source };
        let connection = match connect(path, durability) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
                make_parent(path)?;
                connect(path, durability).map_err(sqlite)?
            }
            other => other.map_err(sqlite)?,
        };
        let mut records = Records { connection };
        let small = shared::prepare(path);
        migrate::migrate(&mut records.connection, path, schemas)?;
        if small {
            shared::allocate(path)?;
        }
        Ok(records)
    }

    /// The connection, for reading.
    pub fn read(&self) -> &Connection {
        &self.connection
    }

    /// Changes how durable the commits from now on are.
    pub fn set_durability(&self, durability: Durability) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "synchronous", durability.pragma())
    }

    /// Moves a long write-ahead log into the database, which waits for the disk: for a process that has answered
    /// everybody. Disturbs no reader or writer; if another process is at it, or it fails, the log just stays.
    pub fn settle(&self) {
        let checkpoint = |mode: &str| {
            let sql = format!("PRAGMA wal_checkpoint({mode})");
            self.connection.query_row(&sql, [], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
        };
        if checkpoint("NOOP").is_ok_and(|(pages, moved)| pages > SETTLE_PAGES && moved < pages) {
            drop(checkpoint("PASSIVE"));
        }
    }

    /// Runs `work` in one `BEGIN IMMEDIATE` transaction; an error rolls back. Waits up to 10 s for other writers.
    pub fn write<T, E: From<rusqlite::Error>>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(directory) = self.connection.path().map(Path::new).and_then(Path::parent) {
            reserve::balance(directory);
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let answer = work(&transaction)?;
        transaction.commit()?;
        Ok(answer)
    }
}

/// One connection, with what does not persist in the file set. No statement here reads the file.
fn connect(path: &Path, durability: Durability) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(wait_for_other))?;
    // The last closer would otherwise copy the log into the database and sync both, on every command.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY, true)?;
    let synchronous = durability.pragma();
    connection.execute_batch(&format!(
        "PRAGMA synchronous={synchronous}; PRAGMA cache_size=-512; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY;
         PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES};"
    ))?;
    Ok(connection)
}

/// Sleeps while another writer works: a transaction lasts less than a millisecond, so short naps first. SQLite's own
/// handler sleeps up to 100 ms, which twenty parallel starts would feel. Gives up after 10 s.
fn wait_for_other(tries: i32) -> bool {
    let (nap, last) = match tries {
        ..200 => (Duration::from_micros(250), false),
        200..1200 => (Duration::from_millis(2), false),
        1200..2000 => (Duration::from_millis(10), false),
        _ => (Duration::ZERO, true),
    };
    std::thread::sleep(nap);
    !last
}

fn make_parent(path: &Path) -> Result<(), Error> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let io = |source| Error::Io { path: parent.display().to_string(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(io)
}
