//! Networks: made, shown and removed. Which container is in which is changed in `membership`.

use network::{Driver, Endpoint, Network, Subnet, endpoints, firewall, link, networks, table as network_table};
use records::Durability;
use serde_json::{Value, json};

use crate::filters::Filters;
use crate::model::{IpamConfig, Map, NetworkRequest};
use crate::networking::{find, predefine};
use crate::request::names;
use crate::{Engine, Error, ErrorKind, PruneReport, Result, clock, events, failpoint, naming, table, user_network};

/// One network of the list.
#[derive(Clone, Debug, Default)]
pub struct NetworkRow {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Name.
    pub name: String,
    /// `bridge`, `host`, `null`, `macvlan` or `ipvlan`.
    pub driver: String,
    /// When it was made, as RFC 3339 has it.
    pub created: String,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether it has IPv4 addresses.
    pub ipv4: bool,
    /// Whether it has IPv6 addresses.
    pub ipv6: bool,
    /// User labels.
    pub labels: Map<String>,
}

impl Engine {
    /// Makes a network and what it consists of on the host; its id.
    pub fn create_network(&self, request: &NetworkRequest) -> Result<String> {
        self.clear_networks()?;
        let request = &self.bounds().network(request)?;
        let id = names::random_id()?;
        let network = self.write(Durability::Power, |transaction| {
            predefine(transaction)?;
            let network = networks::complete(transaction, draft(request, id)?)?;
            network_table::insert(transaction, &network)?;
            Ok(network)
        })?;
        failpoint::hit("network-recorded");
        if let Err(error) = self.make_network(&network) {
            self.write(Durability::Power, |transaction| Ok(network_table::delete(transaction, &network)?))?;
            drop(self.clear_networks());
            return Err(error);
        }
        failpoint::hit("network-made");
        self.network_event(&network, "create", &[])?;
        Ok(network.id)
    }

    /// The bridge, and its place in the firewall.
    fn make_network(&self, network: &Network) -> Result<()> {
        if network.driver != Driver::Bridge {
            return Ok(());
        }
        if network.borrowed && link::bridge::kind(&network.device)?.as_deref() != Some("bridge") {
            return Err(Error::invalid(format!("the device {} of the host is no bridge", network.device)));
        }
        std::fs::create_dir_all(&self.paths().state).ok();
        user_network::enter(self.paths(), false)?;
        let (index, made) = link::bridge::ensure(network)?;
        if !made {
            link::bridge::configure(network, index)?;
        }
        let table = self.read(|connection| Ok(firewall::table(connection)))?;
        match firewall::add_network(&table, network)? {
            true => Ok(()),
            false => self.rebuild_firewall(),
        }
    }

    fn unmake_network(&self, network: &Network) -> Result<()> {
        naming::forget(&self.paths().state, &network.id);
        user_network::enter(self.paths(), false)?;
        match network.driver {
            Driver::Bridge => {
                let table = self.read(|connection| Ok(firewall::table(connection)))?;
                firewall::remove_network(&table, network)?;
                if network.borrowed { Ok(()) } else { Ok(link::bridge::remove(network)?) }
            }
            _ => Ok(link::parent::remove(network)?),
        }
    }

    /// Appends an event of a network.
    pub(crate) fn network_event(&self, network: &Network, action: &str, more: &[(&str, &str)]) -> Result<()> {
        events::append(self.paths(), &events::network_event(network, action, more))
    }

    /// Every network, the predefined ones included.
    pub(crate) fn networks(&self) -> Result<Vec<Network>> {
        let mut found = self.read(|connection| Ok(network_table::all(connection)?))?;
        if !found.iter().any(Network::is_predefined) {
            found = self.write(Durability::Process, |transaction| {
                predefine(transaction)?;
                Ok(network_table::all(transaction)?)
            })?;
        }
        found.retain(|network| self.bounds().check_network(network).is_ok());
        Ok(found)
    }

