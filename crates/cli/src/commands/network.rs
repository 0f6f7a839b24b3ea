//! `kiste network create|connect|disconnect|ls|prune|reload|rm`. `network inspect` stands in `inspect`.

use std::io::Write as _;
use std::net::IpAddr;

use engine::NetworkRow;
use engine::model::{EndpointIpam, EndpointSettings, Ipam, IpamConfig, Map, NetworkRequest};
use serde_json::json;

use crate::commands::{Verb, each, filters, prune};
use crate::context::{Context, say};
use crate::failure::{Failure, Result};
use crate::format::{Listing, Row, shown};
use crate::options::units::address;

/// `network create`.
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "map", value_parser = pair)]
    aux_address: Vec<(String, String)>,
    /// Driver to manage the Network
    #[arg(short, long, value_name = "string", default_value = "bridge")]
    driver: String,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, value_name = "string", default_value = "default")]
    ipam_driver: String,
    /// Set IPAM driver specific options
    #[arg(long = "ipam-opt", value_name = "map", value_parser = pair)]
    ipam_options: Vec<(String, String)>,
    /// Enable or disable IPv4 address assignment
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, value_name = "bool", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv6: Option<bool>,
    /// Set metadata on a network
    #[arg(long = "label", value_name = "list")]
    labels: Vec<String>,
    /// Set driver specific options
    #[arg(short, long = "opt", value_name = "map", value_parser = pair)]
    options: Vec<(String, String)>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    subnet: Vec<String>,
    #[arg(value_name = "NETWORK", required = true, hide = true)]
    name: String,
}

/// `network connect`.
#[derive(clap::Args)]
pub(crate) struct ConnectArgs {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    alias: Vec<String>,
    /// driver options for the network
    #[arg(long, value_name = "strings", value_parser = pair)]
    driver_opt: Vec<(String, String)>,
    /// Highest gw-priority provides the default gateway. Accepts positive and negative values.
    #[arg(long, value_name = "int", default_value = "0", hide_default_value = true)]
    gw_priority: i64,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "ip", value_parser = address)]
    ip: Option<String>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "ip", value_parser = address)]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "list")]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "ipSlice", value_delimiter = ',', value_parser = address)]
    link_local_ip: Vec<String>,
    #[arg(value_name = "NETWORK", required = true, hide = true)]
    network: String,
    #[arg(value_name = "CONTAINER", required = true, hide = true)]
    container: String,
}

/// `network disconnect`.
#[derive(clap::Args)]
pub(crate) struct DisconnectArgs {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    #[arg(value_name = "NETWORK", required = true, hide = true)]
    network: String,
    #[arg(value_name = "CONTAINER", required = true, hide = true)]
    container: String,
}

/// `network ls`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long = "filter", value_name = "filter", value_parser = filters::parse)]
    filters: Vec<filters::Filter>,
    /// Format output: 'table', 'table TEMPLATE', 'json', or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

/// `network prune`.
#[derive(clap::Args)]
pub(crate) struct PruneArgs {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long = "filter", value_name = "filter", value_parser = filters::parse)]
    filters: Vec<filters::Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// `network reload`.
#[derive(clap::Args)]
pub(crate) struct ReloadArgs {}

/// `network rm`.
#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, value_name = "NETWORK", hide = true)]
    networks: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text} must be formatted as key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Verb for CreateArgs {
    const SYNOPSIS: &'static str = "[OPTIONS] NETWORK";
    const ABOUT: &'static str = "Create a network";

    fn run(self, context: &Context) -> Result<u8> {
        let label = |label: String| {
            label.split_once('=').map_or((label.clone(), String::new()), |(name, value)| (name.into(), value.into()))
        };
        let config = ranges(self.subnet, &self.ip_range, &self.gateway, &self.aux_address)?;
        let request = NetworkRequest {
            name: self.name,
            driver: self.driver,
            internal: self.internal,
            attachable: self.attachable,
            enable_ipv4: self.ipv4,
            enable_ipv6: self.ipv6,
            ipam: Ipam { driver: self.ipam_driver, options: self.ipam_options.into_iter().collect(), config },
            options: self.options.into_iter().collect(),
            labels: self.labels.into_iter().map(label).collect(),
        };
        let id = context.engine.create_network(&request)?;
        warn(context);
        writeln!(context.out(), "{id}")?;
        Ok(0)
    }
}

/// Tells the user of other firewalls that are in the containers' way.
fn warn(context: &Context) {
    context.engine.network_warnings().iter().for_each(|warning| say(&format!("{warning}\n")));
}

