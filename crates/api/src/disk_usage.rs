//! `GET /system/df`: what everything takes, in the shape of version 1.51.

use engine::DiskUsage;
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::version::Version;
use crate::{Served, containers, images, volumes};

/// What can be asked for.
const TYPES: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// Answers.
pub(crate) async fn df(request: &Request, served: &Served) -> Result<Reply> {
    let types = request.all("type");
    if let Some(unknown) = types.iter().find(|kind| !TYPES.contains(&kind.as_str())) {
        return Err(Failure::bad_request(format!("unknown object type: {unknown}")));
    }
    let usage = served.engines.run(engine::Engine::disk_usage).await?;
    let wanted = |kind: &str| types.is_empty() || types.iter().any(|wanted| wanted == kind);
    let mut document = Map::new();
    if wanted("image") {
        document.insert("LayersSize".to_owned(), json!(usage.images_size));
        document.insert("Images".to_owned(), images_of(&usage));
    }
    if wanted("container") {
        let rows: Vec<Value> = usage.containers.iter().map(containers::summary).collect();
        document.insert("Containers".to_owned(), json!(rows));
    }
    if wanted("volume") {
        document.insert("Volumes".to_owned(), volumes_of(&usage));
    }
    if wanted("build-cache") {
        document.insert("BuildCache".to_owned(), json!([]));
    }
    if request.version < Version(1, 42) {
        document.insert("BuilderSize".to_owned(), json!(0));
    }
    reply::ok(&document)
}

fn images_of(usage: &DiskUsage) -> Value {
    let document = |image: &engine::ImageUsage| {
        let mut document = images::summary(&image.image, false);
        document["SharedSize"] = json!(image.shared);
        document["Containers"] = json!(image.image.containers);
        document
    };
    usage.images.iter().map(document).collect()
}

fn volumes_of(usage: &DiskUsage) -> Value {
    let document = |volume: &engine::VolumeUsage| {
        let mut document = volumes::document(&volume.volume);
        document["UsageData"] = json!({ "RefCount": volume.links, "Size": volume.size });
        document
    };
    usage.volumes.iter().map(document).collect()
}