    /// The network of that name, id or prefix of an id.
    pub(crate) fn network(&self, name: &str) -> Result<Network> {
        let network = match self.read(|connection| Ok(network_table::find(connection, name)?)) {
            Err(error) if error.kind == ErrorKind::NotFound => {
                self.write(Durability::Process, |transaction| find(transaction, name))?
            }
            found => found?,
        };
        self.bounds().check_network(&network)?;
        Ok(network)
    }

    /// Filters: dangling driver id label name scope type.
    pub fn list_networks(&self, filters: &Map<Vec<String>>) -> Result<Vec<NetworkRow>> {
        Ok(self.chosen_networks(filters)?.into_iter().map(row).collect())
    }

    /// Docker's documents of the networks that the filters of [`Engine::list_networks`] leave, with their containers if
    /// `detailed`.
    pub fn inspect_networks(&self, filters: &Map<Vec<String>>, detailed: bool) -> Result<Vec<Value>> {
        let chosen = self.chosen_networks(filters)?;
        let containers = |network: &Network| if detailed { self.members(network) } else { Ok(Default::default()) };
        chosen.iter().map(|network| Ok(document(network, containers(network)?))).collect()
    }

    fn chosen_networks(&self, filters: &Map<Vec<String>>) -> Result<Vec<Network>> {
        let filters = Filters::new(filters, &["dangling", "driver", "id", "label", "name", "scope", "type"])?;
        let (names, ids, dangling) = (filters.patterns("name")?, filters.patterns("id")?, filters.boolean("dangling")?);
        if let Some(kind) = filters.values("type").iter().find(|kind| !matches!(kind.as_str(), "custom" | "builtin")) {
            return Err(Error::invalid(format!("invalid filter: 'type'='{kind}'")));
        }
        let kind = |network: &Network| if network.is_predefined() { "builtin" } else { "custom" };
        let mut chosen = Vec::new();
        for network in self.networks()? {
            let wanted = names.matches(&network.name)
                && (!filters.has("id") || ids.matches(&network.id))
                && filters.labels(&network.labels)
                && filters.any("driver", |driver| driver == network.driver.name())
                && filters.any("scope", |scope| scope == "local")
                && filters.any("type", |wanted| wanted == kind(&network));
            let unused = || -> Result<bool> {
                let used = self.read(|connection| Ok(endpoints::of_network(connection, &network.id)?))?;
                Ok(!network.is_predefined() && used.iter().all(|endpoint| endpoint.given.is_none()))
            };
            if wanted && dangling.map_or(Ok(true), |dangling| unused().map(|unused| unused == dangling))? {
                chosen.push(network);
            }
        }
        Ok(chosen)
    }

    /// Docker's document of one network.
    pub fn inspect_network(&self, name: &str) -> Result<Value> {
        let network = self.network(name)?;
        Ok(document(&network, self.members(&network)?))
    }

    /// The containers that have addresses in a network.
    fn members(&self, network: &Network) -> Result<serde_json::Map<String, Value>> {
        let mut containers = serde_json::Map::new();
        self.read(|connection| {
            for endpoint in endpoints::of_network(connection, &network.id)? {
                let (Some(given), Ok(container)) = (&endpoint.given, table::find(connection, &endpoint.container))
                else {
                    continue;
                };
                if !self.bounds().sees(&container.config.labels) {
                    continue;
                }
                containers.insert(endpoint.container, member(network, given, &container.name));
            }
            Ok(())
        })?;
        Ok(containers)
    }

    /// Removes a network that no running container is in; its name as it was given.
    pub fn remove_network(&self, name: &str) -> Result<()> {
        let network = self.network(name)?;
        self.bounds().check_use(&network)?;
        self.write(Durability::Power, |transaction| Ok(network_table::delete(transaction, &network)?))
            .map_err(|error| self.with_names(error))?;
        failpoint::hit("network-forgotten");
        self.clear_networks()?;
        self.network_event(&network, "destroy", &[])
    }

