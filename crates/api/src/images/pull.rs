//! `POST /images/create` and `/images/{name}/push`: images from and to registries, with their progress as a stream of
//! documents. What goes wrong before the first one is an HTTP error, what goes wrong later is a document itself.

use std::sync::Arc;

use engine::{ImportRequest, PullProgress, PullRequest, PushRequest};
use serde_json::{Value, json};

use crate::Served;
use crate::failure::{Failure, Result};
use crate::registry::{access, platform};
use crate::reply::Reply;
use crate::request::Request;
use crate::stream::documents as stream;
use crate::upload::Upload;

/// Pulls (`fromImage`) or imports (`fromSrc`).
pub(super) async fn create(request: Request, served: &Arc<Served>) -> Result<Reply> {
    if let Some(image) = request.text("fromImage") {
        let wanted = PullRequest {
            reference: with_tag(image, request.text("tag")),
            platform: request.text("platform").map(str::to_owned),
            all_tags: request.text("tag").is_none() && !has_tag(image),
            access: access(&request),
        };
        return pull(wanted, served).await;
    }
    import(request, served).await
}

/// Makes an image of a file system archive: the body's (`fromSrc=-`), or what an address names.
async fn import(request: Request, served: &Arc<Served>) -> Result<Reply> {
    let source = request.text("fromSrc").map(str::to_owned);
    let nothing = || Failure::bad_request("nothing to do: neither fromImage nor fromSrc is given");
    let source = source.ok_or_else(nothing)?;
    let wanted = ImportRequest {
        reference: request.text("repo").map(|repository| with_tag(repository, request.text("tag"))),
        changes: request.all("changes"),
        message: request.text("message").unwrap_or_default().to_owned(),
        platform: request.text("platform").map(str::to_owned),
    };
    let access = access(&request);
    let mut upload = Upload::new(request.into_body());
    stream(served, move |engine, tell| {
        let id = match source.as_str() {
            "-" => engine.import(&mut upload, &wanted)?,
            url => {
                let mut archive = engine.download(url, &access)?;
                tell(json!({ "status": format!("Downloading from {url}") }));
                engine.import(&mut archive, &wanted)?
            }
        };
        tell(json!({ "status": id }));
        Ok(())
    })
    .await
}

fn with_tag(image: &str, tag: Option<&str>) -> String {
    match tag {
        Some(digest) if digest.contains(':') => format!("{image}@{digest}"),
        Some(tag) if !has_tag(image) => format!("{image}:{tag}"),
        _ => image.to_owned(),
    }
}

/// Whether a reference names a tag or a digest by itself.
fn has_tag(image: &str) -> bool {
    image.contains('@') || image.rsplit('/').next().is_some_and(|last| last.contains(':'))
}

async fn pull(wanted: PullRequest, served: &Arc<Served>) -> Result<Reply> {
    stream(served, move |engine, tell| engine.pull(&wanted, &mut |progress| tell(document(&progress))).map(drop)).await
}

/// Docker's progress document.
fn document(progress: &PullProgress) -> Value {
    let mut document = json!({ "status": progress.status });
    if progress.total > 0 {
        document["progressDetail"] = json!({ "current": progress.current, "total": progress.total });
    } else if !progress.id.is_empty() {
        document["progressDetail"] = json!({});
    }
    if !progress.id.is_empty() {
        document["id"] = json!(progress.id);
    }
    document
}

/// Pushes one tag, or all of them.
pub(super) async fn push(name: &str, request: &Request, served: &Arc<Served>) -> Result<Reply> {
    let wanted = PushRequest {
        reference: with_tag(name, request.text("tag")),
        platform: platform(request)?,
        all_tags: request.text("tag").is_none() && !has_tag(name),
        access: access(request),
    };
    stream(served, move |engine, tell| {
        let pushed = engine.push(&wanted, &mut |progress| tell(document(&progress)))?;
        for image in pushed {
            let aux = json!({ "Tag": image.tag, "Digest": image.digest, "Size": image.size });
            tell(json!({ "progressDetail": {}, "aux": aux }));
        }
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_where_they_stand() {
        assert_eq!(with_tag("busybox", Some("1")), "busybox:1");
        assert_eq!(with_tag("localhost:5000/busybox", Some("1")), "localhost:5000/busybox:1");
        assert_eq!(with_tag("busybox", Some("sha256:ab")), "busybox@sha256:ab");
        assert_eq!(with_tag("busybox:1", None), "busybox:1");
        assert!(!has_tag("localhost:5000/busybox") && has_tag("localhost:5000/busybox:1"));
    }
}
