//! `GET /system/df`: what everything takes; since version 1.52 as sums, with the lists on request.

use engine::model::Status;
use engine::{ContainerRow, DiskUsage};
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
    let types = if request.version < Version(1, 42) { Vec::new() } else { request.all("type") };
    if let Some(unknown) = types.iter().find(|kind| !TYPES.contains(&kind.as_str())) {
        return Err(Failure::bad_request(format!("unknown object type: {unknown}")));
    }
    let verbose = verbose(request)?;
    let usage = served.engines.run(engine::Engine::disk_usage).await?;
    let mut document = Map::new();
    for kind in TYPES.into_iter().filter(|kind| types.is_empty() || types.iter().any(|wanted| wanted == kind)) {
        let (old, new, items) = items_of(kind, &usage, request.version);
        if request.version >= Version(1, 52) {
            let mut sums = sums_of(kind, &usage);
            if verbose == Some(true) {
                sums["Items"] = items.clone();
            }
            document.insert(new.to_owned(), sums);
        }
        if verbose.is_none() {
            if kind == "image" {
                document.insert("LayersSize".to_owned(), json!(usage.images_size));
            }
            document.insert(old.to_owned(), items);
        }
    }
    if request.version < Version(1, 52) {
        // What was not asked for is there, and empty.
        for member in ["Images", "Containers", "Volumes", "BuildCache"] {
            document.entry(member).or_insert(Value::Null);
        }
        document.entry("LayersSize").or_insert_with(|| json!(0));
    }
    reply::ok(&document)
}

/// Whether the lists are wanted below the sums; none: beside them, as they were until version 1.52.
fn verbose(request: &Request) -> Result<Option<bool>> {
    let Some(text) = request.text("verbose").filter(|_| request.version >= Version(1, 52)) else { return Ok(None) };
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
        _ => Err(Failure::bad_request(format!("invalid value for verbose: {text}"))),
    }
}

/// The member's name until version 1.52 and since, and the list.
fn items_of(kind: &str, usage: &DiskUsage, version: Version) -> (&'static str, &'static str, Value) {
    match kind {
        "image" => ("Images", "ImageUsage", images_of(usage, version)),
        "container" => {
            let rows = usage.containers.iter().map(|row| containers::summary(row, version)).collect();
            ("Containers", "ContainerUsage", rows)
        }
        "volume" => ("Volumes", "VolumeUsage", volumes_of(usage)),
        _ => ("BuildCache", "BuildCacheUsage", json!([])),
    }
}

/// How many there are, how many of them are in use, what all take, and what would go with the rest.
fn sums_of(kind: &str, usage: &DiskUsage) -> Value {
    let (total, active, size, reclaimable) = match kind {
        "image" => {
            let active = usage.images.iter().filter(|one| one.image.containers > 0).count();
            (usage.images.len(), active, usage.images_size, usage.images_reclaimable)
        }
        "container" => {
            let runs =
                |row: &&ContainerRow| matches!(row.status, Status::Running | Status::Paused | Status::Restarting);
            let changed = |row: &ContainerRow| row.sizes.map_or(0, |(changed, _)| changed);
            let all: u64 = usage.containers.iter().map(changed).sum();
            let used: u64 = usage.containers.iter().filter(runs).map(changed).sum();
            (usage.containers.len(), usage.containers.iter().filter(runs).count(), all, all - used)
        }
        "volume" => {
            let (all, used): (u64, u64) = usage.volumes.iter().fold((0, 0), |(all, used), volume| {
                (all + volume.size, used + if volume.links > 0 { volume.size } else { 0 })
            });
            (usage.volumes.len(), usage.volumes.iter().filter(|one| one.links > 0).count(), all, all - used)
        }
        _ => (0, 0, 0, 0),
    };
    json!({ "TotalCount": total, "ActiveCount": active, "TotalSize": size, "Reclaimable": reclaimable })
}

fn images_of(usage: &DiskUsage, version: Version) -> Value {
    let document = |image: &engine::ImageUsage| {
        let mut document = images::summary(&image.image, version);
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
