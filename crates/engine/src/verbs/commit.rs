//! `commit`: makes an image of a container and what it has changed.

use image::{Commit, Reference, Same};
use serde_json::{Map, Value, json};

use crate::model::{Config, Status};
use crate::request::merge;
use crate::table::{Container, Intent};
use crate::{Context as _, Engine, Error, Result, status};

/// What to commit.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// Name or id.
    pub container: String,
    /// `name[:tag]`.
    pub reference: Option<String>,
    /// Who makes the image.
    pub author: String,
    /// Why.
    pub comment: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// Freeze the container meanwhile, if it runs.
    pub pause: bool,
    /// Takes precedence over the container's own configuration.
    pub config: Option<Config>,
}

impl Engine {
    /// Makes an image; its id.
    pub fn commit(&self, request: &CommitRequest) -> Result<String> {
        let container = self.look_up(&request.container)?;
        request.reference.as_deref().map_or(Ok(()), |name| self.check_image_name(name))?;
        let refuse =
            |what| Err(Error::conflict(format!("You cannot commit container {} which is {what}", container.id)));
        match container.state {
            Intent::Dead => return refuse("Dead"),
            Intent::Removing => return refuse("being removed"),
            _ => {}
        }
        let commit = Commit {
            reference: request.reference.clone(),
            config: configuration(request, &container)?,
            changes: request.changes.clone(),
            created_by: container.config.cmd.clone().unwrap_or_default().join(" "),
            author: request.author.clone(),
            comment: request.comment.clone(),
        };
        let store = self.images();
        store.check_commit(&commit)?;
        let id = {
            let _frozen = self.frozen(&container, request.pause)?;
            let (writable, parent) = (self.writable(&container)?, self.image_of(&container)?);
            let changes = writable.trees().changes(Same::ByContent)?;
            let write = |output: &mut dyn std::io::Write| writable.trees().write_layer(&changes, output);
            let layer = (!changes.is_empty()).then_some(write);
            self.with_records(|records| Ok(store.commit(records, &parent, &commit, layer)?))?
        };
        let named = request.reference.as_deref().and_then(|name| name.parse::<Reference>().ok());
        let named = named.map(|name| name.or_latest().familiar()).unwrap_or_default();
        let more = [("comment", request.comment.clone()), ("imageID", id.clone()), ("imageRef", named.clone())];
        self.container_event(&container, "commit", &more)?;
        if !named.is_empty() {
            self.image_event("tag", &id, &named)?;
        }
        Ok(id)
    }

    /// Freezes the container if it runs, until the answer is dropped.
    fn frozen<'e>(&'e self, container: &'e Container, wanted: bool) -> Result<Option<Frozen<'e>>> {
        let runs = status::read(self.paths(), &container.id).is_some_and(|run| run.status == Status::Running);
        if !wanted || !runs || container.state != Intent::Running {
            return Ok(None);
        }
        match self.pause(&container.id) {
            Ok(()) => Ok(Some(Frozen { engine: self, id: &container.id })),
            // It has ended meanwhile.
            Err(error) if error.kind == crate::ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A container that is thawed when this is dropped.
struct Frozen<'e> {
    engine: &'e Engine,
    id: &'e str,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.engine.unpause(self.id) {
            self.engine.note(format!("container {} stays paused: {error}", self.id));
        }
    }
}

/// The new image's `config` object: what an image can have of the container's configuration.
fn configuration(request: &CommitRequest, container: &Container) -> Result<Map<String, Value>> {
    let config = match &request.config {
        Some(config) => {
            let own = serde_json::to_vec(&json!({"config": container.config}))
                .step(|| "encode the configuration".to_owned())?;
            merge::merge(config, merge::image_config(&own)?)
        }
        None => container.config.clone(),
    };
    let Value::Object(mut all) = serde_json::to_value(&config).step(|| "encode the configuration".to_owned())? else {
        return Err(Error::internal("the configuration is no object"));
    };
    let fields = [
        "User",
        "ExposedPorts",
        "Env",
        "Cmd",
        "Healthcheck",
        "Volumes",
        "WorkingDir",
        "Entrypoint",
        "Labels",
        "StopSignal",
        "Shell",
    ];
    let empty =
        |value: &Value| *value == Value::Null || *value == json!("") || *value == json!([]) || *value == json!({});
    let fields = fields.iter().filter_map(|field| all.remove_entry(*field));
    Ok(fields.filter(|(_, value)| !empty(value)).collect())
}
