//! Choosing addresses: ranges for new networks, addresses and MACs for endpoints. The lowest free one wins; what is
//! taken stands in the records (and, for ranges, in the host's routing table).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use records::rusqlite::{self, Transaction, types::Value};

use crate::error::{Error, Kind, Result};
use crate::model::{Network, Subnet};
use crate::subnet::{Net, address, number};

/// Where the default network's range is taken from: Docker's first pools.
const DEFAULT_POOL: (Net, u8) = (Net { address: IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), prefix: 12 }, 16);

/// Where ranges of further networks are taken from, and how long their prefixes are: 3,840 and 256 networks.
const POOLS: [(Net, u8); 2] = [
    (Net { address: IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), prefix: 12 }, 24),
    (Net { address: IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), prefix: 16 }, 24),
];
/// The first range of a pool that is used: 172.16.0.0/16 and 192.168.0.0/20 are what others take first.
const SKIPPED: u128 = 1 << 16;

/// A range for a new network that overlaps none of those that are taken. `default`: the default network's, of 65,534
/// addresses.
pub(crate) fn range4(taken: &[Net], default: bool) -> Result<Net> {
    let pools: &[(Net, u8)] = if default { &[DEFAULT_POOL, POOLS[0], POOLS[1]] } else { &POOLS };
    let found = pools.iter().find_map(|(pool, prefix)| {
        let size = 1_u128 << (32 - prefix);
        // Small ranges begin behind the one that the default network usually has.
        let skip = if pool.prefix == 12 { SKIPPED * if *prefix == 24 { 2 } else { 1 } } else { 0 };
        first_free(*pool, *prefix, pool.first() + skip, size, taken)
    });
    found.ok_or_else(|| {
        Error::new(Kind::Conflict, "all predefined address pools have been fully subnetted")
            .hinted("remove networks that are not used (kiste network prune), or choose a range with --subnet")
    })
}

/// The first range of a pool from `at` on that overlaps nothing; jumps over what is in its way.
fn first_free(pool: Net, prefix: u8, mut at: u128, size: u128, taken: &[Net]) -> Option<Net> {
    while at + size - 1 <= pool.last() {
        let candidate = Net { address: pool.at(at), prefix };
        match taken.iter().filter(|taken| taken.overlaps(&candidate)).map(Net::last).max() {
            None => return Some(candidate),
            Some(last) => at = (last + 1).next_multiple_of(size),
        }
    }
    None
}

/// A range of 2⁶⁴ unique local addresses (RFC 4193) for a new network, from its random id.
pub(crate) fn range6(id: &str, taken: &[Net]) -> Result<Net> {
    let digits = |from: usize| u128::from_str_radix(id.get(from..from + 14).unwrap_or_default(), 16).unwrap_or(0);
    let candidates = (0..id.len().saturating_sub(14)).map(|from| {
        let bits = (0xfd_u128 << 120) | (digits(from) & 0xff_ffff_ffff_ffff) << 64;
        Net { address: IpAddr::V6(Ipv6Addr::from_bits(bits)), prefix: 64 }
    });
    let mut free = candidates.filter(|net| !taken.iter().any(|taken| taken.overlaps(net)));
    free.next().ok_or_else(|| Error::internal("no free IPv6 range was found"))
}

/// Addresses of a network that no container may have: gateways and what the user reserved.
fn is_reserved(subnet: &Subnet, candidate: IpAddr) -> bool {
    subnet.gateway == Some(candidate) || subnet.auxiliary.values().any(|address| *address == candidate)
}

/// The address of a new endpoint: the wanted one, which must be free, or the lowest that is.
pub(crate) fn endpoint(
    transaction: &Transaction<'_>,
    network: &Network,
    v4: bool,
    wanted: Option<IpAddr>,
) -> Result<Option<IpAddr>> {
    let Some(subnet) = network.subnet(v4) else { return Ok(None) };
    if let Some(wanted) = wanted {
        return check_wanted(transaction, network, subnet, wanted).map(Some);
    }
    let area = subnet.range.unwrap_or(subnet.net);
    let (area, hosts) = (area.first()..=area.last(), subnet.net.hosts());
    let (mut next, last) = ((*area.start()).max(*hosts.start()), (*area.end()).min(*hosts.end()));
    let mut taken = self::taken(transaction, network, v4, next)?.into_iter().peekable();
    while next <= last {
        while taken.peek().is_some_and(|taken| *taken < next) {
            taken.next();
        }
        let candidate = address(next, v4);
        if taken.peek() != Some(&next) && !is_reserved(subnet, candidate) {
            return Ok(Some(candidate));
        }
        next += 1;
    }
    Err(Error::conflict("no available IPv4 addresses on this network's address pools".replace("IPv4", family(v4)))
        .hinted(format!("network {} has a range of {}; make one with a larger --subnet", network.name, subnet.net)))
}

