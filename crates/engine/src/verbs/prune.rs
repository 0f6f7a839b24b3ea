//! `image prune`, and `save`: what concerns several images at once.

use std::io::Write;

use image::{Removed, Usage};
use records::rusqlite::Transaction;

use super::images::{containers_of, labels, steps_of_builds};
use crate::filters::Filters;
use crate::model::Map;
use crate::{Engine, Error, ErrorKind, Result, events};

/// What `image prune` did.
#[derive(Clone, Debug, Default)]
pub struct ImagePruneReport {
    /// Names taken away, images and layers deleted.
    pub removed: Vec<Removed>,
    /// Bytes.
    pub reclaimed: u64,
}

impl Engine {
    /// Removes images that no container uses: those without a tag, with the filter `dangling=false` all (filters:
    /// dangling label label! until).
    pub fn prune_images(&self, filters: &Map<Vec<String>>) -> Result<ImagePruneReport> {
        let everything = filters.keys().all(|key| key == "dangling");
        let filters = Filters::new(filters, &["dangling", "label", "label!", "until"])?;
        let (dangling, until) = (filters.boolean("dangling")?.unwrap_or(true), filters.until()?);
        let store = self.images();
        let (mut images, before, steps) = self.read(|connection| {
            Ok((store.list(connection)?, store.layer_bytes(connection)?, steps_of_builds(connection)?))
        })?;
        // The memory of builds is pruned by itself.
        images.retain(|image| !(image.repo_tags.is_empty() && steps.contains(&image.id)));
        let mut report = ImagePruneReport::default();
        for image in images.iter().rev() {
            let wanted = (!dangling || image.repo_tags.is_empty())
                && until.is_none_or(|until| image.created.saturating_mul(1_000_000_000) < until)
                && filters.labels(&labels(image))
                && self.bounds().sees(&labels(image));
            if wanted {
                report.removed.extend(self.prune_image(&image.id)?);
            }
        }
        let after = self.read(|connection| Ok(store.layer_bytes(connection)?))?;
        report.reclaimed = before.saturating_sub(after);
        if everything && self.bounds().label.is_none() {
            report.reclaimed += store.drop_interrupted_downloads();
        }
        let attributes = Map::from([("reclaimed".to_owned(), report.reclaimed.to_string())]);
        events::append(self.paths(), &events::event("image", "prune", "", attributes))?;
        Ok(report)
    }

    /// Removes an image with all its names, unless a container uses it.
    fn prune_image(&self, id: &str) -> Result<Vec<Removed>> {
        let unused = |transaction: &Transaction<'_>, id: &str| match containers_of(transaction, id)?.is_empty() {
            true => Ok(Usage::default()),
            false => Err(Error::conflict("the image is in use")),
        };
        let store = self.images();
        match self.with_records(|records| store.remove(records, id, true, unused)) {
            Ok(removed) => {
                self.tell_removed(id, &removed)?;
                Ok(removed)
            }
            // In use, or gone meanwhile.
            Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Writes images as one archive. Names without a tag mean all tags of the repository. An error of `output` ends it.
    pub fn save(&self, names: &[String], platform: Option<&str>, output: &mut (impl Write + ?Sized)) -> Result<()> {
        let store = self.images();
        let save = self.read(|connection| Ok(store.save(connection, names, platform)?))?;
        let ids: Vec<String> = save.ids().map(str::to_owned).collect();
        for (old, new) in save.write(output)? {
            self.note(format!("the archives of {old}'s layers are not kept, only their files: it was saved as {new}"));
        }
        ids.iter().try_for_each(|id| self.image_event("save", id, id))
    }
}
