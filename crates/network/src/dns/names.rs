//! What a container may call others, in Docker's order: its links first, then the names in its networks, then names
//! with a network's name behind them.

use std::net::IpAddr;

use super::wire::{self, Query, Record, code, kind};
use super::zone::Zone;

/// A network that the container is in.
#[derive(Clone, Debug)]
pub struct Member {
    /// The network's name.
    pub name: String,
    /// Its names.
    pub zone: Zone,
}

/// The names that one container knows.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Its networks, in the order in which they are asked.
    pub networks: Vec<Member>,
    /// `--link`: (alias in small letters, name), for this container alone.
    pub links: Vec<(String, String)>,
}

/// The answer from names of ours: a code and records. None: the question is about something outside.
pub(super) fn answer(names: &Names, query: &Query<'_>, turn: u32) -> Option<(u8, Vec<Record>)> {
    let name = query.name.text().filter(|_| query.is_internet())?;
    if query.kind == kind::PTR {
        let pointer = pointer(names, wire::reversed(name)?)?;
        return Some((code::OK, vec![Record::Pointer(pointer)]));
    }
    let found = find(names, name)?;
    let wanted = |address: &IpAddr| match query.kind {
        kind::A => address.is_ipv4(),
        kind::AAAA => address.is_ipv6(),
        // Of another type there is nothing, and nobody outside knows our names. Mail goes to the address then.
        _ => false,
    };
    let mut addresses: Vec<IpAddr> = found.into_iter().filter(wanted).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if !addresses.is_empty() {
        let first = turn as usize % addresses.len();
        addresses.rotate_left(first);
    }
    Some((code::OK, addresses.into_iter().map(Record::Address).collect()))
}

/// `a.b.c` is that name in any network, else `a.b` in network `c`, else `a` in network `b.c`.
fn find(names: &Names, name: &str) -> Option<Vec<IpAddr>> {
    if name.is_empty() {
        return None;
    }
    let whole = (name, None);
    let split = name.rmatch_indices('.').map(|(at, _)| (&name[..at], Some(&name[at + 1..])));
    std::iter::once(whole).chain(split).find_map(|(name, network)| look_up(names, name, network))
}

fn look_up(names: &Names, name: &str, network: Option<&str>) -> Option<Vec<IpAddr>> {
    let link = names.links.iter().find(|(alias, _)| alias == name).map(|(_, name)| name.as_str());
    let mut networks =
        names.networks.iter().filter(|member| network.is_none_or(|n| member.name.eq_ignore_ascii_case(n)));
    networks.find_map(|member| member.zone.addresses(link.unwrap_or(name)))
}

fn pointer(names: &Names, address: IpAddr) -> Option<String> {
    names.networks.iter().find_map(|member| Some(format!("{}.{}", member.zone.name_of(address)?, member.name)))
}

#[cfg(test)]
mod tests {
    use super::super::wire::tests::question;
    use super::super::zone::Entry;
    use super::*;

    fn world() -> (tempfile::TempDir, Names) {
        let directory = tempfile::tempdir().unwrap();
        let member = |name: &str| Member { name: name.to_owned(), zone: Zone::at(directory.path().join(name)) };
        let names = Names {
            networks: vec![member("front"), member("Back.End")],
            links: vec![("database".to_owned(), "db".to_owned())],
        };
        let add = |network: usize, container: &str, called: &[&str], address: &str| {
            let called: Vec<String> = called.iter().map(|name| (*name).to_owned()).collect();
            let addresses = [address.parse().unwrap()];
            let entry = Entry { container, names: &called, addresses: &addresses };
            names.networks[network].zone.add(&entry).unwrap();
        };
        add(0, "a", &["web", "www"], "10.0.0.2");
        add(0, "b", &["web2", "www"], "10.0.0.3");
        add(1, "c", &["db", "my.db"], "fd00::4");
        (directory, names)
    }

    fn ask(names: &Names, name: &str, kind: u16) -> Option<Vec<String>> {
        let bytes = question(1, name, kind, None);
        let (code, records) = answer(names, &Query::read(&bytes).unwrap(), 0)?;
        assert_eq!(code, code::OK);
        let text = |record| match record {
            Record::Address(address) => IpAddr::to_string(&address),
            Record::Pointer(name) => name,
        };
        Some(records.into_iter().map(text).collect())
    }

    #[test]
    fn names_are_found_as_docker_finds_them() {
        let (_directory, names) = world();
        let found = |name, kind| ask(&names, name, kind);
        assert_eq!(found("WEB", kind::A), Some(vec!["10.0.0.2".to_owned()]));
        assert_eq!(found("web.front", kind::A), Some(vec!["10.0.0.2".to_owned()]));
        assert_eq!(found("db.back.end", kind::AAAA), Some(vec!["fd00::4".to_owned()]));
        assert_eq!(found("my.db", kind::AAAA), Some(vec!["fd00::4".to_owned()]));
        assert_eq!(found("database", kind::AAAA), Some(vec!["fd00::4".to_owned()]));
        assert_eq!(found("www", kind::A).unwrap().len(), 2);
        assert_eq!(found("web", kind::AAAA), Some(vec![]), "known, but without such an address");
        assert_eq!(found("web", 15), Some(vec![]));
        assert_eq!(found("web.other", kind::A), None);
        assert_eq!(found("db.front", kind::A), None);
        assert_eq!(found("", kind::A), None);
        assert_eq!(found("2.0.0.10.in-addr.arpa", kind::PTR), Some(vec!["web.front".to_owned()]));
        assert_eq!(found("9.0.0.10.in-addr.arpa", kind::PTR), None);
    }

    #[test]
    fn several_answers_take_turns() {
        let (_directory, names) = world();
        let bytes = question(1, "www", kind::A, None);
        let query = Query::read(&bytes).unwrap();
        let first = |turn| answer(&names, &query, turn).unwrap().1[0].clone();
        assert_ne!(first(0), first(1));
        assert_eq!(first(0), first(2));
    }
}
