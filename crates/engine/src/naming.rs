//! Who is called what in which network: the names that a container has, told to the networks' zones when it is connected
//! and taken back when it is not, and those that it knows.

use std::net::IpAddr;
use std::path::Path;

use network::dns::{Entry, Member, Names, Zone};
use network::{Attachment, Endpoint};

use crate::model::HostConfig;
use crate::plan::Questions;

/// The names of a network. Those of the default one have no meaning (as with Docker).
fn zone(state: &Path, endpoint: &Endpoint) -> Option<Zone> {
    let network = &endpoint.network;
    (!network.is_predefined()).then(|| Zone::at(state.join("networks").join(&network.id)))
}

/// What a container is called in a network: by its name first.
fn names_in(endpoint: &Endpoint, id: &str, name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned(), id[..12.min(id.len())].to_owned()];
    names.extend(endpoint.aliases.iter().cloned());
    names.dedup();
    names
}

fn each(state: &Path, attachment: &Attachment, id: &str, name: &str, work: impl Fn(&Zone, &Entry<'_>)) {
    for endpoint in &attachment.endpoints {
        let Some(zone) = zone(state, endpoint) else { continue };
        let names = names_in(endpoint, id, name);
        let addresses: Vec<IpAddr> = [true, false].into_iter().filter_map(|v4| endpoint.address(v4)).collect();
        work(&zone, &Entry { container: id, names: &names, addresses: &addresses });
    }
}

/// Lets a container be found in its networks. A name that can be none is found by nobody.
pub(crate) fn announce(state: &Path, attachment: &Attachment, id: &str, name: &str) {
    each(state, attachment, id, name, |zone, entry| {
        for one in entry.names {
            drop(zone.add(&Entry { names: std::slice::from_ref(one), addresses: entry.addresses, ..*entry }));
        }
        // The first name is what its addresses are called.
        drop(zone.add(&Entry { names: &entry.names[..1], ..*entry }));
    });
}

/// Takes that back.
pub(crate) fn withdraw(state: &Path, attachment: &Attachment, id: &str, name: &str) {
    each(state, attachment, id, name, |zone, entry| zone.remove(entry));
}

/// Forgets a network that is removed.
pub(crate) fn forget(state: &Path, network: &str) {
    drop(std::fs::remove_dir_all(state.join("networks").join(network)));
}

/// The names that a container knows.
pub(crate) fn names(state: &Path, attachment: &Attachment) -> Names {
    let member =
        |endpoint: &Endpoint| Some(Member { name: endpoint.network.name.clone(), zone: zone(state, endpoint)? });
    let links = attachment.endpoints.iter().flat_map(|endpoint| &endpoint.links).map(|link| link_names(link));
    Names { networks: attachment.endpoints.iter().filter_map(member).collect(), links: links.collect() }
}

/// What a container's name server is to know, if it has one: one that is in a network of the user's, or whose host has no
/// name servers but on its own loopback, which the container cannot reach.
pub(crate) fn questions(host: &HostConfig, attachment: Option<&Attachment>, of_host: &str) -> Option<Questions> {
    let attachment = attachment.filter(|attachment| !attachment.endpoints.is_empty())?;
    let named = attachment.endpoints.iter().any(|endpoint| !endpoint.network.is_predefined());
    let unreachable = host.dns.is_empty() && network::files::only_loopback(of_host);
    if !named && !unreachable {
        return None;
    }
    let ndots =
        |option: &String| option.strip_prefix("ndots:").and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n > 0);
    Some(Questions { servers: host.dns.clone(), ndots: host.dns_options.iter().any(ndots) })
}

/// A link as (alias, name), in small letters.
fn link_names(link: &str) -> (String, String) {
    let (name, alias) = crate::links::split(link);
    (alias.to_ascii_lowercase(), name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_a_name_server() {
        let host = HostConfig::default();
        let mut endpoint = Endpoint::default();
        endpoint.network.name = "bridge".to_owned();
        let attachment = Attachment { endpoints: vec![endpoint], ..Attachment::default() };
        assert!(questions(&host, None, "").is_none());
        assert!(questions(&host, Some(&attachment), "nameserver 10.0.0.1\n").is_none());
        assert!(questions(&host, Some(&attachment), "nameserver 127.0.0.53\n").is_some());
        let mut own = attachment.clone();
        own.endpoints[0].network.name = "mine".to_owned();
        let wished = HostConfig { dns_options: vec!["ndots:2".to_owned()], ..HostConfig::default() };
        assert!(questions(&wished, Some(&own), "nameserver 10.0.0.1\n").unwrap().ndots);
    }
}
