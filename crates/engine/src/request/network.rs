//! What a create request says about networks: which ones, in which order, what is asked of each, and which ports are to be
//! published. Checks follow Docker's rules; addresses and ports themselves are chosen by the network crate.

use std::net::IpAddr;

use network::endpoints::Wish;
use network::options;
use network::publish::Publish;
use network::{Network, Protocol};

use crate::model::{Config, CreateRequest, EndpointSettings, HostConfig, Map, PortBinding};
use crate::{Error, Result};

/// Whether a container in this mode has endpoints: it does not share a namespace, and has more than a loopback device.
pub(crate) fn has_endpoints(mode: &str) -> bool {
    !(matches!(mode, "none" | "host") || mode.starts_with("container:"))
}

/// The networks of a request with their settings: the mode's first, the others by name.
pub(crate) fn endpoints(request: &CreateRequest, mode: &str) -> Result<Vec<(String, EndpointSettings)>> {
    let canonical = |name: &String| if name == "default" { "bridge".to_owned() } else { name.clone() };
    let mut wanted: Map<EndpointSettings> =
        request.endpoints.iter().map(|(name, settings)| (canonical(name), settings.clone())).collect();
    // `container:NAME` was given by name, and `mode` has its id.
    let given = wanted.remove(&canonical(&request.host.network_mode));
    let mut first = given.or_else(|| wanted.remove(mode)).unwrap_or_default();
    if mode != network::model::DEFAULT && first.links.is_none() {
        first.links.clone_from(&request.host.links);
    }
    if !has_endpoints(mode) {
        check_shared(mode, &first)?;
        return match wanted.keys().next() {
            None => Ok(Vec::new()),
            Some(name) => Err(Error::invalid(format!(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes: {mode} and {name}"
            ))),
        };
    }
    let mut all = vec![(mode.to_owned(), first)];
    for (name, settings) in wanted {
        if !has_endpoints(&name) {
            return Err(Error::invalid("container cannot be connected to host network or share another one's besides"));
        }
        all.push((name, settings));
    }
    all.iter().try_for_each(|(name, settings)| check_endpoint(name, settings))?;
    Ok(all)
}

/// Nothing can be asked of a namespace that is not the container's own.
fn check_shared(mode: &str, settings: &EndpointSettings) -> Result<()> {
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let refuse = |asked: bool, text: &str| match asked {
        true => Err(Error::invalid(format!("invalid config for network {mode}: invalid endpoint settings: {text}"))),
        false => Ok(()),
    };
    refuse(!ipam.ipv4_address.is_empty() || !ipam.ipv6_address.is_empty(), NO_ADDRESS)?;
    refuse(settings.aliases.iter().flatten().next().is_some(), NO_ALIAS)?;
    if !settings.mac_address.is_empty() && mode != "none" {
        return Err(Error::invalid("conflicting options: mac-address and the network mode"));
    }
    let more = !ipam.link_local_ips.is_empty() || settings.driver_opts.iter().flatten().next().is_some();
    refuse(more, "a network mode without endpoints has no addresses and options")
}

const NO_ADDRESS: &str = "user specified IP address is supported on user defined networks only";
const NO_ALIAS: &str = "network-scoped alias is supported only for containers in user defined networks";

/// Refuses what cannot be asked of an endpoint.
pub(crate) fn check_endpoint(name: &str, settings: &EndpointSettings) -> Result<()> {
    let bad = |text: String| {
        Err(Error::invalid(format!("invalid config for network {name}: invalid endpoint settings: {text}")))
    };
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    if name == network::model::DEFAULT {
        if !ipam.ipv4_address.is_empty() || !ipam.ipv6_address.is_empty() {
            return bad(NO_ADDRESS.to_owned());
        }
        if settings.aliases.iter().flatten().next().is_some() {
            return bad(NO_ALIAS.to_owned());
        }
    }
    for (text, v4) in [(&ipam.ipv4_address, true), (&ipam.ipv6_address, false)] {
        let valid = text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4() == v4 && !address.is_unspecified());
        if !text.is_empty() && !valid {
            return bad(format!("invalid IPv{} address: {text}", if v4 { 4 } else { 6 }));
        }
    }
    if let Some(text) = ipam.link_local_ips.iter().find(|text| text.parse::<IpAddr>().is_err()) {
        return bad(format!("invalid link-local IP address: {text}"));
    }
    let mac = &settings.mac_address;
    if !mac.is_empty() && !is_mac(mac) {
        return Err(Error::invalid(format!("invalid MAC address {mac}")));
    }
    if let Some(alias) = settings.aliases.iter().flatten().find(|alias| !is_name(alias)) {
        return bad(format!("invalid alias {alias:?}"));
    }
    if let Some(link) = settings.links.iter().flatten().find(|link| !crate::links::is_well_formed(link)) {
        return bad(format!("bad format for links: {link}"));
    }
    Ok(options::check_endpoint(settings.driver_opts.iter().flatten())?)
}

