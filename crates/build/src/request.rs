//! What a build is asked for. Everything that does not lie on this machine (a client's files, secrets, agents) comes
//! through traits, so that the command line and every protocol of the API ask for the same thing.
//!
//! ```no_run
//! # fn example(paths: &engine::Paths) -> Result<(), build::Failure> {
//! let request = build::Request {
//!     context: build::Context::Directory("app".into()),
//!     names: vec!["app:1".into()],
//!     ..build::Request::default()
//! };
//! let built = build::build(paths, &request, &mut |event| println!("{event:?}"))?;
//! println!("{}", built.images[0].id);
//! # Ok(()) }
//! ```

use std::sync::Arc;

use crate::attest::Provenance;
use crate::cache::{CacheSource, CacheTarget};
use crate::cancel::Cancel;
use crate::output::Output;
use crate::scope::{BuildArguments, Platform};
use crate::source::{Agents, Context, Recipe, Secrets};

/// A build. The default builds `Dockerfile` of an empty context for this machine, into the image store, without a name.
#[derive(Clone, Default)]
pub struct Request {
    /// Where the Dockerfile is.
    pub recipe: Recipe,
    /// The build context.
    pub context: Context,
    /// Patterns of what the context leaves out; none: what the ignore file beside the Dockerfile, or in the context, says.
    pub ignore: Option<Vec<String>>,
    /// `--build-context`: names and what they stand for.
    pub contexts: Vec<(String, Context)>,
    /// `--build-arg`
    pub arguments: BuildArguments,
    /// `--target`
    pub target: Option<String>,
    /// `--platform`; none: this machine's.
    pub platforms: Vec<Platform>,
    /// `--label`
    pub labels: Vec<(String, String)>,
    /// `--annotation`: key and value of the manifests.
    pub annotations: Vec<(String, String)>,
    /// `--tag`, as written.
    pub names: Vec<String>,
    /// What is made of the result; none: an image in the store.
    pub outputs: Vec<Output>,
    /// Nothing is taken from the cache.
    pub no_cache: bool,
    /// Stages that take nothing from the cache.
    pub no_cache_filter: Vec<String>,
    /// Base images are looked for in their registries again.
    pub pull: bool,
    /// `--network`: `default`, `none`, `host`; empty: `default`.
    pub network: String,
    /// `--secret`
    pub secrets: Option<Arc<dyn Secrets>>,
    /// `--ssh`
    pub agents: Option<Arc<dyn Agents>>,
    /// `--allow`: entitlements (`network.host`, `security.insecure`, `device`).
    pub allowed: Vec<String>,
    /// What containers of RUN get besides: limits, `--add-host`, `--shm-size`, `--ulimit`, `--cgroup-parent`.
    pub host: engine::model::HostConfig,
    /// Access to registries.
    pub access: image::Access,
    /// `SOURCE_DATE_EPOCH`: the time of everything that the build makes, in seconds since 1970.
    pub epoch: Option<i64>,
    /// `--provenance`: how the images were made, in archives and directories.
    pub provenance: Option<Provenance>,
    /// `--sbom`: what is installed in the images, in archives and directories.
    pub sbom: bool,
    /// `--cache-from`
    pub cache_from: Vec<CacheSource>,
    /// `--cache-to`
    pub cache_to: Vec<CacheTarget>,
    /// Stops the build from another thread.
    pub cancel: Cancel,
    /// Called with the container of a step that failed, in exactly the state that it left, before that is removed.
    pub on_error: Option<Arc<dyn OnError>>,
}

/// Looks at a failed step (`--on-error=shell`).
pub trait OnError: Send + Sync {
    /// `image` has the files as the step left them; the request says how the step's process was run. Returns when
    /// whoever looks is done.
    fn failed(&self, container: &engine::model::CreateRequest, image: &str);
}
