//! The cache as a directory (`--cache-to type=local`): which step made which image, and the images with their layers, so
//! that another machine goes on from there. What it says is checked as far as a store can check it: layers by their
//! digests; whose directory it is must be trusted not to lie about the steps.

use std::fs::{self, File};
use std::path::Path;

use engine::Engine;
use serde_json::{Value, json};

use crate::solver::Common;
use crate::stage::failed;
use crate::{Error, Result};

const STEPS: &str = "steps.json";
const IMAGES: &str = "images.tar";

/// A step that a build has made or found: key, image, and when it was made.
pub(crate) type Known = (String, String, i64);

/// Takes over what a directory knows and this machine does not; a directory that is not there knows nothing.
pub(crate) fn import(common: &Common<'_>, directory: &Path) -> Result<()> {
    let wrong = |cause: String| Error::new(format!("import the cache {}: {cause}", directory.display()));
    let Ok(bytes) = fs::read(directory.join(STEPS)) else { return Ok(()) };
    let steps = read(&bytes).ok_or_else(|| wrong(format!("{STEPS} is damaged")))?;
    let engine = common.engine();
    let missing = |(key, _, _): &Known| !matches!(engine.built_step(key), Ok(Some(_)));
    if !steps.iter().any(missing) {
        return Ok(());
    }
    let mut images = File::open(directory.join(IMAGES)).map_err(|error| wrong(format!("open {IMAGES}: {error}")))?;
    engine.load(&mut images, None).map_err(|error| wrong(error.to_string()))?;
    for (key, image, made_at) in steps.iter().filter(|step| missing(step)) {
        let there = engine.find_image(image).map_err(|error| wrong(error.to_string()))?;
        engine.remember_step(key, &there.id, *made_at).map_err(failed)?;
    }
    Ok(())
}

fn read(bytes: &[u8]) -> Option<Vec<Known>> {
    let document: Value = serde_json::from_slice(bytes).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let steps = document["steps"].as_array()?.iter();
    steps.map(|step| Some((text(&step["key"])?, text(&step["image"])?, step["made_at"].as_i64()?))).collect()
}

/// Writes the steps of this build and their images. The list of steps comes last: without it there is no cache.
pub(crate) fn export(common: &Common<'_>, engine: &Engine, directory: &Path, steps: &[Known]) -> Result<()> {
    let wrong = |cause: String| Error::new(format!("export the cache to {}: {cause}", directory.display()));
    let mut images: Vec<String> = steps.iter().map(|(_, image, _)| image.clone()).collect();
    images.sort();
    images.dedup();
    common.cancel.check()?;
    let written = (|| {
        fs::create_dir_all(directory)?;
        let new = |name: &str| directory.join(format!(".{name}.{}", std::process::id()));
        let mut file = File::create(new(IMAGES))?;
        engine.save(&images, None, &mut file).map_err(|error| std::io::Error::other(error.to_string()))?;
        file.sync_data()?;
        let entry = |(key, image, made_at): &Known| json!({"key": key, "image": image, "made_at": made_at});
        let list = json!({"steps": steps.iter().map(entry).collect::<Vec<_>>()});
        fs::write(new(STEPS), list.to_string())?;
        let _ = fs::remove_file(directory.join(STEPS));
        fs::rename(new(IMAGES), directory.join(IMAGES))?;
        fs::rename(new(STEPS), directory.join(STEPS))
    })();
    written.map_err(|error: std::io::Error| wrong(error.to_string()))
}
