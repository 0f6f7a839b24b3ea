//! `inspect`: everything about one container in Docker's JSON.

use serde_json::{Value, json};

use crate::model::{EndpointSettings, MountPoint, Status};
use crate::request::defaults;
use crate::spec;
use crate::table::Container;
use crate::view::View;
use crate::{Context as _, Engine, Result, clock, links, tree};

/// Docker's `ContainerInspect` document.
pub type ContainerInspect = Value;

/// What a face must know of a container before it connects to it.
#[derive(Clone, Debug, Default)]
pub struct Brief {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What it is doing.
    pub status: Status,
    /// Whether its process gets a terminal.
    pub tty: bool,
    /// Rows and columns that its terminal begins with, as asked for; zero: not asked for.
    pub console_size: [u32; 2],
}

impl Engine {
    /// The little that connecting to a container needs.
    pub fn brief(&self, name: &str) -> Result<Brief> {
        let view = self.view(name)?;
        let status = view.status();
        let container = view.container;
        Ok(Brief { id: container.id, status, tty: container.config.tty, console_size: container.host.console_size })
    }

    /// Everything about one container.
    pub fn inspect_container(&self, name: &str, size: bool) -> Result<ContainerInspect> {
        let view = self.view(name)?;
        let container = &view.container;
        let file = |name: &str| self.paths().container(&container.id).join(name).to_string_lossy().into_owned();
        let command = spec::command(&container.config);
        let own_files = !container.host.network_mode.starts_with("container:");
        let net_file = |name: &str| if own_files { file(name) } else { String::new() };
        let mut document = json!({
            "Id": container.id,
            "Created": clock::rfc3339(container.created_at),
            "Path": command.first().cloned().unwrap_or_default(),
            "Args": command.get(1..).unwrap_or_default(),
            "State": to_json(&view.state())?,
            "Image": container.image_id,
            "ResolvConfPath": net_file("resolv.conf"),
            "HostnamePath": net_file("hostname"),
            "HostsPath": net_file("hosts"),
            "LogPath": self.shown_log_path(container),
            "Name": format!("/{}", container.name),
            "RestartCount": view.restart_count(),
            "Driver": "overlay2",
            "Platform": "linux",
            "MountLabel": "",
            "ProcessLabel": "",
            "AppArmorProfile": "",
            "ExecIDs": exec_ids(crate::exec_record::live(self.paths(), &container.id)),
            "HostConfig": self.host_config(container)?,
            "GraphDriver": self.graph_driver(&view),
            "Mounts": to_json(&mounts(container))?,
            "Config": config(container)?,
            "NetworkSettings": self.network_settings(&view)?,
        });
        if size {
            let changed = tree::size(&self.writable_home(container)?.join("upper"));
            let image = self.image_of(container).map_or(0, |image| image.size);
            document["SizeRw"] = json!(changed);
            document["SizeRootFs"] = json!(changed + image);
        }
        Ok(document)
    }

    /// Docker tells the path of logs that are files of JSON lines.
    fn shown_log_path(&self, container: &Container) -> String {
        match container.host.log_config.driver.as_str() {
            "json-file" => self.log_path(&container.id).to_string_lossy().into_owned(),
            _ => String::new(),
        }
    }

    fn graph_driver(&self, view: &View) -> Value {
        let container = &view.container;
        let directory = self.writable_home(container).unwrap_or_else(|_| self.paths().container(&container.id));
        // An image that is gone is no reason not to show the rest.
        let layers = self.image_of(container).map(|image| self.images().directories(&image)).unwrap_or_default();
        let lower: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
        let merged = if view.pid() > 0 { format!("/proc/{}/root", view.pid()) } else { String::new() };
        json!({
            "Data": {
                "ID": container.id,
                "LowerDir": lower.join(":"),
                "MergedDir": merged,
                "UpperDir": directory.join("upper"),
                "WorkDir": directory.join("work"),
            },
            "Name": "overlay2",
        })
    }
}

/// Docker shows none as null.
fn exec_ids(ids: Vec<String>) -> Value {
    if ids.is_empty() { Value::Null } else { json!(ids) }
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).step(|| "encode a record".to_owned())
}

/// Mount points; those of `--tmpfs` stand in the host configuration only (as with Docker).
fn mounts(container: &Container) -> Vec<&MountPoint> {
    let of_tmpfs = |point: &MountPoint| point.kind == "tmpfs" && container.host.tmpfs.contains_key(&point.destination);
    container.mounts.iter().map(|mount| &mount.point).filter(|point| !of_tmpfs(point)).collect()
}

fn config(container: &Container) -> Result<Value> {
    let mut config = to_json(&container.config)?;
    config["OnBuild"] = Value::Null;
    Ok(config)
}

impl Engine {
    /// The host part with the paths in force, and with the fields that only Windows containers use.
    fn host_config(&self, container: &Container) -> Result<Value> {
        let mut host = to_json(&container.host)?;
        let (masked, read_only) = defaults::paths(&container.host);
        host["MaskedPaths"] = json!(masked);
        host["ReadonlyPaths"] = json!(read_only);
        host["Links"] = json!(self.read(|connection| links::shown(connection, container))?);
        for field in ["CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth"] {
            host[field] = json!(0);
        }
        Ok(host)
    }