/// First and last address of a range as numbers, and whether it is of IPv4.
fn bounds(text: &str) -> Result<(u128, u128, bool)> {
    let bad = || Failure::new(format!("invalid CIDR address: {text}"));
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    let (address, prefix): (IpAddr, u32) = (address.parse().map_err(|_| bad())?, prefix.parse().map_err(|_| bad())?);
    let (first, width) = number(address);
    let host = width.checked_sub(prefix).ok_or_else(bad)?;
    let mask = if host == 128 { u128::MAX } else { (1_u128 << host) - 1 };
    Ok((first & !mask, first | mask, address.is_ipv4()))
}

fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// Puts ranges, gateways and reserved addresses with the subnets that they are in.
fn ranges(
    subnets: Vec<String>,
    areas: &[String],
    gateways: &[String],
    reserved: &[(String, String)],
) -> Result<Vec<IpamConfig>> {
    if subnets.len() < areas.len() || subnets.len() < gateways.len() {
        return Err(Failure::new("every ip-range or gateway must have a corresponding subnet"));
    }
    let mut all: Vec<(IpamConfig, (u128, u128, bool))> = Vec::new();
    for subnet in subnets {
        let own = bounds(&subnet)?;
        if all.iter().any(|(_, other)| own.2 == other.2 && own.0 <= other.1 && other.0 <= own.1) {
            return Err(Failure::new("multiple overlapping subnet configuration is not supported"));
        }
        all.push((IpamConfig { subnet, ..IpamConfig::default() }, own));
    }
    for area in areas {
        let (first, last, v4) = bounds(area)?;
        let mut within = all.iter_mut().filter(|(_, own)| own.2 == v4 && own.0 <= first && last <= own.1);
        let Some((config, _)) = within.next() else {
            return Err(Failure::new(format!("no matching subnet for range {area}")));
        };
        if !config.ip_range.is_empty() {
            return Err(Failure::new(format!(
                "cannot configure multiple ranges ({area}, {}) on the same subnet ({})",
                config.ip_range, config.subnet
            )));
        }
        config.ip_range.clone_from(area);
    }
    for gateway in gateways {
        let config = containing(&mut all, gateway, "gateway")?;
        if !config.gateway.is_empty() {
            return Err(Failure::new(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                config.gateway, config.subnet
            )));
        }
        config.gateway.clone_from(gateway);
    }
    for (name, address) in reserved {
        containing(&mut all, address, "aux-address")?.auxiliary_addresses.insert(name.clone(), address.clone());
    }
    Ok(all.into_iter().map(|(config, _)| config).collect())
}

fn containing<'a>(
    all: &'a mut [(IpamConfig, (u128, u128, bool))],
    address: &str,
    what: &str,
) -> Result<&'a mut IpamConfig> {
    let parsed: IpAddr = address.parse().map_err(|_| Failure::new(format!("invalid {what}: {address}")))?;
    let value = number(parsed).0;
    let mut within = all.iter_mut().filter(|(_, own)| own.2 == parsed.is_ipv4() && (own.0..=own.1).contains(&value));
    within
        .next()
        .map(|(config, _)| config)
        .ok_or_else(|| Failure::new(format!("no matching subnet for {what} {address}")))
}

impl Verb for ConnectArgs {
    const SYNOPSIS: &'static str = "[OPTIONS] NETWORK CONTAINER";
    const ABOUT: &'static str = "Connect a container to a network";

    fn run(self, context: &Context) -> Result<u8> {
        let ipam = EndpointIpam {
            ipv4_address: self.ip.unwrap_or_default(),
            ipv6_address: self.ip6.unwrap_or_default(),
            link_local_ips: self.link_local_ip,
        };
        let options: Map<String> = self.driver_opt.into_iter().collect();
        let settings = EndpointSettings {
            ipam_config: Some(ipam).filter(|ipam| *ipam != EndpointIpam::default()),
            aliases: Some(self.alias).filter(|aliases| !aliases.is_empty()),
            driver_opts: Some(options).filter(|options| !options.is_empty()),
            gw_priority: self.gw_priority,
            links: Some(self.link).filter(|links| !links.is_empty()),
            ..EndpointSettings::default()
        };
        context.engine.connect_network(&self.network, &self.container, &settings)?;
        Ok(0)
    }
}

impl Verb for DisconnectArgs {
    const SYNOPSIS: &'static str = "[OPTIONS] NETWORK CONTAINER";
    const ABOUT: &'static str = "Disconnect a container from a network";

    fn run(self, context: &Context) -> Result<u8> {
        context.engine.disconnect_network(&self.network, &self.container, self.force)?;
        Ok(0)
    }
}

