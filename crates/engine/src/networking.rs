//! Containers in networks: their records change in the transaction that changes the container's own, their files name
//! the addresses that they got, and the firewall is made anew from what is on record when it is found missing.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;

use network::endpoints::{self, Wish};
use network::{Attachment, Network, networks, table as network_table};
use records::rusqlite::Transaction;
use serde::Deserialize;

use crate::model::{Config, EndpointSettings, HostConfig};
use crate::plan::Questions;
use crate::request::network::{self as request, has_endpoints};
use crate::request::{files, names};
use crate::table::{self, Container, json};
use crate::verbs::{read_from_plan, read_plan};
use crate::{Context as _, Engine, Error, Result, clock, links, naming, status, user_network};

/// A network of a container with what is asked of it.
pub(crate) type Place = (Network, EndpointSettings);

/// Finds the networks of a new container; makes the predefined ones with the first.
pub(crate) fn places(transaction: &Transaction<'_>, wanted: &[(String, EndpointSettings)]) -> Result<Vec<Place>> {
    let mut places: Vec<Place> = Vec::with_capacity(wanted.len());
    for (name, settings) in wanted {
        let found = find(transaction, name)?;
        if !has_endpoints(&found.name) {
            return Err(Error::invalid(format!("network {name} cannot be one of several")));
        }
        if places.iter().any(|(network, _)| network.id == found.id) {
            return Err(Error::invalid(format!("network {:?} is specified multiple times", found.name)));
        }
        places.push((found, settings.clone()));
    }
    Ok(places)
}

/// The network of that name; the predefined ones are made when they are first looked for.
pub(crate) fn find(transaction: &Transaction<'_>, name: &str) -> Result<Network> {
    if let Some(found) = network_table::named(transaction, name)? {
        return Ok(found);
    }
    predefine(transaction)?;
    Ok(network_table::find(transaction, name)?)
}

/// Makes the predefined networks unless they are there.
pub(crate) fn predefine(transaction: &Transaction<'_>) -> Result<()> {
    let id = names::random_id()?;
    // Ids of the three differ in their first digits only, which is as unique as one.
    let next = std::cell::Cell::new(0_u8);
    let number = || {
        next.set(next.get() + 1);
        format!("{}{}", next.get(), &id[1..])
    };
    Ok(networks::ensure_predefined(transaction, &number, clock::now())?)
}

/// Records the places of a new container.
pub(crate) fn record(transaction: &Transaction<'_>, container: &str, places: &[Place]) -> Result<()> {
    for (position, (network, settings)) in places.iter().enumerate() {
        let wish = request::wish(network, settings)?;
        endpoints::add(transaction, container, network, position, &json(settings)?, wish.ip4)?;
    }
    Ok(())
}

/// Gives a container that is about to run its addresses and ports; none if it has no networks.
pub(crate) fn activate(
    transaction: &Transaction<'_>,
    id: &str,
    name: &str,
    (config, host): (&Config, &HostConfig),
    places: &[Place],
) -> Result<Option<Attachment>> {
    if places.is_empty() {
        return Ok(None);
    }
    let wishes: Vec<(Network, Wish)> = places
        .iter()
        .map(|(network, settings)| Ok((network.clone(), wish(network, settings, config)?)))
        .collect::<Result<_>>()?;
    let ports = request::ports(config, host)?;
    let owner = |id: &str| match table::find(transaction, id) {
        Ok(container) => format!("container {}", container.name),
        Err(_) => format!("container {}", &id[..12.min(id.len())]),
    };
    let activated = endpoints::activate(transaction, id, &wishes, &ports, &owner);
    let attachment = activated.map_err(|error| setting_up(error, name, id, &wishes))?;
    Ok(Some(attachment))
}

/// What is asked of an endpoint; a container is called by its host name too.
pub(crate) fn wish(network: &Network, settings: &EndpointSettings, config: &Config) -> Result<Wish> {
    let mut wish = request::wish(network, settings)?;
    if !config.hostname.is_empty() {
        wish.aliases.push(config.hostname.clone());
    }
    Ok(wish)
}

/// Docker's words around an error of ports and addresses.
fn setting_up(error: network::Error, name: &str, id: &str, wishes: &[(Network, Wish)]) -> Error {
    let message = match error.message.contains("Bind for") {
        true => {
            external(&error.message, name, &endpoint_id(id, wishes.first().map(|(network, _)| network.id.as_str())))
        }
        false => format!("failed to set up container networking: {error}"),
    };
    let error = Error::from(error);
    Error { message, ..error }
}

fn endpoint_id(container: &str, network: Option<&str>) -> String {
    network.map(|network| endpoints::id(container, network)).unwrap_or_default()
}

