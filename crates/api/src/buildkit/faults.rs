//! Why a build failed, as BuildKit's clients show it: the message, and the places in the Dockerfile as typed details.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::Message as _;
use serde_json::json;

use super::proto::{Any, RpcStatus};
use super::wire::{Code, Status};

/// Where BuildKit's types are.
const TYPES: &str = "github.com/moby/buildkit";

/// The status of a build that failed. `begun` says whether it got behind the Dockerfile.
pub(super) fn status(failure: &build::Failure, begun: bool) -> Status {
    let message = failure.errors.iter().map(|error| line(error, begun)).collect::<Vec<_>>().join("\n");
    let cancelled = failure.errors.iter().any(|error| error.cancelled);
    let code = if cancelled { Code::Cancelled } else { Code::Unknown };
    let mut details: Vec<Any> = failure.errors.iter().filter_map(|error| source(failure, error)).collect();
    let codes = failure.errors.iter().filter_map(|error| error.exit_code);
    details.extend(codes.map(|code| any("gatewayapi.ExitMessage", &json!({ "Code": code }))));
    let details = RpcStatus { code: code as i32, message: message.clone(), details }.encode_to_vec();
    Status { details, ..Status::new(code, message) }
}

fn line(error: &build::Error, begun: bool) -> String {
    match error.span {
        Some(span) if !begun => format!("dockerfile parse error on line {}: {}", span.first, error.message),
        _ => error.message.clone(),
    }
}

/// `errdefs.Source`: the Dockerfile and the lines in it.
fn source(failure: &build::Failure, error: &build::Error) -> Option<Any> {
    let span = error.span?;
    let info = json!({
        "filename": failure.name,
        "data": BASE64_STANDARD.encode(&failure.text),
        "language": "Dockerfile",
    });
    let ranges = json!([{ "start": { "line": span.first }, "end": { "line": span.last } }]);
    Some(any("errdefs.Source", &json!({ "info": info, "ranges": ranges })))
}

fn any(kind: &str, value: &serde_json::Value) -> Any {
    Any { type_url: format!("{TYPES}/{kind}+json"), value: value.to_string().into_bytes() }
}
