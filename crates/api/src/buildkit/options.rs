//! The options of the frontend `dockerfile.v0` as a build's request (BuildKit's `frontend/dockerui`).

use std::collections::HashMap;
use std::sync::Arc;

use build::scope::{BuildArguments, Platform};
use build::{Context, Recipe};
use engine::model::{HostConfig, Ulimit};
use image::{Access, Knower};
use serde::Deserialize;

use super::agent::Agents;
use super::attributes;
use super::client::{Directory, Poured};
use super::jobs::Job;
use super::link;
use super::session::Session;
use super::wire::{Code, Result, Status};

/// Where the server's own settings for registries are.
const SETTINGS: &str = "/etc/kiste";
/// Addresses that mean: the client pours an archive out.
const POURED: &str = "http://buildkit-session/";

/// Options by their names.
pub(super) type Options = HashMap<String, String>;

/// What is needed to understand options.
pub(super) struct Asked<'a> {
    pub(super) job: &'a Job,
    /// Sessions that the options name besides the build's own, by their ids.
    pub(super) others: HashMap<String, Arc<Session>>,
    pub(super) paths: engine::Paths,
    pub(super) inputs: &'a HashMap<String, link::Definition>,
    /// A directory that goes with the build.
    pub(super) scratch: std::path::PathBuf,
}

/// Ids of sessions that hold a client's directories (`local-sessionid:NAME`).
pub(super) fn session_ids(options: &Options) -> impl Iterator<Item = &String> {
    options.iter().filter(|(key, _)| key.starts_with("local-sessionid:")).map(|(_, id)| id)
}

impl Asked<'_> {
    /// The request; blocks.
    pub(super) fn request(&self, options: &Options) -> Result<build::Request> {
        let option = |name: &str| options.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let prefixed = |prefix: &str| pairs(options, prefix);
        attributes::check_options(options)?;
        let session = self.job.session.as_ref();
        let no_cache = options.get("no-cache");
        let filename = option("filename").unwrap_or("Dockerfile").to_owned();
        let (context, own) = self.context(options)?;
        let recipe = if own && !options.contains_key("dockerfilekey") {
            Recipe::InContext(Some(filename))
        } else {
            let key = option("dockerfilekey").unwrap_or("dockerfile");
            Recipe::In(Context::Remote(self.directory(options, key)?), Some(filename))
        };
        let platforms = option("platform").map(|text| text.split(',').map(platform).collect()).transpose()?;
        let network = match option("force-network-mode") {
            None | Some("sandbox") => "default",
            Some(other) => other,
        };
        let mut arguments = prefixed("build-arg:");
        let epoch = arguments.iter().find(|(name, _)| name == "SOURCE_DATE_EPOCH").and_then(|(_, v)| v.parse().ok());
        arguments.sort();
        Ok(build::Request {
            recipe,
            context,
            contexts: self.contexts(options)?,
            arguments: BuildArguments(arguments),
            target: option("target").map(str::to_owned),
            platforms: platforms.unwrap_or_default(),
            labels: prefixed("label:"),
            no_cache: no_cache.is_some_and(String::is_empty),
            no_cache_filter: no_cache.filter(|list| !list.is_empty()).map(|list| split(list)).unwrap_or_default(),
            pull: option("image-resolve-mode") == Some("pull"),
            network: network.to_owned(),
            secrets: session.map(|session| session.clone() as Arc<dyn build::Secrets>),
            agents: session
                .map(|session| Arc::new(Agents::new(session.clone(), self.scratch.clone())) as Arc<dyn build::Agents>),
            allowed: self.job.entitlements.clone(),
            host: host(options)?,
            access: access(session),
            epoch,
            cancel: self.job.cancel.clone(),
            cache_from: attributes::sources(&self.job.cache, options)?,
            cache_to: attributes::targets(&self.job.cache)?,
            sbom: attributes::sbom(options)?,
            provenance: attributes::provenance(options)?,
            ..build::Request::default()
        })
    }

    /// The build context, and whether it may hold the Dockerfile.
    fn context(&self, options: &Options) -> Result<(Context, bool)> {
        let key = options.get("contextkey").map_or("context", String::as_str);
        match options.get("context").map(String::as_str).filter(|address| !address.is_empty()) {
            None => Ok((Context::Remote(self.directory(options, key)?), false)),
            Some(address) if address.starts_with(POURED) => Ok((self.poured(address)?, true)),
            Some(address) => Ok((Context::Address(address.to_owned()), true)),
        }
    }

    fn poured(&self, address: &str) -> Result<Context> {
        let session = self.job.session.as_ref().ok_or_else(no_session)?;
        let stream = Poured::open(session, address).map_err(|message| Status::new(Code::Unknown, message))?;
        Ok(Context::Archive(build::Archive::new(stream)))
    }

    fn directory(&self, options: &Options, name: &str) -> Result<Arc<Directory>> {
        let other = options.get(&format!("local-sessionid:{name}")).and_then(|id| self.others.get(id));
        let session = other.or(self.job.session.as_ref()).ok_or_else(no_session)?.clone();
        Ok(Arc::new(Directory::new(session, name, self.paths.clone(), self.job.progress.clone())))
    }

    /// `context:NAME`; one for a platform alone (`context:NAME::linux/amd64`) is not told apart.
    fn contexts(&self, options: &Options) -> Result<Vec<(String, Context)>> {
        let named = pairs(options, "context:").into_iter().map(|(name, value)| {
            let (kind, rest) = value.split_once(':').unwrap_or(("", &value));
            let context = match kind {
                "local" => Context::Remote(self.directory(options, rest)?),
                "docker-image" => Context::Image(rest.trim_start_matches('/').to_owned()),
                "target" => Context::Stage(rest.to_owned()),
                "input" => Context::Image(self.input(rest)?),
                "http" | "https" | "git" | "ssh" => {
                    if value.starts_with(POURED) {
                        self.poured(&value)?
                    } else {
                        Context::Address(value.clone())
                    }
                }
                _ => {
                    let message = format!("unsupported context source {value} for {name}");
                    return Err(Status::new(Code::InvalidArgument, message));
                }
            };
            Ok((name, context))
        });
        named.collect()
    }

    /// The image that another build of the same client has made (a linked target of `bake`).
    fn input(&self, name: &str) -> Result<String> {
        let wrong = || {
            let message = format!("input {name}: only results of builds by this server can be inputs");
            Status::new(Code::Unimplemented, message)
        };
        self.inputs.get(name).and_then(link::read).ok_or_else(wrong)
    }
}

