//! The endpoints below `/volumes`.

use std::sync::Arc;

use engine::model::{Map, Volume};
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::not_found;
use crate::version::Version;

/// Answers a request below `/volumes`.
pub(crate) async fn route(method: &Method, path: &[&str], request: Request, served: &Arc<Served>) -> Result<Reply> {
    match (method, path) {
        (&Method::GET, []) => list(&request, served).await,
        (&Method::POST, ["create"]) => create(request, served).await,
        (&Method::POST, ["prune"]) => prune(&request, served).await,
        (&Method::GET, [name]) => inspect(name, served).await,
        (&Method::DELETE, [name]) => remove(name, &request, served).await,
        (&Method::PUT, [_]) => {
            let message = "volume update only valid for cluster volumes, but swarm is unavailable";
            Err(Failure::new(hyper::StatusCode::SERVICE_UNAVAILABLE, message))
        }
        _ => Err(not_found()),
    }
}

async fn list(request: &Request, served: &Served) -> Result<Reply> {
    let filters = request.filters()?;
    let volumes = served.engines.run(move |engine| engine.list_volumes(&filters)).await?;
    let volumes: Vec<Value> = volumes.iter().map(document).collect();
    reply::ok(&json!({ "Volumes": volumes, "Warnings": null }))
}

/// Docker shows no labels and no options as null.
pub(crate) fn document(volume: &Volume) -> Value {
    let mut document = serde_json::to_value(volume).unwrap_or_default();
    for member in ["Labels", "Options"] {
        if document[member].as_object().is_some_and(serde_json::Map::is_empty) {
            document[member] = Value::Null;
        }
    }
    document
}

/// What `create` is told.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Create {
    name: String,
    driver: String,
    driver_opts: Map<String>,
    labels: Map<String>,
    cluster_volume_spec: Option<Value>,
}

async fn create(mut request: Request, served: &Served) -> Result<Reply> {
    let wanted: Create = request.json().await?;
    if wanted.cluster_volume_spec.is_some() {
        return Err(Failure::new(hyper::StatusCode::SERVICE_UNAVAILABLE, "This node is not a swarm manager."));
    }
    let shown = wanted.name.clone();
    let made = served.engines.run(move |engine| {
        let driver = if wanted.driver.is_empty() { "local" } else { &wanted.driver };
        engine.create_volume(Some(&wanted.name), driver, &wanted.driver_opts, &wanted.labels)
    });
    let made = made.await.map_err(|failure| match shown.is_empty() {
        true => failure,
        false => Failure { message: format!("create {shown}: {}", failure.message), ..failure },
    });
    reply::created(&document(&made?))
}

async fn inspect(name: &str, served: &Served) -> Result<Reply> {
    let name = name.to_owned();
    reply::ok(&document(&served.engines.run(move |engine| engine.inspect_volume(&name)).await?))
}

async fn remove(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let (name, force) = (name.to_owned(), request.boolean("force"));
    served.engines.run(move |engine| engine.remove_volume(&name, force)).await?;
    reply::no_content()
}

async fn prune(request: &Request, served: &Served) -> Result<Reply> {
    let mut filters = request.filters()?;
    if request.version < Version(1, 42) {
        // Until then all unused volumes went.
        filters.entry("all".to_owned()).or_insert_with(|| vec!["true".to_owned()]);
    }
    let report = served.engines.run(move |engine| engine.prune_volumes(&filters)).await?;
    reply::ok(&json!({ "VolumesDeleted": report.removed, "SpaceReclaimed": report.reclaimed }))
}
