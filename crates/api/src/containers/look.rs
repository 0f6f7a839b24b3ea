//! The endpoints that look at a container: its document, its processes, what it changed, its files.

use std::sync::Arc;

use engine::{Change, ChangeKind};
use serde_json::{Value, json};

use crate::failure::Result;
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::{Served, compat, stream};

/// Everything about it.
pub(super) async fn inspect(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let (name, size) = (name.to_owned(), request.boolean("size"));
    let mut document = served.engines.run(move |engine| engine.inspect_container(&name, size)).await?;
    compat::container(&mut document, request.version);
    reply::ok(&document)
}

/// Its processes.
pub(super) async fn top(name: &str, request: &Request, served: &Served) -> Result<Reply> {
    let arguments: Vec<String> =
        request.text("ps_args").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let name = name.to_owned();
    reply::ok(&served.engines.run(move |engine| engine.top(&name, &arguments)).await?)
}

/// What differs from its image.
pub(super) async fn changes(name: &str, served: &Served) -> Result<Reply> {
    let name = name.to_owned();
    let changes = served.engines.run(move |engine| engine.diff(&name)).await?;
    let document = |change: &Change| {
        let kind = match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        };
        json!({ "Path": format!("/{}", String::from_utf8_lossy(&change.path)), "Kind": kind })
    };
    let documents: Vec<Value> = changes.iter().map(document).collect();
    // Docker shows none as null.
    reply::ok(&Some(documents).filter(|documents| !documents.is_empty()))
}

/// Its whole tree as an archive.
pub(super) async fn export(name: &str, served: &Arc<Served>) -> Result<Reply> {
    let name = name.to_owned();
    stream::bytes(served, move |engine, output| engine.export(&name, output)).await
}