    /// `NetworkSettings`: what the container has in its networks now, and what it is to have.
    fn network_settings(&self, view: &View) -> Result<Value> {
        let container = &view.container;
        let networks = self.network_documents(container)?;
        let key = if view.pid() > 0 { format!("/proc/{}/ns/net", view.pid()) } else { String::new() };
        let sandbox = if view.pid() > 0 { container.id.clone() } else { String::new() };
        let of_default =
            networks.get(network::model::DEFAULT).cloned().unwrap_or_else(|| endpoint(&Default::default()));
        Ok(json!({
            "Bridge": "",
            "SandboxID": sandbox,
            "SandboxKey": key,
            "Ports": super::ports::document(&self.shown_ports(view)?),
            "HairpinMode": false,
            "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0,
            "SecondaryIPAddresses": null,
            "SecondaryIPv6Addresses": null,
            "EndpointID": of_default["EndpointID"],
            "Gateway": of_default["Gateway"],
            "GlobalIPv6Address": of_default["GlobalIPv6Address"],
            "GlobalIPv6PrefixLen": of_default["GlobalIPv6PrefixLen"],
            "IPAddress": of_default["IPAddress"],
            "IPPrefixLen": of_default["IPPrefixLen"],
            "IPv6Gateway": of_default["IPv6Gateway"],
            "MacAddress": of_default["MacAddress"],
            "Networks": networks,
        }))
    }

    /// `Networks`: a document for each network of a container.
    pub(crate) fn network_documents(&self, container: &Container) -> Result<serde_json::Map<String, Value>> {
        let mut documents = serde_json::Map::new();
        let mode = container.host.network_mode.as_str();
        if matches!(mode, "host" | "none") {
            documents.insert(mode.to_owned(), endpoint(&Default::default()));
        }
        self.read(|connection| {
            for stored in network::endpoints::of_container(connection, &container.id)? {
                let settings: EndpointSettings =
                    serde_json::from_str(&stored.settings).step(|| "read the settings of an endpoint".to_owned())?;
                // A network that was removed is shown as far as it is known.
                let network = network::table::find(connection, &stored.network).ok();
                let name = network.as_ref().map_or_else(|| stored.network.clone(), |network| network.name.clone());
                documents.insert(name, connected(container, &stored, network.as_ref(), &settings));
            }
            Ok(())
        })?;
        Ok(documents)
    }
}

/// An endpoint without addresses.
fn endpoint(settings: &EndpointSettings) -> Value {
    let mac = &settings.mac_address;
    json!({
        "IPAMConfig": settings.ipam_config.as_ref().map(ipam),
        "Links": settings.links,
        "Aliases": settings.aliases,
        "MacAddress": mac,
        "DriverOpts": settings.driver_opts,
        "GwPriority": settings.gw_priority,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": null,
    })
}

/// As with Docker, only what was asked for.
fn ipam(ipam: &crate::model::EndpointIpam) -> Value {
    let mut document = serde_json::Map::new();
    for (key, value) in [("IPv4Address", &ipam.ipv4_address), ("IPv6Address", &ipam.ipv6_address)] {
        if !value.is_empty() {
            document.insert(key.to_owned(), json!(value));
        }
    }
    if !ipam.link_local_ips.is_empty() {
        document.insert("LinkLocalIPs".to_owned(), json!(ipam.link_local_ips));
    }
    Value::Object(document)
}

/// An endpoint with what it was given.
fn connected(
    container: &Container,
    stored: &network::endpoints::Stored,
    network: Option<&network::Network>,
    settings: &EndpointSettings,
) -> Value {
    let mut document = endpoint(settings);
    document["NetworkID"] = json!(stored.network);
    let user_defined = network.is_some_and(|network| !network.is_predefined());
    if user_defined {
        let aliases = settings.aliases.iter().flatten().map(String::as_str);
        let mut names: Vec<&str> = vec![&container.name];
        names.extend(aliases.chain([&container.id[..12], container.config.hostname.as_str()]));
        let mut seen = std::collections::HashSet::new();
        names.retain(|name| !name.is_empty() && seen.insert(*name));
        document["DNSNames"] = json!(names);
    }
    let (Some(given), Some(network)) = (&stored.given, network) else { return document };
    document["EndpointID"] = json!(given.id);
    document["MacAddress"] = json!(given.mac);
    let prefix = |v4| network.subnet(v4).map_or(0, |subnet| subnet.net.prefix);
    let text = |address: Option<std::net::IpAddr>| address.map(|address| address.to_string()).unwrap_or_default();
    for (v4, address, length, gateway) in [
        (true, "IPAddress", "IPPrefixLen", "Gateway"),
        (false, "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway"),
    ] {
        if given.address(v4).is_some() {
            document[address] = json!(text(given.address(v4)));
            document[length] = json!(prefix(v4));
            document[gateway] = json!(text(network.gateway(v4).filter(|_| !network.internal)));
        }
    }
    document
}
