//! Flags about the network.

use std::net::IpAddr;

use engine::model::{CreateRequest, Empty, EndpointIpam, EndpointSettings, Map, PortBinding};

use super::mount::fields;
use super::units::address;
use super::{invalid, list, ports};
use crate::failure::Result;

/// Flags about the network.
#[derive(clap::Args)]
#[command(next_help_heading = "Network")]
pub(super) struct Network {
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "list", value_parser = extra_host)]
    add_host: Vec<String>,
    /// Set custom DNS servers
    #[arg(long, value_name = "list", value_parser = address)]
    dns: Vec<String>,
    /// Set DNS options
    #[arg(long, alias = "dns-opt", value_name = "list")]
    dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "list", value_parser = domain)]
    dns_search: Vec<String>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "list", value_parser = ports::expose)]
    expose: Vec<Vec<String>>,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "string", value_parser = address)]
    ip: Option<String>,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "string", value_parser = address)]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "list")]
    link: Vec<String>,
    /// Container IPv4/IPv6 link-local addresses
    #[arg(long, value_name = "list", value_parser = address)]
    link_local_ip: Vec<String>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "string", value_parser = mac)]
    mac_address: Option<String>,
    /// Connect a container to a network
    #[arg(long, alias = "net", value_name = "network", value_parser = endpoint)]
    network: Vec<Endpoint>,
    /// Add network-scoped alias for the container
    #[arg(long, alias = "net-alias", value_name = "list")]
    network_alias: Vec<String>,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "list", value_parser = ports::publish)]
    publish: Vec<Vec<(String, PortBinding)>>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
}

/// One `--network`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Endpoint {
    name: String,
    settings: EndpointSettings,
}

impl Network {
    pub(super) fn apply(mut self, request: &mut CreateRequest) -> Result<()> {
        self.merge_into_first()?;
        let host = &mut request.host;
        host.network_mode = self.network.first().map_or("default", |endpoint| &endpoint.name).to_owned();
        host.extra_hosts = list(self.add_host);
        host.dns = self.dns;
        host.dns_options = self.dns_option;
        host.dns_search = self.dns_search;
        host.links = list(self.link);
        host.publish_all_ports = self.publish_all;
        let exposed = request.config.exposed_ports.get_or_insert_default();
        exposed.extend(self.expose.into_iter().flatten().map(|port| (port, Empty {})));
        for (port, binding) in self.publish.into_iter().flatten() {
            exposed.insert(port.clone(), Empty {});
            host.port_bindings.entry(port).or_default().push(binding);
        }
        request.config.exposed_ports.take_if(|ports| ports.is_empty());
        request.endpoints = endpoints(self.network)?;
        Ok(())
    }

    /// `--ip`, `--network-alias` and so on belong to the first network.
    fn merge_into_first(&mut self) -> Result<()> {
        let ipam = EndpointIpam {
            ipv4_address: self.ip.take().unwrap_or_default(),
            ipv6_address: self.ip6.take().unwrap_or_default(),
            link_local_ips: std::mem::take(&mut self.link_local_ip),
        };
        let flags = EndpointSettings {
            aliases: list(std::mem::take(&mut self.network_alias)),
            mac_address: self.mac_address.take().unwrap_or_default(),
            ipam_config: some(ipam),
            ..EndpointSettings::default()
        };
        if flags == EndpointSettings::default() {
            return Ok(());
        }
        if self.network.is_empty() {
            self.network.push(Endpoint { name: "default".into(), ..Endpoint::default() });
        }
        merge(&mut self.network[0].settings, flags)
    }
}

/// Adds what the flags say to what a network's long form says.
fn merge(own: &mut EndpointSettings, flags: EndpointSettings) -> Result<()> {
    let (ipam, given) = (own.ipam_config.take().unwrap_or_default(), flags.ipam_config.unwrap_or_default());
    own.aliases = either(own.aliases.take(), flags.aliases, "--network-alias and per-network alias")?;
    own.mac_address =
        either(std::mem::take(&mut own.mac_address), flags.mac_address, "--mac-address and per-network MAC address")?;
    own.ipam_config = some(EndpointIpam {
        ipv4_address: either(ipam.ipv4_address, given.ipv4_address, "--ip and per-network IPv4 address")?,
        ipv6_address: either(ipam.ipv6_address, given.ipv6_address, "--ip6 and per-network IPv6 address")?,
        link_local_ips: either(
            ipam.link_local_ips,
            given.link_local_ips,
            "--link-local-ip and per-network link-local IP addresses",
        )?,
    });
    Ok(())
}

/// The one that says something; both is a contradiction.
fn either<T: Default + PartialEq>(own: T, flag: T, both: &str) -> Result<T> {
    match (own == T::default(), flag == T::default()) {
        (false, false) => Err(invalid(format!("conflicting options: cannot specify both {both}"))),
        (true, _) => Ok(flag),
        (false, true) => Ok(own),
    }
}

fn some(ipam: EndpointIpam) -> Option<EndpointIpam> {
    Some(ipam).filter(|ipam| *ipam != EndpointIpam::default())
}

