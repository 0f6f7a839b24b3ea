//! `POST /images/load` and `/images/get`: archives of images, read and written as they go over the wire.

use std::sync::Arc;

use serde_json::json;

use crate::Served;
use crate::failure::{Failure, Result};
use crate::registry::platform;
use crate::reply::Reply;
use crate::request::Request;
use crate::stream;
use crate::upload::Upload;

/// Loads an archive.
pub(super) async fn load(request: Request, served: &Arc<Served>) -> Result<Reply> {
    let platform = request.text("platform").map(str::to_owned);
    let mut upload = Upload::new(request.into_body());
    Ok(stream::always_documents(served, move |engine, tell| {
        for line in engine.load(&mut upload, platform.as_deref())? {
            tell(json!({ "stream": format!("{line}\n") }));
        }
        Ok(())
    }))
}

/// Saves images into one archive.
pub(super) async fn save(names: Vec<String>, request: &Request, served: &Arc<Served>) -> Result<Reply> {
    if names.is_empty() {
        return Err(Failure::bad_request("no image is named"));
    }
    let platform = platform(request)?;
    stream::bytes(served, move |engine, output| engine.save(&names, platform.as_deref(), output)).await
}
