//! `POST /containers/create`: Docker's body, in which the host-independent part stands at the top, as the engine's
//! request.

use engine::model::{Config, CreateRequest, EndpointSettings, HostConfig, Map};
use hyper::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;
use crate::version::Version;
use crate::{Served, compat};

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkingConfig {
    endpoints_config: Map<EndpointSettings>,
}

/// Creates a container.
pub(super) async fn create(mut request: Request, served: &Served) -> Result<Reply> {
    let document = whole(request.document().await?)?;
    let mut wanted = parse(document, request.version)?;
    wanted.name = request.text("name").map(|name| name.trim_start_matches('/').to_owned());
    wanted.platform = request.text("platform").map(str::to_owned);
    compat::upgrade_create(&mut wanted, request.version)?;
    let made = served.engines.run(move |engine| engine.create(&wanted)).await;
    reply::created(&made.map_err(not_of_the_image)?)
}

/// Refuses a body that names neither an image nor a program.
fn whole(document: Option<Value>) -> Result<Value> {
    let eof = || Failure::bad_request("invalid JSON: got EOF while reading request body");
    let document = document.ok_or_else(eof)?;
    let is_empty = |member: &str| match &document[member] {
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        other => other.is_null(),
    };
    if document.as_object().is_some_and(serde_json::Map::is_empty) {
        return Err(Failure::bad_request("config cannot be empty in order to create a container"));
    }
    if document.is_object() && ["Image", "Cmd", "Entrypoint"].into_iter().all(is_empty) {
        return Err(Failure::bad_request("no command specified"));
    }
    Ok(document)
}

/// The docker command takes every 404 for a missing image, which it then pulls: a network or another container that is
/// missing makes the request a wrong one.
fn not_of_the_image(failure: Failure) -> Failure {
    match failure.status {
        StatusCode::NOT_FOUND if !failure.message.starts_with("No such image") => {
            Failure { status: StatusCode::BAD_REQUEST, ..failure }
        }
        _ => failure,
    }
}

/// The parts of the body.
pub(crate) fn parse(document: Value, version: Version) -> Result<CreateRequest> {
    let Value::Object(mut members) = document else {
        return Err(Failure::bad_request("invalid JSON: the body is not an object"));
    };
    let mut host = members.remove("HostConfig").unwrap_or_else(|| Value::Object(Default::default()));
    let networking = members.remove("NetworkingConfig").unwrap_or_else(|| Value::Object(Default::default()));
    if let (Some(runtime), Value::Object(host)) = (members.remove("Runtime"), &mut host) {
        // docker-py has it here.
        host.entry("Runtime").or_insert(runtime);
    }
    let mac_address = members.remove("MacAddress").and_then(|value| value.as_str().map(str::to_owned));
    let mut config = Value::Object(members);
    ["Cmd", "Entrypoint", "Shell"].into_iter().for_each(|member| into_list(&mut config[member]));
    if let Some(check) = config.get_mut("Healthcheck").filter(|check| check.is_object()) {
        into_list(&mut check["Test"]);
    }
    if host.is_object() {
        ["CapAdd", "CapDrop"].into_iter().for_each(|member| into_list(&mut host[member]));
    }
    [&mut config, &mut host].into_iter().for_each(forget_null);
    let host: HostConfig = typed("HostConfig", host)?;
    let mut endpoints = typed::<NetworkingConfig>("NetworkingConfig", networking)?.endpoints_config;
    place_mac_address(mac_address.unwrap_or_default(), &host.network_mode, &mut endpoints, version)?;
    let config: Config = typed("Config", config)?;
    Ok(CreateRequest { name: None, platform: None, config, host, endpoints })
}

/// Until version 1.44 the address stood at the top, and counted there alone; since then it may still stand there.
fn place_mac_address(
    address: String,
    mode: &str,
    endpoints: &mut Map<EndpointSettings>,
    version: Version,
) -> Result<()> {
    let old = version < Version(1, 44);
    if address.is_empty() {
        if old {
            endpoints.values_mut().for_each(|endpoint| endpoint.mac_address.clear());
        }
        return Ok(());
    }
    if mode == "none" || mode == "host" || mode.starts_with("container:") {
        return match old {
            true => Err(Failure::bad_request("conflicting options: mac-address and the network mode")),
            false => Ok(()),
        };
    }
    let network = if mode.is_empty() { "default" } else { mode };
    let endpoint = endpoints.entry(network.to_owned()).or_default();
    if !old && !endpoint.mac_address.is_empty() && endpoint.mac_address != address {
        return Err(Failure::bad_request(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
        ));
    }
    endpoint.mac_address = address;
    Ok(())
}

/// Docker takes one word for a list of one.
fn into_list(value: &mut Value) {
    if value.is_string() {
        *value = Value::Array(vec![value.take()]);
    }
}

/// Indexing by a missing member has made it null.
fn forget_null(document: &mut Value) {
    if let Value::Object(members) = document {
        members.retain(|_, value| !value.is_null());
        if let Some(check) = members.get_mut("Healthcheck") {
            forget_null(check);
        }
    }
}

fn typed<T: DeserializeOwned>(part: &str, document: Value) -> Result<T> {
    serde_json::from_value(document).map_err(|error| Failure::bad_request(format!("invalid JSON: {part}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_body_has_three_parts() {
        let request = parse(
            json!({
                "Image": "busybox", "Cmd": "true", "Healthcheck": { "Test": "exit 0" }, "Unknown": 1,
                "HostConfig": { "Memory": 5, "CapAdd": "ALL", "NetworkMode": "web" },
                "NetworkingConfig": { "EndpointsConfig": { "web": { "Aliases": ["a"] } } },
                "MacAddress": "02:00:00:00:00:01",
            }),
            Version(1, 43),
        )
        .unwrap();
        assert_eq!(request.config.cmd, Some(vec!["true".to_owned()]));
        assert_eq!(request.config.entrypoint, None);
        assert_eq!(request.config.healthcheck.unwrap().test, ["exit 0"]);
        assert_eq!((request.host.memory, request.host.cap_add), (5, Some(vec!["ALL".to_owned()])));
        assert_eq!(request.endpoints["web"].aliases, Some(vec!["a".to_owned()]));
        assert_eq!(request.endpoints["web"].mac_address, "02:00:00:00:00:01");
    }

    #[test]
    fn wrong_types_name_their_part() {
        let wrong = |document| parse(document, Version(1, 51)).unwrap_err().message;
        assert!(wrong(json!({ "HostConfig": { "Memory": "x" } })).starts_with("invalid JSON: HostConfig: "));
        assert!(wrong(json!({ "Env": 1 })).starts_with("invalid JSON: Config: "));
        assert!(wrong(json!({ "HostConfig": 1 })).starts_with("invalid JSON: HostConfig: "));
        assert!(wrong(json!([])).contains("not an object"));
    }
}
