//! A container's places in networks, on record: made with the container, given addresses and ports when it starts, all
//! in the caller's transaction, and taken away again when it has ended. What a client asked for is kept as the caller's
//! own document.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use records::rusqlite::{self, Connection, Transaction, params};

use crate::error::Result;
use crate::model::{Attachment, Endpoint, Network};
use crate::options::{EGRESS, INGRESS};
use crate::publish::{self, Publish};
use crate::table::{document, find, json};
use crate::{allocate, firewall};

/// What is asked of an endpoint.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// A certain IPv4 address.
    pub ip4: Option<Ipv4Addr>,
    /// A certain IPv6 address.
    pub ip6: Option<Ipv6Addr>,
    /// Further addresses.
    pub link_local: Vec<IpAddr>,
    /// A certain MAC address.
    pub mac: Option<String>,
    /// The network with the highest one gets the default route.
    pub priority: i64,
    /// Further names.
    pub aliases: Vec<String>,
    /// Name of the device in the container.
    pub device: Option<String>,
    /// Kernel parameters of the device.
    pub sysctls: Vec<String>,
    /// Names of others for this container alone, `NAME:ALIAS`.
    pub links: Vec<String>,
    /// Bytes a second that it may send, if not what the network says.
    pub egress: Option<u64>,
    /// Bytes a second that it may be sent.
    pub ingress: Option<u64>,
}

/// An endpoint on record.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The container.
    pub container: String,
    /// Id of the network, which may be gone.
    pub network: String,
    /// What the client asked for, in the caller's own form.
    pub settings: String,
    /// What it was given, while the container runs (its network left empty).
    pub given: Option<Endpoint>,
}

/// Records that a container is to be in a network.
pub fn add(
    transaction: &Transaction<'_>,
    container: &str,
    network: &Network,
    position: usize,
    settings: &str,
    wanted4: Option<Ipv4Addr>,
) -> Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO endpoint (container, network, position, settings, wanted4) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![container, network.id, position as i64, settings, wanted4.map(Ipv4Addr::to_bits)])?;
    Ok(())
}

/// Takes a container out of a network; whether it was in it.
pub fn remove(transaction: &Transaction<'_>, container: &str, network: &str) -> Result<bool> {
    let sql = "DELETE FROM endpoint WHERE container = ?1 AND network = ?2";
    Ok(transaction.prepare_cached(sql)?.execute([container, network])? > 0)
}

