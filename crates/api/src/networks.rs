//! The endpoints below `/networks`.

use std::sync::Arc;

use hyper::Method;

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::Reply;
use crate::request::Request;
use crate::router::not_found;

/// Answers a request below `/networks`.
pub(crate) async fn route(method: &Method, path: &[&str], _request: Request, _served: &Arc<Served>) -> Result<Reply> {
    match (method, path) {
        (&Method::GET, [] | [""] | [_])
        | (&Method::DELETE, [_])
        | (&Method::POST, ["create" | "prune"])
        | (&Method::POST, [_, "connect" | "disconnect"]) => {
            Err(Failure::not_implemented("networks cannot be managed yet"))
        }
        _ => Err(not_found()),
    }
}
