//! The endpoints below `/build`: images from Dockerfiles the classic way, a context's archive in and Docker's lines out.
//! The building itself is `build`'s.

mod cancels;
mod classic;
mod context;
mod parameters;
mod transcript;

use std::sync::Arc;

use serde_json::json;

pub(crate) use cancels::Cancels;
pub(crate) use context::Scratch;

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::router::not_found;

/// Answers a `POST` below `/build`.
pub(crate) async fn route(path: &[&str], request: Request, served: &Arc<Served>) -> Result<Reply> {
    match path {
        [] => classic::build(request, served).await,
        ["prune"] => prune(&request, served).await,
        ["cancel"] => {
            let id = request.text("id").ok_or_else(|| Failure::bad_request("build ID not provided"))?;
            served.cancels.cancel(id);
            Ok(reply::status(hyper::StatusCode::OK))
        }
        _ => Err(not_found()),
    }
}

/// Forgets what builds remember.
async fn prune(request: &Request, served: &Arc<Served>) -> Result<Reply> {
    if !request.filters()?.is_empty() {
        return Err(Failure::bad_request("the build cache is pruned as a whole: filters are not supported"));
    }
    let report = forget(served).await?;
    reply::ok(&json!({ "CachesDeleted": report.removed, "SpaceReclaimed": report.reclaimed }))
}

/// Forgets all steps and caches that no build uses.
pub(crate) async fn forget(served: &Arc<Served>) -> Result<engine::PruneReport> {
    let forgotten = served.engines.run(|engine| {
        let mut report = engine.prune_steps()?;
        let caches = build::prune(engine.paths()).map_err(|error| engine::Error::internal(error.message))?;
        report.reclaimed += caches;
        Ok(report)
    });
    forgotten.await
}
