//! What builds need of images and containers: an image's tree, images made of another one and a new layer, and the memory
//! of which step made which image. Which steps there are, and in what order, is the business of `build`.

use std::io::Write;
use std::os::fd::OwnedFd;

use image::{Image, Same, Upper};
use records::Durability;
use records::rusqlite::OptionalExtension as _;

use crate::copy_up::View;
use crate::{Engine, Error, PruneReport, Result};

/// Makes a new image's configuration when the digest of its layer is known; none: it has no layer of its own.
pub type Document<'a> = dyn Fn(Option<&str>) -> Vec<u8> + 'a;

/// Writes a layer's archive.
pub type WriteLayer<'a> = dyn FnOnce(&mut dyn Write) -> std::io::Result<()> + Send + 'a;

impl Engine {
    /// The image of a name, id, digest or `host:/path`, which must be present.
    pub fn find_image(&self, name: &str) -> Result<Image> {
        self.read(|connection| Ok(self.images().resolve(connection, name)?))
    }

    /// The files of an image, as one read-only tree.
    pub fn image_tree(&self, image: &Image) -> Result<OwnedFd> {
        let view = View::open(&self.images().mount(image)?)?;
        view.root().try_clone().map_err(|error| Error::internal(format!("open an image: {error}")))
    }

    /// Makes an image of layers that are stored already and at most one new one; its id. `names` are as users write
    /// them. `write` must not use this engine.
    pub fn derive_image(
        &self,
        names: &[String],
        document: &Document<'_>,
        write: Option<Box<WriteLayer<'_>>>,
    ) -> Result<String> {
        let full = names.iter().map(|name| Ok(name.parse::<image::Reference>()?.or_latest().to_string()));
        let full = full.collect::<Result<Vec<_>>>()?;
        let store = self.images();
        let write = write.map(|write| {
            move |output: &mut dyn Write| {
                write(output)
                    .map_err(|error| image::Error::Step { step: "write a layer".to_owned(), cause: error.to_string() })
            }
        });
        let id = self.with_records(|records| {
            Ok(store.derive(records, &full, write, |layer| Ok(document(layer.map(image::Digest::as_str))))?)
        })?;
        names.iter().try_for_each(|name| self.image_event("tag", &id, name))?;
        Ok(id)
    }

    /// Makes an image of what an ended container has changed; its id. `places` are where it had mounts: what was made
    /// there for them is none of the changes.
    pub fn derive_from_container(&self, container: &str, places: &[&str], document: &Document<'_>) -> Result<String> {
        let container = self.look_up(container)?;
        let writable = self.writable(&container)?;
        let places = [writable.trees().places, places].concat();
        let trees = Upper { places: &places, ..writable.trees() };
        let changes = trees.changes(Same::ByContent)?;
        let write = |output: &mut dyn Write| trees.write_layer(&changes, output);
        let (store, layer) = (self.images(), (!changes.is_empty()).then_some(write));
        self.with_records(|records| {
            Ok(store.derive(records, &[], layer, |layer| Ok(document(layer.map(image::Digest::as_str))))?)
        })
    }

    /// Writes images of a build as an OCI archive.
    pub fn assemble(&self, assembly: &image::Assembly, output: &mut dyn Write) -> Result<image::Assembled> {
        let names = assembly.names.iter().map(|name| Ok(name.parse::<image::Reference>()?.or_latest().to_string()));
        let assembly = image::Assembly { names: names.collect::<Result<_>>()?, ..assembly.clone() };
        let store = self.images();
        self.read(|connection| Ok(store.assemble(connection, &assembly, output)?))
    }

    /// The image that a step of this key made, if it is still there, and when: nanoseconds since 1970.
    pub fn built_step(&self, key: &str) -> Result<Option<(String, i64)>> {
        self.read(|connection| {
            let found: Option<(String, i64)> = connection
                .prepare_cached("SELECT image, made_at FROM build_step WHERE key = ?1")?
                .query_row([key], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            match found {
                Some((id, at)) if self.images().exists(connection, &id)? => Ok(Some((id, at))),
                _ => Ok(None),
            }
        })
    }

    /// Remembers which image a step made, and when.
    pub fn remember_step(&self, key: &str, image: &str, made_at: i64) -> Result<()> {
        self.write(Durability::Process, |transaction| {
            let sql = "INSERT OR REPLACE INTO build_step (key, image, made_at) VALUES (?1, ?2, ?3)";
            transaction.prepare_cached(sql)?.execute((key, image, made_at))?;
            Ok(())
        })
    }

    /// Forgets all steps and removes the images that are theirs alone; what has a name or is used by a container stays.
    pub fn prune_steps(&self) -> Result<PruneReport> {
        let size = || -> Result<u64> {
            self.read(|connection| {
                let sum = connection.query_row("SELECT coalesce(sum(size), 0) FROM layers", [], |row| row.get(0));
                Ok(sum.map(|sum: i64| sum as u64)?)
            })
        };
        let before = size()?;
        let images = self.write(Durability::Power, |transaction| {
            let mut query = transaction.prepare("SELECT DISTINCT image FROM build_step ORDER BY image")?;
            let images = query.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
            transaction.execute("DELETE FROM build_step", [])?;
            Ok(images)
        })?;
        let mut removed = Vec::new();
        for id in images {
            let nameless = |image: Image| image.repo_tags.is_empty() && image.repo_digests.is_empty();
            if self.find_image(&id).is_ok_and(nameless) && self.remove_image(&id, false, false).is_ok() {
                removed.push(id);
            }
        }
        Ok(PruneReport { removed, reclaimed: before.saturating_sub(size()?) })
    }
}
