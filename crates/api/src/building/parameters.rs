//! The query of `POST /build` as a build's request (moby `api/server/router/build`).

use std::collections::BTreeMap;

use build::scope::{BuildArguments, Platform};
use engine::model::{HostConfig, Ulimit};
use serde::de::DeserializeOwned;

use crate::failure::{Failure, Result};
use crate::registry;
use crate::request::Request;

/// What is asked for besides the build itself.
pub(super) struct Parameters {
    /// The Dockerfile's path in the context; none: the usual names.
    pub(super) dockerfile: Option<String>,
    /// Where the context comes from; none: the body.
    pub(super) remote: Option<String>,
    /// Tell the image's id only.
    pub(super) quiet: bool,
    /// Names a build that may be cancelled.
    pub(super) id: Option<String>,
    /// The build, without Dockerfile and context.
    pub(super) build: build::Request,
}

impl Parameters {
    /// Reads the query.
    pub(super) fn read(request: &Request) -> Result<Self> {
        refuse(request)?;
        let network = match request.text("networkmode") {
            None | Some("bridge" | "default") => "default",
            Some(other) => other,
        };
        let labels: BTreeMap<String, String> = json(request, "labels")?.unwrap_or_default();
        let arguments: BTreeMap<String, Option<String>> = json(request, "buildargs")?.unwrap_or_default();
        // Names of images whose layers may be used: by content they are anyway, so only the form is checked.
        json::<Vec<String>>(request, "cachefrom")?;
        let build = build::Request {
            arguments: BuildArguments(arguments.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()),
            target: request.text("target").map(str::to_owned),
            platforms: platform(request)?.into_iter().collect(),
            labels: labels.into_iter().collect(),
            names: request.all("t").into_iter().filter(|name| !name.is_empty()).collect(),
            no_cache: request.boolean("nocache"),
            pull: request.boolean("pull"),
            network: network.to_owned(),
            // Whoever may use the API may do that with a container as well.
            allowed: vec!["network.host".to_owned()],
            host: host(request)?,
            access: registry::access_of_all(request),
            ..build::Request::default()
        };
        let owned = |name: &str| request.text(name).map(str::to_owned);
        Ok(Parameters {
            dockerfile: owned("dockerfile"),
            remote: owned("remote"),
            quiet: request.boolean("q"),
            id: owned("buildid"),
            build,
        })
    }
}

/// What the classic builder does not do.
fn refuse(request: &Request) -> Result<()> {
    match request.text("version") {
        None | Some("1") => {}
        Some("2") => {
            return Err(Failure::not_implemented("version 2 of /build is not served: BuildKit's protocol is at /grpc"));
        }
        Some(other) => return Err(Failure::bad_request(format!("invalid version {other:?}"))),
    }
    if request.boolean("squash") {
        return Err(Failure::bad_request("squash is only supported with experimental mode"));
    }
    if request.given("securityopt").is_some_and(|options| !matches!(options, "" | "null" | "[]")) {
        let message = "The daemon on this platform does not support setting security options on build";
        return Err(Failure::bad_request(message));
    }
    if request.given("outputs").is_some_and(|outputs| !matches!(outputs, "" | "null" | "[]")) {
        return Err(Failure::bad_request("outputs need BuildKit: the classic builder makes images only"));
    }
    Ok(())
}

fn platform(request: &Request) -> Result<Option<Platform>> {
    let parse = |text: String| Platform::parse(&text).map_err(|error| Failure::bad_request(error.message));
    registry::platform(request)?.map(parse).transpose()
}

/// What containers of RUN get.
fn host(request: &Request) -> Result<HostConfig> {
    let hosts: Vec<String> = request.all("extrahosts").into_iter().filter(|host| !host.is_empty()).collect();
    let owned = |name: &str| request.text(name).unwrap_or_default().to_owned();
    Ok(HostConfig {
        extra_hosts: (!hosts.is_empty()).then_some(hosts),
        cgroup_parent: owned("cgroupparent"),
        cpu_period: request.number("cpuperiod")?.unwrap_or_default(),
        cpu_quota: request.number("cpuquota")?.unwrap_or_default(),
        cpu_shares: request.number("cpushares")?.unwrap_or_default(),
        cpuset_cpus: owned("cpusetcpus"),
        cpuset_mems: owned("cpusetmems"),
        memory: request.number("memory")?.unwrap_or_default(),
        memory_swap: request.number("memswap")?.unwrap_or_default(),
        shm_size: request.number("shmsize")?.unwrap_or_default(),
        ulimits: json::<Vec<Ulimit>>(request, "ulimits")?,
        ..HostConfig::default()
    })
}

/// A parameter that is a JSON document.
fn json<T: DeserializeOwned>(request: &Request, name: &str) -> Result<Option<T>> {
    let Some(text) = request.text(name) else { return Ok(None) };
    serde_json::from_str(text).map_err(|error| Failure::bad_request(format!("error reading {name}: {error}")))
}
