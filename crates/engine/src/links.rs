//! `--link` in the default network, as Docker has it: the other container's name and ports in the environment and its
//! address in `/etc/hosts`. In every other network a link is a name that the container's name server knows.

use std::net::IpAddr;

use network::legacy::{self, Link};
use network::{endpoints, table as network_table};
use records::rusqlite::{Connection, Transaction};

use crate::model::{Config, HostConfig};
use crate::table::{self, Container};
use crate::verbs::read_plan;
use crate::{Engine, Error, ErrorKind, Result, status};

/// A container that another one is linked to, as it is now.
struct Linked {
    alias: String,
    container: Container,
    addresses: Vec<IpAddr>,
}

/// `NAME[:ALIAS]` as (name, alias); `/NAME:/OTHER/ALIAS` as clients send it back.
pub(crate) fn split(link: &str) -> (&str, &str) {
    let (name, alias) = link.split_once(':').unwrap_or((link, link));
    let last = |path: &str| path.rfind('/').map_or(0, |at| at + 1);
    (&name[last(name)..], &alias[last(alias)..])
}

/// Whether it names a container and at most one alias.
pub(crate) fn is_well_formed(link: &str) -> bool {
    let (name, alias) = split(link);
    link.matches(':').count() < 2 && !name.is_empty() && !alias.is_empty()
}

/// Refuses links that can lead nowhere.
pub(crate) fn check(host: &HostConfig) -> Result<()> {
    let Some(_) = host.links.iter().flatten().next() else { return Ok(()) };
    let kind = match host.network_mode.as_str() {
        "host" => Some("host type networking"),
        mode if mode.starts_with("container:") => Some("container type network"),
        _ => None,
    };
    if let Some(kind) = kind {
        let message =
            format!("conflicting options: {kind} can't be used with links. This would result in undefined behavior");
        return Err(Error::invalid(message));
    }
    match host.links.iter().flatten().find(|link| !is_well_formed(link)) {
        Some(link) => Err(Error::invalid(format!("bad format for links: {link}"))),
        None => Ok(()),
    }
}

/// Records the links of a new container of the default network. Those of other networks stand with the endpoint.
pub(crate) fn record(transaction: &Transaction<'_>, container: &Container) -> Result<()> {
    for link in container.host.links.iter().flatten() {
        let (name, alias) = split(link);
        let target = table::find(transaction, name).map_err(|error| match error.kind {
            ErrorKind::NotFound => Error::invalid(format!("could not get container for {name}: {error}")),
            _ => error,
        })?;
        if target.host.network_mode == "host" {
            let mut host = target.host;
            host.links = Some(vec![link.clone()]);
            check(&host)?;
        }
        legacy::add(transaction, &container.id, &Link { target: target.id, alias: alias.to_owned() })?;
    }
    Ok(())
}

/// `Links` of `inspect`: `/db:/web/alias`.
pub(crate) fn shown(connection: &Connection, container: &Container) -> Result<Option<Vec<String>>> {
    if container.host.links.is_none() {
        return Ok(None);
    }
    let mut all = Vec::new();
    for link in legacy::of(connection, &container.id)? {
        if let Ok(target) = table::find(connection, &link.target) {
            all.push(format!("/{}:/{}/{}", target.name, container.name, link.alias));
        }
    }
    Ok(Some(all).filter(|all| !all.is_empty()))
}

impl Engine {
    /// The containers that one is linked to and that have an address in the default network.
    fn linked(&self, container: &Container) -> Result<Vec<Linked>> {
        if container.host.links.is_none() {
            return Ok(Vec::new());
        }
        self.read(|connection| {
            let Some(default) = network_table::named(connection, network::model::DEFAULT)? else {
                return Ok(Vec::new());
            };
            let mut all = Vec::new();
            for Link { target, alias } in legacy::of(connection, &container.id)? {
                let stored = endpoints::of_container(connection, &target)?.into_iter();
                let addresses = stored.filter(|stored| stored.network == default.id).find_map(|stored| {
                    let given = stored.given?;
                    Some([true, false].into_iter().filter_map(|v4| given.address(v4)).collect())
                });
                let container = table::find(connection, &target)?;
                all.push(Linked { alias, container, addresses: addresses.unwrap_or_default() });
            }
            Ok(all)
        })
    }

    /// Refuses to start a container that is linked to one without an address.
    fn check_linked(&self, container: &Container, linked: &Linked) -> Result<()> {
        let target = &linked.container;
        if !status::read(self.paths(), &target.id).is_some_and(|run| run.process_alive()) {
            return Err(Error::conflict(format!(
                "Cannot link to a non running container: /{} AS /{}/{}",
                target.name, container.name, linked.alias
            )));
        }
        match linked.addresses.is_empty() {
            true => Err(Error::conflict(format!("container {} not attached to default bridge network", target.id))),
            false => Ok(()),
        }
    }

    /// What the environment says of the containers that one is linked to.
    pub(crate) fn link_environment(&self, container: &Container) -> Result<Vec<String>> {
        let linked = self.linked(container)?;
        linked.iter().try_for_each(|linked| self.check_linked(container, linked))?;
        Ok(linked.iter().flat_map(|linked| environment(linked, &container.name)).collect())
    }

    /// Lines of `/etc/hosts`: names and an address each.
    pub(crate) fn link_hosts(&self, container: &Container) -> Result<Vec<(String, IpAddr)>> {
        let linked = self.linked(container)?;
        Ok(linked.iter().flat_map(|linked| linked.addresses.iter().map(|address| (names(linked), *address))).collect())
    }