fn family(v4: bool) -> &'static str {
    if v4 { "IPv4" } else { "IPv6" }
}

fn check_wanted(transaction: &Transaction<'_>, network: &Network, subnet: &Subnet, wanted: IpAddr) -> Result<IpAddr> {
    let v4 = wanted.is_ipv4();
    if !subnet.net.contains(wanted) {
        return Err(Error::invalid(format!("no configured subnet or ip-range contain the IP address {wanted}")));
    }
    let taken = || -> Result<bool> {
        let sql = format!("SELECT count(*) FROM endpoint WHERE network = ?1 AND {} = ?2", column(v4));
        let count: i64 = transaction
            .prepare_cached(&sql)?
            .query_row(rusqlite::params![network.id, value(wanted)], |row| row.get(0))?;
        Ok(count > 0)
    };
    if !subnet.net.hosts().contains(&number(wanted)) || is_reserved(subnet, wanted) || taken()? {
        return Err(Error::new(Kind::Forbidden, "Address already in use")
            .hinted(format!("{wanted} in network {} belongs to something else", network.name)));
    }
    Ok(wanted)
}

/// Numbers of addresses that are in use, or that a container which does not run has asked for, in order.
fn taken(transaction: &Transaction<'_>, network: &Network, v4: bool, from: u128) -> Result<Vec<u128>> {
    let sql = match v4 {
        true => {
            "SELECT ip4 FROM endpoint WHERE network = ?1 AND ip4 >= ?2
             UNION SELECT wanted4 FROM endpoint WHERE network = ?1 AND wanted4 >= ?2 ORDER BY 1"
        }
        false => "SELECT ip6 FROM endpoint WHERE network = ?1 AND ip6 >= ?2 ORDER BY ip6",
    };
    let mut statement = transaction.prepare_cached(sql)?;
    let rows = statement.query_map(rusqlite::params![network.id, value(address(from, v4))], |row| match v4 {
        true => row.get::<_, u32>(0).map(u128::from),
        false => row.get::<_, [u8; 16]>(0).map(u128::from_be_bytes),
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn column(v4: bool) -> &'static str {
    if v4 { "ip4" } else { "ip6" }
}

/// An address as it stands in the records.
pub(crate) fn value(address: IpAddr) -> Value {
    match address {
        IpAddr::V4(address) => Value::Integer(i64::from(address.to_bits())),
        IpAddr::V6(address) => Value::Blob(address.octets().to_vec()),
    }
}

/// The MAC address of an endpoint: derived from its IPv4 address, so that whoever remembers the address of an earlier
/// container remembers the right one; else from its random id. Locally administered.
pub(crate) fn mac(ip4: Option<Ipv4Addr>, id: &str) -> String {
    let tail = match ip4 {
        Some(address) => u128::from(address.to_bits()),
        None => u128::from_str_radix(id.get(..8).unwrap_or_default(), 16).unwrap_or(0),
    };
    let octets = (tail as u32).to_be_bytes();
    let first = if ip4.is_some() { "02:42" } else { "02:43" };
    octets.iter().fold(first.to_owned(), |text, octet| format!("{text}:{octet:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_keep_clear_of_what_is_taken() {
        assert_eq!(range4(&[], true).unwrap(), net("172.17.0.0/16"));
        assert_eq!(range4(&[net("172.17.0.0/16")], true).unwrap(), net("172.18.0.0/16"));
        assert_eq!(range4(&[net("172.17.0.0/16")], false).unwrap(), net("172.18.0.0/24"));
        assert_eq!(range4(&[net("172.18.0.0/24"), net("172.18.1.7/32")], false).unwrap(), net("172.18.2.0/24"));
        assert_eq!(range4(&[net("172.16.0.0/12")], true).unwrap(), net("192.168.0.0/24"));
        assert_eq!(range4(&[net("172.16.0.0/12"), net("192.168.0.0/17")], false).unwrap(), net("192.168.128.0/24"));
        assert!(range4(&[net("0.0.0.0/0")], false).is_err());
    }

    #[test]
    fn unique_local_ranges_come_from_the_id() {
        let id = "0123456789abcdef".repeat(4);
        let first = range6(&id, &[]).unwrap();
        assert_eq!(first, net("fd01:2345:6789:abcd::/64"));
        assert_ne!(range6(&id, &[first]).unwrap(), first);
    }

    #[test]
    fn macs_follow_addresses() {
        assert_eq!(mac(Some(Ipv4Addr::new(172, 17, 0, 2)), ""), "02:42:ac:11:00:02");
        assert_eq!(mac(None, "0a0b0c0d"), "02:43:0a:0b:0c:0d");
    }
}
