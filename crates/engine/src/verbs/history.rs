//! `history`: the steps that made an image, with the size of the layer that each one added.

use serde_json::Value;

use crate::{Engine, Error, Result};

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryRow {
    /// The image's id for the last step, `<missing>` for all others.
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Command.
    pub created_by: String,
    /// Bytes of its layer; 0 for a step without one.
    pub size: u64,
    /// Comment.
    pub comment: String,
    /// `name:tag` names, of the last step.
    pub tags: Vec<String>,
}

impl Engine {
    /// The image's history, newest step first; an error if it is not for `platform`.
    pub fn history(&self, name: &str, platform: Option<&str>) -> Result<Vec<HistoryRow>> {
        let store = self.images();
        let (image, sizes) = self.read(|connection| {
            let image = store.resolve(connection, name)?;
            image.check_platform(name, platform)?;
            let sizes = store.layer_sizes(connection, &image.id)?;
            Ok((image, sizes))
        })?;
        let document: Value = serde_json::from_slice(&image.config_json)
            .map_err(|error| Error::internal(format!("read the configuration of {}: {error}", image.id)))?;
        let mut sizes = sizes.into_iter();
        let mut rows = Vec::new();
        for step in document["history"].as_array().into_iter().flatten() {
            let size = match step["empty_layer"].as_bool() {
                Some(true) => 0,
                _ => sizes.next().ok_or_else(|| too_many(&image.id))?.1,
            };
            rows.push(row(step, size));
        }
        rows.reverse();
        if let Some(last) = rows.first_mut() {
            (last.id, last.tags) = (image.id, image.repo_tags);
        }
        Ok(rows)
    }
}

fn too_many(id: &str) -> Error {
    Error::invalid(format!("image {id}: its history has more steps with a layer than it has layers"))
}

fn row(step: &Value, size: u64) -> HistoryRow {
    let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
    let created = text("created").parse::<jiff::Timestamp>().map_or(0, |time| time.as_second());
    HistoryRow {
        id: "<missing>".to_owned(),
        created,
        created_by: text("created_by"),
        size,
        comment: text("comment"),
        tags: Vec::new(),
    }
}
