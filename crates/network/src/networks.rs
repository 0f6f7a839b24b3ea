//! Making networks: the three that are always there, and those of users, checked and with what the user left open
//! filled in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use records::rusqlite::{Connection, Transaction};

use crate::error::{Error, Kind, Result};
use crate::model::{DEFAULT, Driver, Network, Subnet};
use crate::options::{self, GatewayMode};
use crate::subnet::{Net, number};
use crate::{allocate, firewall, link, table};

/// Makes the records of `bridge`, `host` and `none` unless they are there. `id` makes ids, `now` is in nanoseconds.
pub fn ensure_predefined(transaction: &Transaction<'_>, id: &dyn Fn() -> String, now: i64) -> Result<()> {
    if table::named(transaction, DEFAULT)?.is_some() {
        return Ok(());
    }
    let base = |name: &str, driver| Network {
        id: id(),
        name: name.to_owned(),
        created_at: now,
        driver,
        ipv4: true,
        ipam_driver: "default".to_owned(),
        ..Network::default()
    };
    let mut bridge = base(DEFAULT, Driver::Bridge);
    bridge.device = firewall::default_bridge(transaction);
    bridge.ipv6 = link::has_v6();
    let taken = taken(transaction)?;
    let mut nets = vec![allocate::range4(&taken, true)?];
    if bridge.ipv6 {
        nets.push(allocate::range6(&bridge.id, &taken)?);
    }
    let subnet = |net| Subnet { net, gateway: None, range: None, auxiliary: BTreeMap::new(), chosen: false };
    bridge.subnets = nets.into_iter().map(|net| with_gateway(subnet(net))).collect();
    let named = |name: &str, value: &str| (format!("com.docker.network.{name}"), value.to_owned());
    bridge.options = BTreeMap::from([
        named("bridge.default_bridge", "true"),
        named("bridge.enable_icc", "true"),
        named("bridge.enable_ip_masquerade", "true"),
        named("bridge.host_binding_ipv4", "0.0.0.0"),
        named("bridge.name", &bridge.device),
        named("driver.mtu", "1500"),
    ]);
    for network in [bridge, base("host", Driver::Host), base("none", Driver::Null)] {
        table::insert(transaction, &network)?;
    }
    Ok(())
}

/// The lowest address that a host may have is the gateway's.
fn with_gateway(mut subnet: Subnet) -> Subnet {
    let area = subnet.range.unwrap_or(subnet.net);
    let first = (*subnet.net.hosts().start()).max(area.first());
    let free = |candidate: &IpAddr| !subnet.auxiliary.values().any(|address| address == candidate);
    let mut candidates = (first..=area.last()).map(|number| subnet.net.at(number));
    subnet.gateway = subnet.gateway.or_else(|| candidates.find(free));
    subnet
}

/// Ranges that are in use: by networks of these records, and by routes of the host.
fn taken(connection: &Connection) -> Result<Vec<Net>> {
    let mut taken: Vec<Net> = own(connection)?.into_iter().map(|(net, _)| net).collect();
    taken.extend(link::routes::destinations()?);
    Ok(taken)
}

fn own(connection: &Connection) -> Result<Vec<(Net, String)>> {
    let networks = table::all(connection)?;
    let ranges = networks.iter().flat_map(|network| network.subnets.iter().map(|s| (s.net, network.name.clone())));
    Ok(ranges.collect())
}

/// What the name of a network may be, as with Docker.
pub fn check_name(name: &str) -> Result<()> {
    // Docker takes every name, blanks within included; those that a reference cannot mean are refused.
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | ' ');
    let good = name.chars().all(plain) && name.trim() == name && !name.starts_with(['.', '-', '_']);
    match (good, name) {
        _ if name.trim().is_empty() => Err(Error::invalid("invalid name: name is empty")),
        (false, _) => Err(Error::invalid(format!("invalid network name: {name:?} includes invalid characters"))),
        (_, "bridge" | "host" | "none" | "default" | "container" | "ingress") => {
            // Docker's words have the blank.
            Err(Error::new(Kind::Forbidden, format!("operation is not permitted on predefined {name} network ")))
        }
        _ if name.len() > 255 => Err(Error::invalid("network name is longer than 255 characters")),
        _ => Ok(()),
    }
}

/// Checks a new network and fills in what the user left open: id, device and ranges.
pub fn complete(transaction: &Transaction<'_>, mut network: Network) -> Result<Network> {
    check_name(&network.name)?;
    if matches!(network.driver, Driver::Host | Driver::Null) {
        let message = format!("only one instance of \"{}\" network is allowed", network.driver.name());
        return Err(Error::new(Kind::Forbidden, message));
    }
    if table::named(transaction, &network.name)?.is_some() {
        return Err(Error::conflict(format!("network with name {} already exists", network.name)));
    }
    if !network.ipv4 && !network.ipv6 {
        return Err(Error::invalid("IPv4 or IPv6 must be enabled"));
    }
    options::check(&network)?;
    network.subnets.iter().try_for_each(|subnet| check_subnet(&network, subnet))?;
    fill_ranges(transaction, &mut network)?;
    network.device = device(transaction, &network)?;
    Ok(network)
}

