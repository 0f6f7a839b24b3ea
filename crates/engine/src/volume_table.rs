//! Rows of volumes and of who uses them. The directories belong to `verbs/volumes.rs` and `verbs/create.rs`.

use records::rusqlite::{self, Connection, OptionalExtension as _, Row, Transaction, params};

use crate::model::{Map, Volume};
use crate::table::json;
use crate::volume_mount::{self, FileSystem};
use crate::{Error, Paths, Result, clock};

/// Label that Docker gives to volumes that nobody named.
pub(crate) const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// A volume's row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VolumeRow {
    /// Unique name.
    pub(crate) name: String,
    /// Driver options (`type`, `o`, `device`).
    pub(crate) options: Map<String>,
    /// User labels.
    pub(crate) labels: Map<String>,
    /// Nanoseconds since 1970.
    pub(crate) created_at: i64,
    /// Whether nobody named it.
    pub(crate) anonymous: bool,
}

impl VolumeRow {
    /// A volume as of now.
    pub(crate) fn new(name: &str, options: Map<String>, labels: Map<String>) -> Self {
        VolumeRow { name: name.to_owned(), options, labels, created_at: clock::now(), anonymous: false }
    }

    /// A volume that nobody named.
    pub(crate) fn anonymous(name: &str) -> Self {
        let labels = Map::from([(ANONYMOUS_LABEL.to_owned(), String::new())]);
        VolumeRow { anonymous: true, ..VolumeRow::new(name, Map::new(), labels) }
    }

    /// Directory with its data: its own, the one that a volume with `o=bind` names, or where its file system is mounted
    /// while it is in use.
    pub(crate) fn data(&self, paths: &Paths) -> std::path::PathBuf {
        match self.options.get("device") {
            Some(_) if FileSystem::of(&self.options).is_some() => volume_mount::point(paths, &self.name),
            Some(device) => device.into(),
            None => paths.volume(&self.name).join("_data"),
        }
    }

    /// What Docker calls so: where a file system is mounted, else the volume's own directory.
    fn mountpoint(&self, paths: &Paths) -> std::path::PathBuf {
        match FileSystem::of(&self.options) {
            Some(_) => volume_mount::point(paths, &self.name),
            None => paths.volume(&self.name).join("_data"),
        }
    }

    /// As `volume inspect` shows it.
    pub(crate) fn shown(&self, paths: &Paths) -> Volume {
        Volume {
            created_at: clock::rfc3339(self.created_at / 1_000_000_000 * 1_000_000_000),
            driver: "local".to_owned(),
            labels: self.labels.clone(),
            mountpoint: self.mountpoint(paths).to_string_lossy().into_owned(),
            name: self.name.clone(),
            options: (!self.options.is_empty()).then(|| self.options.clone()),
            scope: "local".to_owned(),
        }
    }

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(VolumeRow {
            name: row.get(0)?,
            options: crate::table::document(row, 1)?,
            labels: crate::table::document(row, 2)?,
            created_at: row.get(3)?,
            anonymous: row.get(4)?,
        })
    }
}

const COLUMNS: &str = "name, options, labels, created_at, anonymous";

/// The volume of that name.
pub(crate) fn get(connection: &Connection, name: &str) -> Result<Option<VolumeRow>> {
    let query = format!("SELECT {COLUMNS} FROM volume WHERE name = ?1");
    Ok(connection.prepare_cached(&query)?.query_row([name], VolumeRow::from_row).optional()?)
}

/// The volume of that name, which must exist.
pub(crate) fn find(connection: &Connection, name: &str) -> Result<VolumeRow> {
    get(connection, name)?.ok_or_else(|| Error::not_found(format!("get {name}: no such volume")))
}

/// All volumes, by name.
pub(crate) fn all(connection: &Connection) -> Result<Vec<VolumeRow>> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM volume ORDER BY name"))?;
    Ok(statement.query_map([], VolumeRow::from_row)?.collect::<rusqlite::Result<Vec<_>>>()?)
}

/// Adds a volume; whether it is new.
pub(crate) fn insert(transaction: &Transaction<'_>, volume: &VolumeRow) -> Result<bool> {
    let rows = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO volume (name, driver, options, labels, created_at, anonymous)
             VALUES (?1, 'local', ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            volume.name,
            json(&volume.options)?,
            json(&volume.labels)?,
            volume.created_at,
            volume.anonymous
        ])?;
    Ok(rows > 0)
}

/// Forgets a volume, unless a container uses it (Docker's conflict).
pub(crate) fn delete(transaction: &Transaction<'_>, name: &str) -> Result<()> {
    let users = users(transaction, name)?;
    if !users.is_empty() {
        return Err(Error::conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
    }
    transaction.prepare_cached("DELETE FROM volume WHERE name = ?1")?.execute([name])?;
    Ok(())
}

/// Ids of the containers that use a volume.
pub(crate) fn users(connection: &Connection, name: &str) -> Result<Vec<String>> {
    let mut statement =
        connection.prepare_cached("SELECT container FROM volume_use WHERE volume = ?1 ORDER BY container")?;
    Ok(statement.query_map([name], |row| row.get(0))?.collect::<rusqlite::Result<Vec<_>>>()?)
}
