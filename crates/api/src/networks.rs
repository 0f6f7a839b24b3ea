//! The endpoints below `/networks`.

use std::sync::Arc;

use engine::model::{EndpointSettings, NetworkRequest};
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::not_found;
use crate::version::Version;

/// Answers a request below `/networks`.
pub(crate) async fn route(method: &Method, path: &[&str], mut request: Request, served: &Arc<Served>) -> Result<Reply> {
    match (method, path) {
        (&Method::GET, [] | [""]) => list(&request, served).await,
        (&Method::POST, ["create"]) => create(request, served).await,
        (&Method::POST, ["prune"]) => prune(&request, served).await,
        (&Method::GET, [name]) => inspect(name, &request, served).await,
        (&Method::DELETE, [name]) => remove(name, served).await,
        (&Method::POST, [name, "connect"]) => connect(name, &mut request, served).await,
        (&Method::POST, [name, "disconnect"]) => disconnect(name, &mut request, served).await,
        _ => Err(not_found()),
    }
}

async fn list(request: &Request, served: &Served) -> Result<Reply> {
    let filters = request.filters()?;
    // Until version 1.28 the list told which containers are where.
    let detailed = request.version < Version(1, 28);
    reply::ok(&served.engines.run(move |engine| engine.inspect_networks(&filters, detailed)).await?)
}

async fn inspect(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    if let Some(text) = request.text("verbose").filter(|text| !is_truth_value(text)) {
        let message =
            format!("invalid value for verbose: {text}: strconv.ParseBool: parsing \"{text}\": invalid syntax");
        return Err(Failure::bad_request(message));
    }
    if request.text("scope").is_some_and(|scope| scope != "local") {
        return Err(Failure::not_found(format!("network {name} not found")));
    }
    let name = name.to_owned();
    reply::ok(&served.engines.run(move |engine| engine.inspect_network(&name)).await?)
}

/// What Go's `strconv.ParseBool` takes.
fn is_truth_value(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True" | "0" | "f" | "F" | "false" | "FALSE" | "False")
}

/// What `create` is told beside the network itself: kinds of networks that there are only in a swarm, or not here.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Kind {
    scope: String,
    ingress: bool,
    config_only: bool,
    config_from: ConfigFrom,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigFrom {
    network: String,
}

async fn create(mut request: Request, served: &Served) -> Result<Reply> {
    let document = request.document().await?.unwrap_or_else(|| json!({}));
    check_kind(&typed(document.clone())?)?;
    let mut wanted: NetworkRequest = typed(document)?;
    if request.version < Version(1, 48) {
        // It was not known until then.
        wanted.enable_ipv4 = None;
    }
    let id = served.engines.run(move |engine| engine.create_network(&wanted)).await?;
    reply::created(&json!({ "Id": id, "Warning": "" }))
}

fn typed<T: serde::de::DeserializeOwned>(document: Value) -> Result<T> {
    serde_json::from_value(document).map_err(|error| Failure::bad_request(format!("invalid JSON: {error}")))
}

fn check_kind(kind: &Kind) -> Result<()> {
    let forbidden = |message: &str| Err(Failure::new(StatusCode::FORBIDDEN, message));
    if !matches!(kind.scope.as_str(), "" | "local") {
        return forbidden("cannot create a swarm scoped network when swarm is not active");
    }
    if kind.ingress {
        return forbidden("Ingress network can only be global scope network");
    }
    if kind.config_only || !kind.config_from.network.is_empty() {
        return Err(Failure::not_implemented("networks that are only configurations of others are not supported"));
    }
    Ok(())
}

async fn remove(name: &str, served: &Served) -> Result<Reply> {
    let name = name.to_owned();
    served.engines.run(move |engine| engine.remove_network(&name)).await?;
    reply::no_content()
}

/// What `connect` and `disconnect` are told.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Membership {
    container: String,
    endpoint_config: EndpointSettings,
    force: bool,
}

impl Membership {
    async fn of(request: &mut Request) -> Result<Self> {
        let wanted: Membership = request.json().await?;
        match wanted.container.trim() {
            "" => Err(Failure::bad_request(format!("invalid name or ID supplied: {:?}", wanted.container))),
            _ => Ok(wanted),
        }
    }
}

async fn connect(name: &str, request: &mut Request, served: &Served) -> Result<Reply> {
    let (name, wanted) = (name.to_owned(), Membership::of(request).await?);
    let verb = move |engine: &engine::Engine| engine.connect_network(&name, &wanted.container, &wanted.endpoint_config);
    served.engines.run(verb).await?;
    Ok(reply::status(StatusCode::OK))
}

async fn disconnect(name: &str, request: &mut Request, served: &Served) -> Result<Reply> {
    let (name, wanted) = (name.to_owned(), Membership::of(request).await?);
    let verb = move |engine: &engine::Engine| engine.disconnect_network(&name, &wanted.container, wanted.force);
    served.engines.run(verb).await?;
    Ok(reply::status(StatusCode::OK))
}

async fn prune(request: &Request, served: &Served) -> Result<Reply> {
    let filters = request.filters()?;
    let report = served.engines.run(move |engine| engine.prune_networks(&filters)).await?;
    let removed = Some(report.removed).filter(|removed| !removed.is_empty());
    reply::ok(&json!({ "NetworksDeleted": removed }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_a_swarm_are_refused() {
        let refused = |document| check_kind(&typed(document).unwrap()).unwrap_err();
        assert_eq!(refused(json!({ "Scope": "swarm" })).status, StatusCode::FORBIDDEN);
        assert_eq!(refused(json!({ "Ingress": true })).status, StatusCode::FORBIDDEN);
        assert_eq!(refused(json!({ "ConfigFrom": { "Network": "x" } })).status, StatusCode::NOT_IMPLEMENTED);
        assert!(check_kind(&typed(json!({ "Scope": "local", "CheckDuplicate": true })).unwrap()).is_ok());
    }
}
