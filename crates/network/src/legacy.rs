//! Links of containers in the default network (`--link`), on record: who calls whom what. In other networks a link is a
//! name that the container's own name server knows.

use records::rusqlite::{self, Connection, Transaction, params};

use crate::error::Result;

/// What a container calls another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Id of the other container.
    pub target: String,
    /// What it is called.
    pub alias: String,
}

/// Records a link; an earlier one of the same alias is replaced.
pub fn add(transaction: &Transaction<'_>, container: &str, link: &Link) -> Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO link (container, alias, target) VALUES (?1, ?2, ?3)")?
        .execute(params![container, link.alias, link.target])?;
    Ok(())
}

/// Forgets a link; whether there was one.
pub fn remove(transaction: &Transaction<'_>, container: &str, alias: &str) -> Result<bool> {
    let sql = "DELETE FROM link WHERE container = ?1 AND alias = ?2";
    Ok(transaction.prepare_cached(sql)?.execute([container, alias])? > 0)
}

/// The links of a container, by alias.
pub fn of(connection: &Connection, container: &str) -> Result<Vec<Link>> {
    let sql = "SELECT target, alias FROM link WHERE container = ?1 ORDER BY alias";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([container], |row| Ok(Link { target: row.get(0)?, alias: row.get(1)? }))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The containers that are linked to this one.
pub fn to(connection: &Connection, target: &str) -> Result<Vec<String>> {
    let mut statement = connection.prepare_cached("SELECT DISTINCT container FROM link WHERE target = ?1")?;
    Ok(statement.query_map([target], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}
