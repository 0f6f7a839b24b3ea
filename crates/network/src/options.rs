//! What the driver options of a network and of an endpoint mean: Docker's names, checked when the network is made.

use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::model::{Driver, Network};

/// How a network of one family is connected to the outside (`com.docker.network.bridge.gateway_mode_ipv4`, `…_ipv6`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GatewayMode {
    /// Outgoing connections get the host's address; only published ports can be reached.
    #[default]
    Nat,
    /// Addresses stay as they are; only published ports can be reached.
    Routed,
    /// Like `nat`, but every port can be reached by who has a route.
    NatUnprotected,
    /// The bridge has no address: nothing leads to the host either (internal networks only).
    Isolated,
}

const MTU: &str = "com.docker.network.driver.mtu";
const NAME: &str = "com.docker.network.bridge.name";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const INHIBIT: &str = "com.docker.network.bridge.inhibit_ipv4";
const PREFIX: &str = "com.docker.network.container_iface_prefix";
const DEFAULT_BRIDGE: &str = "com.docker.network.bridge.default_bridge";
/// Option of an endpoint: the device's name in the container.
pub const IFNAME: &str = "com.docker.network.endpoint.ifname";
/// Option of an endpoint: kernel parameters of its device.
pub const SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

/// Option of an endpoint, and of a network for all of its endpoints: what a container may send, `10mbit`.
pub const EGRESS: &str = "kiste.bandwidth.egress";
/// The same for what it may be sent.
pub const INGRESS: &str = "kiste.bandwidth.ingress";

/// Longest name of a device (`IFNAMSIZ` less the zero byte).
pub const LONGEST_DEVICE: usize = 15;

impl Network {
    fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn is_on(&self, name: &str, default: bool) -> bool {
        self.option(name).map_or(default, |value| boolean(value).unwrap_or(default))
    }

    /// Bytes of the longest packet; none: the kernel's 1500.
    pub fn mtu(&self) -> Option<u32> {
        self.option(MTU).and_then(|value| value.parse().ok()).filter(|mtu| *mtu > 0)
    }

    /// The bridge's name that the user chose.
    pub fn chosen_bridge(&self) -> Option<&str> {
        self.option(NAME)
    }

    /// Bytes a second that a container may send (or be sent) unless its endpoint says something else; 0: any number.
    pub fn bandwidth(&self, name: &str) -> u64 {
        self.option(name).and_then(rate).unwrap_or(0)
    }

    /// Whether containers of the network reach each other.
    pub fn icc(&self) -> bool {
        self.is_on(ICC, true)
    }

    /// Whether the bridge has an IPv4 address.
    pub fn has_bridge_address(&self, v4: bool) -> bool {
        self.gateway_mode(v4) != GatewayMode::Isolated && !(v4 && self.is_on(INHIBIT, false))
    }

    /// Whether the source of outgoing connections is rewritten.
    pub fn masquerades(&self, v4: bool) -> bool {
        let mode = self.gateway_mode(v4);
        !self.internal && matches!(mode, GatewayMode::Nat | GatewayMode::NatUnprotected) && self.is_on(MASQUERADE, true)
    }

    /// The address that outgoing connections get, where the user chose one.
    pub fn source(&self, v4: bool) -> Option<IpAddr> {
        let name = if v4 { "com.docker.network.host_ipv4" } else { "com.docker.network.host_ipv6" };
        self.option(name).and_then(|value| value.parse().ok())
    }

    /// The host's address of ports that are published without one.
    pub fn default_binding(&self) -> Option<IpAddr> {
        self.option(BINDING).and_then(|value| value.parse().ok()).filter(|address: &IpAddr| !address.is_unspecified())
    }

    /// How a family is connected to the outside.
    pub fn gateway_mode(&self, v4: bool) -> GatewayMode {
        self.option(gateway_option(v4)).and_then(gateway_mode).unwrap_or_default()
    }

