//! The verbs over images: each takes the image store's answer and adds what only the engine knows (which containers
//! use an image) and the events.

use std::io::Read;

use crate::model::Map;
use crate::{Engine, Result};

/// What to pull.
#[derive(Clone, Debug, Default)]
pub struct PullRequest {
    /// Reference as typed.
    pub reference: String,
    /// `os/arch[/variant]`.
    pub platform: Option<String>,
    /// Every tag of the repository.
    pub all_tags: bool,
}

/// Progress of a pull or load.
#[derive(Clone, Debug, Default)]
pub struct PullProgress {
    /// Short id of the layer; empty for the whole image.
    pub id: String,
    /// Docker's words: `Downloading`, `Pull complete`, `Digest: …`, `Status: …`.
    pub status: String,
    /// Bytes done.
    pub current: u64,
    /// Bytes in all; 0: unknown.
    pub total: u64,
}

/// What to import.
#[derive(Clone, Debug, Default)]
pub struct ImportRequest {
    /// `name[:tag]`.
    pub reference: Option<String>,
    /// `-c` Dockerfile instructions.
    pub changes: Vec<String>,
    /// `-m`.
    pub message: String,
    /// `os/arch[/variant]`.
    pub platform: Option<String>,
}

/// One row of `images`.
#[derive(Clone, Debug, Default)]
pub struct ImageRow {
    /// `sha256:…`.
    pub id: String,
    /// `name:tag` names.
    pub repo_tags: Vec<String>,
    /// `name@sha256:…` names.
    pub repo_digests: Vec<String>,
    /// Seconds since 1970.
    pub created: i64,
    /// Bytes of all layers.
    pub size: u64,
    /// Labels.
    pub labels: Map<String>,
    /// How many containers use it.
    pub containers: usize,
}

/// One line of `rmi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovedImage {
    /// A name was removed.
    Untagged(String),
    /// An image or layer was removed.
    Deleted(String),
}

impl Engine {
    /// Pulls from a registry; the id.
    pub fn pull(&self, _request: &PullRequest, _progress: &mut dyn FnMut(PullProgress)) -> Result<String> {
        todo!()
    }

    /// Loads a docker-archive or an OCI archive; the lines to show (`Loaded image: …`).
    pub fn load(&self, _input: &mut dyn Read, _platform: Option<&str>) -> Result<Vec<String>> {
        todo!()
    }

    /// Makes an image of one file system archive; the id.
    pub fn import(&self, _input: &mut dyn Read, _request: &ImportRequest) -> Result<String> {
        todo!()
    }

    /// Filters: before dangling label reference since until.
    pub fn list_images(&self, _all: bool, _filters: &Map<Vec<String>>) -> Result<Vec<ImageRow>> {
        todo!()
    }

    /// Docker's `ImageInspect` document.
    pub fn inspect_image(&self, _name: &str) -> Result<serde_json::Value> {
        todo!()
    }

    /// Gives an image one more name.
    pub fn tag(&self, _name: &str, _reference: &str) -> Result<()> {
        todo!()
    }

    /// Removes a name, and the image with its last name.
    pub fn remove_image(&self, _name: &str, _force: bool, _no_prune: bool) -> Result<Vec<RemovedImage>> {
        todo!()
    }
}
