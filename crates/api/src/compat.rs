//! What versions of the API differ in: requests of old clients as today's, and today's documents as old clients expect
//! them (moby's own rules, `daemon/server/router`). Each rule stands beside the version that ended it.

use engine::model::CreateRequest;
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Result};
use crate::version::Version;

/// Makes today's request of one of that version: what did not exist yet is passed over or refused, defaults of then are
/// set.
pub(crate) fn upgrade_create(request: &mut CreateRequest, version: Version) -> Result<()> {
    let host = &mut request.host;
    if version < Version(1, 25) {
        // Then the client removed its containers itself.
        host.auto_remove = false;
    }
    if version < Version(1, 40) && host.ipc_mode.is_empty() {
        "shareable".clone_into(&mut host.ipc_mode);
    }
    if version < Version(1, 41) {
        request.platform = None;
    }
    if version < Version(1, 42) {
        host.console_size = [0, 0];
    }
    if version < Version(1, 43) {
        host.annotations.clear();
    }
    if version < Version(1, 44) {
        if let Some(check) = &mut request.config.healthcheck {
            check.start_interval = 0;
        }
        if request.endpoints.len() > 1 {
            let names: Vec<&str> = request.endpoints.keys().map(String::as_str).collect();
            let message = format!("Container cannot be created with multiple network endpoints: {}", names.join(", "));
            return Err(Failure::bad_request(message));
        }
    }
    if version < Version(1, 48) {
        request.endpoints.values_mut().for_each(|endpoint| endpoint.gw_priority = 0);
    }
    upgrade_mounts(request, version)
}

/// The same for its mounts.
fn upgrade_mounts(request: &mut CreateRequest, version: Version) -> Result<()> {
    let needs = |what: &str, version: &str| Err(Failure::bad_request(format!("{what} needs API v{version} or newer")));
    for mount in &mut request.host.mounts {
        let (kind, volume) = (mount.kind.as_str(), mount.volume_options.as_ref());
        if version < Version(1, 48) && kind == "image" {
            return needs("Mount type \"Image\"", "1.48");
        }
        if version < Version(1, 45) && volume.is_some_and(|options| !options.subpath.is_empty()) {
            return needs("VolumeOptions.Subpath", "1.45");
        }
        if version < Version(1, 42) {
            // These combinations were passed over.
            mount.volume_options = mount.volume_options.take().filter(|_| kind == "volume");
            mount.tmpfs_options = mount.tmpfs_options.take().filter(|_| kind == "tmpfs");
        }
        let Some(bind) = &mut mount.bind_options else { continue };
        if version < Version(1, 44) {
            if bind.read_only_force_recursive {
                return needs("BindOptions.ReadOnlyForceRecursive", "1.44");
            }
            // Until then a read-only mount was so at its top only.
            bind.read_only_non_recursive = true;
        }
        if version < Version(1, 42) {
            bind.create_mountpoint = false;
        }
        if version < Version(1, 40) {
            bind.non_recursive = false;
        }
    }
    Ok(())
}

/// `inspect` of a container.
pub(crate) fn container(document: &mut Value, version: Version) {
    let names = [text(&document["Id"]).get(..12).unwrap_or_default().to_owned(), text(&document["Config"]["Hostname"])];
    let settings = &mut document["NetworkSettings"];
    for (network, endpoint) in members(&mut settings["Networks"]) {
        if version < Version(1, 45) && !matches!(network.as_str(), "bridge" | "host" | "none") {
            add_aliases(&mut endpoint["Aliases"], &names);
        }
    }
    if version >= Version(1, 52) {
        // Since then only `Networks` says this.
        let legacy = [
            "EndpointID",
            "Gateway",
            "GlobalIPv6Address",
            "GlobalIPv6PrefixLen",
            "IPAddress",
            "IPPrefixLen",
            "IPv6Gateway",
            "MacAddress",
            "Bridge",
            "HairpinMode",
            "LinkLocalIPv6Address",
            "LinkLocalIPv6PrefixLen",
            "SecondaryIPAddresses",
            "SecondaryIPv6Addresses",
        ];
        forget(settings, &legacy);
    }
}

/// Names of old that a container had in every network.
fn add_aliases(aliases: &mut Value, names: &[String]) {
    let mut all: Vec<Value> = aliases.as_array().cloned().unwrap_or_default();
    for name in names.iter().filter(|name| !name.is_empty()) {
        if !all.contains(&json!(name)) {
            all.push(json!(name));
        }
    }
    *aliases = json!(all);
}

/// `inspect` of an image.
pub(crate) fn image(document: &mut Value, version: Version) {
    if version < Version(1, 44) {
        document["VirtualSize"] = document["Size"].clone();
    }
    if version < Version(1, 45) {
        document["ContainerConfig"] = container_config();
    }
    if version < Version(1, 50) {
        let mut config = container_config();
        if let (Some(all), Some(own)) = (config.as_object_mut(), document["Config"].as_object()) {
            all.extend(own.clone());
        }
        document["Config"] = config;
    }
    if version >= Version(1, 52) {
        for member in ["Parent", "DockerVersion", "Comment", "Author"] {
            if document[member] == "" {
                forget(document, &[member]);
            }
        }
        for (_, value) in members(&mut document["Config"]) {
            if *value == "" {
                *value = Value::Null;
            }
        }
        if let Some(config) = document["Config"].as_object_mut() {
            config.retain(|_, value| !value.is_null());
        }
    }
}