    /// What the names of devices in containers begin with.
    pub fn device_prefix(&self) -> &str {
        self.option(PREFIX).unwrap_or("eth")
    }

    /// Mode of macvlan devices (`bridge`, `private`, `vepa`, `passthru`) or ipvlan devices (`l2`, `l3`, `l3s`).
    pub fn mode(&self) -> &str {
        match self.driver {
            Driver::Ipvlan => self.option("ipvlan_mode").unwrap_or("l2"),
            _ => self.option("macvlan_mode").unwrap_or("bridge"),
        }
    }

    /// Flag of ipvlan devices: `bridge`, `private` or `vepa`.
    pub fn ipvlan_flag(&self) -> &str {
        self.option("ipvlan_flag").unwrap_or("bridge")
    }

    /// Whether devices of the network have no neighbours and hence no gateway (ipvlan l3).
    pub fn is_layer3(&self) -> bool {
        self.driver == Driver::Ipvlan && self.mode().starts_with("l3")
    }
}

fn gateway_option(v4: bool) -> &'static str {
    match v4 {
        true => "com.docker.network.bridge.gateway_mode_ipv4",
        false => "com.docker.network.bridge.gateway_mode_ipv6",
    }
}

fn gateway_mode(word: &str) -> Option<GatewayMode> {
    match word {
        "nat" => Some(GatewayMode::Nat),
        "routed" => Some(GatewayMode::Routed),
        "nat-unprotected" => Some(GatewayMode::NatUnprotected),
        "isolated" => Some(GatewayMode::Isolated),
        _ => None,
    }
}

fn boolean(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Refuses options that do not exist, and values that they cannot have.
pub fn check(network: &Network) -> Result<()> {
    network.options.iter().try_for_each(|(name, value)| check_one(network, name, value))?;
    for v4 in [true, false] {
        if network.gateway_mode(v4) == GatewayMode::Isolated && !network.internal {
            return Err(Error::invalid("gateway mode 'isolated' can only be used for an internal network"));
        }
    }
    Ok(())
}

fn check_one(network: &Network, name: &str, value: &str) -> Result<()> {
    let bad = || Error::invalid(format!("invalid value for option {name}: {value:?}"));
    let valid = match (network.driver, name) {
        (_, MTU) => value.is_empty() || value.parse::<u32>().is_ok_and(|mtu| mtu == 0 || (68..=65_535).contains(&mtu)),
        (_, PREFIX) => is_device(&format!("{value}0")),
        (_, EGRESS) | (Driver::Bridge, INGRESS) => rate(value).is_some(),
        (Driver::Bridge, NAME) => is_device(value),
        (Driver::Bridge, ICC | MASQUERADE | INHIBIT | DEFAULT_BRIDGE) => boolean(value).is_some(),
        (Driver::Bridge, BINDING | "com.docker.network.host_ipv4") => is_address(value, true),
        (Driver::Bridge, "com.docker.network.host_ipv6") => is_address(value, false),
        (Driver::Bridge, _) if name == gateway_option(true) || name == gateway_option(false) => {
            gateway_mode(value).is_some()
        }
        (Driver::Macvlan | Driver::Ipvlan, "parent") => value.is_empty() || is_device(value),
        (Driver::Macvlan, "macvlan_mode") => matches!(value, "" | "bridge" | "private" | "vepa" | "passthru"),
        (Driver::Ipvlan, "ipvlan_mode") => matches!(value, "" | "l2" | "l3" | "l3s"),
        (Driver::Ipvlan, "ipvlan_flag") => matches!(value, "" | "bridge" | "private" | "vepa"),
        _ => return Err(Error::invalid(format!("unknown option {name} of network driver {}", network.driver.name()))),
    };
    if valid { Ok(()) } else { Err(bad()) }
}

fn is_address(value: &str, v4: bool) -> bool {
    value.is_empty() || value.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4() == v4)
}

/// Whether the kernel takes it as the name of a device.
pub fn is_device(name: &str) -> bool {
    (1..=LONGEST_DEVICE).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%'))
}