    /// Takes away what removed networks have left on the host: now, or when a command was killed before it could.
    pub(crate) fn clear_networks(&self) -> Result<()> {
        for network in self.read(|connection| Ok(network_table::doomed(connection)?))? {
            self.unmake_network(&network)?;
            failpoint::hit("network-unmade");
            self.write(Durability::Power, |transaction| Ok(network_table::forget(transaction, &network)?))?;
        }
        Ok(())
    }

    /// Ids of containers in an error become `name:"web" id:"0123…"`, as Docker has them.
    fn with_names(&self, error: Error) -> Error {
        let containers = self.read(table::all).unwrap_or_default();
        let message = containers.iter().fold(error.message.clone(), |text, container| {
            let shown = format!("name:\"{}\" id:\"{}\"", container.name, &container.id[..12]);
            text.replace(&container.id, &shown)
        });
        Error { message, ..error }
    }

    /// Removes networks that no container is in (filters: `until`, `label`, `label!`).
    pub fn prune_networks(&self, filters: &Map<Vec<String>>) -> Result<PruneReport> {
        let filters = Filters::new(filters, &["until", "label", "label!"])?;
        let until = filters.until()?;
        let mut report = PruneReport::default();
        for network in self.networks()?.into_iter().filter(|network| !network.is_predefined()) {
            let used = self.read(|connection| Ok(!endpoints::of_network(connection, &network.id)?.is_empty()))?;
            let old = until.is_none_or(|until| network.created_at < until);
            if used || !old || !filters.labels(&network.labels) {
                continue;
            }
            match self.remove_network(&network.id) {
                Ok(()) => report.removed.push(network.name),
                Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Forbidden) => {}
                Err(error) => return Err(error),
            }
        }
        let attributes = Map::from([("reclaimed".to_owned(), "0".to_owned())]);
        events::append(self.paths(), &events::event("network", "prune", "", attributes))?;
        Ok(report)
    }
}

fn row(network: Network) -> NetworkRow {
    NetworkRow {
        id: network.id,
        name: network.name,
        driver: network.driver.name().to_owned(),
        created: clock::rfc3339(network.created_at),
        internal: network.internal,
        ipv4: network.ipv4,
        ipv6: network.ipv6,
        labels: network.labels,
    }
}

/// A container's place in a network.
fn member(network: &Network, given: &Endpoint, name: &str) -> Value {
    let address = |v4: bool| -> String {
        let prefix = network.subnet(v4).map(|subnet| subnet.net.prefix);
        given.address(v4).zip(prefix).map(|(address, prefix)| format!("{address}/{prefix}")).unwrap_or_default()
    };
    json!({
        "Name": name,
        "EndpointID": given.id,
        "MacAddress": given.mac,
        "IPv4Address": address(true),
        "IPv6Address": address(false),
    })
}

/// Docker shows no ranges and no options of their driver as null.
fn document(network: &Network, containers: serde_json::Map<String, Value>) -> Value {
    let options = if network.ipam_options.is_empty() { Value::Null } else { json!(network.ipam_options) };
    let ranges: Vec<Value> = network.subnets.iter().map(range).collect();
    let ranges = if ranges.is_empty() { Value::Null } else { json!(ranges) };
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": clock::rfc3339(network.created_at),
        "Scope": "local",
        "Driver": network.driver.name(),
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": network.ipam_driver,
            "Options": options,
            "Config": ranges,
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": network.options,
        "Labels": network.labels,
    })
}

/// One range; what is not set is absent, as with Docker.
fn range(subnet: &Subnet) -> Value {
    let mut document = serde_json::Map::new();
    document.insert("Subnet".to_owned(), json!(subnet.net.to_string()));
    if let Some(range) = subnet.range {
        document.insert("IPRange".to_owned(), json!(range.to_string()));
    }
    if let Some(gateway) = subnet.gateway {
        document.insert("Gateway".to_owned(), json!(gateway.to_string()));
    }
    if !subnet.auxiliary.is_empty() {
        let addresses: Map<String> =
            subnet.auxiliary.iter().map(|(name, address)| (name.clone(), address.to_string())).collect();
        document.insert("AuxiliaryAddresses".to_owned(), json!(addresses));
    }
    Value::Object(document)
}

