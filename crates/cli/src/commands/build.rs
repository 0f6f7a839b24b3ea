//! `kiste build`: an image from a Dockerfile. Reads Dockerfile and ignore file, shows the progress, and points at the line
//! when something is wrong; the building itself is `build`'s.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use build::scope::{BuildArguments, Platform};
use build::{Error, Request};
use engine::model::HostConfig;

use crate::build_progress::{Plain, pointer};
use crate::commands::Verb;
use crate::context::{Context, say};
use crate::failure::{Failure, Result};
use crate::options::identity;
use crate::options::units::{bytes, bytes_or_unlimited};
use crate::progress::Progress;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Add a custom host-to-IP mapping (format: "host:ip")
    #[arg(long, value_name = "strings")]
    add_host: Vec<String>,
    /// Allow extra privileged entitlement (e.g., "network.host", "security.insecure")
    #[arg(long, value_name = "stringArray")]
    allow: Vec<String>,
    /// Set build-time variables
    #[arg(long, value_name = "stringArray")]
    build_arg: Vec<String>,
    /// Additional build contexts (e.g., name=path)
    #[arg(long, value_name = "stringArray")]
    build_context: Vec<String>,
    /// Set the parent cgroup for the "RUN" instructions during build
    #[arg(long, value_name = "string")]
    cgroup_parent: Option<String>,
    /// Limit the CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int")]
    cpu_period: Option<i64>,
    /// Limit the CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int")]
    cpu_quota: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int")]
    cpu_shares: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Name of the Dockerfile (default: "PATH/Dockerfile")
    #[arg(short, long, value_name = "string")]
    file: Option<String>,
    /// Write the image ID to a file
    #[arg(long, value_name = "string")]
    iidfile: Option<PathBuf>,
    /// Set metadata for an image
    #[arg(long, value_name = "stringArray")]
    label: Vec<String>,
    /// Load the single-platform build result into the image store (it always is)
    #[arg(long)]
    load: bool,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = bytes)]
    memory: Option<i64>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = bytes_or_unlimited)]
    memory_swap: Option<i64>,
    /// Write build result metadata to a file
    #[arg(long, value_name = "string")]
    metadata_file: Option<PathBuf>,
    /// Set the networking mode for the "RUN" instructions during build
    #[arg(long, value_name = "string", default_value = "default")]
    network: String,
    /// Do not use cache when building the image
    #[arg(long)]
    no_cache: bool,
    /// Do not cache specified stages
    #[arg(long, value_name = "stringArray", value_delimiter = ',')]
    no_cache_filter: Vec<String>,
    /// Set target platform for build
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Set type of progress output ("auto", "plain", "quiet")
    #[arg(long, value_name = "string", default_value = "auto")]
    progress: String,
    /// Always attempt to pull all referenced images
    #[arg(long)]
    pull: bool,
    /// Push the result to its registry
    #[arg(long)]
    push: bool,
    /// Suppress the build output and print image ID on success
    #[arg(short, long)]
    quiet: bool,
    /// Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")
    #[arg(long, value_name = "stringArray")]
    secret: Vec<String>,
    /// Shared memory size for build containers
    #[arg(long, value_name = "bytes", value_parser = bytes)]
    shm_size: Option<i64>,
    /// SSH agent socket to expose to the build (format: "default|<id>[=<socket>]")
    #[arg(long, value_name = "stringArray")]
    ssh: Vec<String>,
    /// Name and optionally a tag (format: "name:tag")
    #[arg(short, long, value_name = "stringArray")]
    tag: Vec<String>,
    /// Set the target build stage to build
    #[arg(long, value_name = "string")]
    target: Option<String>,
    #[arg(required = true, hide = true, value_name = "PATH")]
    path: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] PATH | -";
    const ABOUT: &'static str = "Build an image from a Dockerfile";

    fn run(self, context: &Context) -> Result<u8> {
        let quiet = match self.progress.as_str() {
            "auto" | "plain" => self.quiet,
            "quiet" => true,
            other => return Err(Failure::new(format!("invalid progress mode {other}: try auto, plain or quiet"))),
        };
        let source = Source::read(&self.path, self.file.as_deref())?;
        let request = self.request(context, &source)?;
        let mut progress = Plain::new(quiet);
        let built = build::build(context.engine.paths(), &request, &mut |event| progress.show(&event))
            .map_err(|errors| failure(&errors, &source))?;
        built.warnings.iter().for_each(|warning| context.warn(warning));
        if self.push {
            push(context, &self.tag, quiet)?;
        }
        let written = |path: &Path, text: &str| {
            fs::write(path, text).map_err(|error| Failure::new(format!("write {}: {error}", path.display())))
        };
        if let Some(path) = &self.iidfile {
            written(path, &built.image)?;
        }
        if let Some(path) = &self.metadata_file {
            let names = request.names.join(",");
            let document = serde_json::json!({"containerimage.config.digest": built.image, "image.name": names});
            written(path, &format!("{document:#}\n"))?;
        }
        if quiet {
            context.print(&format!("{}\n", built.image))?;
        }
        Ok(0)
    }
}

