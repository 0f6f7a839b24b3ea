//! What a client says about networks and endpoints.

use serde::{Deserialize, Serialize};

use super::Map;

/// Settings of the container's endpoint in one network (`EndpointSettings`, the part that a client sets).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Static addresses.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpam>,
    /// Legacy links.
    pub links: Option<Vec<String>>,
    /// Further names in this network.
    pub aliases: Option<Vec<String>>,
    /// MAC address.
    pub mac_address: String,
    /// Driver options.
    pub driver_opts: Option<Map<String>>,
    /// Priority as default gateway.
    pub gw_priority: i64,
}

/// Static addresses of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointIpam {
    /// IPv4 address.
    #[serde(rename = "IPv4Address")]
    pub ipv4_address: String,
    /// IPv6 address.
    #[serde(rename = "IPv6Address")]
    pub ipv6_address: String,
    /// Link-local addresses.
    #[serde(rename = "LinkLocalIPs")]
    pub link_local_ips: Vec<String>,
}

/// A network to be made (`POST /networks/create`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan` or `ipvlan`; empty: `bridge`.
    pub driver: String,
    /// Whether it has no way out.
    pub internal: bool,
    /// Shown, without a meaning on a single host.
    pub attachable: bool,
    /// Whether endpoints get IPv4 addresses; absent: yes.
    #[serde(rename = "EnableIPv4")]
    pub enable_ipv4: Option<bool>,
    /// Whether endpoints get IPv6 addresses; absent: if there is an IPv6 range, or none
    /// is given at all to a bridge.
    #[serde(rename = "EnableIPv6")]
    pub enable_ipv6: Option<bool>,
    /// Address ranges.
    #[serde(rename = "IPAM")]
    pub ipam: Ipam,
    /// Driver options.
    pub options: Map<String>,
    /// User labels.
    pub labels: Map<String>,
}

/// Address management of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ipam {
    /// `default` or `null`; empty: `default`.
    pub driver: String,
    /// Options of the driver.
    pub options: Map<String>,
    /// Ranges, at most one of each family.
    pub config: Vec<IpamConfig>,
}

/// One address range, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct IpamConfig {
    /// The range.
    pub subnet: String,
    /// The part that containers get addresses of; empty: all.
    #[serde(rename = "IPRange")]
    pub ip_range: String,
    /// The gateway; empty: the first address.
    pub gateway: String,
    /// Addresses that something else has.
    pub auxiliary_addresses: Map<String>,
}
