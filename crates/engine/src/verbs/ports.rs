//! A container's ports as they are shown: by `port`, in `ps` and in `inspect`.

use network::publish;
use serde_json::{Value, json};

use crate::model::Status;
use crate::request::network::has_endpoints;
use crate::view::View;
use crate::{Engine, Result};

/// A port of a container that runs: one line for each address of the host that it is published on, and one for each
/// exposed port that is not published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShownPort {
    /// The container's port.
    pub private: u16,
    /// The host's address; empty: not published.
    pub ip: String,
    /// The host's port.
    pub public: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

impl Engine {
    /// `port`: (`80/tcp`, `0.0.0.0:8080`) pairs.
    pub fn ports(&self, name: &str) -> Result<Vec<(String, String)>> {
        let view = self.view(name)?;
        let mut ports = self.shown_ports(&view)?;
        ports.retain(|port| !port.ip.is_empty());
        ports.sort_by(|a, b| (a.private, &a.protocol).cmp(&(b.private, &b.protocol)));
        Ok(ports
            .iter()
            .map(|port| (format!("{}/{}", port.private, port.protocol), host(&port.ip, port.public)))
            .collect())
    }

    /// The ports of a container, in Docker's order. Only one that runs has ports.
    pub(crate) fn shown_ports(&self, view: &View) -> Result<Vec<ShownPort>> {
        let container = &view.container;
        let runs = matches!(view.status(), Status::Running | Status::Paused | Status::Restarting);
        if !runs || !has_endpoints(&container.host.network_mode) {
            return Ok(Vec::new());
        }
        let published = self.read(|connection| Ok(publish::of(connection, &container.id)?))?;
        let mut ports: Vec<ShownPort> = published
            .iter()
            .map(|port| ShownPort {
                private: port.target,
                ip: port.address.to_string(),
                public: port.port,
                protocol: port.protocol.name().to_owned(),
            })
            .collect();
        for (port, _) in container.config.exposed_ports.iter().flatten() {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            let Ok(private) = number.parse() else { continue };
            if !ports.iter().any(|port| (port.private, port.protocol.as_str()) == (private, protocol)) {
                ports.push(ShownPort { private, ip: String::new(), public: 0, protocol: protocol.to_owned() });
            }
        }
        ports.sort();
        Ok(ports)
    }
}

/// An address and a port of the host.
fn host(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// `Ports` of `inspect`.
pub(crate) fn document(ports: &[ShownPort]) -> Value {
    let mut all = serde_json::Map::new();
    for port in ports {
        let key = format!("{}/{}", port.private, port.protocol);
        let bindings = all.entry(key).or_insert(Value::Null);
        if !port.ip.is_empty() {
            let binding = json!({ "HostIp": port.ip, "HostPort": port.public.to_string() });
            match bindings {
                Value::Array(list) => list.push(binding),
                none => *none = json!([binding]),
            }
        }
    }
    Value::Object(all)
}

/// The column of `ps`: `0.0.0.0:8080->80/tcp, 8000-8009/tcp`. Neighbours that keep their number on the host are one word.
pub(crate) fn column(ports: &[ShownPort]) -> String {
    let mut words = Vec::new();
    let mut moved = Vec::new();
    let mut open: Vec<(&str, &str, u16, u16)> = Vec::new();
    for port in ports {
        let (ip, protocol, number) = (port.ip.as_str(), port.protocol.as_str(), port.private);
        if !ip.is_empty() && port.public != number {
            moved.push(format!("{}->{number}/{protocol}", host(ip, port.public)));
            continue;
        }
        match open.iter_mut().find(|range| (range.0, range.1) == (ip, protocol)) {
            Some(range) if range.3.checked_add(1) == Some(number) => range.3 = number,
            Some(range) => {
                words.push(word(*range));
                (range.2, range.3) = (number, number);
            }
            None => open.push((ip, protocol, number, number)),
        }
    }
    words.extend(open.into_iter().map(word));
    words.extend(moved);
    words.join(", ")
}

fn word((ip, protocol, first, last): (&str, &str, u16, u16)) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match ip {
        "" => format!("{range}/{protocol}"),
        ip if ip.contains(':') => format!("[{ip}]:{range}->{range}/{protocol}"),
        ip => format!("{ip}:{range}->{range}/{protocol}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(private: u16, ip: &str, public: u16) -> ShownPort {
        ShownPort { private, ip: ip.to_owned(), public, protocol: "tcp".to_owned() }
    }

    #[test]
    fn the_column_has_dockers_words() {
        assert_eq!(
            column(&[port(80, "0.0.0.0", 8080), port(80, "::", 8080)]),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(column(&[port(80, "", 0), port(81, "", 0), port(443, "", 0)]), "80-81/tcp, 443/tcp");
        assert_eq!(
            column(&[port(80, "0.0.0.0", 80), port(81, "0.0.0.0", 81), port(90, "0.0.0.0", 8090)]),
            "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:8090->90/tcp"
        );
    }

    #[test]
    fn documents_group_by_port() {
        let document = document(&[port(80, "0.0.0.0", 8080), port(80, "::", 8080), port(90, "", 0)]);
        assert_eq!(document["80/tcp"][1]["HostIp"], "::");
        assert!(document["90/tcp"].is_null());
    }
}
