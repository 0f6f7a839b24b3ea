//! What networks, their endpoints and published ports are. Plain data, as it stands in records and in the plan that a
//! container's monitor carries out; what the driver options mean is in `options`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::subnet::Net;

/// How a network is made of the kernel's parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge of the host with one pair of virtual Ethernet devices for each endpoint.
    #[default]
    Bridge,
    /// Further MAC addresses on a device of the host.
    Macvlan,
    /// Further addresses on a device of the host, with its MAC address.
    Ipvlan,
    /// The host's own namespace.
    Host,
    /// A loopback device only.
    Null,
}

impl Driver {
    /// Docker's word.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
            Driver::Host => "host",
            Driver::Null => "null",
        }
    }
}

/// One address range of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The range, without host bits.
    pub net: Net,
    /// The address of the gateway: the bridge's own.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Containers get addresses of this part only.
    #[serde(default)]
    pub range: Option<Net>,
    /// Addresses that something else has.
    #[serde(default)]
    pub auxiliary: BTreeMap<String, IpAddr>,
    /// Whether the user gave it; only such ranges take addresses of the user's choice.
    #[serde(default)]
    pub chosen: bool,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique name.
    pub name: String,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// How it is made.
    pub driver: Driver,
    /// The host's device: the bridge, or the parent of macvlan and ipvlan devices.
    pub device: String,
    /// Whether endpoints get IPv4 addresses.
    pub ipv4: bool,
    /// Whether endpoints get IPv6 addresses.
    pub ipv6: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// Shown, without a meaning on a single host.
    pub attachable: bool,
    /// Address ranges.
    pub subnets: Vec<Subnet>,
    /// Driver options by Docker's names.
    pub options: BTreeMap<String, String>,
    /// User labels.
    pub labels: BTreeMap<String, String>,
    /// Address driver: `default`, or `null` for none.
    pub ipam_driver: String,
    /// Options of the address driver.
    pub ipam_options: BTreeMap<String, String>,
    /// Whether its bridge was there before it, and so outlives it.
    pub borrowed: bool,
}

/// The default network's name.
pub const DEFAULT: &str = "bridge";

impl Network {
    /// Whether it is one of the three that are always there.
    pub fn is_predefined(&self) -> bool {
        matches!(self.name.as_str(), DEFAULT | "host" | "none")
    }

    /// The range of a family.
    pub fn subnet(&self, v4: bool) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.net.is_v4() == v4)
    }

    /// The gateway of a family.
    pub fn gateway(&self, v4: bool) -> Option<IpAddr> {
        self.subnet(v4).and_then(|subnet| subnet.gateway)
    }
}

/// A container's place in one network, with everything that is needed to make it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The network as it was when the container was started.
    pub network: Network,
    /// The device's name in the container: `eth0`.
    pub device: String,
    /// MAC address; empty for drivers whose devices have none of their own.
    pub mac: String,
    /// IPv4 address.
    pub ip4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ip6: Option<Ipv6Addr>,
    /// Further addresses, without a range of their own.
    pub link_local: Vec<IpAddr>,
    /// Whether the default route of a family goes this way: IPv4, IPv6.
    pub default_route: [bool; 2],
    /// Names in this network beside the container's own: aliases.
    pub aliases: Vec<String>,
    /// Kernel parameters of the device (`net.ipv4.conf.IFNAME.…=…`).
    pub sysctls: Vec<String>,
    /// Names of others that only this container knows, `NAME:ALIAS`.
    pub links: Vec<String>,
    /// Bytes a second that the container may send; 0: any number.
    pub egress: u64,
    /// Bytes a second that it may be sent; 0: any number.
    pub ingress: u64,
}

impl Endpoint {
    /// Addresses with the prefix of their range.
    pub fn addresses(&self) -> impl Iterator<Item = Net> {
        let own = [self.ip4.map(IpAddr::V4), self.ip6.map(IpAddr::V6)].into_iter().flatten();
        own.filter_map(|address| Net::new(address, self.network.subnet(address.is_ipv4())?.net.prefix))
    }

    /// The address of a family.
    pub fn address(&self, v4: bool) -> Option<IpAddr> {
        if v4 { self.ip4.map(IpAddr::V4) } else { self.ip6.map(IpAddr::V6) }
    }
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The protocol of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| protocol.name() == name)
    }

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// Its number in IP.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// A published port: one address and port of the host that lead to one port of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// The container's port.
    pub target: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The host's address; unspecified: every one of the family.
    pub address: IpAddr,
    /// The host's port.
    pub port: u16,
}

/// Everything that a container's monitor needs to connect it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Name of the firewall's table.
    pub table: String,
    /// Endpoints in the order of their devices.
    pub endpoints: Vec<Endpoint>,
    /// Published ports.
    pub ports: Vec<Port>,
}

impl Attachment {
    /// The endpoint to which the ports of a family lead: the one with the default route, else the first with an address.
    pub fn published(&self, v4: bool) -> Option<&Endpoint> {
        let mut able = self.endpoints.iter().filter(|endpoint| endpoint.address(v4).is_some());
        let first = able.clone().next();
        able.find(|endpoint| endpoint.default_route[usize::from(!v4)]).or(first)
    }
}
