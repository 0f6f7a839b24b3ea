//! Docker's `ImageInspect` document (API 1.47, graph-driver store), made from an image.

use std::path::PathBuf;

use records::rusqlite::{Connection, OptionalExtension};
use serde_json::{Value, json};

use crate::error::Result;
use crate::store::{Image, Store};

impl Store {
    /// The document that `docker image inspect` prints for one image.
    pub fn inspect(&self, connection: &Connection, name: &str) -> Result<Value> {
        let image = self.resolve(connection, name)?;
        let raw: Value = serde_json::from_slice(&image.config_json).unwrap_or_default();
        let text = |key: &str| raw.get(key).cloned().unwrap_or_else(|| json!(""));
        let mut document = json!({
            "Id": image.id,
            "RepoTags": image.repo_tags,
            "RepoDigests": image.repo_digests,
            "Parent": self.parent(connection, &image.id)?.unwrap_or_default(),
            "Comment": last_comment(&raw),
            "Created": raw.get("created").cloned().unwrap_or_else(|| json!("1970-01-01T00:00:00Z")),
            "DockerVersion": text("docker_version"),
            "Author": text("author"),
            "Architecture": text("architecture"),
            "Os": text("os"),
            "Size": image.size,
            "GraphDriver": {"Data": graph_driver(self.directories(&image)), "Name": "overlay2"},
            "RootFS": {"Type": "layers", "Layers": raw.pointer("/rootfs/diff_ids").cloned().unwrap_or_else(|| json!([]))},
            "Metadata": {"LastTagTime": self.last_tag_time(connection, &image)?},
            "Config": with_defaults(raw.get("config")),
        });
        if let (Some(variant), Some(map)) = (raw.get("variant"), document.as_object_mut()) {
            let at = map.keys().position(|key| key == "Os").unwrap_or(map.len());
            map.shift_insert(at, "Variant".into(), variant.clone());
        }
        Ok(document)
    }

    /// Go's zero time for an image that has no name.
    fn last_tag_time(&self, connection: &Connection, image: &Image) -> Result<String> {
        let mut query = connection.prepare_cached("SELECT tagged_at FROM images WHERE id = ?1")?;
        let seconds: Option<i64> = query.query_row([&image.id], |row| row.get(0)).optional()?;
        let seconds = seconds.filter(|_| !image.repo_tags.is_empty());
        let time = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        Ok(time.map_or_else(|| "0001-01-01T00:00:00Z".into(), |time| time.to_string()))
    }
}

/// Docker shows these keys whether or not the configuration has them; templates rely on that.
fn with_defaults(config: Option<&Value>) -> Value {
    let mut shown = json!({
        "Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "OnBuild": null, "User": "", "Volumes": null,
        "WorkingDir": "",
    });
    if let (Some(Value::Object(config)), Some(shown)) = (config, shown.as_object_mut()) {
        shown.extend(config.clone());
    }
    shown
}

/// The layers as overlay directories, topmost first.
fn graph_driver(directories: Vec<PathBuf>) -> Value {
    let mut paths = directories.iter().map(|path| path.to_string_lossy().into_owned());
    let Some(upper) = paths.next() else { return json!({}) };
    let lower: Vec<String> = paths.collect();
    let mut data = json!({"UpperDir": upper});
    if !lower.is_empty() {
        data["LowerDir"] = json!(lower.join(":"));
    }
    data
}

fn last_comment(raw: &Value) -> Value {
    let own = raw.get("comment").filter(|comment| comment.is_string());
    let history = raw.get("history").and_then(Value::as_array).and_then(|all| all.last());
    own.or_else(|| history.and_then(|last| last.get("comment"))).cloned().unwrap_or_else(|| json!(""))
}