fn no_session() -> Status {
    Status::new(Code::InvalidArgument, "the build has no session to get files from")
}

/// How registries are asked: with what the client knows.
fn access(session: Option<&Arc<Session>>) -> Access {
    let knower = session.cloned().map(|session| Knower::new(move |host| session.credentials(host)));
    Access { config: Some(SETTINGS.into()), knower, ..Access::default() }
}

fn pairs(options: &Options, prefix: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> =
        options.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone()))).collect();
    found.sort();
    found
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn platform(text: &str) -> Result<Platform> {
    Platform::parse(text).map_err(|error| Status::new(Code::InvalidArgument, error.message))
}

/// What containers of RUN get.
fn host(options: &Options) -> Result<HostConfig> {
    let option = |name: &str| options.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let wrong = |name: &str| {
        let text = options.get(name).cloned().unwrap_or_default();
        Status::new(Code::InvalidArgument, format!("invalid {name}: {text:?}"))
    };
    // Written `name=address` here, `name:address` everywhere else.
    let hosts = option("add-hosts").map(|list| split(list).iter().map(|host| host.replacen('=', ":", 1)).collect());
    let shm_size = option("shm-size").map(|text| text.parse().map_err(|_| wrong("shm-size"))).transpose()?;
    let ulimits = option("ulimit").map(|list| split(list).iter().map(|text| ulimit(text)).collect::<Option<Vec<_>>>());
    Ok(HostConfig {
        extra_hosts: hosts,
        shm_size: shm_size.unwrap_or_default(),
        ulimits: ulimits.map(|list| list.ok_or_else(|| wrong("ulimit"))).transpose()?,
        cgroup_parent: option("cgroup-parent").unwrap_or_default().to_owned(),
        ..HostConfig::default()
    })
}

/// `name=soft[:hard]`
fn ulimit(text: &str) -> Option<Ulimit> {
    let (name, limits) = text.split_once('=')?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let document = serde_json::json!({ "Name": name, "Soft": number(soft)?, "Hard": number(hard)? });
    Ulimit::deserialize(document).ok()
}

fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_limits() {
        let options = [("ulimit", "nofile=100:200"), ("add-hosts", "h=1.2.3.4,i=::1"), ("shm-size", "64")];
        let options: Options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let host = host(&options).unwrap();
        assert_eq!(host.extra_hosts.unwrap(), ["h:1.2.3.4", "i:::1"]);
        assert_eq!((host.shm_size, host.ulimits.unwrap()[0].hard), (64, 200));
        assert!(super::host(&[("shm-size".to_owned(), "x".to_owned())].into()).is_err());
    }
}
