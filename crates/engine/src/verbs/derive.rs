//! What builds need of images and containers: an image's tree, images made of another one and a new layer, and the memory
//! of which step made which image. Which steps there are, and in what order, is the business of `build`.

use std::io::Write;
use std::os::fd::OwnedFd;

use image::{Image, Same, Upper};
use records::Durability;
use records::rusqlite::{OptionalExtension as _, Row, Transaction};

use crate::copy_up::View;
use crate::{Engine, Error, PruneReport, Result};

/// Makes a new image's configuration when the digest of its layer is known; none: it has no layer of its own.
pub type Document<'a> = dyn Fn(Option<&str>) -> Vec<u8> + 'a;

/// Writes a layer's archive.
pub type WriteLayer<'a> = dyn FnOnce(&mut dyn Write) -> std::io::Result<()> + Send + 'a;

/// What a step of a build has made.
#[derive(Clone, Debug)]
pub struct BuiltStep {
    /// Its image.
    pub image: String,
    /// Nanoseconds since 1970.
    pub made_at: i64,
    /// Bytes of its own layer.
    pub size: u64,
}

/// Which steps of builds outlive a prune; the default keeps none.
#[derive(Clone, Debug, Default)]
pub struct KeptSteps {
    /// Those that were made since, in nanoseconds since 1970.
    pub since: Option<i64>,
    /// The newest whose layers take no more bytes together.
    pub bytes: Option<u64>,
}

/// The images of steps that go, the newest first.
fn superfluous(transaction: &Transaction<'_>, kept: &KeptSteps) -> Result<Vec<String>> {
    // The last layer of an image is the one that its step has made.
    let sql = "SELECT s.image, max(s.made_at), coalesce(max(l.size), 0) FROM build_step s
        LEFT JOIN image_layers p ON p.image = s.image
            AND p.position = (SELECT max(position) FROM image_layers WHERE image = s.image)
        LEFT JOIN layers l ON l.diff_id = p.layer GROUP BY s.image ORDER BY 2 DESC, 1";
    let mut query = transaction.prepare(sql)?;
    let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)? as u64));
    let (mut images, mut room) = (Vec::new(), 0_u64);
    for row in query.query_map([], row)? {
        let (image, made_at, size) = row?;
        room = room.saturating_add(size);
        let young = kept.since.is_some_and(|since| made_at >= since);
        let fits = kept.bytes.is_some_and(|most| room <= most);
        let stays = match (kept.since, kept.bytes) {
            (None, None) => false,
            (Some(_), None) => young,
            (None, Some(_)) => fits,
            (Some(_), Some(_)) => young && fits,
        };
        if !stays {
            images.push(image);
        }
    }
    Ok(images)
}

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

    /// The images that steps have made and that are still there, each once.
    pub fn built_images(&self) -> Result<Vec<BuiltStep>> {
        // The last layer of an image is the one that its step has made.
        let sql = "SELECT s.image, max(s.made_at), coalesce(l.size, 0) FROM build_step s
            JOIN images i ON i.id = s.image
            LEFT JOIN image_layers p ON p.image = s.image
                AND p.position = (SELECT max(position) FROM image_layers WHERE image = s.image)
            LEFT JOIN layers l ON l.diff_id = p.layer GROUP BY s.image ORDER BY 2";
        self.read(|connection| {
            let mut query = connection.prepare_cached(sql)?;
            let step = |row: &records::rusqlite::Row<'_>| {
                Ok(BuiltStep { image: row.get(0)?, made_at: row.get(1)?, size: row.get::<_, i64>(2)? as u64 })
            };
            Ok(query.query_map([], step)?.collect::<Result<Vec<_>, _>>()?)
        })
    }

    /// Forgets all steps and removes the images that are theirs alone; what has a name or is used by a container stays.
    pub fn prune_steps(&self) -> Result<PruneReport> {
        self.prune_steps_but(&KeptSteps::default())
    }

    /// The same for steps that were made before a time, and for the oldest of those that take more room than they may.
    pub fn prune_steps_but(&self, kept: &KeptSteps) -> Result<PruneReport> {
        let size = || -> Result<u64> {
            self.read(|connection| {
                let sum = connection.query_row("SELECT coalesce(sum(size), 0) FROM layers", [], |row| row.get(0));
                Ok(sum.map(|sum: i64| sum as u64)?)
            })
        };
        let before = size()?;
        let images = self.write(Durability::Power, |transaction| {
            let images = superfluous(transaction, kept)?;
            let mut forget = transaction.prepare("DELETE FROM build_step WHERE image = ?1")?;
            images.iter().try_for_each(|image| forget.execute([image]).map(drop))?;
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
