//! The endpoints that look at a container: its document, its processes, what it changed, its files.

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;

/// Everything about it.
pub(super) async fn inspect(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let (name, size) = (name.to_owned(), request.boolean("size"));
    reply::ok(&served.engines.run(move |engine| engine.inspect_container(&name, size)).await?)
}

/// Its processes.
pub(super) async fn top(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let arguments: Vec<String> =
        request.text("ps_args").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let name = name.to_owned();
    reply::ok(&served.engines.run(move |engine| engine.top(&name, &arguments)).await?)
}

/// What differs from its image.
pub(super) async fn changes(_name: &str, _served: &Served) -> Result<Reply> {
    Err(Failure::not_implemented("changes cannot be listed yet"))
}

/// Its whole tree as an archive.
pub(super) async fn export(_name: &str, _served: &Served) -> Result<Reply> {
    Err(Failure::not_implemented("containers cannot be exported yet"))
}

/// Files from and to it.
pub(super) fn archive() -> Result<Reply> {
    Err(Failure::not_implemented("files cannot be copied yet"))
}