const LISTING: Listing = Listing {
    type_name: "*formatter.networkContext",
    titles: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};

impl Verb for ListArgs {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "List networks";

    fn run(self, context: &Context) -> Result<u8> {
        let format = match self.format.as_deref().or_else(|| context.setting("networksFormat")) {
            _ if self.quiet => "{{.ID}}",
            None | Some("" | "table") => r"table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
            Some("raw") => r"network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n",
            Some(format) => format,
        };
        let networks = context.engine.list_networks(&filters::collect(self.filters))?;
        let rows: Vec<Row> = networks.into_iter().map(|network| row(network, self.no_trunc)).collect();
        context.print(&shown(LISTING.render(format, &rows))?)?;
        Ok(0)
    }
}

fn row(network: NetworkRow, whole: bool) -> Row {
    let labels: Vec<String> = network.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let id = if whole { network.id.clone() } else { network.id[..12].to_owned() };
    let fields = json!({
        // As Go prints the daemon's time.
        "CreatedAt": network.created.replacen('T', " ", 1).replacen('Z', " +0000 UTC", 1),
        "Driver": network.driver,
        "ID": id,
        "IPv4": network.ipv4.to_string(),
        "IPv6": network.ipv6.to_string(),
        "Internal": network.internal.to_string(),
        "Labels": labels.join(","),
        "Name": network.name,
        "Scope": "local",
    });
    Row { fields, labels: Some(network.labels) }
}

impl Verb for RemoveArgs {
    const SYNOPSIS: &'static str = "NETWORK [NETWORK...]";
    const ABOUT: &'static str = "Remove one or more networks";

    fn run(self, context: &Context) -> Result<u8> {
        each(context, &self.networks, |name| match context.engine.remove_network(name) {
            Err(error) if self.force && error.kind == engine::ErrorKind::NotFound => Ok(()),
            removed => removed,
        })
    }
}

impl Verb for PruneArgs {
    const SYNOPSIS: &'static str = "[OPTIONS]";
    const ABOUT: &'static str = "Remove all unused networks";

    fn run(self, context: &Context) -> Result<u8> {
        let warning = "WARNING! This will remove all custom networks not used by at least one container.";
        if !self.force && !prune::confirmed(context, warning)? {
            return Ok(0);
        }
        let report = context.engine.prune_networks(&filters::collect(self.filters))?;
        if !report.removed.is_empty() {
            context.print(&format!("Deleted Networks:\n{}\n\n", report.removed.join("\n")))?;
        }
        Ok(0)
    }
}

impl Verb for ReloadArgs {
    const SYNOPSIS: &'static str = "";
    const ABOUT: &'static str = "Make bridges, devices and firewall rules anew where they are missing";

    fn run(self, context: &Context) -> Result<u8> {
        let ids = context.engine.reload_networks()?;
        warn(context);
        if ids.is_empty() {
            say("no container is connected to a network\n");
        }
        ids.iter().try_for_each(|id| writeln!(context.out(), "{id}"))?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn parts_go_to_their_subnets() {
        let subnets = texts(&["10.1.0.0/16", "fd00:1::/64"]);
        let reserved = [("router".to_owned(), "10.1.0.9".to_owned())];
        let found = ranges(subnets, &texts(&["10.1.4.0/24"]), &texts(&["fd00:1::9", "10.1.0.1"]), &reserved).unwrap();
        assert_eq!((found[0].ip_range.as_str(), found[0].gateway.as_str()), ("10.1.4.0/24", "10.1.0.1"));
        assert_eq!((found[1].gateway.as_str(), found[0].auxiliary_addresses.len()), ("fd00:1::9", 1));
    }

    #[test]
    fn parts_without_a_subnet_are_refused() {
        let message = |subnets: &[&str], areas: &[&str], gateways: &[&str]| {
            ranges(texts(subnets), &texts(areas), &texts(gateways), &[]).unwrap_err().message
        };
        assert_eq!(message(&["10.1.0.0/16"], &["10.2.0.0/24"], &[]), "no matching subnet for range 10.2.0.0/24");
        assert_eq!(message(&["10.1.0.0/16"], &[], &["10.2.0.1"]), "no matching subnet for gateway 10.2.0.1");
        assert_eq!(message(&[], &[], &["10.2.0.1"]), "every ip-range or gateway must have a corresponding subnet");
        assert_eq!(
            message(&["10.1.0.0/16", "10.1.2.0/24"], &[], &[]),
            "multiple overlapping subnet configuration is not supported"
        );
        assert_eq!(message(&["10.1.0.0"], &[], &[]), "invalid CIDR address: 10.1.0.0");
    }
}
