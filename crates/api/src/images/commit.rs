//! `POST /commit`: an image of what a container has changed.

use engine::CommitRequest;
use engine::model::Config;
use serde_json::json;

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;

/// Makes an image.
pub(crate) async fn commit(request: &mut Request, served: &Served) -> Result<Reply> {
    let config = request.document().await?.map(|document| {
        serde_json::from_value::<Config>(document)
            .map_err(|error| Failure::bad_request(format!("invalid JSON: Config: {error}")))
    });
    let container = request.text("container").unwrap_or_default().to_owned();
    if container.is_empty() {
        return Err(Failure::bad_request("invalid name or ID supplied: \"\""));
    }
    let reference = request.text("repo").map(|repository| match request.text("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    });
    let wanted = CommitRequest {
        container,
        reference,
        author: request.text("author").unwrap_or_default().to_owned(),
        comment: request.text("comment").unwrap_or_default().to_owned(),
        changes: request.all("changes").iter().flat_map(|change| change.lines().map(str::to_owned)).collect(),
        config: config.transpose()?,
        pause: request.given("pause").is_none() || request.boolean("pause"),
    };
    let id = served.engines.run(move |engine| engine.commit(&wanted)).await?;
    reply::created(&json!({ "Id": id }))
}
