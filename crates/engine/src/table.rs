//! The engine's tables: containers, volumes and who uses which volume. One row is the durable truth about one
//! container (what it is made from, and what was last asked of it); what its process does now stands in the state
//! directory. Knows SQL, and nothing of kernels and images.

use records::rusqlite::{self, Connection, OptionalExtension, Row, Transaction, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{Config, HostConfig, MountPoint};
use crate::{Error, Result};

/// The tables of this crate. Times are nanoseconds since 1970, 0 for never; documents are JSON.
pub(crate) const SCHEMA: records::Schema = records::Schema {
    room: "engine",
    migrations: &[
        "
    CREATE TABLE container (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        image TEXT NOT NULL,
        image_id TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        state TEXT NOT NULL,
        exit_code INTEGER NOT NULL DEFAULT 0,
        oom INTEGER NOT NULL DEFAULT 0,
        error TEXT NOT NULL DEFAULT '',
        started_at INTEGER NOT NULL DEFAULT 0,
        finished_at INTEGER NOT NULL DEFAULT 0,
        restart_count INTEGER NOT NULL DEFAULT 0,
        stopped_by_user INTEGER NOT NULL DEFAULT 0,
        auto_remove INTEGER NOT NULL DEFAULT 0,
        uid_base INTEGER UNIQUE,
        config TEXT NOT NULL,
        host TEXT NOT NULL,
        mounts TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX container_image ON container (image_id);
    CREATE TABLE volume (
        name TEXT PRIMARY KEY,
        driver TEXT NOT NULL,
        options TEXT NOT NULL,
        labels TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        anonymous INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE volume_use (
        container TEXT NOT NULL REFERENCES container (id) ON DELETE CASCADE,
        volume TEXT NOT NULL,
        PRIMARY KEY (container, volume)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX volume_use_volume ON volume_use (volume);
    ",
        "
    CREATE TABLE build_step (                   -- what builds need not do again
        key TEXT PRIMARY KEY,
        image TEXT NOT NULL,
        made_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX build_step_image ON build_step (image);
    ",
    ],
};

/// What was last asked of a container, as its row says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Intent {
    /// Never started.
    Created,
    /// To run: written before the start, so that no start is ever forgotten.
    Running,
    /// Has ended for good.
    Exited,
    /// `rm` is at work, or was interrupted.
    Removing,
    /// `rm` failed half-way.
    Dead,
}

impl Intent {
    /// The word in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Intent::Created => "created",
            Intent::Running => "running",
            Intent::Exited => "exited",
            Intent::Removing => "removing",
            Intent::Dead => "dead",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "created" => Intent::Created,
            "running" => Intent::Running,
            "exited" => Intent::Exited,
            "removing" => Intent::Removing,
            _ => Intent::Dead,
        }
    }
}

/// Everything on record about one container.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// 64 hexadecimal digits.
    pub(crate) id: String,
    /// Unique name, without Docker's slash.
    pub(crate) name: String,
    /// Image as the user named it.
    pub(crate) image: String,
    /// `sha256:…`.
    pub(crate) image_id: String,
    /// Nanoseconds since 1970.
    pub(crate) created_at: i64,
    /// What was last asked of it.
    pub(crate) state: Intent,
    /// Exit code of the last run.
    pub(crate) exit_code: i64,
    /// Whether the kernel ended the last run for want of memory.
    pub(crate) oom: bool,
    /// Why the last start failed.
    pub(crate) error: String,
    /// Nanoseconds since 1970; 0: never.
    pub(crate) started_at: i64,
    /// Nanoseconds since 1970; 0: never.
    pub(crate) finished_at: i64,
    /// Restarts by the restart policy.
    pub(crate) restart_count: i64,
    /// First host id of its own range of 65536; none in the host's or another container's user namespace.
    pub(crate) uid_base: Option<u32>,
    /// The request merged with the image's configuration.
    pub(crate) config: Config,
    /// The host part, with its defaults filled in.
    pub(crate) host: HostConfig,
    /// Mount points, resolved.
    pub(crate) mounts: Vec<MountRecord>,
}

/// A mount point with what `inspect` does not show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountRecord {
    /// What `inspect` shows.
    #[serde(flatten)]
    pub(crate) point: MountPoint,
    /// Path inside a volume or image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) subpath: String,
    /// Options for the OCI configuration (`rbind`, `ro`, `size=…`).
    #[serde(default)]
    pub(crate) options: Vec<String>,
    /// Whether the volume is anonymous and goes with `rm -v` and `--rm`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) anonymous: bool,
}

const COLUMNS: &str = "id, name, image, image_id, created_at, state, exit_code, oom, error, started_at, finished_at, \
    restart_count, uid_base, config, host, mounts";