/// Docker's words for a port that cannot be published.
pub(crate) fn external(cause: &str, name: &str, endpoint: &str) -> String {
    format!(
        "failed to set up container networking: driver failed programming external connectivity on endpoint {name} \
         ({endpoint}): {cause}"
    )
}

impl Engine {
    /// Gives a recorded container that is about to run its addresses and ports.
    pub(crate) fn activate_recorded(
        &self,
        transaction: &Transaction<'_>,
        container: &Container,
    ) -> Result<Option<Attachment>> {
        let mut places = Vec::new();
        for stored in endpoints::of_container(transaction, &container.id)? {
            let settings: EndpointSettings =
                serde_json::from_str(&stored.settings).step(|| "read the settings of an endpoint".to_owned())?;
            let network = network_table::find(transaction, &stored.network).map_err(Error::from);
            places.push((network.map_err(|error| missing(container, error))?, settings));
        }
        activate(transaction, &container.id, &container.name, (&container.config, &container.host), &places)
    }

    /// Writes `/etc/hosts` of a container that is about to run, with the addresses that it got.
    pub(crate) fn write_hosts(&self, container: &Container, attachment: Option<&Attachment>) -> Result<()> {
        let (config, host) = (&container.config, &container.host);
        if host.network_mode.starts_with("container:") {
            return Ok(()); // The other container's is used.
        }
        let of_host = if host.network_mode == "host" {
            fs::read_to_string("/etc/hosts").unwrap_or_default()
        } else {
            String::new()
        };
        let path = self.paths().container(&container.id).join("hosts");
        let text = links::in_hosts(files::hosts(config, host, &of_host, attachment), &self.link_hosts(container)?);
        fs::write(&path, text).step(|| format!("write {}", path.display()))
    }

    /// What the name server of a container that is about to run knows, if it has one; `/etc/resolv.conf` says so.
    pub(crate) fn name_server(
        &self,
        container: &Container,
        attachment: Option<&Attachment>,
    ) -> Result<Option<Questions>> {
        let host = &container.host;
        let of_host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let questions = naming::questions(host, attachment, &of_host);
        if attachment.is_some() {
            let path = self.paths().container(&container.id).join("resolv.conf");
            let text = match questions {
                Some(_) => files::own_resolv_conf(host, &of_host),
                None => files::resolv_conf(host, &of_host),
            };
            fs::write(&path, text).step(|| format!("write {}", path.display()))?;
        }
        Ok(questions)
    }

    /// The end of a command that has changed networks: without root, theirs go with the last that uses them.
    pub fn leave_networks(&self) {
        user_network::leave(self.paths());
    }

    /// Makes the firewall anew from what is on record: every network that has its bridge, and the ports of every container
    /// that runs.
    pub(crate) fn rebuild_firewall(&self) -> Result<()> {
        user_network::enter(self.paths(), false)?;
        network::connect::rebuild(&self.paths().state, || {
            let (table, networks, active) = self.read(|connection| {
                let table = network::firewall::table(connection);
                Ok((table, network_table::all(connection)?, endpoints::active(connection)?))
            })?;
            let attachments = active.iter().filter_map(|id| read_plan(self.paths(), id).ok()?.network).collect();
            Ok((table, networks, attachments))
        })
    }

    /// Takes the published ports of a run away that is over.
    pub(crate) fn disconnect(&self, id: &str) {
        let Ok(plan) = read_from_plan::<Connection>(self.paths(), id) else { return };
        if let Some(attachment) = plan.network {
            naming::withdraw(&self.paths().state, &attachment, &plan.id, &plan.name);
            if user_network::enter(self.paths(), false).is_err() {
                return;
            }
            // What stays leads nowhere, and is replaced by whoever publishes the port next.
            drop(network::connect::disconnect(&attachment, &self.paths().state));
        }
    }

    /// Containers that are connected now, by what is on record and what lives.
    pub(crate) fn connected(&self) -> Result<Vec<String>> {
        let active: HashSet<String> = self.read(|connection| Ok(endpoints::active(connection)?))?.into_iter().collect();
        let runs = |id: &String| status::read(self.paths(), id).is_some_and(|run| run.process_alive());
        Ok(active.into_iter().filter(runs).collect())
    }
}

/// Of a plan, what concerns its network: the rest is the larger part, and most containers that end have none.
#[derive(Deserialize)]
struct Connection {
    id: String,
    name: String,
    network: Option<Attachment>,
}

fn missing(container: &Container, error: Error) -> Error {
    let message = format!("failed to set up container networking: {error}");
    Error { message, ..error }
        .hinted(format!("a network of container {} was removed: make it again, or the container", container.name))
}

/// Addresses of a container, in the order of its networks.
pub(crate) fn addresses(attachment: &Attachment) -> Vec<IpAddr> {
    attachment.endpoints.iter().flat_map(|endpoint| endpoint.addresses().map(|net| net.address)).collect()
}