/// Refuses options of an endpoint that do not exist.
pub fn check_endpoint<'a>(options: impl Iterator<Item = (&'a String, &'a String)>) -> Result<()> {
    for (name, value) in options {
        let valid = match name.as_str() {
            IFNAME => is_device(value) && value != "lo",
            SYSCTLS => value.split(',').all(|pair| sysctl_path(pair, "eth0").is_some()),
            EGRESS | INGRESS => rate(value).is_some(),
            name if ["com.docker.network.", "kiste."].iter().any(|ours| name.starts_with(ours)) => {
                return Err(Error::invalid(format!("unknown option {name} of an endpoint")));
            }
            // Notes of somebody else's are kept and shown, as with Docker.
            _ => true,
        };
        if !valid {
            return Err(Error::invalid(format!("invalid value for option {name}: {value:?}")));
        }
    }
    Ok(())
}

/// Bytes a second of a rate as tc(8) has it: `10mbit`, `500kbit`, `2mbps` (bytes), without a unit bits. Not less than
/// 8 kbit.
pub fn rate(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (prefix, bytes) = match unit.strip_suffix("bit").or(Some("").filter(|_| unit.is_empty())) {
        Some(prefix) => (prefix, 0.125),
        None => (unit.strip_suffix("bps")?, 1.0),
    };
    let factor = match prefix {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        _ => return None,
    };
    let rate = number.parse::<f64>().ok()? * factor * bytes;
    (1000.0..1e12).contains(&rate).then_some(rate as u64)
}

/// Where below `/proc/sys` a kernel parameter of a device is, and its value: `net.ipv4.conf.IFNAME.forwarding=1`.
pub fn sysctl_path<'a>(pair: &'a str, device: &str) -> Option<(String, &'a str)> {
    let (name, value) = pair.trim().split_once('=')?;
    let [net, family, table, "IFNAME", key] = name.split('.').collect::<Vec<_>>()[..] else { return None };
    let known = net == "net" && matches!(family, "ipv4" | "ipv6" | "mpls") && matches!(table, "conf" | "neigh");
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (known && plain && !value.is_empty()).then(|| (format!("net/{family}/{table}/{device}/{key}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(options: &[(&str, &str)]) -> Network {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Network { options, ..Network::default() }
    }

    #[test]
    fn options_are_checked() {
        assert!(check(&network(&[(MTU, "1400"), (ICC, "false"), (NAME, "br7")])).is_ok());
        for bad in [
            (MTU, "x"),
            (MTU, "1"),
            (ICC, "maybe"),
            (NAME, "a/b"),
            (NAME, "sixteen-letters-"),
            ("parent", "eth0"),
            ("com.docker.network.bogus", "1"),
            ("com.docker.network.bridge.gateway_mode_ipv4", "bogus"),
            ("com.docker.network.bridge.gateway_mode_ipv4", "isolated"),
            (BINDING, "::1"),
        ] {
            assert!(check(&network(&[bad])).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rates_have_units() {
        let bytes = ["8kbit", "10mbit", "1.5MBit", "2mbps", "80000", "10gbit"].map(rate);
        assert_eq!(bytes, [1000, 1_250_000, 187_500, 2_000_000, 10_000, 1_250_000_000].map(Some));
        for bad in ["", "x", "10", "-1mbit", "1tbit", "1 mbit", "1.2.3mbit", "9999999gbit", "mbit"] {
            assert_eq!(rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn parameters_of_a_device_stay_with_it() {
        let found = sysctl_path("net.ipv4.conf.IFNAME.forwarding=1", "eth3");
        assert_eq!(found, Some(("net/ipv4/conf/eth3/forwarding".to_owned(), "1")));
        for bad in ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.forwarding=1", "net.ipv4.conf.IFNAME.a/b=1", "x"] {
            assert_eq!(sysctl_path(bad, "eth0"), None, "{bad}");
        }
    }
}
