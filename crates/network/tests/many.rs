//! Many networks, and many containers in one: records, bridges and rules in a network namespace of the test's own.

use std::collections::HashSet;
use std::net::IpAddr;

use network::endpoints::{self, Wish};
use network::link::bridge;
use network::{Driver, Network, firewall, networks, table};
use records::{Durability, Records};

fn own_network() {
    linux::namespace::unshare(linux::namespace::Kinds::NETWORK).expect("the tests need root");
    linux::net::loopback_up().unwrap();
}

fn records(directory: &tempfile::TempDir) -> Records {
    Records::open(&directory.path().join("kiste.db"), Durability::Process, &[table::SCHEMA]).unwrap()
}

/// 64 digits that look random enough.
fn id(number: usize) -> String {
    let digits = |seed: u64| format!("{:016x}", (seed + number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    digits(0) + &digits(1 << 20) + &digits(1 << 40) + &digits(1 << 50)
}

fn draft(number: usize) -> Network {
    let (name, driver) = (format!("n{number}"), Driver::Bridge);
    Network { id: id(number), name, driver, ipv4: true, ipv6: true, ..Network::default() }
}

#[test]
fn three_hundred_networks() {
    own_network();
    let directory = tempfile::tempdir().unwrap();
    let mut records = records(&directory);
    let mut ranges = HashSet::new();
    let mut all = Vec::new();
    for number in 0..300 {
        let network: Network = records
            .write(|transaction| {
                let network = networks::complete(transaction, draft(number))?;
                table::insert(transaction, &network)?;
                Ok::<_, network::Error>(network)
            })
            .unwrap();
        assert_eq!(network.subnets.len(), 2);
        assert!(network.subnets.iter().all(|subnet| ranges.insert(subnet.net.to_string())), "{network:?}");
        bridge::ensure(&network).unwrap();
        all.push(network);
    }
    firewall::install("kiste-many", &all, &[]).unwrap();
    assert!(firewall::is_whole("kiste-many").unwrap());
    for network in &all {
        firewall::remove_network("kiste-many", network).unwrap();
        bridge::remove(network).unwrap();
    }
    firewall::remove("kiste-many").unwrap();
    assert!(!firewall::is_whole("kiste-many").unwrap_or(false));
}

#[test]
fn a_thousand_containers_in_one_network() {
    let directory = tempfile::tempdir().unwrap();
    let mut records = records(&directory);
    let owner = |id: &str| id.to_owned();
    let network = records
        .write(|transaction| {
            let subnet = network::Subnet {
                net: "10.64.0.0/22".parse().unwrap(),
                gateway: Some("10.64.0.1".parse().unwrap()),
                range: None,
                auxiliary: [("router".to_owned(), "10.64.0.9".parse().unwrap())].into(),
                chosen: true,
            };
            let network = Network { subnets: vec![subnet], ipv6: false, ..draft(0) };
            table::insert(transaction, &network)?;
            Ok::<_, network::Error>(network)
        })
        .unwrap();
    let mut activate = |number: usize, wish: Wish| {
        records.write(|transaction| {
            let container = id(1000 + number);
            endpoints::add(transaction, &container, &network, 0, "{}", wish.ip4)?;
            endpoints::activate(transaction, &container, &[(network.clone(), wish)], &[], &owner)
        })
    };
    let mut addresses: HashSet<IpAddr> = HashSet::new();
    // Neither the network, nor broadcast, nor the gateway, nor what is reserved.
    for number in 0..1020 {
        let attachment = activate(number, Wish::default()).unwrap();
        let address = attachment.endpoints[0].address(true).unwrap();
        assert!(addresses.insert(address), "{address} twice");
    }
    let reserved = ["10.64.0.0", "10.64.0.1", "10.64.0.9", "10.64.3.255"].map(|text| text.parse::<IpAddr>().unwrap());
    assert!(reserved.iter().all(|address| !addresses.contains(address)));
    let exhausted = activate(2000, Wish::default()).unwrap_err();
    assert!(exhausted.message.contains("no available IPv4 addresses"), "{exhausted}");
    let wanted = |text: &str| Wish { ip4: Some(text.parse().unwrap()), ..Wish::default() };
    let outside = activate(2001, wanted("10.65.0.1")).unwrap_err();
    assert!(outside.message.contains("no configured subnet or ip-range contain the IP address"), "{outside}");
    for (number, taken) in [(2002, "10.64.0.5"), (2003, "10.64.0.1"), (2004, "10.64.0.9"), (2005, "10.64.3.255")] {
        assert_eq!(activate(number, wanted(taken)).unwrap_err().message, "Address already in use", "{taken}");
    }
}