/// The network that is asked for, as far as the request says.
fn draft(request: &NetworkRequest, id: String) -> Result<Network> {
    let driver = driver(&request.driver)?;
    let subnets = request.ipam.config.iter().map(subnet).collect::<Result<Vec<_>>>()?;
    for v4 in [true, false] {
        if subnets.iter().filter(|subnet| subnet.net.is_v4() == v4).count() > 1 {
            return Err(Error::invalid(format!("{} driver doesn't support multiple subnets", driver.name())));
        }
    }
    let has_v6 = subnets.iter().any(|subnet| !subnet.net.is_v4());
    let ipam_driver = match request.ipam.driver.as_str() {
        "" | "default" => "default",
        "null" => "null",
        other => {
            return Err(Error::invalid(format!("address management driver {other:?} is not available: default, null")));
        }
    };
    if !request.ipam.options.is_empty() {
        return Err(Error::invalid("the address management drivers have no options"));
    }
    let device = request.options.get("com.docker.network.bridge.name");
    let device = device.filter(|name| !name.is_empty());
    let borrowed = driver == Driver::Bridge && device.is_some_and(|name| link::bridge::kind(name).is_ok());
    // Who chooses ranges means these; a bridge that is the user's business gets no addresses that were not asked for.
    let manages = |name: &str| request.options.contains_key(&format!("com.docker.network.bridge.{name}"));
    let left_alone = !subnets.is_empty()
        || request.enable_ipv4 == Some(false)
        || borrowed
        || ipam_driver == "null"
        || manages("inhibit_ipv4")
        || manages("gateway_mode_ipv4");
    let dual = driver == Driver::Bridge && !left_alone && link::has_v6();
    Ok(Network {
        id,
        name: request.name.clone(),
        created_at: clock::now(),
        driver,
        device: String::new(),
        ipv4: request.enable_ipv4.unwrap_or(true),
        ipv6: request.enable_ipv6.unwrap_or(has_v6 || dual),
        internal: request.internal,
        attachable: request.attachable,
        subnets,
        options: request.options.clone(),
        labels: request.labels.clone(),
        ipam_driver: ipam_driver.to_owned(),
        ipam_options: request.ipam.options.clone(),
        borrowed,
    })
}

fn driver(name: &str) -> Result<Driver> {
    match name {
        "" | "bridge" | "default" => Ok(Driver::Bridge),
        "macvlan" => Ok(Driver::Macvlan),
        "ipvlan" => Ok(Driver::Ipvlan),
        "host" => Ok(Driver::Host),
        "null" | "none" => Ok(Driver::Null),
        other => Err(Error::not_found(format!(
            "could not find plugin {other} in v1 plugin registry: plugin \"{other}\" not found"
        ))
        .hinted("the drivers are bridge, macvlan and ipvlan")),
    }
}

fn subnet(config: &IpamConfig) -> Result<Subnet> {
    let bad = |what: &str, text: &str| Error::invalid(format!("invalid network config: invalid {what} {text}"));
    let address = |what: &str, text: &str| text.parse().map_err(|_| bad(what, text));
    let optional = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Ok(Subnet {
        net: config.subnet.parse().map_err(|()| bad("subnet", &config.subnet))?,
        gateway: optional(&config.gateway).map(|text| address("gateway", &text)).transpose()?,
        range: optional(&config.ip_range).map(|text| text.parse().map_err(|()| bad("ip-range", &text))).transpose()?,
        auxiliary: config
            .auxiliary_addresses
            .iter()
            .map(|(name, text)| Ok((name.clone(), address("auxiliary address", text)?)))
            .collect::<Result<_>>()?,
        chosen: true,
    })
}
