//! The cache elsewhere. It is an image: its layers are those that steps have made, and its configuration says which step
//! has which of them. So it travels as images do, in an OCI layout or to a registry, and an image that a build has made
//! can be its own cache. Layers are checked by their digests; whose cache it is must be trusted not to lie about the steps.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use engine::{Engine, PullRequest, PushRequest};
use image::{Assembly, Part};
use serde_json::{Value, json};

use crate::cache::{CachePlace, CacheSource, CacheTarget};
use crate::remote::load_layout;
use crate::scope::Platform;
use crate::solver::Common;
use crate::stage::failed;
use crate::{Error, Result};

/// Where a configuration has the steps.
const FIELD: &str = "kiste.build.cache";

/// A step that a build has made or found: key, image, and when it was made.
pub(crate) type Known = (String, String, i64);

/// A step and its layers, lowest first.
struct Step {
    key: String,
    layers: Vec<String>,
    made_at: i64,
}

/// Takes over what a cache knows and this machine does not; how many steps.
pub(crate) fn import(common: &Common<'_>, source: &CacheSource) -> Result<usize> {
    let engine = common.engine();
    let before = match source {
        CacheSource::Directory(_) => None,
        CacheSource::Registry(reference) => Some(by_digest(common, reference)?),
    };
    let known = before.as_ref().and_then(|name| engine.find_image(name).ok());
    let image = match (source, &before, known.clone()) {
        (_, _, Some(known)) => known,
        (CacheSource::Directory(layout), ..) => load_layout(&engine, layout, &Platform::host())?,
        (CacheSource::Registry(reference), name, None) => {
            let name = name.clone().unwrap_or_else(|| reference.clone());
            let access = common.request.access.clone();
            let request = PullRequest { reference: name, platform: None, all_tags: false, access };
            let pulled = engine.pull(&request, &mut |_| {}).map_err(failed)?;
            engine.find_image(&pulled.id).map_err(failed)?
        }
    };
    let adopted = adopt(common, &engine, &image);
    // It has done its work; what its steps have is theirs now.
    if known.is_none() && image.repo_tags.is_empty() {
        let _ = engine.remove_image(before.as_deref().unwrap_or(&image.id), false, false);
    }
    adopted
}

/// The reference with the digest that it has now: pulled by that, the image gets no tag here.
fn by_digest(common: &Common<'_>, reference: &str) -> Result<String> {
    let wrong = |error: image::Error| Error::new(error.to_string());
    let name = reference.parse::<image::Reference>().map_err(wrong)?;
    let found = image::ask(&common.request.access, reference).map_err(wrong)?;
    Ok(format!("{}@{}", name.familiar_name(), found.digest))
}

fn adopt(common: &Common<'_>, engine: &Engine, image: &image::Image) -> Result<usize> {
    let damaged = || Error::new("the list of steps in it is damaged");
    let config: Value = serde_json::from_slice(&image.config_json).map_err(|_| damaged())?;
    if config[FIELD].is_null() {
        return Err(Error::new("there is no cache of Kiste in it"));
    }
    let steps = read(&config).ok_or_else(damaged)?;
    let missing = |step: &&Step| !matches!(engine.built_step(&step.key), Ok(Some(_)));
    let mut count = 0;
    for step in steps.iter().filter(missing) {
        common.cancel.check()?;
        let document = bare(&config, &step.layers);
        let id = engine.derive_image(&[], &|_| document.clone(), None).map_err(failed)?;
        engine.remember_step(&step.key, &id, step.made_at).map_err(failed)?;
        count += 1;
    }
    Ok(count)
}

/// The same document as that of a step's own image.
fn bare(config: &Value, layers: &[String]) -> Vec<u8> {
    let mut document = serde_json::Map::new();
    for key in ["architecture", "os", "variant", "os.version"] {
        if let Some(value) = config.get(key) {
            document.insert(key.to_owned(), value.clone());
        }
    }
    document.insert("config".to_owned(), json!({}));
    document.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": layers}));
    Value::Object(document).to_string().into_bytes()
}

