//! What belongs to swarm mode and to plugins: there is neither, and this says so in the words with which clients carry on.

use hyper::{Method, StatusCode};
use serde_json::json;

use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::router::not_found;

const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
                             connect this node to swarm and try again.";
const NOT_IN_A_SWARM: &str = "This node is not part of a swarm";

/// Answers by path alone.
pub(crate) fn route(method: &Method, path: &[&str]) -> Result<Reply> {
    let unavailable = |message: &str| Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, message));
    match (method, path) {
        (&Method::POST, ["swarm", "leave"]) => unavailable(NOT_IN_A_SWARM),
        (&Method::POST, ["swarm", "init" | "join"]) => Err(Failure::not_implemented("there is no swarm mode")),
        (&Method::GET, ["swarm"] | ["swarm", "unlockkey"])
        | (&Method::POST, ["swarm", "update" | "unlock"])
        | (&Method::GET, ["nodes" | "services" | "tasks" | "secrets" | "configs"])
        | (&Method::GET | &Method::DELETE, ["nodes" | "services" | "tasks" | "secrets" | "configs", _])
        | (&Method::POST, ["services" | "secrets" | "configs", "create"])
        | (&Method::POST, ["nodes" | "services" | "secrets" | "configs", _, "update"])
        | (&Method::GET, ["services" | "tasks", _, "logs"]) => unavailable(NOT_A_MANAGER),
        (&Method::GET, ["plugins"]) => reply::ok(&json!([])),
        (&Method::GET, ["plugins", name @ .., "json"]) | (&Method::DELETE, ["plugins", name @ ..])
            if !name.is_empty() =>
        {
            Err(Failure::not_found(format!("plugin \"{}\" not found", name.join("/"))))
        }
        (&Method::POST, ["plugins", name @ .., "enable" | "disable" | "set" | "push" | "upgrade"])
            if !name.is_empty() =>
        {
            Err(Failure::not_found(format!("plugin \"{}\" not found", name.join("/"))))
        }
        (&Method::POST, ["plugins", "pull" | "create"]) | (&Method::GET, ["plugins", "privileges"]) => {
            Err(Failure::not_implemented("there are no plugins"))
        }
        _ => Err(not_found()),
    }
}
