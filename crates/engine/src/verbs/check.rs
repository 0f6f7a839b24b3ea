//! `system check`: the image store against its digests and records, and whether every container has its directories.

use std::path::Path;

use image::CheckReport;
use records::rusqlite::Connection;

use super::images::containers_of;
use crate::{Engine, Result, table};

/// One thing that was wrong.
pub use image::Problem as StoreProblem;

impl Engine {
    /// Reads everything, and with `repair` mends what can be mended.
    pub fn check_store(&self, repair: bool) -> Result<CheckReport> {
        let store = self.images();
        // What cannot be told is taken to be in use.
        let used =
            |connection: &Connection, id: &str| containers_of(connection, id).map_or(true, |all| !all.is_empty());
        let mut report = self.with_records(|records| Ok(store.check(records, repair, &used)?))?;
        for container in self.read(table::all)? {
            report.problems.extend(self.check_container(&container.id));
        }
        Ok(report)
    }

    fn check_container(&self, id: &str) -> Option<StoreProblem> {
        let directory = self.paths().container(id);
        let whole = |name: &str| Path::new(&directory).join(name).exists();
        if whole("upper") || whole("disk.ext4") {
            return None;
        }
        let what = format!("container {}: its files in {} are gone: remove it", id.get(..12)?, directory.display());
        Some(StoreProblem { what, mended: None })
    }
}
