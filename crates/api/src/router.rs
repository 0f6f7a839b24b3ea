//! Which request goes to which handler. Everything that Docker serves has its line here; the rest is Docker's
//! `page not found`, for a wrong method too.

use std::sync::Arc;

use hyper::{Method, StatusCode};

use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::{
    Served, building, buildkit, containers, disk_usage, events, execs, images, networks, registry, swarm, system,
    volumes,
};

/// Answers a request.
pub(crate) async fn route(mut request: Request, served: &Arc<Served>) -> Result<Reply> {
    let path = std::mem::take(&mut request.path);
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(&path).split('/').collect();
    let method = request.method.clone();
    served.policy.check(&method, &segments)?;
    match (&method, segments.as_slice()) {
        (&Method::GET | &Method::HEAD, ["_ping"]) => system::ping(),
        (&Method::OPTIONS, _) => Ok(reply::status(StatusCode::OK)),
        (&Method::GET, ["version"]) => system::version(served).await,
        (&Method::GET, ["info"]) => system::info(&request, served).await,
        (&Method::GET, ["events"]) => events::follow(&request, served).await,
        (&Method::POST, ["auth"]) => registry::log_in(&mut request, served).await,
        (&Method::GET, ["system", "df"]) => disk_usage::df(&request, served).await,
        (_, ["containers", rest @ ..]) => containers::route(&method, rest, request, served).await,
        (&Method::POST, ["commit"]) => images::commit(&mut request, served).await,
        (_, ["exec", id, verb]) => execs::route(&method, id, verb, request, served).await,
        (_, ["images", rest @ ..]) => images::route(&method, rest, request, served).await,
        (&Method::GET, ["distribution", name @ .., "json"]) => {
            registry::distribution(&name.join("/"), &request, served).await
        }
        (_, ["volumes", rest @ ..]) => volumes::route(&method, rest, request, served).await,
        (_, ["networks", rest @ ..]) => networks::route(&method, rest, request, served).await,
        (&Method::POST, ["build", rest @ ..]) => building::route(rest, request, served).await,
        (&Method::POST, ["grpc"]) => buildkit::calls(request, served),
        (&Method::POST, ["session"]) => buildkit::session(request, served),
        (_, ["swarm" | "nodes" | "services" | "tasks" | "secrets" | "configs" | "plugins", ..]) => {
            swarm::route(&method, &segments)
        }
        _ => Err(not_found()),
    }
}

/// Docker's answer to every path and method that it does not know.
pub(crate) fn not_found() -> Failure {
    Failure::not_found("page not found")
}
