//! Small tables of their own beside the firewall's. In a container's network namespace: questions to 127.0.0.11 port 53 go to the port at which its DNS server listens,
//! and the answers come from port 53, so that the container can have a server of its own on that port. Packets are rewritten
//! one by one, without connection tracking, which would cost all of the container's traffic. In that of an ordinary user's networks: what belongs to the proxy is marked.

use linux::netlink::{Family, Socket};

use super::encode::{FIRST, Hook, Transaction};
use crate::dns::ADDRESS;
use crate::error::{Context as _, Result};
use crate::transparent::MARK;

const TABLE: &str = "kiste-dns";
const CHAIN: &str = "output";
/// Before anybody else looks.
const HOOK: Hook = Hook { kind: "filter", number: 3, priority: -300 };
const PORT: u16 = 53;
/// Protocols, and where their headers have the checksum.
const PROTOCOLS: [(u8, u32); 2] = [(libc::IPPROTO_UDP as u8, 6), (libc::IPPROTO_TCP as u8, 16)];
/// Where transport headers have the ports.
const SOURCE: u32 = 0;
const DESTINATION: u32 = 2;

/// Makes the rules in the network namespace of the calling thread.
///
/// # Errors
/// If the kernel has no nf_tables.
pub fn redirect_questions(port: u16) -> Result<()> {
    let mut to = Transaction::new(TABLE);
    to.table();
    to.chain(CHAIN, Some(&HOOK));
    to.flush_chain(CHAIN);
    for (protocol, checksum) in PROTOCOLS {
        for (field, from, into) in [(DESTINATION, PORT, port), (SOURCE, port, PORT)] {
            to.rule(CHAIN, |rule| {
                rule.family(true);
                if field == DESTINATION {
                    rule.destination(true, FIRST)
                } else {
                    rule.source(true, FIRST)
                };
                rule.equals(FIRST, &ADDRESS.octets());
                rule.port(protocol, field, from).set_port(field, into, checksum);
            });
        }
    }
    let socket = Socket::open(Family::Netfilter).step(|| "open a netlink socket".to_owned())?;
    socket.send(&to.finish()).step(|| "lead the container's questions to its name server".to_owned())
}

const PROXY_TABLE: &str = "kiste-proxy";
const PROXY_CHAIN: &str = "prerouting";
/// Before routes are looked for.
const PROXY_HOOK: Hook = Hook { kind: "filter", number: 0, priority: -150 };

/// Marks packets that arrive for sockets with an address that is not ours.
pub(crate) fn mark_transparent() -> Result<()> {
    let mut to = Transaction::new(PROXY_TABLE);
    to.table();
    to.chain(PROXY_CHAIN, Some(&PROXY_HOOK));
    to.flush_chain(PROXY_CHAIN);
    to.rule(PROXY_CHAIN, |rule| {
        rule.transparent().set_mark(MARK);
    });
    let socket = Socket::open(Family::Netfilter).step(|| "open a netlink socket".to_owned())?;
    socket.send(&to.finish()).step(|| "mark what belongs to the proxy".to_owned())
}
