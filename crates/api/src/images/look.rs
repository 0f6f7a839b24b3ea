//! The endpoints that list, show, name and remove images.

use engine::{HistoryRow, ImageRow, RemovedImage};
use serde_json::{Value, json};

use crate::failure::{Failure, Result};
use crate::registry::{access, platform};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::version::Version;
use crate::{Served, compat};

/// Lists images.
pub(super) async fn list(request: &Request, served: &Served) -> Result<Reply> {
    let (all, mut filters) = (request.boolean("all"), request.filters()?);
    if let Some(pattern) = request.text("filter").filter(|_| request.version < Version(1, 25)) {
        filters.entry("reference".to_owned()).or_insert_with(|| vec![pattern.to_owned()]);
    }
    let with_shared = request.version >= Version(1, 42) && request.boolean("shared-size");
    let looked = served.engines.run(move |engine| {
        let rows = engine.list_images(all, &filters)?;
        let usage = if with_shared { engine.disk_usage()?.images } else { Vec::new() };
        Ok((rows, usage))
    });
    let (rows, usage) = looked.await?;
    let shared = |id: &str| usage.iter().find(|one| one.image.id == id).map(|one| one.shared);
    let document = |row: &ImageRow| {
        let mut document = summary(row, request.version);
        if let Some(shared) = shared(&row.id) {
            document["SharedSize"] = json!(shared);
        }
        document
    };
    reply::ok(&rows.iter().map(document).collect::<Vec<_>>())
}

/// Docker's `Summary` of one image.
pub(crate) fn summary(row: &ImageRow, version: Version) -> Value {
    let mut document = json!({
        "Containers": if version < Version(1, 51) { json!(-1) } else { json!(row.containers) },
        "Created": row.created,
        "Id": row.id,
        "Labels": if row.labels.is_empty() { Value::Null } else { json!(row.labels) },
        "ParentId": row.parent,
        "RepoDigests": row.repo_digests,
        "RepoTags": row.repo_tags,
        "SharedSize": -1,
        "Size": row.size,
    });
    if version < Version(1, 44) {
        document["VirtualSize"] = json!(row.size);
    }
    if version < Version(1, 43) && row.repo_tags.is_empty() && row.repo_digests.is_empty() {
        document["RepoTags"] = json!(["<none>:<none>"]);
        document["RepoDigests"] = json!(["<none>@<none>"]);
    }
    document
}

/// Everything about one.
pub(super) async fn inspect(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let name = name.to_owned();
    let mut document = served.engines.run(move |engine| engine.inspect_image(&name)).await?;
    compat::image(&mut document, request.version);
    reply::ok(&document)
}

/// How it was made.
pub(super) async fn history(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let (name, platform) = (name.to_owned(), platform(request)?);
    let rows = served.engines.run(move |engine| engine.history(&name, platform.as_deref())).await?;
    let document = |row: &HistoryRow| {
        json!({
            "Comment": row.comment,
            "Created": row.created,
            "CreatedBy": row.created_by,
            "Id": row.id,
            "Size": row.size,
            "Tags": Some(&row.tags).filter(|tags| !tags.is_empty()),
        })
    };
    reply::ok(&rows.iter().map(document).collect::<Vec<_>>())
}

/// Gives it one more name.
pub(super) async fn tag(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let repository = request.text("repo").unwrap_or_default();
    if repository == "sha256" {
        let message = "refusing to create an ambiguous tag using digest algorithm as name";
        return Err(Failure::bad_request(message));
    }
    let reference = match request.text("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    };
    let name = name.to_owned();
    served.engines.run(move |engine| engine.tag(&name, &reference)).await?;
    Ok(reply::status(hyper::StatusCode::CREATED))
}

/// Removes a name, and the image with its last one.
pub(super) async fn remove(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    if name.trim().is_empty() {
        return Err(Failure::bad_request("image name cannot be blank"));
    }
    let (name, force, no_prune) = (name.to_owned(), request.boolean("force"), request.boolean("noprune"));
    let removed = served.engines.run(move |engine| engine.remove_image(&name, force, no_prune)).await?;
    reply::ok(&removed.iter().map(line).collect::<Vec<_>>())
}

fn line(removed: &RemovedImage) -> Value {
    match removed {
        RemovedImage::Untagged(name) => json!({ "Untagged": name }),
        RemovedImage::Deleted(id) => json!({ "Deleted": id }),
    }
}

/// Removes those that nobody uses.
pub(super) async fn prune(request: &Request, served: &Served) -> Result<Reply> {
    let filters = request.filters()?;
    let report = served.engines.run(move |engine| engine.prune_images(&filters)).await?;
    let lines: Vec<Value> = report.removed.iter().map(line).collect();
    reply::ok(&json!({
        "ImagesDeleted": Some(lines).filter(|lines| !lines.is_empty()),
        "SpaceReclaimed": report.reclaimed,
    }))
}

/// Searches a registry.
pub(super) async fn search(request: &Request, served: &Served) -> Result<Reply> {
    let term = request.text("term").unwrap_or_default().to_owned();
    let limit = request.number("limit")?.filter(|limit| *limit > 0).unwrap_or(25);
    let (filters, access) = (request.filters()?, access(request));
    if let Some(key) = filters.keys().find(|key| !["is-official", "is-automated", "stars"].contains(&key.as_str())) {
        return Err(Failure::bad_request(format!("invalid filter '{key}'")));
    }
    let found = served.engines.run(move |engine| engine.search(&term, limit, &access)).await?;
    let first = |key: &str| filters.get(key).and_then(|values| values.first()).map(String::as_str);
    let truth = |key: &str, value: bool| first(key).is_none_or(|wanted| value == matches!(wanted, "true" | "1"));
    let stars = first("stars").and_then(|stars| stars.parse().ok()).unwrap_or(0);
    let wanted = found.iter().filter(|image| {
        image.star_count >= stars
            && truth("is-official", image.is_official)
            && truth("is-automated", image.is_automated)
    });
    let document = |image: &engine::SearchResult| {
        json!({
            "star_count": image.star_count,
            "is_official": image.is_official,
            "name": image.name,
            "is_automated": image.is_automated,
            "description": image.description,
        })
    };
    reply::ok(&wanted.map(document).collect::<Vec<_>>())
}
