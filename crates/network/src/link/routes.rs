//! What the host's routing table says is in use: a new network must not take it.

use linux::netlink::{Batch, DUMP, Message, attribute};

use super::{AF_UNSPEC, open};
use crate::error::{Context as _, Result};
use crate::subnet::{Net, address};

/// The destinations of all routes of the present namespace but the default ones and what is local by nature.
pub fn destinations() -> Result<Vec<Net>> {
    Ok(all()?.iter().filter_map(|route| destination(&route.body)).filter(|net| net.prefix > 0).collect())
}

/// Whether the present namespace leads to the world outside.
pub fn has_default() -> Result<bool> {
    let leads = |route: &Message| matches!(route.body.get(..8), Some([_, 0, .., kind]) if *kind == libc::RTN_UNICAST);
    Ok(all()?.iter().any(leads))
}

fn all() -> Result<Vec<Message>> {
    let mut batch = Batch::default();
    batch.message(libc::RTM_GETROUTE, DUMP, &[AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    open()?.exchange(&batch).step(|| "read the routes of the host".to_owned())
}

/// Destination of a `struct rtmsg` with its attributes: unicast routes only.
fn destination(body: &[u8]) -> Option<Net> {
    let header = body.get(..12)?;
    if header[7] != libc::RTN_UNICAST {
        return None;
    }
    let bytes = attribute(body.get(12..)?, libc::RTA_DST)?;
    let v4 = i32::from(header[0]) == libc::AF_INET;
    let number = bytes.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let net = Net::new(address(number, v4), header[1])?;
    // fe80::/64 is on every device.
    let link_local = !v4 && number >> 118 == 0x3fa;
    (!link_local).then_some(net)
}