impl Container {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Container {
            id: row.get(0)?,
            name: row.get(1)?,
            image: row.get(2)?,
            image_id: row.get(3)?,
            created_at: row.get(4)?,
            state: Intent::parse(row.get_ref(5)?.as_str()?),
            exit_code: row.get(6)?,
            oom: row.get(7)?,
            error: row.get(8)?,
            started_at: row.get(9)?,
            finished_at: row.get(10)?,
            restart_count: row.get(11)?,
            uid_base: row.get(12)?,
            config: document(row, 13)?,
            host: document(row, 14)?,
            mounts: document(row, 15)?,
        })
    }
}

/// Reads a JSON column.
pub(crate) fn document<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e)))
}

/// Writes a JSON column.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal(format!("encode a record: {e}")))
}

/// Writes a JSON column without the fields that have their default value, which reading puts in again: most of a
/// container's hundred fields do.
fn compact<T: Serialize + Default>(value: &T) -> Result<String> {
    let encode = |value: &T| serde_json::to_value(value).map_err(|e| Error::internal(format!("encode a record: {e}")));
    let (mut document, default) = (encode(value)?, encode(&T::default())?);
    if let Some(fields) = document.as_object_mut() {
        fields.retain(|key, value| default.get(key) != Some(value));
    }
    json(&document)
}

/// The container of this name, id or unambiguous prefix of an id, in that order, as Docker resolves them.
pub(crate) fn find(connection: &Connection, name: &str) -> Result<Container> {
    let wanted = name.strip_prefix('/').unwrap_or(name);
    let exact = format!("SELECT {COLUMNS} FROM container WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC LIMIT 1");
    if let Some(found) = connection.prepare_cached(&exact)?.query_row([wanted], Container::from_row).optional()? {
        return Ok(found);
    }
    by_prefix(connection, wanted)?.ok_or_else(|| Error::not_found(format!("No such container: {name}")))
}

fn by_prefix(connection: &Connection, prefix: &str) -> Result<Option<Container>> {
    if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        return Ok(None);
    }
    // 'g' sorts after every hexadecimal digit: the range holds exactly the ids that begin with the prefix.
    let query = format!("SELECT {COLUMNS} FROM container WHERE id >= ?1 AND id < ?1 || 'g' LIMIT 2");
    let mut statement = connection.prepare_cached(&query)?;
    let mut found = statement.query_map([prefix], Container::from_row)?.collect::<rusqlite::Result<Vec<_>>>()?;
    if found.len() > 1 {
        return Err(Error::invalid(format!("Multiple IDs found with provided prefix: {prefix}")));
    }
    Ok(found.pop())
}

/// Every container, newest first.
pub(crate) fn all(connection: &Connection) -> Result<Vec<Container>> {
    let query = format!("SELECT {COLUMNS} FROM container ORDER BY created_at DESC, id");
    let mut statement = connection.prepare_cached(&query)?;
    Ok(statement.query_map([], Container::from_row)?.collect::<rusqlite::Result<Vec<_>>>()?)
}

/// Ids of all containers.
pub(crate) fn ids(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection.prepare_cached("SELECT id FROM container")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<_>>>()?)
}

/// Adds a container; a taken name is Docker's conflict.
pub(crate) fn insert(transaction: &Transaction<'_>, container: &Container) -> Result<()> {
    check_name_is_free(transaction, &container.name)?;
    transaction
        .prepare_cached(
            "INSERT INTO container (id, name, image, image_id, created_at, state, started_at, uid_base, auto_remove,
             config, host, mounts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )?
        .execute(params![
            container.id,
            container.name,
            container.image,
            container.image_id,
            container.created_at,
            container.state.as_str(),
            container.started_at,
            container.uid_base,
            container.host.auto_remove,
            compact(&container.config)?,
            compact(&container.host)?,
            json(&container.mounts)?,
        ])?;
    for mount in container.mounts.iter().filter(|mount| mount.point.kind == "volume") {
        transaction
            .prepare_cached("INSERT OR IGNORE INTO volume_use (container, volume) VALUES (?1, ?2)")?
            .execute([&container.id, &mount.point.name])?;
    }
    Ok(())
}

/// Docker's conflict if a container has that name.
pub(crate) fn check_name_is_free(connection: &Connection, name: &str) -> Result<()> {
    let holder: Option<String> = connection
        .prepare_cached("SELECT id FROM container WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    match holder {
        None => Ok(()),
        Some(id) => Err(Error::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        ))),
    }
}

/// Runs an update of one row that must exist.
fn update(transaction: &Transaction<'_>, id: &str, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<()> {
    match transaction.prepare_cached(sql)?.execute(values)? {
        0 => Err(Error::not_found(format!("No such container: {id}"))),
        _ => Ok(()),
    }
}

