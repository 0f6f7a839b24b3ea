//! An endpoint that somebody has taken apart by hand: its device made again, or tied to its bridge again.

use std::os::fd::BorrowedFd;

use linux::netlink::{ACK, Batch, attribute};

use super::attach::{self, Inside};
use super::{add_forwarding, bridge, index, link_header, mac, open, set_up};
use crate::error::{Context as _, Result};
use crate::model::{Driver, Endpoint};

/// Makes an endpoint whole; nothing happens where it is.
pub fn endpoint(endpoint: &Endpoint, namespace: BorrowedFd<'_>) -> Result<()> {
    let one = std::slice::from_ref(endpoint);
    let inside = Inside::enter(namespace)?;
    let outer = outer_end(&endpoint.device)?;
    drop(inside);
    match outer {
        None => {
            attach::outside(one, namespace)?;
            let _inside = Inside::enter(namespace)?;
            attach::inside(one)
        }
        Some(outer) if endpoint.network.driver == Driver::Bridge => tie(endpoint, outer),
        Some(_) => Ok(()),
    }
}

/// The number of the other end of a device of the present namespace; none if the device is not there.
fn outer_end(device: &str) -> Result<Option<u32>> {
    let Some(index) = index(device)? else { return Ok(None) };
    let mut batch = Batch::default();
    batch.message(libc::RTM_GETLINK, ACK, &link_header(index, 0, 0));
    let found = open()?.exchange(&batch).step(|| format!("look at the device {device}"))?;
    let number = |bytes: &[u8]| bytes.try_into().map(u32::from_ne_bytes).ok();
    let body = found.first().and_then(|link| link.body.get(16..));
    Ok(Some(body.and_then(|body| attribute(body, libc::IFLA_LINK)).and_then(number).unwrap_or(0)))
}

/// Ties the host's end of a pair to the bridge.
fn tie(endpoint: &Endpoint, port: u32) -> Result<()> {
    let (bridge, _) = bridge::ensure(&endpoint.network)?;
    let mut batch = Batch::default();
    batch.message(libc::RTM_NEWLINK, ACK, &link_header(port, 0, 0)).put(libc::IFLA_MASTER, &bridge.to_ne_bytes());
    attach::set_port(&mut batch, port, &endpoint.network);
    set_up(&mut batch, port);
    if let Some(mac) = mac(&endpoint.mac) {
        add_forwarding(&mut batch, port, &mac);
    }
    open()?.send(&batch).step(|| format!("tie the device {} to {}", endpoint.device, endpoint.network.device))
}