fn stored(connection: &Connection, condition: &str, value: &str) -> Result<Vec<Stored>> {
    let sql = format!(
        "SELECT container, network, settings, document FROM endpoint WHERE {condition} ORDER BY container, position"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([value], |row| {
        let given = if row.get_ref(3)?.as_str()?.is_empty() { None } else { Some(document(row, 3)?) };
        Ok(Stored { container: row.get(0)?, network: row.get(1)?, settings: row.get(2)?, given })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// A container's endpoints, in order.
pub fn of_container(connection: &Connection, container: &str) -> Result<Vec<Stored>> {
    stored(connection, "container = ?1", container)
}

/// A network's endpoints.
pub fn of_network(connection: &Connection, network: &str) -> Result<Vec<Stored>> {
    stored(connection, "network = ?1", network)
}

/// Gives a container that is about to run its addresses and ports. `networks` are those that it is in, in order; `owner`
/// names containers, for errors.
pub fn activate(
    transaction: &Transaction<'_>,
    container: &str,
    networks: &[(Network, Wish)],
    ports: &[Publish],
    owner: &dyn Fn(&str) -> String,
) -> Result<Attachment> {
    // Those of an earlier run are left only by an interrupted command.
    deactivate(transaction, container)?;
    let mut attachment = Attachment { table: firewall::table(transaction), ..Attachment::default() };
    for (index, (network, wish)) in networks.iter().enumerate() {
        let endpoint = give(transaction, container, index, network, wish, &attachment.endpoints)?;
        attachment.endpoints.push(endpoint);
    }
    choose_routes(&mut attachment.endpoints, &networks.iter().map(|(_, wish)| wish.priority).collect::<Vec<_>>());
    for endpoint in &attachment.endpoints {
        store(transaction, container, endpoint)?;
    }
    attachment.ports = publish::allocate(transaction, container, ports, &attachment, owner)?;
    Ok(attachment)
}

/// Gives a running container its address in one more network.
pub fn activate_one(
    transaction: &Transaction<'_>,
    container: &str,
    network: &Network,
    wish: &Wish,
    others: &[Endpoint],
) -> Result<Endpoint> {
    let endpoint = give(transaction, container, others.len(), network, wish, others)?;
    store(transaction, container, &endpoint)?;
    Ok(endpoint)
}

fn give(
    transaction: &Transaction<'_>,
    container: &str,
    index: usize,
    network: &Network,
    wish: &Wish,
    others: &[Endpoint],
) -> Result<Endpoint> {
    let id = id(container, &network.id);
    let ip4 = match network.ipv4.then(|| allocate::endpoint(transaction, network, true, wish.ip4.map(IpAddr::V4))) {
        Some(address) => match address? {
            Some(IpAddr::V4(address)) => Some(address),
            _ => None,
        },
        None => None,
    };
    let ip6 = match network.ipv6.then(|| allocate::endpoint(transaction, network, false, wish.ip6.map(IpAddr::V6))) {
        Some(address) => match address? {
            Some(IpAddr::V6(address)) => Some(address),
            _ => None,
        },
        None => None,
    };
    let mac = wish.mac.clone().unwrap_or_else(|| allocate::mac(ip4, &id));
    Ok(Endpoint {
        device: device(network, wish, index, others),
        mac,
        ip4,
        ip6,
        link_local: wish.link_local.clone(),
        default_route: [false; 2],
        aliases: wish.aliases.clone(),
        sysctls: wish.sysctls.clone(),
        links: wish.links.clone(),
        egress: wish.egress.unwrap_or_else(|| network.bandwidth(EGRESS)),
        ingress: wish.ingress.unwrap_or_else(|| network.bandwidth(INGRESS)),
        network: network.clone(),
        id,
    })
}

/// The wanted name, or the first one that no other endpoint has.
fn device(network: &Network, wish: &Wish, index: usize, others: &[Endpoint]) -> String {
    let prefix = network.device_prefix();
    let free = |name: &String| others.iter().all(|other| other.device != *name);
    let mut numbered = (index.min(others.len())..).chain(0..).map(|number| format!("{prefix}{number}")).filter(free);
    wish.device.clone().or_else(|| numbered.next()).unwrap_or_default()
}

/// The id of an endpoint: 64 hexadecimal digits, the same for the same container in the same network.
pub fn id(container: &str, network: &str) -> String {
    let half = |text: &str, from: usize| text.get(from..from + 32).unwrap_or("0").to_owned();
    // Both ids are random; one half of each is as unique as a new one.
    half(container, 32) + &half(network, 32)
}

/// Who gets the default route of each family: not internal, highest priority, then the first name.
fn choose_routes(endpoints: &mut [Endpoint], priorities: &[i64]) {
    for (family, v4) in [(0, true), (1, false)] {
        let able = |endpoint: &Endpoint| {
            let network = &endpoint.network;
            endpoint.address(v4).is_some()
                && !network.internal
                && (network.gateway(v4).is_some() || network.is_layer3())
        };
        let best = (0..endpoints.len()).filter(|index| able(&endpoints[*index])).min_by(|a, b| {
            let key = |index: usize| (-priorities.get(index).copied().unwrap_or(0), &endpoints[index].network.name);
            key(*a).cmp(&key(*b))
        });
        if let Some(best) = best {
            endpoints[best].default_route[family] = true;
        }
    }
}

fn store(transaction: &Transaction<'_>, container: &str, endpoint: &Endpoint) -> Result<()> {
    let bare = Endpoint { network: Network::default(), ..endpoint.clone() };
    transaction
        .prepare_cached(
            "UPDATE endpoint SET active = 1, document = ?3, ip4 = ?4, ip6 = ?5, mac = ?6
             WHERE container = ?1 AND network = ?2",
        )?
        .execute(params![
            container,
            endpoint.network.id,
            json(&bare)?,
            endpoint.ip4.map(Ipv4Addr::to_bits),
            endpoint.ip6.map(|address| address.octets()),
            endpoint.mac,
        ])?;
    Ok(())
}

/// Takes the addresses and ports of a container back, which has ended.
pub fn deactivate(transaction: &Transaction<'_>, container: &str) -> Result<()> {
    let sql = "UPDATE endpoint SET active = 0, document = '', ip4 = NULL, ip6 = NULL, mac = NULL
               WHERE container = ?1 AND active";
    transaction.prepare_cached(sql)?.execute([container])?;
    transaction.prepare_cached("DELETE FROM port WHERE container = ?1")?.execute([container])?;
    Ok(())
}

/// Forgets everything about a container.
pub fn forget(transaction: &Transaction<'_>, container: &str) -> Result<()> {
    transaction.prepare_cached("DELETE FROM endpoint WHERE container = ?1")?.execute([container])?;
    transaction.prepare_cached("DELETE FROM link WHERE container = ?1 OR target = ?1")?.execute([container])?;
    transaction.prepare_cached("DELETE FROM port WHERE container = ?1")?.execute([container])?;
    Ok(())
}

/// What a running container was given: endpoints with their networks, and ports.
pub fn attachment(connection: &Connection, container: &str) -> Result<Attachment> {
    let mut attachment = Attachment { table: firewall::table(connection), ..Attachment::default() };
    for stored in of_container(connection, container)? {
        if let Some(mut endpoint) = stored.given {
            endpoint.network = find(connection, &stored.network)?;
            attachment.endpoints.push(endpoint);
        }
    }
    attachment.ports = publish::of(connection, container)?;
    Ok(attachment)
}

/// Containers that have addresses or ports now.
pub fn active(connection: &Connection) -> Result<Vec<String>> {
    let mut statement = connection.prepare_cached("SELECT DISTINCT container FROM endpoint WHERE active")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}
