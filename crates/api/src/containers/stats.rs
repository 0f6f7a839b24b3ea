//! `GET /containers/{id}/stats`.

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::Reply;
use crate::request::Request;

/// Samples of what it uses.
pub(super) async fn stats(_name: &str, _request: &Request, _served: &Served) -> Result<Reply> {
    Err(Failure::not_implemented("samples cannot be streamed yet"))
}
