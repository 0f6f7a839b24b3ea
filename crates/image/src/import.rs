//! `import`: one root file system archive becomes an image of one layer.

use std::io::Read;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::staging::{NewImage, Staging};
use crate::store::known_layers;
use crate::{Digest, Store, changes, config};

impl Store {
    /// Makes an image of one archive, compressed or not; its id. `changes` are Dockerfile instructions, `message`
    /// becomes the comment in the image's history (Docker's default is `Imported from -`).
    pub fn import(
        &self,
        records: &mut records::Records,
        input: &mut dyn Read,
        reference: Option<&str>,
        changes: &[String],
        message: &str,
        platform: Option<&str>,
    ) -> Result<String> {
        let name = reference.map(tag_of).transpose()?;
        let platform = platform.map(str::parse).transpose()?.unwrap_or_else(Platform::host);
        let mut inner = Map::new();
        changes.iter().try_for_each(|change| changes::apply(&mut inner, change))?;
        let staging = Staging::begin(self, records)?;
        let layer = staging.receive(input)?;
        let config = describe(&platform, inner, message, &layer.diff_id);
        let parsed = config::parse(&config, "the new image's configuration")?;
        let image = NewImage {
            id: Digest::of(&config),
            config,
            manifest: None,
            layers: vec![layer.diff_id.clone()],
            created: config::created(&parsed),
            names: name.iter().map(Reference::to_string).collect(),
        };
        let known = known_layers(records.read())?;
        let new = if known.contains_key(layer.diff_id.as_str()) { Vec::new() } else { vec![layer] };
        staging.publish(records, &new, std::slice::from_ref(&image))?;
        Ok(image.id.to_string())
    }
}

pub(crate) fn tag_of(text: &str) -> Result<Reference> {
    let parsed: Reference = text.parse()?;
    if parsed.digest().is_some() {
        return Err(Error::Invalid("cannot import digest reference".into()));
    }
    Ok(parsed.or_latest())
}

fn describe(platform: &Platform, inner: Map<String, Value>, message: &str, diff_id: &Digest) -> Vec<u8> {
    let now = jiff::Timestamp::now().to_string();
    let comment = if message.is_empty() { "Imported from -" } else { message };
    let mut document = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "created": now,
        "config": inner,
        "rootfs": {"type": "layers", "diff_ids": [diff_id.as_str()]},
        "history": [{"created": now, "comment": comment}],
    });
    if let (Some(variant), Some(map)) = (&platform.variant, document.as_object_mut()) {
        map.insert("variant".into(), json!(variant));
    }
    document.to_string().into_bytes()
}