fn read(config: &Value) -> Option<Vec<Step>> {
    let layers = config["rootfs"]["diff_ids"].as_array()?;
    let step = |step: &Value| {
        let numbers = step["layers"].as_array()?.iter();
        let layers = numbers.map(|number| Some(layers.get(number.as_u64()? as usize)?.as_str()?.to_owned()));
        let (key, made_at) = (step["key"].as_str()?.to_owned(), step["made_at"].as_i64()?);
        Some(Step { key, layers: layers.collect::<Option<_>>()?, made_at })
    };
    config[FIELD]["steps"].as_array()?.iter().map(step).collect()
}

/// The steps of a build with their layers; with `results` only those that led there.
fn steps(engine: &Engine, known: &[Known], results: Option<&[Vec<String>]>) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (key, image, made_at) in known {
        let image = engine.find_image(image).map_err(failed)?;
        let step = Step { key: key.clone(), layers: image.config.rootfs().diff_ids().clone(), made_at: *made_at };
        if results.is_none_or(|results| results.iter().any(|layers| layers.starts_with(&step.layers))) {
            steps.push(step);
        }
    }
    steps.sort_by(|a, b| (a.layers.len(), &a.key).cmp(&(b.layers.len(), &b.key)));
    steps.dedup_by(|a, b| a.key == b.key);
    Ok(steps)
}

/// The list of steps over the layers of an image.
fn written(steps: &[Step], layers: &[String]) -> Value {
    let number = |layer: &String| layers.iter().position(|known| known == layer);
    let entry = |step: &Step| {
        let numbers: Option<Vec<usize>> = step.layers.iter().map(number).collect();
        numbers.map(|numbers| json!({"key": step.key, "layers": numbers, "made_at": step.made_at}))
    };
    json!({"version": 1, "steps": steps.iter().filter_map(entry).collect::<Vec<_>>()})
}

/// Writes the steps that led to an image into its configuration.
pub(crate) fn inline(engine: &Engine, known: &[Known], config: &[u8]) -> Result<Vec<u8>> {
    let mut document: Value = serde_json::from_slice(config)
        .map_err(|error| Error::new(format!("read the image's configuration: {error}")))?;
    let layers = layers(&document);
    document[FIELD] = written(&steps(engine, known, Some(std::slice::from_ref(&layers)))?, &layers);
    Ok(document.to_string().into_bytes())
}

/// Digests of an image's layers.
pub(crate) fn layers(document: &Value) -> Vec<String> {
    let list = document["rootfs"]["diff_ids"].as_array().into_iter().flatten();
    list.filter_map(|layer| layer.as_str().map(str::to_owned)).collect()
}

/// Writes the steps of a build, and their layers, to a place of their own.
pub(crate) fn export(
    common: &Common<'_>,
    engine: &Engine,
    target: &CacheTarget,
    known: &[Known],
    results: &[Vec<String>],
) -> Result<()> {
    let steps = steps(engine, known, (!target.all).then_some(results))?;
    let mut layers: Vec<String> = Vec::new();
    for layer in steps.iter().flat_map(|step| &step.layers) {
        if !layers.contains(layer) {
            layers.push(layer.clone());
        }
    }
    let here = Platform::host();
    let config = json!({"architecture": here.architecture, "os": here.os});
    let mut document: Value = serde_json::from_slice(&bare(&config, &layers)).unwrap_or_default();
    document[FIELD] = written(&steps, &layers);
    let bytes = document.to_string().into_bytes();
    let id = engine.derive_image(&[], &|_| bytes.clone(), None).map_err(failed)?;
    let sent = match &target.place {
        CachePlace::Inline => Ok(()),
        CachePlace::Registry(reference) => push(common, engine, &id, reference),
        CachePlace::Directory(directory, tag) => layout(engine, &id, directory, tag)
            .map_err(|error| Error::new(format!("export the cache to {}: {error}", directory.display()))),
    };
    let _ = engine.remove_image(&id, false, false);
    sent
}

/// Pushes under a name that the image has only as long; an image that had it gets it back.
fn push(common: &Common<'_>, engine: &Engine, id: &str, reference: &str) -> Result<()> {
    let before = engine.find_image(reference).ok();
    engine.tag(id, reference).map_err(failed)?;
    let access = common.request.access.clone();
    let request = PushRequest { reference: reference.to_owned(), access, ..PushRequest::default() };
    let pushed = engine.push(&request, &mut |_| {}).map_err(failed);
    let restored = match &before {
        Some(image) => engine.tag(&image.id, reference).map_err(failed),
        None => engine.remove_image(reference, false, false).map(drop).map_err(failed),
    };
    if let Ok(pushed) = &pushed
        && let Ok(name) = reference.parse::<image::Reference>()
    {
        let by_digest = pushed.iter().map(|one| format!("{}@{}", name.familiar_name(), one.digest));
        by_digest.for_each(|name| drop(engine.remove_image(&name, false, false)));
    }
    pushed.and(restored)
}

