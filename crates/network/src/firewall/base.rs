//! The rules, which are the same on every host whatever runs there: packets find what concerns them in sets and maps,
//! whose elements are the networks and the published ports. `nft list table inet kiste` shows them.

use super::encode::{ACCEPT, DROP, Data, FIRST, Hook, Meta, RETURN, Rule, Transaction, Type};

/// Chains that begin at a hook of the kernel.
const HOOKS: [(&str, Hook); 5] = [
    ("raw", Hook { kind: "filter", number: 0, priority: -300 }),
    ("prerouting", Hook { kind: "nat", number: 0, priority: -100 }),
    ("output", Hook { kind: "nat", number: 3, priority: -100 }),
    ("forward", Hook { kind: "filter", number: 2, priority: 0 }),
    ("postrouting", Hook { kind: "nat", number: 4, priority: 100 }),
];

/// The chain for rules of the host's administrator: consulted first, never flushed.
pub(super) const USER: &str = "user";

/// Chains that others lead to.
const CHAINS: [&str; 7] = ["publish", TO_NAT, TO_ROUTED, TO_OPEN, TO_INTERNAL, FROM_INTERNAL, USER];

/// To containers behind address translation: what they asked for, and what is published.
pub(super) const TO_NAT: &str = "to_nat";
/// To containers whose addresses are known outside: published ports.
pub(super) const TO_ROUTED: &str = "to_routed";
/// To containers that everybody may reach.
pub(super) const TO_OPEN: &str = "to_open";
/// To containers of internal networks: from the same bridge only.
pub(super) const TO_INTERNAL: &str = "to_internal";
/// From containers of internal networks: to the same bridge only.
pub(super) const FROM_INTERNAL: &str = "from_internal";

/// A set's name, the types of its key, and what its elements lead to.
type Set = (&'static str, &'static [Type], Data);

/// The sets and maps. `to4` and `to6` lead from a bridge to the chain for packets to it, `from` for packets from it;
/// `bridges` holds all of ours, `icc` pairs of devices between which everything may pass, `same` pairs of a bridge with
/// itself; `nat4` and `nat6` bridges whose packets get the host's address outside, `source4` and `source6` a certain one.
/// `publish…` leads from an address (or every one) and a port to a container's, `open…` holds ports of routed containers.
/// `self…` pairs of a container's address with itself: of those that publish ports.
pub(super) const SETS: [Set; 18] = [
    ("bridges", &[Type::Device], Data::None),
    ("to4", &[Type::Device], Data::Verdict),
    ("to6", &[Type::Device], Data::Verdict),
    ("from", &[Type::Device], Data::Verdict),
    ("same", &[Type::Device, Type::Device], Data::None),
    ("icc", &[Type::Device, Type::Device], Data::None),
    ("nat4", &[Type::Device], Data::None),
    ("nat6", &[Type::Device], Data::None),
    ("source4", &[Type::Device], Data::Value(&[Type::Ip4])),
    ("source6", &[Type::Device], Data::Value(&[Type::Ip6])),
    ("publish4", &[Type::Ip4, Type::Protocol, Type::Service], Data::Value(&[Type::Ip4, Type::Service])),
    ("publish6", &[Type::Ip6, Type::Protocol, Type::Service], Data::Value(&[Type::Ip6, Type::Service])),
    ("publish_any4", &[Type::Protocol, Type::Service], Data::Value(&[Type::Ip4, Type::Service])),
    ("publish_any6", &[Type::Protocol, Type::Service], Data::Value(&[Type::Ip6, Type::Service])),
    ("open4", &[Type::Ip4, Type::Protocol, Type::Service], Data::None),
    ("self4", &[Type::Ip4, Type::Ip4], Data::None),
    ("self6", &[Type::Ip6, Type::Ip6], Data::None),
    ("open6", &[Type::Ip6, Type::Protocol, Type::Service], Data::None),
];

/// How many rules [`install`] makes.
pub(super) fn rules() -> usize {
    let mut scratch = Transaction::new("");
    install(&mut scratch);
    scratch.rules
}

const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const STATE: u32 = 0;
const STATUS: u32 = 2;
/// `IPS_DST_NAT`: the destination was rewritten, by us or by a rule of the administrator's.
const REWRITTEN: u32 = 0x20;

/// Makes the table, or what is missing of it; the rules anew, the elements not.
pub(super) fn install(to: &mut Transaction) {
    to.table();
    SETS.iter().for_each(|(name, key, data)| to.set(name, key, *data));
    HOOKS.iter().for_each(|(name, hook)| to.chain(name, Some(hook)));
    CHAINS.iter().for_each(|name| to.chain(name, None));
    HOOKS
        .iter()
        .map(|(name, _)| name)
        .chain(&CHAINS)
        .filter(|name| **name != USER)
        .for_each(|name| to.flush_chain(name));
    raw(to);
    translate(to);
    forward(to);
    leave(to);
}

/// Bridges have `route_localnet`, so that the host's own connections to its loopback can be led to containers. Nobody
/// else may use such addresses.
fn raw(to: &mut Transaction) {
    to.rule("raw", |rule| {
        loopback(rule).meta(Meta::InputDevice, FIRST).within("bridges", FIRST).verdict(DROP);
    });
}

