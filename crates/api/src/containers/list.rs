//! `GET /containers/json`.

use engine::model::MountPoint;
use engine::{ContainerRow, ListRequest};
use serde_json::{Map, Value, json};

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;

/// Lists containers.
pub(super) async fn list(request: &Request, served: &Served) -> Result<Reply> {
    let limit: i64 = match request.text("limit") {
        Some(text) => text.parse().map_err(|_| Failure::bad_request(format!("invalid limit: {text}")))?,
        None => 0,
    };
    let wanted = ListRequest {
        all: request.boolean("all"),
        last: usize::try_from(limit).ok().filter(|limit| *limit > 0),
        size: request.boolean("size"),
        filters: request.filters()?,
    };
    let rows = served.engines.run(move |engine| engine.list(&wanted)).await?;
    reply::ok(&rows.iter().map(summary).collect::<Vec<_>>())
}

/// Docker's `Summary` of one container.
pub(crate) fn summary(row: &ContainerRow) -> Value {
    let mut networks = Map::new();
    for name in row.networks.iter().filter(|name| !name.is_empty()) {
        networks.insert(name.clone(), json!({ "NetworkID": "", "EndpointID": "", "Gateway": "", "IPAddress": "" }));
    }
    let mut document = json!({
        "Id": row.id,
        "Names": [format!("/{}", row.name)],
        "Image": row.image,
        "ImageID": row.image_id,
        "Command": row.command,
        "Created": row.created,
        "Ports": [],
        "Labels": row.labels,
        "State": row.status.as_str(),
        "Status": row.status_text,
        "HostConfig": { "NetworkMode": row.networks.first() },
        "NetworkSettings": { "Networks": networks },
        "Mounts": row.mounts.iter().map(mount).collect::<Vec<_>>(),
    });
    if let Some((changed, whole)) = row.sizes {
        document["SizeRw"] = json!(changed);
        document["SizeRootFs"] = json!(whole);
    }
    document
}

fn mount(point: &MountPoint) -> Value {
    serde_json::to_value(point).unwrap_or_default()
}