/// Writes an OCI layout; the index comes last: without it there is no cache.
fn layout(engine: &Engine, id: &str, directory: &Path, tag: &str) -> io::Result<()> {
    let new = directory.join(format!(".new-{}", std::process::id()));
    let written = (|| {
        fs::create_dir_all(&new)?;
        unpack(engine, id, &new)?;
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        for blob in fs::read_dir(new.join("blobs/sha256"))? {
            let blob = blob?;
            File::open(blob.path())?.sync_data()?;
            fs::rename(blob.path(), blobs.join(blob.file_name()))?;
        }
        fs::rename(new.join("oci-layout"), directory.join("oci-layout"))?;
        let index = indexed(&fs::read(new.join("index.json"))?, fs::read(directory.join("index.json")).ok(), tag)?;
        fs::write(new.join("index.json"), index)?;
        fs::rename(new.join("index.json"), directory.join("index.json"))
    })();
    let _ = fs::remove_dir_all(&new);
    written
}

/// The image as an archive, unpacked on the way.
fn unpack(engine: &Engine, id: &str, place: &Path) -> io::Result<()> {
    let other = |error: String| io::Error::other(error);
    let assembly =
        Assembly { images: vec![Part { id: id.to_owned(), attestations: Vec::new() }], ..Assembly::default() };
    let (reader, mut writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| image::unpack_files(reader, place));
        let written = engine.assemble(&assembly, &mut writer).map_err(|error| other(error.to_string()));
        drop(writer);
        let read = reading.join().map_err(|_| other("the reading thread died".to_owned()))?;
        read.map_err(|error| other(error.to_string()))?;
        written.map(drop)
    })
}

/// The index with the new entry under its tag, beside those of other tags.
fn indexed(new: &[u8], old: Option<Vec<u8>>, tag: &str) -> io::Result<String> {
    const NAME: &str = "org.opencontainers.image.ref.name";
    let mut index: Value = serde_json::from_slice(new)?;
    let mut entry = index["manifests"][0].take();
    entry["annotations"] = json!({NAME: tag});
    let old: Value = old.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let others = old["manifests"].as_array().into_iter().flatten();
    let mut entries: Vec<Value> = others.filter(|entry| entry["annotations"][NAME] != tag).cloned().collect();
    entries.push(entry);
    index["manifests"] = Value::Array(entries);
    Ok(index.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_by_the_numbers_of_their_layers() {
        let layers = ["a", "b", "c"].map(str::to_owned);
        let step = |key: &str, layers: &[String]| Step { key: key.to_owned(), layers: layers.to_vec(), made_at: 7 };
        let list = written(&[step("k", &layers[1..]), step("l", &[]), step("m", &["z".to_owned()])], &layers[..]);
        let config = json!({FIELD: list, "rootfs": {"diff_ids": layers}});
        let read = read(&config).unwrap();
        assert_eq!((read.len(), &read[0].layers[..], read[0].made_at), (2, &layers[1..], 7));
        let wrong = json!({FIELD: {"steps": [{"key": "k", "layers": [3], "made_at": 1}]}, "rootfs": {"diff_ids": []}});
        assert!(super::read(&wrong).is_none());
    }

    #[test]
    fn tags_stand_beside_each_other() {
        let index = |digest: &str| json!({"manifests": [{"digest": digest}]}).to_string().into_bytes();
        let one = indexed(&index("1"), None, "x").unwrap();
        let two = indexed(&index("2"), Some(one.into_bytes()), "y").unwrap();
        let three: Value = serde_json::from_str(&indexed(&index("3"), Some(two.into_bytes()), "x").unwrap()).unwrap();
        let digests: Vec<&Value> =
            three["manifests"].as_array().unwrap().iter().map(|entry| &entry["digest"]).collect();
        assert_eq!(digests, ["2", "3"]);
    }
}
