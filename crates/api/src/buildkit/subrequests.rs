//! Questions about a Dockerfile that is not built (`--call`, `--check`): the checks, as buildx reads their answer.

use std::collections::HashMap;

use build::Warning;
use serde_json::{Value, json};

use super::wire::{Code, Result, Status};

/// The only one that is answered.
const LINT: &str = "frontend.lint";

/// Refuses all but the checks.
pub(super) fn check(id: &str) -> Result<()> {
    if id == LINT {
        return Ok(());
    }
    Err(Status::new(Code::Unimplemented, format!("unsupported request {id}")))
}

/// The findings as a result's metadata.
pub(super) fn answer(warnings: &[Warning]) -> HashMap<String, Vec<u8>> {
    let document = json!({ "warnings": warnings.iter().map(finding).collect::<Vec<_>>(), "sources": [] });
    let text: String = warnings.iter().map(|warning| format!("{}: {}\n", warning.rule, warning.message)).collect();
    let code = if warnings.is_empty() { "0" } else { "1" };
    let fields = [
        ("result.json", document.to_string()),
        ("result.txt", text),
        ("result.statuscode", code.to_owned()),
        ("version", "1.0.0".to_owned()),
    ];
    fields.into_iter().map(|(key, value)| (key.to_owned(), value.into_bytes())).collect()
}

/// The lines come with the finding: without a source nobody looks for them.
fn finding(warning: &Warning) -> Value {
    let line = warning.span.map(|span| format!(" (line {})", span.first)).unwrap_or_default();
    json!({
        "ruleName": warning.rule,
        "description": warning.description,
        "url": warning.url,
        "detail": format!("{}{line}", warning.message),
        "location": { "sourceIndex": -1 },
    })
}