    /// A container has got new addresses: those that are linked to it hear of them.
    pub(crate) fn tell_linked(&self, container: &Container) -> Result<()> {
        for id in self.read(|connection| Ok(legacy::to(connection, &container.id)?))? {
            let Ok(other) = self.read(|connection| table::find(connection, &id)) else { continue };
            let Ok(plan) = read_plan(self.paths(), &id) else { continue };
            if let Some(attachment) = plan.network.filter(|_| status::is_held(self.paths(), &id)) {
                self.write_hosts(&other, Some(&attachment))?;
            }
        }
        Ok(())
    }

    /// `rm --link`: forgets the link `/OTHER/ALIAS`.
    pub fn remove_link(&self, name: &str) -> Result<()> {
        let missing = || Error::not_found(format!("No such link: {name}"));
        let (owner, alias) = name.trim_start_matches('/').split_once('/').ok_or_else(missing)?;
        let owner = self.look_up(owner)?.id;
        self.write(records::Durability::Power, |transaction| {
            let owner = table::find(transaction, &owner)?;
            if legacy::remove(transaction, &owner.id, alias)? { Ok(owner) } else { Err(missing()) }
        })
        .and_then(|owner| self.refresh_hosts(&owner))
    }

    fn refresh_hosts(&self, container: &Container) -> Result<()> {
        match read_plan(self.paths(), &container.id) {
            Ok(plan) if status::is_held(self.paths(), &container.id) => {
                self.write_hosts(container, plan.network.as_ref())
            }
            _ => Ok(()),
        }
    }
}

/// What a linked container is called: by its alias, its host name and its name.
fn names(linked: &Linked) -> String {
    let mut names = vec![linked.alias.as_str(), linked.container.config.hostname.as_str()];
    if linked.alias != linked.container.name {
        names.push(&linked.container.name);
    }
    names.join(" ")
}

/// Docker's variables of a link.
fn environment(linked: &Linked, own_name: &str) -> Vec<String> {
    let prefix = linked.alias.to_uppercase().replace('-', "_");
    let address = linked.addresses.first().map(IpAddr::to_string).unwrap_or_default();
    let ports = exposed(&linked.container.config);
    let url = |protocol: &str, port: u16| format!("{protocol}://{address}:{port}");
    let mut all = Vec::new();
    if let Some((protocol, port)) = ports.first() {
        all.push(format!("{prefix}_PORT={}", url(protocol, *port)));
    }
    for (protocol, first, last) in ranges(&ports) {
        let range = format!("{prefix}_PORT_{first}_{}", protocol.to_uppercase());
        all.push(format!("{range}_START={}", url(protocol, first)));
        all.push(format!("{range}_PORT_START={first}"));
        all.push(format!("{range}_END={}", url(protocol, last)));
        all.push(format!("{range}_PORT_END={last}"));
    }
    for (protocol, port) in &ports {
        let one = format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase());
        all.push(format!("{one}={}", url(protocol, *port)));
        all.extend([format!("{one}_ADDR={address}"), format!("{one}_PORT={port}"), format!("{one}_PROTO={protocol}")]);
    }
    all.push(format!("{prefix}_NAME=/{own_name}/{}", linked.alias));
    let variables = linked.container.config.env.iter().filter_map(|variable| variable.split_once('='));
    let told = variables.filter(|(name, _)| !matches!(*name, "HOME" | "PATH"));
    all.extend(told.map(|(name, value)| format!("{prefix}_ENV_{name}={value}")));
    all
}

/// Exposed ports: those of TCP first, by number.
fn exposed(config: &Config) -> Vec<(&str, u16)> {
    let names = config.exposed_ports.iter().flatten().map(|(name, _)| name.as_str());
    let parts = names.map(|name| name.split_once('/').unwrap_or((name, "tcp")));
    let mut ports: Vec<(&str, u16)> =
        parts.filter_map(|(number, protocol)| Some((protocol, number.parse().ok()?))).collect();
    ports.sort_by_key(|(protocol, number)| (*protocol != "tcp", *protocol, *number));
    ports
}

/// Runs of neighbours of one protocol: first and last port, more than one.
fn ranges<'a>(ports: &[(&'a str, u16)]) -> Vec<(&'a str, u16, u16)> {
    let mut all: Vec<(&str, u16, u16)> = Vec::new();
    for (protocol, port) in ports {
        match all.last_mut() {
            Some(range) if range.0 == *protocol && range.2.checked_add(1) == Some(*port) => range.2 = *port,
            _ => all.push((*protocol, *port, *port)),
        }
    }
    all.retain(|(_, first, last)| first < last);
    all
}

/// Adds the lines of links to a hosts file.
pub(crate) fn in_hosts(text: String, lines: &[(String, IpAddr)]) -> String {
    let lines: Vec<(&str, String)> =
        lines.iter().map(|(names, address)| (names.as_str(), address.to_string())).collect();
    network::files::with_hosts(text, lines.iter().map(|(names, address)| (*names, address.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Empty;

    #[test]
    fn links_as_typed_and_as_sent() {
        assert_eq!(split("db:Database"), ("db", "Database"));
        assert_eq!(split("/db:/web/database"), ("db", "database"));
        assert_eq!(split("db"), ("db", "db"));
        assert!(is_well_formed("db:x") && !is_well_formed("a:b:c") && !is_well_formed(":x") && !is_well_formed(""));
    }

    #[test]
    fn ports_are_told_as_docker_tells_them() {
        let names = ["82/tcp", "53/udp", "80/tcp", "81/tcp", "443/tcp"];
        let ports = names.map(|name| (name.to_owned(), Empty {})).into_iter().collect();
        let config = Config { exposed_ports: Some(ports), ..Config::default() };
        assert_eq!(exposed(&config), [("tcp", 80), ("tcp", 81), ("tcp", 82), ("tcp", 443), ("udp", 53)]);
        assert_eq!(ranges(&exposed(&config)), [("tcp", 80, 82)]);
    }
}
