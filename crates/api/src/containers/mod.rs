//! The endpoints below `/containers`. One verb or a family of like ones a file; here is who does what.

mod archive;
mod attach;
mod create;
mod life;
mod list;
mod logs;
mod look;
mod stats;
mod wait;

use std::sync::Arc;

use hyper::Method;

use crate::failure::{Failure, Result};
use crate::reply::Reply;
use crate::request::Request;
use crate::router::not_found;
use crate::{Served, execs};

pub(crate) use attach::bridge;
pub(crate) use create::parse;
pub(crate) use life::size;
pub(crate) use list::summary;

/// Answers a request below `/containers`.
pub(crate) async fn route(method: &Method, path: &[&str], request: Request, served: &Arc<Served>) -> Result<Reply> {
    match (method, path) {
        (&Method::GET, ["json"]) => list::list(&request, served).await,
        (&Method::POST, ["create"]) => create::create(request, served).await,
        (&Method::POST, ["prune"]) => life::prune(&request, served).await,
        (&Method::GET | &Method::POST, [_, "checkpoints"]) | (&Method::DELETE, [_, "checkpoints", _]) => {
            Err(experimental())
        }
        (&Method::GET, [name, verb]) => get(name, verb, request, served).await,
        (&Method::GET, [name, "attach", "ws"]) => attach::websocket(name, request, served).await,
        (&Method::POST, [name, verb]) => post(name, verb, request, served).await,
        (&Method::HEAD, [name, "archive"]) => archive::look(name, &request, served).await,
        (&Method::PUT, [name, "archive"]) => archive::put(name, request, served).await,
        (&Method::DELETE, [name]) => life::remove(name, &request, served).await,
        // A link is named by its two ends.
        (&Method::DELETE, [name, alias]) if request.boolean("link") => {
            life::remove(&format!("{name}/{alias}"), &request, served).await
        }
        _ => Err(not_found()),
    }
}

/// Checkpoints are an experimental feature of Docker's, which clients are told is off.
fn experimental() -> Failure {
    Failure::not_implemented(
        "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to \
         enable it.",
    )
}

async fn get(name: &str, verb: &str, request: Request, served: &Arc<Served>) -> Result<Reply> {
    match verb {
        "json" => look::inspect(name, &request, served).await,
        "top" => look::top(name, &request, served).await,
        "changes" => look::changes(name, served).await,
        "export" => look::export(name, served).await,
        "archive" => archive::get(name, &request, served).await,
        "logs" => logs::logs(name, &request, served).await,
        "stats" => stats::stats(name, &request, served).await,
        _ => Err(not_found()),
    }
}

async fn post(name: &str, verb: &str, mut request: Request, served: &Arc<Served>) -> Result<Reply> {
    match verb {
        "start" => life::start(name, &request, served).await,
        "stop" => life::stop(name, &request, served).await,
        "restart" => life::restart(name, &request, served).await,
        "kill" => life::kill(name, &request, served).await,
        "pause" => life::pause(name, served).await,
        "unpause" => life::unpause(name, served).await,
        "rename" => life::rename(name, &request, served).await,
        "resize" => life::resize(name, &request, served).await,
        "update" => life::update(name, &mut request, served).await,
        "wait" => wait::wait(name, &request, served).await,
        "attach" => attach::attach(name, request, served).await,
        "exec" => execs::create(name, &mut request, served).await,
        _ => Err(not_found()),
    }
}
