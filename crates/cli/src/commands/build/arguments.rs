//! The flags of `kiste build`.

use std::path::PathBuf;

use engine::model::Ulimit;

use crate::options::resources::ulimit;
use crate::options::units::{bytes, bytes_or_unlimited, nano_cpus};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Add a custom host-to-IP mapping (format: "host:ip")
    #[arg(long, value_name = "strings")]
    pub(super) add_host: Vec<String>,
    /// Allow extra privileged entitlement (e.g., "network.host", "security.insecure")
    #[arg(long, value_name = "stringArray")]
    pub(super) allow: Vec<String>,
    /// Add annotation to the image
    #[arg(long, value_name = "stringArray")]
    pub(super) annotation: Vec<String>,
    /// Add attestations to archives and directories (format: "type=sbom" or "type=provenance[,mode=max]")
    #[arg(long, value_name = "stringArray")]
    pub(super) attest: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "stringArray")]
    pub(super) build_arg: Vec<String>,
    /// Additional build contexts (e.g., name=path)
    #[arg(long, value_name = "stringArray")]
    pub(super) build_context: Vec<String>,
    /// External cache sources (format: "type=local,src=path/to/dir")
    #[arg(long, value_name = "stringArray")]
    pub(super) cache_from: Vec<String>,
    /// Cache export destinations (format: "type=local,dest=path/to/dir")
    #[arg(long, value_name = "stringArray")]
    pub(super) cache_to: Vec<String>,
    /// Set the parent cgroup for the "RUN" instructions during build
    #[arg(long, value_name = "string")]
    pub(super) cgroup_parent: Option<String>,
    /// Check the Dockerfile instead of building it
    #[arg(long)]
    pub(super) check: bool,
    /// Limit the CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int")]
    pub(super) cpu_period: Option<i64>,
    /// Limit the CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int")]
    pub(super) cpu_quota: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int")]
    pub(super) cpu_shares: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    pub(super) cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    pub(super) cpuset_mems: Option<String>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = nano_cpus)]
    pub(super) cpus: Option<i64>,
    /// Name of the Dockerfile (default: "PATH/Dockerfile")
    #[arg(short, long, value_name = "string")]
    pub(super) file: Option<String>,
    /// Write the image ID to a file
    #[arg(long, value_name = "string")]
    pub(super) iidfile: Option<PathBuf>,
    /// Set metadata for an image
    #[arg(long, value_name = "stringArray")]
    pub(super) label: Vec<String>,
    /// Load the build result into the image store (shorthand for "--output=type=docker")
    #[arg(long)]
    pub(super) load: bool,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = bytes)]
    pub(super) memory: Option<i64>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = bytes_or_unlimited)]
    pub(super) memory_swap: Option<i64>,
    /// Write build result metadata to a file
    #[arg(long, value_name = "string")]
    pub(super) metadata_file: Option<PathBuf>,
    /// Set the networking mode for the "RUN" instructions during build
    #[arg(long, value_name = "string", default_value = "default")]
    pub(super) network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Do not cache specified stages
    #[arg(long, value_name = "stringArray", value_delimiter = ',')]
    pub(super) no_cache_filter: Vec<String>,
    /// What happens when a step fails: "shell" opens one in exactly the state that failed
    #[arg(long, value_name = "string")]
    pub(super) on_error: Option<String>,
    /// Output destination (format: "type=local,dest=path")
    #[arg(short, long, value_name = "stringArray")]
    pub(super) output: Vec<String>,
    /// Limit the number of processes of each "RUN" instruction
    #[arg(long, value_name = "int")]
    pub(super) pids_limit: Option<i64>,
    /// Set target platform for build
    #[arg(long, value_name = "stringArray", value_delimiter = ',')]
    pub(super) platform: Vec<String>,
    /// Set type of progress output ("auto", "plain", "tty", "rawjson", "quiet")
    #[arg(long, value_name = "string", default_value = "auto")]
    pub(super) progress: String,
    /// Shorthand for "--attest=type=provenance"
    #[arg(long, value_name = "string", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) provenance: Option<String>,
    /// Always attempt to pull all referenced images
    #[arg(long)]
    pub(super) pull: bool,
    /// Push the result to its registry
    #[arg(long)]
    pub(super) push: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Shorthand for "--attest=type=sbom"
    #[arg(long, value_name = "string", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) sbom: Option<String>,
    /// Secret to expose to the build (format: "id=mysecret[,src=/local/secret]" or "id=mysecret,env=NAME")
    #[arg(long, value_name = "stringArray")]
    pub(super) secret: Vec<String>,
    /// Shared memory size for build containers
    #[arg(long, value_name = "bytes", value_parser = bytes)]
    pub(super) shm_size: Option<i64>,
    /// SSH agent socket to expose to the build (format: "default|<id>[=<socket>]")
    #[arg(long, value_name = "stringArray")]
    pub(super) ssh: Vec<String>,
    /// Name and optionally a tag (format: "name:tag")
    #[arg(short, long, value_name = "stringArray")]
    pub(super) tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, value_name = "string")]
    pub(super) target: Option<String>,
    /// Ulimit options
    #[arg(long, value_name = "ulimit", value_parser = ulimit)]
    pub(super) ulimit: Vec<Ulimit>,
    #[arg(required = true, hide = true, value_name = "PATH")]
    pub(super) path: String,
}