fn endpoints(networks: Vec<Endpoint>) -> Result<Map<EndpointSettings>> {
    let several = networks.len() > 1;
    let mut endpoints = Map::new();
    for network in networks {
        if several && (matches!(network.name.as_str(), "host" | "none") || network.name.starts_with("container:")) {
            return Err(invalid(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes",
            ));
        }
        if endpoints.contains_key(&network.name) {
            return Err(invalid(format!("network {:?} is specified multiple times", network.name)));
        }
        endpoints.insert(network.name, network.settings);
    }
    Ok(endpoints)
}

/// A name, or CSV of `name=`, `alias=`, `ip=`, `ip6=`, `link-local-ip=`, `mac-address=`, `driver-opt=`, `gw-priority=`.
fn endpoint(text: &str) -> Result<Endpoint, String> {
    if !text.contains('=') {
        if text.is_empty() {
            return Err("network name cannot be empty".to_owned());
        }
        return Ok(Endpoint { name: text.to_owned(), ..Endpoint::default() });
    }
    let mut endpoint = Endpoint::default();
    let mut ipam = EndpointIpam::default();
    for field in fields(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field {field}"))?;
        let (value, settings) = (value.trim().to_owned(), &mut endpoint.settings);
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => endpoint.name = value,
            "alias" => settings.aliases.get_or_insert_default().push(value),
            "ip" => ipam.ipv4_address = address(&value)?,
            "ip6" => ipam.ipv6_address = address(&value)?,
            "link-local-ip" => ipam.link_local_ips.push(address(&value)?),
            "mac-address" => settings.mac_address = mac(&value)?,
            "driver-opt" => {
                let (key, value) = value
                    .split_once('=')
                    .ok_or_else(|| format!("invalid key value pair format in driver options: {value}"))?;
                settings.driver_opts.get_or_insert_default().insert(key.to_owned(), value.to_owned());
            }
            "gw-priority" => {
                settings.gw_priority =
                    value.parse().map_err(|_| format!("invalid gw-priority ({value}): value must be an integer"))?
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if endpoint.name.is_empty() {
        return Err("network name or ID is required".to_owned());
    }
    endpoint.settings.ipam_config = some(ipam);
    Ok(endpoint)
}

/// `host:ip` or `host=ip`; the address may be `host-gateway`. The engine gets `host:ip`.
fn extra_host(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {text:?}");
    let (host, address) = text.split_once(['=', ':']).filter(|(host, _)| !host.is_empty()).ok_or_else(bad)?;
    if address == "host-gateway" {
        return Ok(format!("{host}:{address}"));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok(format!("{host}:{address}")),
        Err(_) => Err(format!("invalid IP address in add-host: {address:?}")),
    }
}

/// A search domain, or `.` for none at all.
fn domain(text: &str) -> Result<String, String> {
    let text = text.trim();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text == "." {
        return Ok(text.to_owned());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() < 255 && name.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text} is not a valid domain"))
    }
}

fn mac(text: &str) -> Result<String, String> {
    let octets: Vec<_> = text.split([':', '-']).collect();
    let octet = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let valid = octets.len() == 6 && octets.iter().all(octet);
    if valid { Ok(text.to_ascii_lowercase()) } else { Err(format!("{text} is not a valid mac address")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_a_short_and_a_long_form() {
        assert_eq!(endpoint("host").unwrap().name, "host");
        let long =
            endpoint("name=n,alias=a,alias=b,ip=10.0.0.2,mac-address=02:42:AC:11:00:02,driver-opt=k=v,gw-priority=2")
                .unwrap();
        assert_eq!(long.name, "n");
        assert_eq!(long.settings.aliases.unwrap(), ["a", "b"]);
        assert_eq!(long.settings.ipam_config.unwrap().ipv4_address, "10.0.0.2");
        assert_eq!((long.settings.mac_address.as_str(), long.settings.gw_priority), ("02:42:ac:11:00:02", 2));
        for bad in ["", "alias=x", "name=n,bogus=1", "name=n,ip=x", "name=n,gw-priority=x"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn extra_hosts_take_both_separators_and_ipv6() {
        assert_eq!(extra_host("a:1.2.3.4"), Ok("a:1.2.3.4".into()));
        assert_eq!(extra_host("a=::1"), Ok("a:::1".into()));
        assert_eq!(extra_host("a:[::1]"), Ok("a:::1".into()));
        assert_eq!(extra_host("a:host-gateway"), Ok("a:host-gateway".into()));
        assert_eq!(extra_host("a:b"), Err("invalid IP address in add-host: \"b\"".into()));
        assert_eq!(extra_host("a"), Err("bad format for add-host: \"a\"".into()));
    }

    #[test]
    fn domains_and_addresses_of_hardware() {
        assert!(
            domain("example.com").is_ok() && domain(".").is_ok() && domain("a..b").is_err() && domain("a b").is_err()
        );
        assert_eq!(mac("92:d0:c6:0a:29:zz"), Err("92:d0:c6:0a:29:zz is not a valid mac address".into()));
    }
}
