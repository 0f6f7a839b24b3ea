//! The verbs over images: each takes the image store's answer and adds what only the engine knows (which containers
//! use an image) and the events.

use std::io::Read;

use image::{Image, Reference, Usage};
use records::rusqlite::{Connection, Transaction};
use serde_json::Value;

use crate::filters::Filters;
use crate::glob::glob;
use crate::model::Map;
use crate::{Engine, Result, events, status};

/// One line of `rmi`.
pub use image::Removed as RemovedImage;

/// Progress of a pull or load.
#[derive(Clone, Debug, Default)]
pub struct PullProgress {
    /// Short id of the layer; empty for the whole image.
    pub id: String,
    /// Docker's words: `Downloading`, `Pull complete`, `Digest: …`, `Status: …`.
    pub status: String,
    /// Bytes done.
    pub current: u64,
    /// Bytes in all; 0: unknown.
    pub total: u64,
}

/// What to import.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// `name[:tag]`.
    pub reference: Option<String>,
    /// `-c` Dockerfile instructions.
    pub changes: Vec<String>,
    /// `-m`.
    pub message: String,
    /// `os/arch[/variant]`.
    pub platform: Option<String>,
}

/// One row of `images`.
#[derive(Clone, Debug, Default)]
pub struct ImageRow {
    /// `sha256:…`.
    pub id: String,
    /// The image that it was committed on top of, if that is there; else empty.
    pub parent: String,
    /// `name:tag` names.
    pub repo_tags: Vec<String>,
    /// `name@sha256:…` names.
    pub repo_digests: Vec<String>,
    /// Seconds since 1970.
    pub created: i64,
    /// Bytes of all layers.
    pub size: u64,
    /// Labels.
    pub labels: Map<String>,
    /// How many containers use it.
    pub containers: usize,
}

impl Engine {
    /// Loads a docker-archive or an OCI archive; the lines to show (`Loaded image: …`).
    pub fn load(&self, input: &mut dyn Read, platform: Option<&str>) -> Result<Vec<String>> {
        self.bounds().check_unlabelled("images of archives")?;
        let store = self.images();
        let names = self.with_records(|records| Ok(store.load(records, input, platform)?))?;
        names.iter().try_for_each(|name| self.image_event("load", name, name))?;
        Ok(names.iter().map(|name| loaded(name)).collect())
    }

    /// Makes an image of one file system archive; the id.
    pub fn import(&self, input: &mut dyn Read, request: &ImportRequest) -> Result<String> {
        self.bounds().check_unlabelled("images of archives")?;
        let (store, name) = (self.images(), request.reference.as_deref());
        let (changes, platform) = (&request.changes, request.platform.as_deref());
        let id = self
            .with_records(|records| Ok(store.import(records, input, name, changes, &request.message, platform)?))?;
        self.image_event("import", &id, name.unwrap_or(&id))?;
        Ok(id)
    }

