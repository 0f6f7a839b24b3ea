//! `GET /containers/json`.

use engine::model::MountPoint;
use engine::{ContainerRow, ListRequest, ShownPort};
use serde_json::{Value, json};

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::version::Version;

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
    reply::ok(&rows.iter().map(|row| summary(row, request.version)).collect::<Vec<_>>())
}

/// Docker's `Summary` of one container.
pub(crate) fn summary(row: &ContainerRow, version: Version) -> Value {
    let mut endpoints = row.endpoints.clone();
    for endpoint in endpoints.values_mut() {
        // The list has no names of old; where there is no network there are none at all.
        endpoint["DNSNames"] = Value::Null;
    }
    let mut document = json!({
        "Id": row.id,
        "Names": [format!("/{}", row.name)],
        "Image": row.image,
        "ImageID": row.image_id,
        "Command": row.command,
        "Created": row.created,
        "Ports": row.shown_ports.iter().map(port).collect::<Vec<_>>(),
        "Labels": row.labels,
        "State": row.status.as_str(),
        "Status": row.status_text,
        "HostConfig": { "NetworkMode": row.network_mode },
        "NetworkSettings": { "Networks": endpoints },
        "Mounts": row.mounts.iter().map(mount).collect::<Vec<_>>(),
    });
    if version >= Version(1, 52) {
        let (status, failures) = row.health.clone().unwrap_or(("none".to_owned(), 0));
        document["Health"] = json!({ "Status": status, "FailingStreak": failures });
    }
    if let Some((changed, whole)) = row.sizes {
        // Docker leaves out what is nothing.
        if changed > 0 {
            document["SizeRw"] = json!(changed);
        }
        document["SizeRootFs"] = json!(whole);
    }
    document
}

/// One line of `Ports`; what is not published has neither address nor port of the host.
fn port(port: &ShownPort) -> Value {
    let mut document = json!({ "PrivatePort": port.private, "Type": port.protocol });
    if !port.ip.is_empty() {
        document["IP"] = json!(port.ip);
        document["PublicPort"] = json!(port.public);
    }
    document
}

fn mount(point: &MountPoint) -> Value {
    serde_json::to_value(point).unwrap_or_default()
}
