//! What a build is asked for, and what it tells while it works.

use std::path::PathBuf;

use crate::scope::{BuildArguments, Platform};

/// A build.
#[derive(Clone, Debug)]
pub struct Request {
    /// The Dockerfile's bytes.
    pub dockerfile: Vec<u8>,
    /// The context's directory; none: an empty one.
    pub context: Option<PathBuf>,
    /// Patterns of what the context leaves out.
    pub ignore: Vec<String>,
    /// `--build-context`: names and what they stand for.
    pub contexts: Vec<(String, Context)>,
    /// `--build-arg`
    pub arguments: BuildArguments,
    /// `--target`
    pub target: Option<String>,
    /// `--platform`
    pub platform: Platform,
    /// `--label`
    pub labels: Vec<(String, String)>,
    /// `--tag`, as written.
    pub names: Vec<String>,
    /// Nothing is taken from the cache.
    pub no_cache: bool,
    /// Stages that take nothing from the cache.
    pub no_cache_filter: Vec<String>,
    /// Base images are looked for in their registries again.
    pub pull: bool,
    /// `--network`: `default`, `none`, `host`.
    pub network: String,
    /// `--secret`: ids and the files that hold them.
    pub secrets: Vec<(String, PathBuf)>,
    /// `--ssh`: ids and agents' sockets.
    pub agents: Vec<(String, PathBuf)>,
    /// `--allow`: entitlements (`network.host`, `security.insecure`).
    pub allowed: Vec<String>,
    /// What containers of RUN get besides: limits, `--add-host`, `--shm-size`, `--ulimit`, `--cgroup-parent`.
    pub host: engine::model::HostConfig,
    /// Access to registries.
    pub access: image::Access,
}

/// What a named context stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Context {
    /// A directory on this machine.
    Directory(PathBuf),
    /// An image.
    Image(String),
}

/// What happens, as it happens. Steps are numbered from 1 as they begin.
#[derive(Debug)]
pub enum Event {
    /// A step begins.
    Began {
        /// Its number.
        step: usize,
        /// What it is.
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
        /// What.
        bytes: Vec<u8>,
    },
    /// A step is done.
    Done {
        /// Its number.
        step: usize,
        /// How long it took.
        seconds: f64,
    },
    /// A step failed.
    Failed {
        /// Its number.
        step: usize,
        /// Why.
        message: String,
    },
}
