//! Volumes: directories that outlive containers.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use records::Durability;

use super::create::Undo;
use crate::filters::Filters;
use crate::model::{Map, Volume};
use crate::request::{mounts, names};
use crate::volume_table::{self, VolumeRow};
use crate::{Context as _, Engine, Error, ErrorKind, PruneReport, Result, events, tree};

impl Engine {
    /// Creates a volume; the existing one if it is there with the same driver.
    pub fn create_volume(
        &self,
        name: Option<&str>,
        driver: &str,
        options: &Map<String>,
        labels: &Map<String>,
    ) -> Result<Volume> {
        mounts::check_driver(driver)?;
        mounts::check_options(options)?;
        self.bounds().check_volume_options(options)?;
        let mut row = match name.filter(|name| !name.is_empty()) {
            Some(name) => {
                names::check_volume_name(name)?;
                VolumeRow::new(name, options.clone(), labels.clone())
            }
            None => {
                let mut row = VolumeRow::anonymous(&names::random_id()?);
                row.options.clone_from(options);
                row.labels.extend(labels.clone());
                row
            }
        };
        self.bounds().mark(&mut row.labels);
        let making = self.making()?;
        let filling = self.filling()?;
        let mut made = Undo::default();
        self.make_volume_directory(&row, &mut made)?;
        let new = self.write(Durability::Power, |transaction| volume_table::insert(transaction, &row))?;
        made.keep();
        drop((filling, making));
        if !new {
            return self.existing(&row);
        }
        self.volume_event(&row.name, "create")?;
        Ok(row.shown(self.paths()))
    }

    /// A volume that was there already, which must be what was asked for.
    fn existing(&self, wanted: &VolumeRow) -> Result<Volume> {
        let row = self.read(|connection| volume_table::find(connection, &wanted.name))?;
        if !self.bounds().sees(&row.labels) {
            return Err(Error::conflict(format!("volume name {} is taken", row.name)));
        }
        if !wanted.options.is_empty() && wanted.options != row.options {
            return Err(Error::conflict(format!(
                "volume {} exists with other options; remove it first: volume already exists",
                row.name
            )));
        }
        Ok(row.shown(self.paths()))
    }

    /// Makes the directory of a volume that has no record yet.
    pub(super) fn make_volume_directory(&self, volume: &VolumeRow, made: &mut Undo) -> Result<()> {
        let directory = self.paths().volume(&volume.name);
        // It may be there: the volume exists, or another command is making it at this moment.
        if made.directory_if_missing(&directory, 0o701)? {
            let data = directory.join("_data");
            fs::DirBuilder::new().mode(0o755).create(&data).step(|| format!("create {}", data.display()))?;
        }
        Ok(())
    }

    pub(super) fn volume_event(&self, name: &str, action: &str) -> Result<()> {
        let attributes = Map::from([("driver".to_owned(), "local".to_owned())]);
        events::append(self.paths(), &events::event("volume", action, name, attributes))
    }

    /// Filters: dangling driver label name.
    pub fn list_volumes(&self, filters: &Map<Vec<String>>) -> Result<Vec<Volume>> {
        let filters = Filters::new(filters, &["dangling", "driver", "label", "name"])?;
        let (names, dangling) = (filters.patterns("name")?, filters.boolean("dangling")?);
        self.read(|connection| {
            let mut list = Vec::new();
            for row in volume_table::all(connection)? {
                let wanted = self.bounds().sees(&row.labels)
                    && names.matches(&row.name)
                    && filters.labels(&row.labels)
                    && filters.any("driver", |driver| driver == "local");
                let unused = || volume_table::users(connection, &row.name).map(|users| users.is_empty());
                if wanted && dangling.map_or(Ok(true), |dangling| unused().map(|unused| unused == dangling))? {
                    list.push(row.shown(self.paths()));
                }
            }
            Ok(list)
        })
    }

    /// One volume.
    pub fn inspect_volume(&self, name: &str) -> Result<Volume> {
        self.read(|connection| {
            let row = volume_table::find(connection, name)?;
            self.bounds().check_volume(name, &row.labels)?;
            Ok(row.shown(self.paths()))
        })
    }

    /// Removes a volume that no container uses; with `force` a missing one is no error.
    pub fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        match self.take_volume(name) {
            Err(error) if force && error.kind == ErrorKind::NotFound => Ok(()),
            Ok(aside) => {
                tree::remove(&aside)?;
                self.volume_event(name, "destroy")
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a volume off the records and its directory out of the way, while nobody can make one of the same name.
    fn take_volume(&self, name: &str) -> Result<PathBuf> {
        let _alone = self.alone()?;
        self.release_volumes("");
        self.write(Durability::Power, |transaction| {
            let row = volume_table::find(transaction, name)?;
            self.bounds().check_volume(name, &row.labels)?;
            self.bounds().check_volume_options(&row.options)?;
            volume_table::delete(transaction, name)
        })?;
        let aside = self.paths().volume(&format!("{}.removed", names::random_id()?));
        match fs::rename(self.paths().volume(name), &aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).step(|| format!("remove the directory of volume {name}"))
            }
            _ => Ok(aside),
        }
    }

    /// Removes unused volumes: anonymous ones, with `all` named ones too (filters: `label`, `label!`, `all`).
    pub fn prune_volumes(&self, filters: &Map<Vec<String>>) -> Result<PruneReport> {
        let filters = Filters::new(filters, &["label", "label!", "all"])?;
        let all = filters.boolean("all")?.unwrap_or(false);
        let mut report = PruneReport::default();
        for row in self.read(volume_table::all)? {
            if !(all || row.anonymous) || !filters.labels(&row.labels) || !self.bounds().sees(&row.labels) {
                continue;
            }
            let bytes = tree::size(&self.paths().volume(&row.name));
            match self.remove_volume(&row.name, false) {
                Ok(()) => {
                    report.reclaimed += bytes;
                    report.removed.push(row.name);
                }
                Err(error)
                    if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound | ErrorKind::Forbidden) => {}
                Err(error) => return Err(error),
            }
        }
        let attributes = Map::from([("reclaimed".to_owned(), report.reclaimed.to_string())]);
        events::append(self.paths(), &events::event("volume", "prune", "", attributes))?;
        Ok(report)
    }
}
