//! What a network namespace needs so that the [proxy](crate::proxy) can have its clients' addresses there: answers to such
//! an address are delivered here, whatever the routes say.

use linux::netlink::{ACK, Batch, CREATE, EXCLUSIVE, Family, Socket};

use crate::error::{Context as _, Result};
use crate::firewall;

/// The mark of packets that belong to a socket with somebody else's address.
pub(crate) const MARK: u32 = 0x6b73;
/// A routing table that nobody else uses.
const TABLE: u8 = 107;
/// The loopback device, in every network namespace.
const LOOPBACK: u32 = 1;
/// `FRA_FWMARK` and `FR_ACT_TO_TBL` of `linux/fib_rules.h`.
const FRA_FWMARK: u16 = 10;
const TO_TABLE: u8 = 1;

/// Prepares the present network namespace; nothing happens if it is prepared.
///
/// # Errors
/// If the kernel lacks what it takes.
pub fn prepare() -> Result<()> {
    firewall::mark_transparent()?;
    let socket = Socket::open(Family::Route).step(|| "open a netlink socket".to_owned())?;
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let mut rule = Batch::default();
        // struct fib_rule_hdr: family, lengths, tos, table, two reserved, action, flags.
        rule.message(
            libc::RTM_NEWRULE,
            ACK | CREATE | EXCLUSIVE,
            &[family, 0, 0, 0, TABLE, 0, 0, TO_TABLE, 0, 0, 0, 0],
        );
        rule.put(FRA_FWMARK, &MARK.to_ne_bytes());
        let mut route = Batch::default();
        let header = [family, 0, 0, 0, TABLE, libc::RTPROT_BOOT, libc::RT_SCOPE_HOST, libc::RTN_LOCAL, 0, 0, 0, 0];
        route.message(libc::RTM_NEWROUTE, ACK | CREATE | EXCLUSIVE, &header);
        route.put(libc::RTA_OIF, &LOOPBACK.to_ne_bytes());
        for batch in [rule, route] {
            match socket.send(&batch) {
                Err(refusal) if refusal.errno() == libc::EEXIST => {}
                // A host without IPv6 has no clients with such addresses.
                Err(refusal) if family == libc::AF_INET6 as u8 && refusal.errno() == libc::EOPNOTSUPP => {}
                sent => sent.step(|| "route answers to the proxy's clients".to_owned())?,
            }
        }
    }
    Ok(())
}
