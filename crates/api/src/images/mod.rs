//! The endpoints below `/images`, and those that make images of other things.

mod commit;
mod load;
mod look;
mod pull;

use std::sync::Arc;

use hyper::Method;

use crate::Served;
use crate::failure::Result;
use crate::reply::Reply;
use crate::request::Request;
use crate::router::not_found;

pub(crate) use commit::commit;
pub(crate) use look::summary;

/// Answers a request below `/images`. Names have slashes.
pub(crate) async fn route(method: &Method, path: &[&str], request: Request, served: &Arc<Served>) -> Result<Reply> {
    match (method, path) {
        (&Method::GET, ["json"]) => look::list(&request, served).await,
        (&Method::GET, ["search"]) => look::search(&request, served).await,
        (&Method::GET, ["get"]) => load::save(request.all("names"), &request, served).await,
        (&Method::GET, [name @ .., "get"]) => load::save(vec![name.join("/")], &request, served).await,
        (&Method::GET, [name @ .., "json"]) => look::inspect(&name.join("/"), &request, served).await,
        (&Method::GET, [name @ .., "history"]) => look::history(&name.join("/"), &request, served).await,
        (&Method::POST, ["create"]) => pull::create(request, served).await,
        (&Method::POST, ["load"]) => load::load(request, served).await,
        (&Method::POST, ["prune"]) => look::prune(&request, served).await,
        (&Method::POST, [name @ .., "push"]) => pull::push(&name.join("/"), &request, served).await,
        (&Method::POST, [name @ .., "tag"]) => look::tag(&name.join("/"), &request, served).await,
        (&Method::DELETE, name) if !name.is_empty() => look::remove(&name.join("/"), &request, served).await,
        _ => Err(not_found()),
    }
}