/// A container's configuration that says nothing, as images had it.
fn container_config() -> Value {
    json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
        "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null,
        "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": null,
    })
}

/// `info`.
pub(crate) fn info(document: &mut Value, version: Version) {
    if version < Version(1, 25) {
        document["ExecutionDriver"] = json!("<not supported>");
        let options = document["SecurityOptions"].as_array().cloned().unwrap_or_default();
        let name = |option: &Value| {
            let option = text(option);
            option.split(',').find_map(|pair| pair.strip_prefix("name=").map(str::to_owned)).unwrap_or(option)
        };
        document["SecurityOptions"] = options.iter().map(name).collect();
    }
    if version < Version(1, 47) {
        for member in ["AllowNondistributableArtifactsCIDRs", "AllowNondistributableArtifactsHostnames"] {
            document["RegistryConfig"][member] = Value::Null;
        }
    }
    if version < Version(1, 49) {
        for (_, value) in members(document).filter(|(name, _)| name.ends_with("Commit")) {
            value["Expected"] = value["ID"].clone();
        }
        forget(document, &["FirewallBackend"]);
    }
    if version < Version(1, 50) {
        document["BridgeNfIptables"] = json!(false);
        document["BridgeNfIp6tables"] = json!(false);
        forget(document, &["DiscoveredDevices"]);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The members of an object; none of anything else.
fn members(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().into_iter().flat_map(Map::iter_mut)
}

fn forget(document: &mut Value, names: &[&str]) {
    if let Some(object) = document.as_object_mut() {
        object.retain(|name, _| !names.contains(&name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::{BindOptions, EndpointSettings, Mount, VolumeOptions};

    #[test]
    fn old_requests_lack_what_came_later() {
        let mut request = CreateRequest::default();
        request.host.auto_remove = true;
        request.host.console_size = [1, 2];
        request.host.annotations.insert("a".into(), "b".into());
        upgrade_create(&mut request, Version(1, 24)).unwrap();
        assert!(!request.host.auto_remove && request.host.annotations.is_empty());
        assert_eq!((request.host.ipc_mode.as_str(), request.host.console_size), ("shareable", [0, 0]));
        for name in ["a", "b"] {
            request.endpoints.insert(name.into(), EndpointSettings { gw_priority: 5, ..Default::default() });
        }
        assert!(upgrade_create(&mut request, Version(1, 43)).unwrap_err().message.ends_with("endpoints: a, b"));
        upgrade_create(&mut request, Version(1, 47)).unwrap();
        assert_eq!(request.endpoints["a"].gw_priority, 0);
    }

    #[test]
    fn old_requests_must_not_mean_what_came_later() {
        let with = |mount: Mount| {
            let mut request = CreateRequest::default();
            request.host.mounts.push(mount);
            request
        };
        let refused = |mount: Mount, version| upgrade_create(&mut with(mount), version).unwrap_err().message;
        let image = Mount { kind: "image".into(), ..Default::default() };
        assert_eq!(refused(image, Version(1, 47)), "Mount type \"Image\" needs API v1.48 or newer");
        let options = VolumeOptions { subpath: "x".into(), ..Default::default() };
        let part = Mount { kind: "volume".into(), volume_options: Some(options), ..Default::default() };
        assert!(refused(part, Version(1, 44)).contains("1.45"));
        let options = BindOptions { read_only_force_recursive: true, ..Default::default() };
        let forced = Mount { kind: "bind".into(), bind_options: Some(options), ..Default::default() };
        assert!(refused(forced, Version(1, 43)).contains("1.44"));
    }

    #[test]
    fn documents_have_the_shape_of_their_version() {
        let whole = json!({
            "Id": "0123456789abcdef", "Config": { "Hostname": "web" },
            "NetworkSettings": { "IPAddress": "10.0.0.2", "Networks": {
                "own": { "Aliases": ["web"], "GwPriority": 0, "DNSNames": ["web"] }, "bridge": { "Aliases": null },
            } },
        });
        let shaped = |version| {
            let mut document = whole.clone();
            container(&mut document, version);
            document["NetworkSettings"].clone()
        };
        assert_eq!(shaped(Version(1, 51)), whole["NetworkSettings"]);
        assert!(shaped(Version(1, 52)).get("IPAddress").is_none());
        let old = shaped(Version(1, 43));
        assert_eq!(old["Networks"]["own"]["Aliases"], json!(["web", "0123456789ab"]));
        assert!(old["Networks"]["bridge"]["Aliases"].is_null());
        let mut shown = json!({ "Size": 5, "Parent": "", "Config": { "User": "u" } });
        image(&mut shown, Version(1, 43));
        assert_eq!((&shown["VirtualSize"], &shown["Config"]["User"]), (&json!(5), &json!("u")));
        assert_eq!(shown["ContainerConfig"]["Tty"], false);
    }
}
