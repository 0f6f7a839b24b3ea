//! Published ports on record: which address and port of the host leads to which port of which container. A port that
//! the user leaves to us is one that neither a record nor a program of the host has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use records::rusqlite::{self, Connection, Transaction, params};

use crate::error::{Error, Result};
use crate::model::{Attachment, Network, Port, Protocol};
use crate::options::GatewayMode;
use crate::reserve;

/// A port to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The container's port.
    pub target: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The host's address; none: every one.
    pub address: Option<IpAddr>,
    /// The host's port: the first free one of these; 0: any.
    pub ports: RangeInclusive<u16>,
}

/// How often a free port is looked for before giving up.
const ATTEMPTS: usize = 64;

/// Reserves ports for a container on record.
pub(crate) fn allocate(
    transaction: &Transaction<'_>,
    container: &str,
    wishes: &[Publish],
    attachment: &Attachment,
    owner: &dyn Fn(&str) -> String,
) -> Result<Vec<Port>> {
    let mut ports = Vec::new();
    for wish in wishes {
        let addresses = addresses(wish.address, attachment);
        let (bound, open): (Vec<IpAddr>, Vec<IpAddr>) =
            addresses.into_iter().partition(|address| !is_routed(attachment, address.is_ipv4()));
        let new = |address: IpAddr, port: u16| Port { target: wish.target, protocol: wish.protocol, address, port };
        // Nothing of the host leads to a routed container: its port is open at its own address.
        ports.extend(open.into_iter().map(|address| new(address, 0)));
        if bound.is_empty() {
            continue;
        }
        let port = choose(transaction, wish, &bound, owner)?;
        for address in bound {
            let port = new(address, port);
            store(transaction, container, &port)?;
            ports.push(port);
        }
    }
    ports.sort_unstable();
    Ok(ports)
}

/// The host's addresses that a port is published on: one, or every one of both families.
fn addresses(wanted: Option<IpAddr>, attachment: &Attachment) -> Vec<IpAddr> {
    let network = |v4| attachment.published(v4).map(|endpoint| &endpoint.network);
    let default = network(true).and_then(Network::default_binding);
    let (any4, any6) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let (has4, has6) = (network(true).is_some(), network(false).is_some());
    match wanted.or(default) {
        Some(address) => vec![address],
        None if has4 && reserve::host_has_v6() => vec![any4, any6],
        None if has4 => vec![any4],
        None if has6 => vec![any6],
        None => Vec::new(),
    }
}

fn is_routed(attachment: &Attachment, v4: bool) -> bool {
    let network = attachment.published(v4).map(|endpoint| &endpoint.network);
    network.is_some_and(|network| network.gateway_mode(v4) == GatewayMode::Routed)
}

/// The port: the one that is asked for, or the first free one.
fn choose(
    transaction: &Transaction<'_>,
    wish: &Publish,
    addresses: &[IpAddr],
    owner: &dyn Fn(&str) -> String,
) -> Result<u16> {
    let (first, last) = (*wish.ports.start(), *wish.ports.end());
    let taken = |port: u16| -> Result<Option<(IpAddr, String)>> {
        for address in addresses {
            if let Some(container) = holder(transaction, wish.protocol, *address, port)? {
                return Ok(Some((*address, container)));
            }
        }
        Ok(None)
    };
    if first == last && first != 0 {
        return match taken(first)? {
            None => Ok(first),
            Some((address, container)) => Err(allocated(address, first, &owner(&container))),
        };
    }
    if first != 0 {
        for port in first..=last {
            if taken(port)?.is_none() && addresses.iter().all(|address| reserve::is_free(wish.protocol, *address, port))
            {
                return Ok(port);
            }
        }
        let message = format!("Bind for {}:{first}-{last} failed: all ports are allocated", shown(addresses[0]));
        return Err(Error::conflict(message).hinted("publish on a larger range of ports"));
    }
    for _ in 0..ATTEMPTS {
        let Some(port) = reserve::any_free(wish.protocol, addresses) else { continue };
        if taken(port)?.is_none() {
            return Ok(port);
        }
    }
    Err(Error::conflict(format!("Bind for {}:0 failed: no free port was found", shown(addresses[0])))
        .hinted("publish on a port of your choice: -p PORT:PORT"))
}

fn allocated(address: IpAddr, port: u16, owner: &str) -> Error {
    Error::conflict(format!("Bind for {}:{port} failed: port is already allocated", shown(address)))
        .hinted(format!("{owner} has it: publish on another port, or stop that container"))
}

/// An address as it stands before a port.
pub(crate) fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The container that has a port at this address or at one that covers it.
fn holder(transaction: &Transaction<'_>, protocol: Protocol, address: IpAddr, port: u16) -> Result<Option<String>> {
    let sql = "SELECT address, container FROM port WHERE protocol = ?1 AND v4 = ?2 AND port = ?3";
    let mut statement = transaction.prepare_cached(sql)?;
    let rows = statement.query_map(params![protocol.number(), address.is_ipv4(), port], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    let own = text(address);
    for row in rows {
        let (theirs, container) = row?;
        if own.is_empty() || theirs.is_empty() || own == theirs {
            return Ok(Some(container));
        }
    }
    Ok(None)
}

/// An address as it stands in the records: `''` for every one.
fn text(address: IpAddr) -> String {
    if address.is_unspecified() { String::new() } else { address.to_string() }
}

fn store(transaction: &Transaction<'_>, container: &str, port: &Port) -> Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO port (protocol, v4, port, address, container, target) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            port.protocol.number(),
            port.address.is_ipv4(),
            port.port,
            text(port.address),
            container,
            port.target
        ])?;
    Ok(())
}

/// The published ports of a container, in Docker's order.
pub fn of(connection: &Connection, container: &str) -> Result<Vec<Port>> {
    let sql = "SELECT protocol, v4, port, address, target FROM port WHERE container = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([container], |row| {
        let (number, v4): (u8, bool) = (row.get(0)?, row.get(1)?);
        let address: String = row.get(3)?;
        let any = if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|p| p.number() == number);
        Ok(Port {
            target: row.get(4)?,
            protocol: protocol.unwrap_or(Protocol::Tcp),
            address: address.parse().unwrap_or(any),
            port: row.get(2)?,
        })
    })?;
    let mut ports: Vec<Port> = rows.collect::<rusqlite::Result<_>>()?;
    ports.sort_unstable();
    Ok(ports)
}