/// Published ports: addresses of the host become those of containers.
fn translate(to: &mut Transaction) {
    // From outside nobody reaches what is published on the loopback; the host's own packets come by `output`.
    to.rule("prerouting", |rule| {
        loopback(rule).verdict(RETURN);
    });
    to.rule("prerouting", |rule| {
        rule.is_for_this_host().jump("publish");
    });
    // ::1 never leaves the loopback device: served by the container's monitor.
    to.rule("output", |rule| {
        let one = std::net::Ipv6Addr::LOCALHOST.octets();
        rule.family(false).destination(false, FIRST).equals(FIRST, &one).verdict(RETURN);
    });
    to.rule("output", |rule| {
        rule.is_for_this_host().jump("publish");
    });
    // Link-local clients are not reachable from another link.
    to.rule("publish", |rule| {
        let mut mask = [0; 16];
        (mask[0], mask[1]) = (0xff, 0xc0);
        let mut link_local = [0; 16];
        (link_local[0], link_local[1]) = (0xfe, 0x80);
        rule.family(false).source(false, FIRST).mask(FIRST, &mask).equals(FIRST, &link_local).verdict(RETURN);
    });
    for (v4, exact, any) in [(true, "publish4", "publish_any4"), (false, "publish6", "publish_any6")] {
        let behind = FIRST + if v4 { 1 } else { 4 };
        to.rule("publish", |rule| {
            rule.family(v4).destination(v4, FIRST).service(behind).map(exact, FIRST, FIRST).rewrite_destination(v4);
        });
        to.rule("publish", |rule| {
            rule.family(v4).service(FIRST).map(any, FIRST, FIRST).rewrite_destination(v4);
        });
    }
}

/// Packets to 127.0.0.0/8.
fn loopback<'r, 'b>(rule: &'r mut Rule<'b>) -> &'r mut Rule<'b> {
    rule.family(true).destination(true, FIRST).mask(FIRST, &[255, 0, 0, 0]).equals(FIRST, &[127, 0, 0, 0])
}

/// Who may reach whom.
fn forward(to: &mut Transaction) {
    to.rule("forward", |rule| {
        rule.jump(USER);
    });
    for (v4, map) in [(true, "to4"), (false, "to6")] {
        to.rule("forward", |rule| {
            rule.family(v4).meta(Meta::OutputDevice, FIRST).map(map, FIRST, 0);
        });
    }
    to.rule("forward", |rule| {
        rule.meta(Meta::InputDevice, FIRST).map("from", FIRST, 0);
    });
    for chain in [TO_NAT, TO_ROUTED] {
        to.rule(chain, |rule| {
            rule.connection(STATE, ESTABLISHED_OR_RELATED).verdict(ACCEPT);
        });
    }
    for chain in [TO_NAT, TO_ROUTED, TO_INTERNAL, FROM_INTERNAL] {
        to.rule(chain, |rule| {
            devices(rule).within("icc", FIRST).verdict(ACCEPT);
        });
    }
    // Also where the container is asked by another of its bridge: that it be isolated does not hide its published ports.
    to.rule(TO_NAT, |rule| {
        rule.connection(STATUS, REWRITTEN).verdict(ACCEPT);
    });
    routed(to);
    to.rule(TO_OPEN, |rule| {
        rule.verdict(ACCEPT);
    });
    for chain in [TO_NAT, TO_ROUTED, TO_INTERNAL, FROM_INTERNAL] {
        to.rule(chain, |rule| {
            rule.verdict(DROP);
        });
    }
}

/// Published ports of containers whose addresses are known outside, and ICMP.
fn routed(to: &mut Transaction) {
    for (v4, open, icmp) in [(true, "open4", libc::IPPROTO_ICMP), (false, "open6", libc::IPPROTO_ICMPV6)] {
        to.rule(TO_ROUTED, |rule| {
            rule.family(v4).meta(Meta::Protocol, FIRST).equals(FIRST, &[icmp as u8]).verdict(ACCEPT);
        });
        let behind = FIRST + if v4 { 1 } else { 4 };
        to.rule(TO_ROUTED, |rule| {
            rule.family(v4).destination(v4, FIRST).service(behind).within(open, FIRST).verdict(ACCEPT);
        });
    }
}

/// Input and output device, in eight registers.
fn devices<'r, 'b>(rule: &'r mut Rule<'b>) -> &'r mut Rule<'b> {
    rule.meta(Meta::InputDevice, FIRST).meta(Meta::OutputDevice, FIRST + 4)
}

/// Source addresses of packets that leave.
fn leave(to: &mut Transaction) {
    // A container that asks its own published port. Where bridges are filtered, the device it came from is not known here.
    for (v4, own) in [(true, "self4"), (false, "self6")] {
        let behind = FIRST + if v4 { 1 } else { 4 };
        to.rule("postrouting", |rule| {
            rule.connection(STATUS, REWRITTEN).family(v4);
            rule.source(v4, FIRST).destination(v4, behind).within(own, FIRST).masquerade();
        });
    }
    // A container that asks a published port of its own bridge must get the answer by way of the host.
    to.rule("postrouting", |rule| {
        rule.connection(STATUS, REWRITTEN);
        devices(rule).within("same", FIRST).masquerade();
    });
    to.rule("postrouting", |rule| {
        devices(rule).within("same", FIRST).verdict(RETURN);
    });
    // The host's loopback address means somebody else in the container.
    to.rule("postrouting", |rule| {
        rule.family(true).source(true, FIRST).mask(FIRST, &[255, 0, 0, 0]).equals(FIRST, &[127, 0, 0, 0]);
        rule.meta(Meta::OutputDevice, FIRST).within("bridges", FIRST).masquerade();
    });
    for (v4, source, nat) in [(true, "source4", "nat4"), (false, "source6", "nat6")] {
        to.rule("postrouting", |rule| {
            rule.family(v4).meta(Meta::InputDevice, FIRST).map(source, FIRST, FIRST).rewrite_source(v4);
        });
        to.rule("postrouting", |rule| {
            rule.family(v4).meta(Meta::InputDevice, FIRST).within(nat, FIRST).masquerade();
        });
    }
}