impl Args {
    fn request(&self, context: &Context, source: &Source) -> Result<Request> {
        let platform = match identity::platform(self.platform.clone()) {
            Some(text) => Platform::parse(&text).map_err(|error| Failure::new(error.message))?,
            None => Platform::host(),
        };
        if !["default", "none", "host"].contains(&self.network.as_str()) {
            return Err(Failure::new(format!("network mode {:?} is not supported by builds", self.network))
                .hinted("use default, none or host"));
        }
        let mut allowed = self.allow.clone();
        if self.network == "host" {
            allowed.push("network.host".to_owned());
        }
        Ok(Request {
            dockerfile: source.dockerfile.clone(),
            context: source.context.clone(),
            ignore: source.ignore.clone(),
            contexts: self.build_context.iter().map(|text| named_context(text)).collect::<Result<_>>()?,
            arguments: BuildArguments(self.build_arg.iter().filter_map(|text| argument(text)).collect()),
            target: self.target.clone(),
            platform,
            labels: self.label.iter().map(|text| split(text)).collect(),
            names: self.tag.clone(),
            no_cache: self.no_cache,
            no_cache_filter: self.no_cache_filter.clone(),
            pull: self.pull,
            network: self.network.clone(),
            secrets: self.secret.iter().map(|text| secret(text)).collect::<Result<_>>()?,
            agents: self.ssh.iter().map(|text| agent(text)).collect::<Result<_>>()?,
            allowed,
            host: self.host(),
            access: context.access(),
        })
    }

    fn host(&self) -> HostConfig {
        HostConfig {
            extra_hosts: (!self.add_host.is_empty()).then(|| self.add_host.clone()),
            cgroup_parent: self.cgroup_parent.clone().unwrap_or_default(),
            cpu_period: self.cpu_period.unwrap_or_default(),
            cpu_quota: self.cpu_quota.unwrap_or_default(),
            cpu_shares: self.cpu_shares.unwrap_or_default(),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            cpuset_mems: self.cpuset_mems.clone().unwrap_or_default(),
            memory: self.memory.unwrap_or_default(),
            memory_swap: self.memory_swap.unwrap_or_default(),
            shm_size: self.shm_size.unwrap_or_default(),
            ..HostConfig::default()
        }
    }
}

/// What a build starts from.
struct Source {
    dockerfile: Vec<u8>,
    /// For errors.
    name: String,
    context: Option<PathBuf>,
    ignore: Vec<String>,
}

impl Source {
    fn read(path: &str, file: Option<&str>) -> Result<Self> {
        if path == "-" {
            return Source::of_input(file);
        }
        if path.contains("://") || path.starts_with("git@") || path.starts_with("github.com/") {
            return Err(Failure::new(format!("context {path}: addresses are not supported yet"))
                .hinted("fetch it and name the directory"));
        }
        let directory = PathBuf::from(path);
        if !directory.is_dir() {
            return Err(Failure::new(format!("unable to prepare context: path {path:?} not found")));
        }
        let place = match file {
            Some("-") => None,
            Some(file) => Some(PathBuf::from(file)),
            None => Some(
                ["Dockerfile", "dockerfile"]
                    .map(|name| directory.join(name))
                    .into_iter()
                    .find(|p| p.exists())
                    .unwrap_or_else(|| directory.join("Dockerfile")),
            ),
        };
        let dockerfile = match &place {
            Some(place) => fs::read(place).map_err(|error| unreadable(place, &error))?,
            None => input()?,
        };
        let name =
            place.as_ref().and_then(|p| p.file_name()).map_or("Dockerfile".into(), |name| name.to_string_lossy());
        let beside = place.as_ref().map(|place| PathBuf::from(format!("{}.dockerignore", place.display())));
        let ignore = beside.into_iter().chain([directory.join(".dockerignore")]);
        let ignore = ignore.filter_map(|path| fs::read_to_string(path).ok()).next().unwrap_or_default();
        Ok(Source {
            dockerfile,
            name: name.into_owned(),
            context: Some(directory),
            ignore: build::ignore::read(&ignore),
        })
    }