    /// Newest first; what only steps of builds made is shown if `all`. Filters: before dangling label reference since
    /// until.
    pub fn list_images(&self, all: bool, filters: &Map<Vec<String>>) -> Result<Vec<ImageRow>> {
        let store = self.images();
        self.read(|connection| {
            let filter = ImageFilter::read(&store, connection, filters)?;
            let mut rows: Vec<ImageRow> =
                store.list(connection)?.iter().filter(|image| filter.accepts(image)).map(row).collect();
            if !all {
                let steps = steps_of_builds(connection)?;
                rows.retain(|row| {
                    !(row.repo_tags.is_empty() && row.repo_digests.is_empty() && steps.contains(&row.id))
                });
            }
            for row in &mut rows {
                filter.narrow(row);
                row.containers = containers_of(connection, &row.id)?.len();
                row.parent = store.parent(connection, &row.id)?.unwrap_or_default();
            }
            rows.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.repo_tags.cmp(&b.repo_tags)));
            Ok(rows)
        })
    }

    /// Docker's `ImageInspect` document.
    pub fn inspect_image(&self, name: &str) -> Result<Value> {
        let store = self.images();
        self.read(|connection| Ok(store.inspect(connection, name)?))
    }

    /// An error if there is no such image, or if it is for none of the platforms (none at all: any will do).
    pub fn check_image_platform(&self, name: &str, platforms: &[String]) -> Result<()> {
        let image = self.find_image(name)?;
        let wrong: Vec<image::Error> =
            platforms.iter().filter_map(|one| image.check_platform(name, Some(one)).err()).collect();
        if wrong.len() < platforms.len() || wrong.is_empty() {
            return Ok(());
        }
        wrong.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Gives an image one more name.
    pub fn tag(&self, name: &str, reference: &str) -> Result<()> {
        self.check_image(name)?;
        self.check_image_name(reference)?;
        let store = self.images();
        let id = self.write(records::Durability::Power, |transaction| {
            store.tag(transaction, name, reference)?;
            Ok(store.id(transaction, reference)?)
        })?;
        self.image_event("tag", &id, reference)
    }

    /// Removes a name, and the image with its last name.
    pub fn remove_image(&self, name: &str, force: bool, _no_prune: bool) -> Result<Vec<RemovedImage>> {
        self.check_image(name)?;
        let (store, paths) = (self.images(), self.paths());
        let usage = |transaction: &Transaction<'_>, id: &str| -> Result<Usage> {
            let mut usage = Usage::default();
            for container in containers_of(transaction, id)? {
                let runs = status::is_held(paths, &container);
                *(if runs { &mut usage.running } else { &mut usage.stopped }) = Some(container);
            }
            Ok(usage)
        };
        let id = self.read(|connection| Ok(store.id(connection, name)?))?;
        let removed = self.with_records(|records| store.remove(records, name, force, usage))?;
        self.tell_removed(&id, &removed)?;
        Ok(removed)
    }

    /// The events of an image that has lost names, or is gone.
    pub(super) fn tell_removed(&self, id: &str, removed: &[RemovedImage]) -> Result<()> {
        for line in removed {
            match line {
                RemovedImage::Untagged(name) => self.image_event("untag", id, name)?,
                RemovedImage::Deleted(gone) if gone == id => self.image_event("delete", id, id)?,
                RemovedImage::Deleted(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn image_event(&self, action: &str, id: &str, name: &str) -> Result<()> {
        let attributes = Map::from([("name".to_owned(), name.to_owned())]);
        events::append(self.paths(), &events::event("image", action, id, attributes))
    }
}

/// Docker's line for one loaded image: by name, or by id where it has none.
fn loaded(name: &str) -> String {
    match name.starts_with("sha256:") {
        true => format!("Loaded image ID: {name}"),
        false => format!("Loaded image: {name}"),
    }
}

pub(super) fn containers_of(connection: &Connection, image: &str) -> Result<Vec<String>> {
    let mut query = connection.prepare_cached("SELECT id FROM container WHERE image_id = ?1")?;
    Ok(query.query_map([image], |row| row.get(0))?.collect::<records::rusqlite::Result<_>>()?)
}

pub(super) fn row(image: &Image) -> ImageRow {
    ImageRow {
        id: image.id.clone(),
        parent: String::new(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        created: image.created,
        size: image.size,
        labels: labels(image),
        containers: 0,
    }
}

pub(crate) fn labels(image: &Image) -> Map<String> {
    let labels = image.config.config().as_ref().and_then(|config| config.labels().clone());
    labels.unwrap_or_default().into_iter().collect()
}

/// The keys that `images` knows.
const KEYS: [&str; 7] = ["before", "dangling", "label", "label!", "reference", "since", "until"];

/// The filters of `images`, with the images that they name looked up.
struct ImageFilter<'a> {
    filters: Filters<'a>,
    dangling: Option<bool>,
    /// Created before that, seconds since 1970.
    before: Option<i64>,
    /// Created after that.
    since: Option<i64>,
}

impl<'a> ImageFilter<'a> {
    fn read(store: &image::Store, connection: &Connection, filters: &'a Map<Vec<String>>) -> Result<Self> {
        let filters = Filters::new(filters, &KEYS)?;
        let created = |name: &String| -> Result<i64> { Ok(store.resolve(connection, name)?.created) };
        let named = |key: &str| filters.values(key).iter().map(created).collect::<Result<Vec<_>>>();
        let until = filters.until()?.map(|until| until / 1_000_000_000);
        Ok(ImageFilter {
            dangling: filters.boolean("dangling")?,
            before: named("before")?.into_iter().chain(until).min(),
            since: named("since")?.into_iter().max(),
            filters,
        })
    }

    fn accepts(&self, image: &Image) -> bool {
        self.dangling.is_none_or(|wanted| wanted == image.repo_tags.is_empty())
            && self.before.is_none_or(|limit| image.created < limit)
            && self.since.is_none_or(|limit| image.created > limit)
            && self.filters.labels(&labels(image))
            && (!self.filters.has("reference") || image.repo_tags.iter().any(|name| self.names(name)))
    }

    /// Of an image found by reference only the names that match are shown.
    fn narrow(&self, row: &mut ImageRow) {
        row.repo_tags.retain(|name| self.names(name));
        row.repo_digests.retain(|name| self.names(name));
    }

    fn names(&self, name: &str) -> bool {
        self.filters.any("reference", |pattern| matches_reference(pattern, name))
    }
}

/// Docker's `reference` filter: a pattern of path segments against the familiar name, with or without its tag
/// (distribution's `FamiliarMatch`).
fn matches_reference(pattern: &str, name: &str) -> bool {
    let Ok(name) = name.parse::<Reference>() else { return false };
    [name.familiar(), name.familiar_name()].iter().any(|text| glob(pattern, text))
}

/// The images that steps of builds made.
pub(super) fn steps_of_builds(connection: &Connection) -> Result<std::collections::HashSet<String>> {
    let mut query = connection.prepare_cached("SELECT image FROM build_step")?;
    let rows = query.query_map([], |row| row.get(0))?;
    Ok(rows.collect::<records::rusqlite::Result<_>>()?)
}