/// Records that the container is to run, before anything of it runs; forgets the last run's end.
pub(crate) fn set_running(transaction: &Transaction<'_>, id: &str) -> Result<()> {
    let sql =
        "UPDATE container SET state = 'running', exit_code = 0, oom = 0, error = '', stopped_by_user = 0 WHERE id = ?1";
    update(transaction, id, sql, &[&id])
}

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Exit code; 128 + signal.
    pub(crate) exit_code: i64,
    /// Whether the kernel ended it for want of memory.
    pub(crate) oom: bool,
    /// When it began, nanoseconds since 1970; 0: as recorded.
    pub(crate) started_at: i64,
    /// When it ended, nanoseconds since 1970.
    pub(crate) finished_at: i64,
    /// Restarts by the restart policy in this run.
    pub(crate) restart_count: i64,
    /// Whether `stop` or `kill` ended it.
    pub(crate) stopped_by_user: bool,
}

/// Records the end of a run.
pub(crate) fn set_exited(transaction: &Transaction<'_>, id: &str, ended: &Ended) -> Result<()> {
    network::endpoints::deactivate(transaction, id)?;
    update(
        transaction,
        id,
        "UPDATE container SET state = 'exited', exit_code = ?2, oom = ?3, finished_at = ?4, restart_count = ?5,
         stopped_by_user = ?6, started_at = CASE WHEN ?7 = 0 THEN started_at ELSE ?7 END WHERE id = ?1",
        &[
            &id,
            &ended.exit_code,
            &ended.oom,
            &ended.finished_at,
            &ended.restart_count,
            &ended.stopped_by_user,
            &ended.started_at,
        ],
    )
}

/// Whether `stop` or `kill` ended the last run.
pub(crate) fn was_stopped(connection: &Connection, id: &str) -> Result<bool> {
    let mut query = connection.prepare_cached("SELECT 1 FROM container WHERE id = ?1 AND stopped_by_user = 1")?;
    Ok(query.exists([id])?)
}

/// Records a start that failed: back to `created` (or `exited`, if it ever ran), with the reason.
pub(crate) fn set_error(transaction: &Transaction<'_>, id: &str, exit_code: i64, error: &str) -> Result<()> {
    network::endpoints::deactivate(transaction, id)?;
    let sql = "UPDATE container SET state = CASE WHEN started_at = 0 THEN 'created' ELSE 'exited' END, exit_code = ?2,
        error = ?3 WHERE id = ?1";
    update(transaction, id, sql, &[&id, &exit_code, &error])
}

/// Records that a removal begins, and whether anonymous volumes go too: whoever finishes it must know.
pub(crate) fn set_removing(transaction: &Transaction<'_>, id: &str, volumes: bool) -> Result<()> {
    // The column says of every container whether its anonymous volumes go with it.
    let sql = "UPDATE container SET state = 'removing', auto_remove = max(auto_remove, ?2) WHERE id = ?1";
    update(transaction, id, sql, &[&id, &volumes])
}

/// Whether a removal that has begun takes anonymous volumes too.
pub(crate) fn removes_volumes(connection: &Connection, id: &str) -> Result<bool> {
    let mut query = connection
        .prepare_cached("SELECT 1 FROM container WHERE id = ?1 AND state = 'removing' AND auto_remove = 1")?;
    Ok(query.exists([id])?)
}

/// Records a new name, which must be free.
pub(crate) fn set_name(transaction: &Transaction<'_>, id: &str, name: &str) -> Result<()> {
    check_name_is_free(transaction, name)?;
    update(transaction, id, "UPDATE container SET name = ?2 WHERE id = ?1", &[&id, &name])
}

/// Records a changed host part.
pub(crate) fn set_host(transaction: &Transaction<'_>, id: &str, host: &HostConfig) -> Result<()> {
    update(transaction, id, "UPDATE container SET host = ?2 WHERE id = ?1", &[&id, &compact(host)?])
}

/// Forgets the container and its uses of volumes; no error if it is gone already.
pub(crate) fn delete(transaction: &Transaction<'_>, id: &str) -> Result<()> {
    network::endpoints::forget(transaction, id)?;
    transaction.prepare_cached("DELETE FROM volume_use WHERE container = ?1")?.execute([id])?;
    transaction.prepare_cached("DELETE FROM container WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// First ids of all ranges in use.
pub(crate) fn uid_bases(connection: &Connection) -> Result<Vec<u32>> {
    let mut statement =
        connection.prepare_cached("SELECT uid_base FROM container WHERE uid_base IS NOT NULL ORDER BY uid_base")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<_>>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_documents_read_back_as_they_were() {
        let mut host = HostConfig { memory: 7, network_mode: "bridge".to_owned(), ..HostConfig::default() };
        host.masked_paths = Some(Vec::new());
        let text = compact(&host).unwrap();
        assert!(text.len() < 80, "{text}");
        assert_eq!(serde_json::from_str::<HostConfig>(&text).unwrap(), host);
        let config = Config { cmd: Some(Vec::new()), tty: true, ..Config::default() };
        assert_eq!(serde_json::from_str::<Config>(&compact(&config).unwrap()).unwrap(), config);
    }
}
