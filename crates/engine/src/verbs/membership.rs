//! `network connect`, `disconnect` and `reload`: what changes in the networks of containers while they run. The command
//! does it itself, from the host's side; the monitor's plan is kept true for the next start by the restart policy.

use std::os::fd::AsFd as _;

use network::link::attach::{self, Inside};
use network::link::{self, bridge};
use network::{Attachment, Driver, Endpoint, Network, connect, endpoints, firewall};
use records::Durability;

use crate::model::{EndpointSettings, Status};
use crate::networking::{find, wish};
use crate::request::network::{check_endpoint, has_endpoints};
use crate::table::{Container, json};
use crate::verbs::{read_plan, start::write_plan};
use crate::{Engine, Error, ErrorKind, Result, naming, status, user_network};

impl Engine {
    /// Puts a container into one more network, at once if it runs.
    pub fn connect_network(&self, network: &str, container: &str, settings: &EndpointSettings) -> Result<()> {
        let container = self.look_up(container)?;
        let mode = container.host.network_mode.as_str();
        if network == "host" && mode != "host" {
            return Err(Error::new(
                ErrorKind::Forbidden,
                "cannot connect container to host network - container must be created in host network mode",
            ));
        }
        if mode.starts_with("container:") || mode == "host" {
            return Err(Error::new(
                ErrorKind::Forbidden,
                "container sharing network namespace with another container or host cannot be connected to any other network",
            ));
        }
        if mode == "none" {
            return Err(Error::new(
                ErrorKind::Forbidden,
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ));
        }
        let runs = self.runs(&container);
        let (network, endpoint) = self.write(Durability::Power, |transaction| {
            let network = find(transaction, network)?;
            self.bounds().check_use(&network)?;
            if !has_endpoints(&network.name) {
                return Err(Error::new(
                    ErrorKind::Forbidden,
                    "container cannot be connected to multiple networks with one of the networks in private (none) mode",
                ));
            }
            check_endpoint(&network.name, settings)?;
            let stored = endpoints::of_container(transaction, &container.id)?;
            if stored.iter().any(|stored| stored.network == network.id) {
                return Err(Error::new(
                    ErrorKind::Forbidden,
                    format!("endpoint with name {} already exists in network {}", container.name, network.name),
                ));
            }
            let wish = wish(&network, settings, &container.config)?;
            endpoints::add(transaction, &container.id, &network, stored.len(), &json(settings)?, wish.ip4)?;
            let endpoint = match runs {
                Some(_) => {
                    let others = endpoints::attachment(transaction, &container.id)?.endpoints;
                    Some(endpoints::activate_one(transaction, &container.id, &network, &wish, &others)?)
                }
                None => None,
            };
            Ok((network, endpoint))
        })?;
        if let (Some(endpoint), Some(pid)) = (endpoint, runs)
            && let Err(error) = self.attach_now(&container, pid, endpoint)
        {
            self.write(Durability::Power, |transaction| {
                Ok(endpoints::remove(transaction, &container.id, &network.id)?)
            })?;
            return Err(error);
        }
        self.network_event(&network, "connect", &[("container", &container.id)])
    }

    /// The first process of a container that runs.
    fn runs(&self, container: &Container) -> Option<i32> {
        let run = status::read(self.paths(), &container.id)?;
        let lives = matches!(run.status, Status::Running | Status::Paused) && run.process_alive();
        lives.then_some(run.pid)
    }

    /// Makes a new endpoint of a running container.
    fn attach_now(&self, container: &Container, pid: i32, endpoint: Endpoint) -> Result<()> {
        user_network::enter(self.paths(), false)?;
        let mut plan = read_plan(self.paths(), &container.id)?;
        let mut attachment = plan.network.clone().unwrap_or_default();
        let endpoint = with_routes(&attachment, endpoint);
        let namespace = attach::namespace(pid)?;
        let one = std::slice::from_ref(&endpoint);
        if attach::outside(one, namespace.as_fd())? {
            let new = Attachment { endpoints: one.to_vec(), ports: Vec::new(), ..attachment.clone() };
            if !firewall::publish(&new, true)? {
                self.rebuild_firewall()?;
            }
        }
        let inside = Inside::enter(namespace.as_fd())?;
        attach::inside(one)?;
        drop(inside);
        let new = Attachment { endpoints: one.to_vec(), ..Attachment::default() };
        naming::announce(&self.paths().state, &new, &plan.id, &plan.name);
        attachment.endpoints.push(endpoint);
        self.write_hosts(container, Some(&attachment))?;
        plan.network = Some(attachment);
        write_plan(self.paths(), &plan)
    }

