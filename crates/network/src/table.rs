//! The room's tables: networks, endpoints (a container's place in a network) and published ports. That an address or a
//! port belongs to one container at a time is a unique key here, so two racing commands cannot get the same one. Choosing
//! addresses and ports is the business of `allocate` and `publish`.

use records::rusqlite::{self, Connection, OptionalExtension as _, Row, Transaction, params};

use crate::error::{Error, Kind, Result};
use crate::model::Network;

/// The tables of this crate. `active` endpoints belong to containers that run: only they have addresses. Addresses are
/// numbers in big-endian order, so that they sort; `''` as a port's address is every address of the family. `link` holds
/// what containers of the default network call others; `doomed` are networks that are removed, until nothing of them is
/// left on the host.
pub const SCHEMA: records::Schema = records::Schema {
    room: "network",
    migrations: &[
        "
    CREATE TABLE network (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        document TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE endpoint (
        container TEXT NOT NULL,
        network TEXT NOT NULL,
        position INTEGER NOT NULL,
        settings TEXT NOT NULL,
        wanted4 INTEGER,
        active INTEGER NOT NULL DEFAULT 0,
        document TEXT NOT NULL DEFAULT '',
        ip4 INTEGER,
        ip6 BLOB,
        mac TEXT,
        PRIMARY KEY (container, network)
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX endpoint_ip4 ON endpoint (network, ip4) WHERE ip4 IS NOT NULL;
    CREATE UNIQUE INDEX endpoint_ip6 ON endpoint (network, ip6) WHERE ip6 IS NOT NULL;
    CREATE INDEX endpoint_network ON endpoint (network);
    CREATE TABLE port (
        protocol INTEGER NOT NULL,
        v4 INTEGER NOT NULL,
        port INTEGER NOT NULL,
        address TEXT NOT NULL,
        container TEXT NOT NULL,
        target INTEGER NOT NULL,
        PRIMARY KEY (protocol, v4, port, address)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX port_container ON port (container);
    ",
        "
    CREATE TABLE link (
        container TEXT NOT NULL,
        alias TEXT NOT NULL,
        target TEXT NOT NULL,
        PRIMARY KEY (container, alias)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX link_target ON link (target);
    CREATE TABLE doomed (
        network TEXT PRIMARY KEY,
        document TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    ",
    ],
};

/// Reads a JSON column.
pub(crate) fn document<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e)))
}

/// Writes a JSON column.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal(format!("encode a record: {e}")))
}

/// The network with exactly this name.
pub fn named(connection: &Connection, name: &str) -> Result<Option<Network>> {
    let mut statement = connection.prepare_cached("SELECT document FROM network WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| document(row, 0)).optional()?)
}

/// The network of this id, name, or unambiguous prefix of an id, in that order, as Docker resolves them.
pub fn find(connection: &Connection, name: &str) -> Result<Network> {
    let exact = "SELECT document FROM network WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC LIMIT 1";
    let found = connection.prepare_cached(exact)?.query_row([name], |row| document(row, 0)).optional()?;
    if let Some(found) = found {
        return Ok(found);
    }
    let missing = || Error::new(Kind::NotFound, format!("network {name} not found"));
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Err(missing());
    }
    // 'g' sorts after every hexadecimal digit: the range holds exactly the ids that begin with the prefix.
    let query = "SELECT document FROM network WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 2";
    let mut statement = connection.prepare_cached(query)?;
    let mut found: Vec<Network> =
        statement.query_map([name], |row| document(row, 0))?.collect::<rusqlite::Result<_>>()?;
    match (found.len(), found.pop()) {
        (1, Some(network)) => Ok(network),
        (0, _) => Err(missing()),
        _ => Err(Error::invalid(format!("network {name} is ambiguous (2 or more matches found on ID)"))),
    }
}

/// Every network, by name.
pub fn all(connection: &Connection) -> Result<Vec<Network>> {
    let mut statement = connection.prepare_cached("SELECT document FROM network ORDER BY name")?;
    Ok(statement.query_map([], |row| document(row, 0))?.collect::<rusqlite::Result<_>>()?)
}

/// Adds a network, whose name must be free.
pub fn insert(transaction: &Transaction<'_>, network: &Network) -> Result<()> {
    let added = transaction
        .prepare_cached("INSERT OR IGNORE INTO network (id, name, document) VALUES (?1, ?2, ?3)")?
        .execute(params![network.id, network.name, json(network)?])?;
    match added {
        0 => Err(Error::conflict(format!("network with name {} already exists", network.name))),
        _ => Ok(()),
    }
}

/// Forgets a network, unless a container that runs is in it.
pub fn delete(transaction: &Transaction<'_>, network: &Network) -> Result<()> {
    if network.is_predefined() {
        return Err(Error::new(
            Kind::Forbidden,
            format!("{} is a pre-defined network and cannot be removed", network.name),
        ));
    }
    let sql = "SELECT container, document FROM endpoint WHERE network = ?1 AND active";
    let mut statement = transaction.prepare_cached(sql)?;
    let users: Vec<String> = statement.query_map([&network.id], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    if !users.is_empty() {
        return Err(Error::new(
            Kind::Forbidden,
            format!(
                "error while removing network: network {} has active endpoints ({})",
                network.name,
                users.join(", ")
            ),
        ));
    }
    transaction.prepare_cached("DELETE FROM network WHERE id = ?1")?.execute([&network.id])?;
    let sql = "INSERT OR REPLACE INTO doomed (network, document) VALUES (?1, ?2)";
    transaction.prepare_cached(sql)?.execute(params![network.id, json(network)?])?;
    Ok(())
}

/// Networks that are removed, of which something may be left on the host.
pub fn doomed(connection: &Connection) -> Result<Vec<Network>> {
    let mut statement = connection.prepare_cached("SELECT document FROM doomed")?;
    Ok(statement.query_map([], |row| document(row, 0))?.collect::<rusqlite::Result<_>>()?)
}

/// Nothing is left of a network.
pub fn forget(transaction: &Transaction<'_>, network: &Network) -> Result<()> {
    transaction.prepare_cached("DELETE FROM doomed WHERE network = ?1")?.execute([&network.id])?;
    Ok(())
}