/// Six octets, of an address that one device can have: neither zero nor of a group.
fn is_mac(text: &str) -> bool {
    let octets: Vec<Option<u8>> =
        text.split([':', '-']).map(|part| u8::from_str_radix(part, 16).ok().filter(|_| part.len() == 2)).collect();
    octets.len() == 6
        && octets.iter().all(Option::is_some)
        && octets[0].is_some_and(|first| first & 1 == 0)
        && octets.iter().any(|octet| *octet != Some(0))
}

/// What can be a name in `/etc/hosts` and in DNS.
fn is_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// What is asked of an endpoint, once its network is known.
pub(crate) fn wish(network: &Network, settings: &EndpointSettings) -> Result<Wish> {
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let option =
        |name: &str| settings.driver_opts.iter().flatten().find(|(key, _)| *key == name).map(|(_, value)| value);
    let wish = Wish {
        ip4: ipam.ipv4_address.parse().ok(),
        ip6: ipam.ipv6_address.parse().ok(),
        link_local: ipam.link_local_ips.iter().filter_map(|text| text.parse().ok()).collect(),
        mac: Some(settings.mac_address.replace('-', ":").to_lowercase()).filter(|mac| !mac.is_empty()),
        priority: settings.gw_priority,
        aliases: settings.aliases.clone().unwrap_or_default(),
        device: option(options::IFNAME).cloned(),
        sysctls: option(options::SYSCTLS)
            .map(|all| all.split(',').map(|one| one.trim().to_owned()).collect())
            .unwrap_or_default(),
        links: settings.links.clone().unwrap_or_default(),
        egress: option(options::EGRESS).and_then(|rate| options::rate(rate)),
        ingress: option(options::INGRESS).and_then(|rate| options::rate(rate)),
    };
    if wish.ingress.is_some() && network.driver != network::Driver::Bridge {
        return Err(Error::invalid(format!("{} is for networks of the driver bridge", options::INGRESS)));
    }
    for (asked, v4) in [(wish.ip4.is_some(), true), (wish.ip6.is_some(), false)] {
        if asked && !network.subnet(v4).is_some_and(|subnet| subnet.chosen) {
            return Err(Error::invalid(format!(
                "invalid config for network {}: invalid endpoint settings: user specified IP address is supported only \
                 when connecting to networks with user configured subnets",
                network.name
            )));
        }
    }
    Ok(wish)
}

/// The ports that are to be published: those with a binding and, with `-P`, every other exposed one.
pub(crate) fn ports(config: &Config, host: &HostConfig) -> Result<Vec<Publish>> {
    if !has_endpoints(&host.network_mode) {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for (port, bindings) in &host.port_bindings {
        let any = [PortBinding::default()];
        let bindings = if bindings.is_empty() { &any[..] } else { bindings };
        for binding in bindings {
            all.push(publish(port, binding)?);
        }
    }
    if host.publish_all_ports {
        let exposed = config.exposed_ports.iter().flatten().map(|(port, _)| port);
        for port in exposed.filter(|port| !host.port_bindings.contains_key(*port)) {
            all.push(publish(port, &PortBinding::default())?);
        }
    }
    Ok(all)
}

fn publish(port: &str, binding: &PortBinding) -> Result<Publish> {
    let bad = || Error::invalid(format!("invalid port specification: \"{port}\""));
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let target = number.parse().ok().filter(|number| *number > 0).ok_or_else(bad)?;
    let protocol = Protocol::parse(protocol).ok_or_else(bad)?;
    let wrong = || Error::invalid(format!("invalid port specification: \"{}\"", binding.host_port));
    let (first, last) = binding.host_port.split_once('-').unwrap_or((&binding.host_port, &binding.host_port));
    let number = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<u16>().map_err(|_| wrong()) };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong());
    }
    let address = match binding.host_ip.as_str() {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| Error::invalid(format!("invalid IP address: {text}")))?),
    };
    Ok(Publish { target, protocol, address, ports: first..=last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_s_network_comes_first() {
        let mut request = CreateRequest::default();
        for name in ["b", "a", "default"] {
            request.endpoints.insert(name.to_owned(), EndpointSettings::default());
        }
        let names = |mode: &str| {
            let mut request = request.clone();
            mode.clone_into(&mut request.host.network_mode);
            endpoints(&request, mode).unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names("b"), ["b", "a", "bridge"]);
        assert_eq!(names("bridge"), ["bridge", "a", "b"]);
        assert!(endpoints(&request, "host").is_err());
    }

    #[test]
    fn bindings_become_ports() {
        let binding = |ip: &str, port: &str| PortBinding { host_ip: ip.to_owned(), host_port: port.to_owned() };
        let found = publish("80/tcp", &binding("127.0.0.1", "8000-8010")).unwrap();
        assert_eq!((found.target, found.ports), (80, 8000..=8010));
        assert_eq!(publish("53/udp", &binding("", "")).unwrap().ports, 0..=0);
        for (port, binding) in [
            ("0/tcp", binding("", "")),
            ("80/x", binding("", "")),
            ("80", binding("", "9-8")),
            ("80", binding("x", "")),
        ] {
            assert!(publish(port, &binding).is_err());
        }
    }
}
