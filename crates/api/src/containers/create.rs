//! `POST /containers/create`: Docker's body, in which the host-independent part stands at the top, as the engine's
//! request.

use engine::model::{Config, CreateRequest, EndpointSettings, HostConfig, Map};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Served;
use crate::failure::{Failure, Result};
use crate::reply::{self, Reply};
use crate::request::Request;

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkingConfig {
    endpoints_config: Map<EndpointSettings>,
}

/// Creates a container.
pub(super) async fn create(mut request: Request, served: &Served) -> Result<Reply> {
    let empty = || Failure::bad_request("config cannot be empty in order to create a container");
    let document = request.document().await?.ok_or_else(empty)?;
    let mut wanted = parse(document)?;
    wanted.name = request.text("name").map(|name| name.trim_start_matches('/').to_owned());
    wanted.platform = request.text("platform").map(str::to_owned);
    reply::created(&served.engines.run(move |engine| engine.create(&wanted)).await?)
}

fn parse(document: Value) -> Result<CreateRequest> {
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
    if let Some(address) = mac_address.filter(|address| !address.is_empty()) {
        // Until version 1.44 it stood here.
        let network = if host.network_mode.is_empty() { "default" } else { &host.network_mode };
        endpoints.entry(network.to_owned()).or_default().mac_address = address;
    }
    let config: Config = typed("Config", config)?;
    Ok(CreateRequest { name: None, platform: None, config, host, endpoints })
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
        let request = parse(json!({
            "Image": "busybox", "Cmd": "true", "Healthcheck": { "Test": "exit 0" }, "Unknown": 1,
            "HostConfig": { "Memory": 5, "CapAdd": "ALL", "NetworkMode": "web" },
            "NetworkingConfig": { "EndpointsConfig": { "web": { "Aliases": ["a"] } } },
            "MacAddress": "02:00:00:00:00:01",
        }))
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
        let wrong = |document| parse(document).unwrap_err().message;
        assert!(wrong(json!({ "HostConfig": { "Memory": "x" } })).starts_with("invalid JSON: HostConfig: "));
        assert!(wrong(json!({ "Env": 1 })).starts_with("invalid JSON: Config: "));
        assert!(wrong(json!({ "HostConfig": 1 })).starts_with("invalid JSON: HostConfig: "));
        assert!(wrong(json!([])).contains("not an object"));
    }
}
