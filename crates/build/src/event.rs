//! What a build tells while it works and what it has made.

use crate::Span;
use crate::scope::Platform;

/// What happens, as it happens. Steps are numbered from 1 as they begin; every one that began is then `Cached`, `Done` or
/// `Failed`.
#[derive(Clone, Debug)]
pub enum Event {
    /// A step begins.
    Began {
        /// Its number.
        step: usize,
        /// `sha256:…`, unique in the build.
        digest: String,
        /// What it is: `[stage 2/5] RUN make`.
        name: String,
    },
    /// A step was found in the cache.
    Cached {
        /// Its number.
        step: usize,
    },
    /// A step's process wrote something.
    Output {
        /// Its number.
        step: usize,
        /// 1: standard output, 2: standard error.
        stream: u8,
        /// What.
        bytes: Vec<u8>,
    },
    /// A part of a step goes on: a layer that is downloaded, a file that is sent.
    Progress {
        /// The step's number.
        step: usize,
        /// Which part.
        part: String,
        /// Bytes done.
        current: u64,
        /// Bytes in all; 0: unknown.
        total: u64,
        /// It is over.
        done: bool,
    },
    /// A step is done.
    Done {
        /// Its number.
        step: usize,
        /// How long it took.
        seconds: f64,
    },
    /// A step failed, or was stopped.
    Failed {
        /// Its number.
        step: usize,
        /// Why.
        message: String,
    },
    /// Something is allowed but should not be. All of them come before the first step.
    Warning(Warning),
}

/// A finding of the checks of Dockerfiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Name of the rule, as `# check=skip=` takes it.
    pub rule: &'static str,
    /// What the rule is about.
    pub description: &'static str,
    /// Where it is explained; empty: nowhere.
    pub url: String,
    /// This finding.
    pub message: String,
    /// Where.
    pub span: Option<Span>,
}

/// What a build made.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// One for each platform, in the order of the request.
    pub images: Vec<BuiltImage>,
    /// What is allowed in the Dockerfile but should not be.
    pub warnings: Vec<Warning>,
    /// Digest of the manifest or index that was made or pushed, if one was.
    pub digest: Option<String>,
    /// BuildKit's answer to its clients (`containerimage.digest`, `containerimage.config.digest`, `image.name`, …), which
    /// `--metadata-file` keeps.
    pub metadata: Vec<(String, String)>,
}

/// The image of one platform.
#[derive(Clone, Debug)]
pub struct BuiltImage {
    /// Whom it is for.
    pub platform: Platform,
    /// `sha256:…` of its configuration; in the store if the outputs ask for an image.
    pub id: String,
    /// Its configuration.
    pub config: Vec<u8>,
    /// An image of the store with its layers, whatever the outputs; none if there is no layer.
    pub carrier: Option<String>,
    /// Images that it was made from: name and id.
    pub materials: Vec<(String, String)>,
}
