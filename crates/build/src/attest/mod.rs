//! Statements about a result: how it was made (SLSA provenance) and what is installed in it (SPDX). Which archive they
//! stand in is `export`'s business.

mod packages;
mod rpm;
mod spdx;

use serde_json::{Map, Value, json};

use crate::Result;
use crate::event::BuiltImage;
use crate::files::Tree;
use crate::scope::Platform;
use crate::solver::Common;

/// How much a provenance says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// Nothing that may be a secret.
    Min,
    /// Build arguments too.
    Max,
}

const BUILD_TYPE: &str = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";

/// A statement without its subject: type and predicate.
pub(crate) type Statement = (String, Value);

/// The statements that were asked for. `tree` has the image's files, if it has any.
pub(crate) fn statements(common: &Common<'_>, image: &BuiltImage, tree: Option<&Tree>) -> Result<Vec<Statement>> {
    let mut all = Vec::new();
    if common.request.sbom {
        let packages = tree.map(packages::installed).transpose()?.unwrap_or_default();
        let created = created(common);
        let name = common.request.names.first().cloned().unwrap_or_else(|| image.id.clone());
        all.push(("https://spdx.dev/Document".to_owned(), spdx::document(&name, &image.id, &created, &packages)));
    }
    if let Some(how_much) = common.request.provenance {
        all.push(("https://slsa.dev/provenance/v1".to_owned(), provenance(common, image, how_much)));
    }
    Ok(all)
}

/// The time of what the build makes.
fn created(common: &Common<'_>) -> String {
    let now = jiff::Timestamp::now();
    let time = common.request.epoch.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()).unwrap_or(now);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// SLSA 1.0, as BuildKit fills it in.
fn provenance(common: &Common<'_>, image: &BuiltImage, how_much: Provenance) -> Value {
    let request = common.request;
    let mut arguments = Map::new();
    if let Some(target) = &request.target {
        arguments.insert("target".to_owned(), json!(target));
    }
    if how_much == Provenance::Max {
        for (name, value) in &request.arguments.0 {
            arguments.insert(format!("build-arg:{name}"), json!(value));
        }
    }
    let platform = image.platform.shown().replace('/', "%2F");
    let dependency = |(name, id): &(String, String)| {
        let digest = id.strip_prefix("sha256:").unwrap_or(id);
        json!({"uri": format!("pkg:docker/{name}?platform={platform}"), "digest": {"sha256": digest}})
    };
    let dependencies: Vec<Value> = image.materials.iter().map(dependency).collect();
    let time = created(common);
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "configSource": {"path": "Dockerfile"},
                "request": {
                    "frontend": "dockerfile.v0",
                    "args": arguments,
                    "locals": [{"name": "context"}, {"name": "dockerfile"}],
                },
            },
            "internalParameters": {"builderPlatform": Platform::host().shown()},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": ""},
            "metadata": {"startedOn": time, "finishedOn": time},
        },
    })
}