fn check_subnet(network: &Network, subnet: &Subnet) -> Result<()> {
    let net = subnet.net;
    let v4 = net.is_v4();
    let conflict = |text: String| Err(Error::invalid(text));
    if net.masked() != net {
        return conflict(format!("invalid network config: invalid subnet {net}: it should be {}", net.masked()));
    }
    if (v4 && !network.ipv4) || (!v4 && !network.ipv6) {
        let family = if v4 { "IPv4" } else { "IPv6" };
        return conflict(format!("invalid network config: {family} is not enabled: subnet {net}"));
    }
    let longest = if v4 { 30 } else { 126 };
    if net.prefix > longest && network.driver == Driver::Bridge {
        return conflict(format!("invalid network config: subnet {net} has no room for a gateway and containers"));
    }
    if net.address.is_multicast() || net.address.is_loopback() || (net.prefix == 0) {
        return conflict(format!("invalid network config: {net} is no range for containers"));
    }
    if let Some(range) = subnet.range {
        if range.masked() != range {
            return conflict(format!(
                "invalid network config: invalid ip-range {range}: it should be {}",
                range.masked()
            ));
        }
        if !net.covers(&range) {
            return conflict(format!(
                "invalid network config: invalid ip-range {range}: subnet {net} does not contain it"
            ));
        }
    }
    let inside = |address: IpAddr| net.contains(address) && net.hosts().contains(&number(address));
    match subnet.gateway {
        Some(gateway) if !inside(gateway) => {
            return conflict(format!("invalid network config: invalid gateway {gateway}: parent subnet is {net}"));
        }
        _ => {}
    }
    match subnet.auxiliary.iter().find(|(_, address)| !net.contains(**address)) {
        Some((name, address)) => conflict(format!(
            "invalid network config: invalid auxiliary address {name}={address}: parent subnet is {net}"
        )),
        None => Ok(()),
    }
}

/// Ranges of the families that have none, gateways where one belongs, and nothing that overlaps.
fn fill_ranges(transaction: &Transaction<'_>, network: &mut Network) -> Result<()> {
    if network.ipam_driver == "null" {
        network.subnets.clear();
        return Ok(());
    }
    let own = own(transaction)?;
    for subnet in &network.subnets {
        let mut others = own.iter().filter(|(net, _)| net.overlaps(&subnet.net));
        if let Some((net, name)) = others.next() {
            return Err(Error::new(
                Kind::Forbidden,
                "invalid pool request: Pool overlaps with other one on this address space",
            )
            .hinted(format!("network {name} has {net}")));
        }
    }
    check_routes(network)?;
    let mut taken = taken(transaction)?;
    taken.extend(network.subnets.iter().map(|subnet| subnet.net));
    for v4 in [true, false] {
        let enabled = if v4 { network.ipv4 } else { network.ipv6 };
        if enabled && network.subnet(v4).is_none() {
            let net = if v4 { allocate::range4(&taken, false)? } else { allocate::range6(&network.id, &taken)? };
            network.subnets.push(Subnet { net, gateway: None, range: None, auxiliary: BTreeMap::new(), chosen: false });
        }
    }
    let subnets = std::mem::take(&mut network.subnets);
    network.subnets = subnets
        .into_iter()
        .map(|subnet| if needs_gateway(network, &subnet) { with_gateway(subnet) } else { subnet })
        .collect();
    Ok(())
}

fn needs_gateway(network: &Network, subnet: &Subnet) -> bool {
    let isolated = network.gateway_mode(subnet.net.is_v4()) == GatewayMode::Isolated;
    !(isolated || network.is_layer3() || network.internal && network.driver != Driver::Bridge)
}

/// A chosen range must not take traffic away from the host's other networks. Sub-devices share theirs with the parent.
fn check_routes(network: &Network) -> Result<()> {
    if network.driver != Driver::Bridge {
        return Ok(());
    }
    let routes = link::routes::destinations()?;
    for subnet in &network.subnets {
        if let Some(route) = routes.iter().find(|route| route.overlaps(&subnet.net)) {
            return Err(Error::new(
                Kind::Forbidden,
                "invalid pool request: Pool overlaps with other one on this address space",
            )
            .hinted(format!("the host has a route to {route} (ip route)")));
        }
    }
    Ok(())
}

/// The host's device of a network: the bridge that is to be made, or the parent.
fn device(transaction: &Transaction<'_>, network: &Network) -> Result<String> {
    let id = &network.id;
    match network.driver {
        Driver::Bridge => {
            let name = network.chosen_bridge().map_or_else(|| format!("kiste-{}", &id[..9]), str::to_owned);
            let taken = table::all(transaction)?.into_iter().find(|other| other.device == name);
            match taken {
                Some(other) => Err(Error::new(
                    Kind::Forbidden,
                    format!(
                        "cannot create network {id} ({name}): conflicts with network {} ({name}): networks have same bridge name",
                        other.id
                    ),
                )),
                None => Ok(name),
            }
        }
        _ => match network.options.get("parent").filter(|parent| !parent.is_empty()) {
            Some(parent) => check_parent(transaction, network, parent),
            None => Ok(format!("dm-{}", &id[..12])),
        },
    }
}

/// Macvlan and ipvlan cannot share a parent, nor can two networks in passthru mode.
fn check_parent(connection: &Connection, network: &Network, parent: &str) -> Result<String> {
    let others = table::all(connection)?;
    let mut users = others.iter().filter(|other| other.device == parent && other.driver != Driver::Bridge);
    match users
        .find(|other| other.driver != network.driver || network.mode() == "passthru" || other.mode() == "passthru")
    {
        Some(other) => Err(Error::new(
            Kind::Forbidden,
            format!("network {} is already using parent interface {parent}", other.name),
        )),
        None => Ok(parent.to_owned()),
    }
}