    /// Takes a container out of a network, at once if it runs.
    pub fn disconnect_network(&self, network: &str, container: &str, force: bool) -> Result<()> {
        // As with Docker, what is wrong with the container is told first.
        let container = match self.look_up(container) {
            Err(error) if force && error.kind == ErrorKind::NotFound => {
                return Err(Error::not_found(format!("endpoint {container} not found")));
            }
            found => found?,
        };
        let network = self.network(network)?;
        let was_in = self
            .write(Durability::Power, |transaction| Ok(endpoints::remove(transaction, &container.id, &network.id)?))?;
        if !was_in {
            let message = format!("container {} is not connected to network {}", container.id, network.name);
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        if let Some(pid) = self.runs(&container) {
            self.detach_now(&container, pid, &network)?;
        }
        self.network_event(&network, "disconnect", &[("container", &container.id)])
    }

    fn detach_now(&self, container: &Container, pid: i32, network: &Network) -> Result<()> {
        let mut plan = read_plan(self.paths(), &container.id)?;
        let Some(before) = plan.network.clone() else { return Ok(()) };
        let mut after = before.clone();
        let gone = after.endpoints.iter().position(|endpoint| endpoint.network.id == network.id);
        let Some(gone) = gone.map(|index| after.endpoints.remove(index)) else { return Ok(()) };
        user_network::enter(self.paths(), false)?;
        let heir = hand_over_routes(&mut after, &gone);
        let old = Attachment { endpoints: vec![gone.clone()], ..Attachment::default() };
        naming::withdraw(&self.paths().state, &old, &plan.id, &plan.name);
        // Ports lead elsewhere, or nowhere, from now on.
        connect::disconnect(&before, &self.paths().state)?;
        let namespace = attach::namespace(pid)?;
        let inside = Inside::enter(namespace.as_fd())?;
        attach::detach(&gone.device)?;
        if let Some(heir) = heir {
            attach::reroute(&after.endpoints[heir])?;
        }
        drop(inside);
        if !firewall::publish(&after, false)? {
            self.rebuild_firewall()?;
        }
        self.write_hosts(container, Some(&after))?;
        plan.network = Some(after);
        write_plan(self.paths(), &plan)
    }

    /// What other firewalls do to containers, for whoever has just changed networks.
    pub fn network_warnings(&self) -> Vec<String> {
        firewall_warnings()
    }

    /// Makes everything that networks consist of anew where it is missing: bridges, devices of containers that run, the
    /// firewall. The ids of the containers.
    pub fn reload_networks(&self) -> Result<Vec<String>> {
        user_network::enter(self.paths(), false)?;
        self.clear_networks()?;
        let active = self.connected()?;
        let mut plans = Vec::new();
        for id in &active {
            // One that is just ending has no plan any more.
            if let (Ok(plan), Some(run)) = (read_plan(self.paths(), id), status::read(self.paths(), id)) {
                plans.extend(plan.network.map(|attachment| (attachment, run.pid)));
            }
        }
        for network in self.networks()? {
            let used =
                plans.iter().any(|(plan, _)| plan.endpoints.iter().any(|endpoint| endpoint.network.id == network.id));
            if network.driver == Driver::Bridge && (used || !network.is_predefined()) {
                let (index, made) = bridge::ensure(&network)?;
                if !made {
                    bridge::configure(&network, index)?;
                }
            }
        }
        for (attachment, pid) in &plans {
            let namespace = match attach::namespace(*pid) {
                Ok(namespace) => namespace,
                // It has ended meanwhile.
                Err(_) => continue,
            };
            for endpoint in &attachment.endpoints {
                link::repair::endpoint(endpoint, namespace.as_fd())?;
            }
        }
        self.rebuild_firewall()?;
        Ok(active)
    }
}

/// Tables of other programs that drop what containers exchange with others, and what to do about it.
pub(crate) fn firewall_warnings() -> Vec<String> {
    // Without nf_tables there are none, and containers are told so when they start.
    let found = firewall::foreign().unwrap_or_default();
    found.into_iter().map(|text| format!("WARNING: {text}")).collect()
}

/// A new endpoint gets the default routes that no other one has.
fn with_routes(attachment: &Attachment, mut endpoint: Endpoint) -> Endpoint {
    for (family, v4) in [(0, true), (1, false)] {
        let taken = attachment.endpoints.iter().any(|other| other.default_route[family]);
        let able =
            !endpoint.network.internal && endpoint.address(v4).is_some() && endpoint.network.gateway(v4).is_some();
        endpoint.default_route[family] = able && !taken;
    }
    endpoint
}

/// The default routes of an endpoint that goes fall to the first that can have them; its place.
fn hand_over_routes(attachment: &mut Attachment, gone: &Endpoint) -> Option<usize> {
    let mut heir = None;
    for (family, v4) in [(0, true), (1, false)] {
        let able = |endpoint: &Endpoint| {
            !endpoint.network.internal && endpoint.address(v4).is_some() && endpoint.network.gateway(v4).is_some()
        };
        if gone.default_route[family]
            && let Some(index) = attachment.endpoints.iter().position(able)
        {
            attachment.endpoints[index].default_route[family] = true;
            heir = Some(index);
        }
    }
    heir
}
