//! Networks and published ports as elements of the table's sets and maps.

use std::net::IpAddr;

use super::base::{FROM_INTERNAL, TO_INTERNAL, TO_NAT, TO_OPEN, TO_ROUTED};
use super::encode::{Transaction, Value};
use crate::model::{Attachment, Driver, Network, Port};
use crate::options::GatewayMode;

type Element = (Vec<u8>, Value);

/// A device's name as a key.
fn device(name: &str) -> Vec<u8> {
    let mut key = vec![0; 16];
    let length = name.len().min(15);
    key[..length].copy_from_slice(&name.as_bytes()[..length]);
    key
}

fn pair(name: &str) -> Vec<u8> {
    [device(name), device(name)].concat()
}

/// The elements of a network, each with its set.
fn of_network(network: &Network) -> Vec<(&'static str, Element)> {
    let name = network.device.as_str();
    let mut all = vec![
        ("bridges", (device(name), Value::None)),
        ("to4", (device(name), Value::Jump(way_in(network, true)))),
        ("to6", (device(name), Value::Jump(way_in(network, false)))),
        ("same", (pair(name), Value::None)),
    ];
    if network.internal {
        all.push(("from", (device(name), Value::Jump(FROM_INTERNAL))));
    }
    if network.icc() {
        all.push(("icc", (pair(name), Value::None)));
    }
    for (v4, nat, source) in [(true, "nat4", "source4"), (false, "nat6", "source6")] {
        match network.source(v4) {
            _ if !network.masquerades(v4) => {}
            Some(address) => all.push((source, (device(name), Value::Bytes(bytes(address))))),
            None => all.push((nat, (device(name), Value::None))),
        }
    }
    all
}

/// The chain for packets to containers of a network.
fn way_in(network: &Network, v4: bool) -> &'static str {
    match network.gateway_mode(v4) {
        _ if network.internal => TO_INTERNAL,
        GatewayMode::Nat => TO_NAT,
        GatewayMode::Routed => TO_ROUTED,
        GatewayMode::NatUnprotected => TO_OPEN,
        GatewayMode::Isolated => TO_INTERNAL,
    }
}

pub(super) fn add_network(to: &mut Transaction, network: &Network) {
    if network.driver == Driver::Bridge {
        of_network(network).into_iter().for_each(|(set, element)| to.add(set, &[element]));
    }
}

pub(super) fn remove_network(to: &mut Transaction, network: &Network) {
    if network.driver == Driver::Bridge {
        of_network(network).into_iter().for_each(|(set, (key, _))| to.remove(set, &[(key, Value::None)]));
    }
}

/// The sets that ports are in.
const PORTS: [&str; 8] = ["publish4", "publish6", "publish_any4", "publish_any6", "open4", "open6", "self4", "self6"];

/// Adds the ports; whether there are any that rules can lead.
pub(super) fn add_ports(to: &mut Transaction, attachment: &Attachment) -> bool {
    each_set(attachment, |set, elements| to.add(set, elements))
}

/// Removes the ports; whether there are any.
pub(super) fn remove_ports(to: &mut Transaction, attachment: &Attachment) -> bool {
    each_set(attachment, |set, elements| {
        let keys: Vec<Element> = elements.iter().map(|(key, _)| (key.clone(), Value::None)).collect();
        to.remove(set, &keys);
    })
}

fn each_set(attachment: &Attachment, mut work: impl FnMut(&'static str, &[Element])) -> bool {
    let mut all: Vec<(&'static str, Element)> =
        attachment.ports.iter().filter_map(|port| of_port(attachment, port)).collect();
    for (v4, own) in [(true, "self4"), (false, "self6")] {
        let leads = all.iter().any(|(set, _)| set.starts_with("publish") && set.ends_with('4') == v4);
        let target = attachment.published(v4).and_then(|endpoint| endpoint.address(v4)).filter(|_| leads);
        all.extend(target.map(|target| (own, (bytes(target).repeat(2), Value::None))));
    }
    for set in PORTS {
        let elements: Vec<Element> =
            all.iter().filter(|(name, _)| *name == set).map(|(_, element)| element.clone()).collect();
        if !elements.is_empty() {
            work(set, &elements);
        }
    }
    !all.is_empty()
}

/// The element of a port; none where no rule can lead there: an IPv6 address of the host and a container without one, or
/// the host's `::1`.
fn of_port(attachment: &Attachment, port: &Port) -> Option<(&'static str, Element)> {
    let v4 = port.address.is_ipv4();
    let target = attachment.published(v4).and_then(|endpoint| endpoint.address(v4))?;
    let name = |v4_name, v6_name| if v4 { v4_name } else { v6_name };
    if port.port == 0 {
        let key = [bytes(target), service(port, port.target)].concat();
        return Some((name("open4", "open6"), (key, Value::None)));
    }
    if !v4 && port.address.is_loopback() {
        return None;
    }
    let value = Value::Bytes([bytes(target), number(port.target)].concat());
    let key = service(port, port.port);
    match port.address.is_unspecified() {
        true => Some((name("publish_any4", "publish_any6"), (key, value))),
        false => Some((name("publish4", "publish6"), ([bytes(port.address), key].concat(), value))),
    }
}

/// Protocol and port, each in a register of its own.
fn service(port: &Port, value: u16) -> Vec<u8> {
    [vec![port.protocol.number(), 0, 0, 0], number(value)].concat()
}

fn number(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![high, low, 0, 0]
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
