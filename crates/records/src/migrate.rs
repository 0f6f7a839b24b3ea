//! Brings the schema up to date. Each room counts its own migrations in the table `schema`; `PRAGMA user_version` holds
//! a fingerprint of all counts, so that the usual case is one comparison.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use crate::{Error, Schema};

/// Applies what is missing.
pub(crate) fn migrate(connection: &mut Connection, path: &Path, schemas: &[Schema]) -> Result<(), Error> {
    let sqlite = |source| Error::Sqlite { path: path.display().to_string(), source };
    let wanted = fingerprint(schemas);
    let found: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
    if found == wanted {
        return Ok(());
    }
    // Turning the log mode on is not covered by SQLite's busy handler, so one process at a time comes past here.
    let _lock = lock(path)?;
    connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(())).map_err(sqlite)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sqlite)?;
    transaction
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS schema (room TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID",
        )
        .map_err(sqlite)?;
    for schema in schemas {
        upgrade(&transaction, path, schema)?;
    }
    transaction.pragma_update(None, "user_version", wanted).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}

fn upgrade(transaction: &Transaction<'_>, path: &Path, schema: &Schema) -> Result<(), Error> {
    let sqlite = |source| Error::Sqlite { path: path.display().to_string(), source };
    let found: i64 = transaction
        .query_row("SELECT version FROM schema WHERE room = ?1", [schema.room], |row| row.get(0))
        .optional()
        .map_err(sqlite)?
        .unwrap_or(0);
    let found = usize::try_from(found).unwrap_or(usize::MAX);
    let known = schema.migrations.len();
    if found > known {
        return Err(Error::Newer { path: path.display().to_string(), room: schema.room.into(), found, known });
    }
    for migration in &schema.migrations[found..] {
        transaction.execute_batch(migration).map_err(sqlite)?;
    }
    transaction
        .execute("INSERT OR REPLACE INTO schema (room, version) VALUES (?1, ?2)", (schema.room, known as i64))
        .map_err(sqlite)?;
    Ok(())
}

/// FNV-1a over rooms and counts, folded into a positive number that is never 0 (a new file's value).
fn fingerprint(schemas: &[Schema]) -> i32 {
    let mut hash: u32 = 0x811c_9dc5;
    let mut eat = |byte: u8| hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    for schema in schemas {
        schema.room.bytes().for_each(&mut eat);
        eat(0);
        eat(schema.migrations.len() as u8);
    }
    (hash >> 1) as i32 | 1
}

/// Held while one process migrates; the file stays, empty.
fn lock(path: &Path) -> Result<std::fs::File, Error> {
    let path = path.with_extension("db.lock");
    let io = |source| Error::Io { path: path.display().to_string(), source };
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(io)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|errno| io(errno.into()))?;
    Ok(file)
}
