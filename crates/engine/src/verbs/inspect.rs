//! `inspect`: everything about one container in Docker's JSON.

use serde_json::{Value, json};

use super::list::network;
use crate::model::{MountPoint, Status};
use crate::request::defaults;
use crate::spec;
use crate::table::Container;
use crate::view::View;
use crate::{Context as _, Engine, Result, clock, tree};

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
            "HostConfig": host_config(container)?,
            "GraphDriver": self.graph_driver(&view),
            "Mounts": to_json(&mounts(container))?,
            "Config": config(container)?,
            "NetworkSettings": network_settings(&view),
        });
        if size {
            let changed = tree::size(&self.paths().container(&container.id).join("upper"));
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
        let directory = self.paths().container(&container.id);
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

    /// `port`: (`80/tcp`, `0.0.0.0:8080`) pairs. Nothing can be published yet, so there are none.
    pub fn ports(&self, name: &str) -> Result<Vec<(String, String)>> {
        let view = self.view(name)?;
        let published = view.container.host.port_bindings.iter();
        let pairs = published.flat_map(|(port, bindings)| {
            bindings.iter().map(move |binding| (port.clone(), format!("{}:{}", binding.host_ip, binding.host_port)))
        });
        // A container in the host's network has no ports of its own, whatever was asked for.
        Ok(if view.container.host.network_mode == "host" { Vec::new() } else { pairs.collect() })
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

/// The host part with the paths in force, and with the fields that only Windows containers use.
fn host_config(container: &Container) -> Result<Value> {
    let mut host = to_json(&container.host)?;
    let (masked, read_only) = defaults::paths(&container.host);
    host["MaskedPaths"] = json!(masked);
    host["ReadonlyPaths"] = json!(read_only);
    for field in ["CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth"] {
        host[field] = json!(0);
    }
    Ok(host)
}

fn config(container: &Container) -> Result<Value> {
    let mut config = to_json(&container.config)?;
    config["OnBuild"] = Value::Null;
    Ok(config)
}

/// The container's network: so far a loopback interface, the host's, or another container's.
fn network_settings(view: &View) -> Value {
    let container = &view.container;
    let runs = matches!(view.status(), Status::Running | Status::Paused);
    let ports =
        container.config.exposed_ports.iter().flatten().filter(|_| runs && container.host.network_mode == "bridge");
    let ports: serde_json::Map<String, Value> = ports.map(|(port, _)| (port.clone(), Value::Null)).collect();
    let key = if view.pid() > 0 { format!("/proc/{}/ns/net", view.pid()) } else { String::new() };
    let mut networks = serde_json::Map::new();
    let name = network(&container.host.network_mode);
    if !name.is_empty() {
        networks.insert(name, endpoint());
    }
    json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": key,
        "Ports": ports,
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": networks,
    })
}

/// An endpoint without addresses.
fn endpoint() -> Value {
    json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": null,
        "MacAddress": "",
        "DriverOpts": null,
        "GwPriority": 0,
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