    /// A Dockerfile alone; an archive would be a context.
    fn of_input(file: Option<&str>) -> Result<Self> {
        let dockerfile = input()?;
        let archive = dockerfile.get(257..262) == Some(b"ustar") || dockerfile.starts_with(&[0x1f, 0x8b]);
        if archive || file.is_some_and(|file| file != "-") {
            return Err(Failure::new("a context from standard input is not supported yet")
                .hinted("unpack it and name the directory"));
        }
        Ok(Source { dockerfile, name: "Dockerfile".to_owned(), context: None, ignore: Vec::new() })
    }
}

fn input() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().take(64 << 20).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let cause = if error.kind() == io::ErrorKind::NotFound {
        "no such file or directory".to_owned()
    } else {
        error.to_string()
    };
    Failure::new(format!("failed to solve: failed to read dockerfile: open {name}: {cause}"))
}

/// All errors, each with its lines; the last is the command's own.
fn failure(errors: &[Error], source: &Source) -> Failure {
    let text = String::from_utf8_lossy(&source.dockerfile);
    for error in errors {
        if let Some(span) = error.span {
            say(&pointer(&source.name, &text, span));
        }
    }
    let Some((last, others)) = errors.split_last() else { return Failure::new("failed to solve") };
    others.iter().for_each(|error| say(&format!("kiste: failed to solve: {}\n", located(error))));
    Failure::new(format!("failed to solve: {}", located(last)))
}

fn located(error: &Error) -> String {
    error.span.map_or_else(|| error.message.clone(), |span| format!("line {}: {}", span.first, error.message))
}

/// `name=value`; a name alone takes its value from the environment.
fn argument(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(text).ok().map(|value| (text.to_owned(), value)),
    }
}

fn split(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

fn named_context(text: &str) -> Result<(String, build::Context)> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
        .ok_or_else(|| Failure::new(format!("invalid context value: {text}, expected key=value")))?;
    let context = match value.strip_prefix("docker-image://") {
        Some(image) => build::Context::Image(image.to_owned()),
        None if value.contains("://") || value.starts_with("target:") => {
            return Err(Failure::new(format!(
                "context {value}: only directories and docker-image:// are supported yet"
            )));
        }
        None => build::Context::Directory(PathBuf::from(value)),
    };
    Ok((name.to_owned(), context))
}

/// `id=ID[,src=FILE|,env=NAME]`: the file that holds it.
fn secret(text: &str) -> Result<(String, PathBuf)> {
    let (mut id, mut file) = (None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => file = Some(PathBuf::from(value)),
            Some(("type", "file")) => {}
            Some(("env" | "type", _)) => {
                return Err(Failure::new(format!("secret {text:?}: only secrets from files are supported yet")));
            }
            _ => return Err(Failure::new(format!("unexpected key in secret {text:?}"))),
        }
    }
    let id = id.ok_or_else(|| Failure::new(format!("secret {text:?} has no id")))?;
    let file = file.unwrap_or_else(|| PathBuf::from(&id));
    if !file.is_file() {
        return Err(Failure::new(format!("failed to stat {}: no such file", file.display())));
    }
    Ok((id, fs::canonicalize(&file).unwrap_or(file)))
}

/// `default`, `ID` or `ID=SOCKET`.
fn agent(text: &str) -> Result<(String, PathBuf)> {
    let (id, socket) = match text.split_once('=') {
        Some((id, socket)) => (id, Some(PathBuf::from(socket))),
        None => (text, std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from)),
    };
    let socket =
        socket.ok_or_else(|| Failure::new("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set"))?;
    Ok((id.to_owned(), socket))
}

fn push(context: &Context, names: &[String], quiet: bool) -> Result<()> {
    if names.is_empty() {
        return Err(Failure::new("tag is needed when pushing to registry"));
    }
    let mut progress = Progress::to_errors(quiet);
    for name in names {
        let request =
            engine::PushRequest { reference: name.clone(), platform: None, all_tags: false, access: context.access() };
        context.engine.push(&request, &mut |step| progress.show(&step))?;
    }
    Ok(())
}
