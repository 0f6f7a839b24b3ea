//! `commit`: an image with one layer more. Where the layer's files come from is the caller's business: it writes them as
//! an archive.

use std::io::{self, BufWriter, Write};

use serde_json::{Map, Value, json};

use crate::error::{Error, Result, Step};
use crate::import::tag_of;
use crate::layer::NewLayer;
use crate::reference::Reference;
use crate::staging::{NewImage, Staging};
use crate::store::{Image, known_layers};
use crate::{Digest, Store, changes, config};

/// What an image is made of besides its layer.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// `name[:tag]`.
    pub reference: Option<String>,
    /// The configuration's `config` object, before the changes.
    pub config: Map<String, Value>,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// The command that made the layer, for the history.
    pub created_by: String,
    /// Who made it.
    pub author: String,
    /// Why.
    pub comment: String,
}

impl Store {
    /// Checks everything of a commit that can be checked before its layer is made.
    pub fn check_commit(&self, commit: &Commit) -> Result<()> {
        commit.reference.as_deref().map(tag_of).transpose()?;
        let mut inner = commit.config.clone();
        commit.changes.iter().try_for_each(|change| changes::apply(&mut inner, change))
    }

    /// Makes an image on top of `parent`; its id. `write` writes the new layer's archive; none: nothing has changed.
    pub fn commit<W>(
        &self,
        records: &mut records::Records,
        parent: &Image,
        commit: &Commit,
        write: Option<W>,
    ) -> Result<String>
    where
        W: FnOnce(&mut dyn Write) -> Result<()> + Send,
    {
        if parent.directory.is_some() {
            return Err(Error::Invalid(
                "a container of a `host:` image cannot be committed: its layer is no image's".into(),
            ));
        }
        let name = commit.reference.as_deref().map(tag_of).transpose()?;
        let mut inner = commit.config.clone();
        commit.changes.iter().try_for_each(|change| changes::apply(&mut inner, change))?;
        let names: Vec<String> = name.iter().map(Reference::to_string).collect();
        let id = self.derive(records, &names, write, |layer| describe(parent, commit, inner, layer))?;
        records.write(|transaction| {
            let sql = "UPDATE images SET parent = ?2 WHERE id = ?1 AND id <> ?2";
            transaction.execute(sql, [id.as_str(), parent.id.as_str()]).map(drop).map_err(Error::from)
        })?;
        Ok(id)
    }

    /// Makes an image of layers that are stored already and at most one new one; its id. `write` writes the new layer's
    /// archive, `document` makes the configuration when its digest is known. `names` are complete.
    pub fn derive<W>(
        &self,
        records: &mut records::Records,
        names: &[String],
        write: Option<W>,
        document: impl FnOnce(Option<&Digest>) -> Result<Vec<u8>>,
    ) -> Result<String>
    where
        W: FnOnce(&mut dyn Write) -> Result<()> + Send,
    {
        let staging = Staging::begin(self, records)?;
        let layer = write.map(|write| written(&staging, write)).transpose()?;
        let config = document(layer.as_ref().map(|layer| &layer.diff_id))?;
        let parsed = config::parse(&config, "the new image's configuration")?;
        let image = NewImage {
            id: Digest::of(&config),
            config,
            manifest: None,
            layers: config::diff_ids(&parsed)?,
            created: config::created(&parsed),
            names: names.to_vec(),
        };
        let known = known_layers(records.read())?;
        let new: Vec<NewLayer> =
            layer.into_iter().filter(|layer| !known.contains_key(layer.diff_id.as_str())).collect();
        staging.publish(records, &new, std::slice::from_ref(&image))?;
        Ok(image.id.to_string())
    }
}

/// Writes here, stores there.
fn written(staging: &Staging<'_>, write: impl FnOnce(&mut dyn Write) -> Result<()> + Send) -> Result<NewLayer> {
    let (reader, writer) = io::pipe().step(|| "make a pipe".into())?;
    std::thread::scope(|scope| {
        let written = scope.spawn(move || {
            let mut writer = BufWriter::with_capacity(64 << 10, writer);
            write(&mut writer)?;
            writer.flush().step(|| "write the layer".into())
        });
        let received = staging.receive(reader);
        let written =
            written.join().unwrap_or_else(|_| Err("the writing thread died").step(|| "write the layer".into()));
        match (received, written) {
            // What was cut off cannot have arrived whole: the cause is there.
            (Err(Error::Untrusted(_)) | Ok(_), Err(error)) => Err(error),
            (received, _) => received,
        }
    })
}

/// The configuration: the parent's, with one step more in its history.
fn describe(parent: &Image, commit: &Commit, inner: Map<String, Value>, layer: Option<&Digest>) -> Result<Vec<u8>> {
    let mut document: Map<String, Value> =
        serde_json::from_slice(&parent.config_json).step(|| format!("read the configuration of {}", parent.id))?;
    document
        .retain(|key, _| ["architecture", "os", "os.version", "variant", "rootfs", "history"].contains(&key.as_str()));
    let now = jiff::Timestamp::now().to_string();
    let mut step = json!({"created": now, "created_by": commit.created_by});
    for (key, value) in [("author", &commit.author), ("comment", &commit.comment)] {
        if !value.is_empty() {
            step[key] = json!(value);
        }
    }
    match layer {
        Some(layer) => layers(&mut document)?.push(json!(layer.as_str())),
        None => step["empty_layer"] = json!(true),
    }
    let mut history = document.remove("history").filter(Value::is_array).unwrap_or_else(|| json!([]));
    history.as_array_mut().into_iter().for_each(|steps| steps.push(step.clone()));
    document.insert("history".into(), history);
    document.insert("created".into(), json!(now));
    if !commit.author.is_empty() {
        document.insert("author".into(), json!(commit.author));
    }
    document.insert("config".into(), Value::Object(inner));
    Ok(Value::Object(document).to_string().into_bytes())
}

/// The list of layers, which may be missing or null in an image without any.
fn layers(document: &mut Map<String, Value>) -> Result<&mut Vec<Value>> {
    let rootfs = document.entry("rootfs").or_insert_with(|| json!({"type": "layers"}));
    if rootfs["diff_ids"].is_null() {
        rootfs["diff_ids"] = json!([]);
    }
    rootfs["diff_ids"].as_array_mut().ok_or_else(|| Error::untrusted("the parent's layers are no list"))
}
