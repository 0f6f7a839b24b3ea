//! The bridge of a network: made when it is first needed, and whatever is missing of it made again. One command at a
//! time does that, so the usual start only looks whether it is there.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use linux::netlink::{Batch, attribute, text};

use super::{ACK, CREATE, EXCLUSIVE, add_address, index, open, set_up};
use crate::allocate;
use crate::error::{Context as _, Error, Kind, Result};
use crate::model::Network;
use crate::subnet::Net;

/// Makes the bridge of a network unless it is there; its number, and whether it was made.
pub fn ensure(network: &Network) -> Result<(u32, bool)> {
    match index(&network.device)? {
        Some(index) => Ok((index, false)),
        None => Ok((make(network)?, true)),
    }
}

/// Makes the bridge, gives it its addresses, and lets the host forward for it.
fn make(network: &Network) -> Result<u32> {
    const STP_STATE: u16 = 5;
    const FORWARD_DELAY: u16 = 1;
    const CALL_IPTABLES: u16 = 36;
    const CALL_IP6TABLES: u16 = 37;
    let step = || format!("make the bridge {} of network {}", network.device, network.name);
    let socket = open()?;
    let mut batch = Batch::default();
    let link = batch.message(libc::RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &super::link_header(0, 0, 0));
    link.put_text(libc::IFLA_IFNAME, &network.device);
    link.put(libc::IFLA_ADDRESS, &own_mac(network));
    if let Some(mtu) = network.mtu() {
        link.put(libc::IFLA_MTU, &mtu.to_ne_bytes());
    }
    link.nest(libc::IFLA_LINKINFO, |link| {
        link.put_text(libc::IFLA_INFO_KIND, "bridge").nest(libc::IFLA_INFO_DATA, |link| {
            link.put(STP_STATE, &0_u32.to_ne_bytes()).put(FORWARD_DELAY, &0_u32.to_ne_bytes());
            if !network.icc() && is_filtered() {
                link.put(CALL_IPTABLES, &[1]).put(CALL_IP6TABLES, &[1]);
            }
        });
    });
    match socket.send(&batch) {
        // Another command was faster.
        Err(refusal) if refusal.errno() == libc::EEXIST => {}
        sent => sent.step(step)?,
    }
    let index = index(&network.device)?.ok_or_else(|| Error::internal(format!("{}: it is gone again", step())))?;
    configure(network, index)?;
    Ok(index)
}

/// Whether this kernel can lead packets between the ports of a bridge through the firewall (br_netfilter), which then
/// tells what is published from what is not.
pub(super) fn is_filtered() -> bool {
    Path::new("/proc/sys/net/bridge").exists()
}

/// Addresses and kernel parameters; may be repeated.
pub fn configure(network: &Network, index: u32) -> Result<()> {
    let mut batch = Batch::default();
    batch.message(libc::RTM_NEWLINK, ACK, &super::link_header(index, 0, 0));
    super::without_own_v6(&mut batch);
    set_up(&mut batch, index);
    if let Some(net) = gateway(network, true) {
        add_address(&mut batch, index, net);
    }
    let only_v4 = batch.len();
    if let Some(net) = gateway(network, false) {
        // Hosts may have it switched off for new devices.
        let switched = set(&format!("net/ipv6/conf/{}/disable_ipv6", network.device), "0");
        if switched.is_ok() || super::has_v6() {
            add_address(&mut batch, index, net);
            add_address(&mut batch, index, super::link_local(&own_mac(network)));
        }
    }
    match open()?.send(&batch) {
        // A kernel that speaks no IPv6 any more: containers do without.
        Err(refusal) if refusal.index >= only_v4 && super::is_without_v6(refusal.errno()) => {}
        sent => sent.step(|| format!("give the bridge {} its addresses", network.device))?,
    }
    if !network.internal {
        forward(network)?;
    }
    // Published ports are reached from the host's loopback too; the firewall lets nobody else use such addresses.
    set(&format!("net/ipv4/conf/{}/route_localnet", network.device), "1")
}

/// The bridge's address of a family, with the prefix of its range.
fn gateway(network: &Network, v4: bool) -> Option<Net> {
    let subnet = network.subnet(v4).filter(|_| network.has_bridge_address(v4))?;
    Net::new(subnet.gateway?, subnet.net.prefix)
}

/// The host forwards packets between devices.
fn forward(network: &Network) -> Result<()> {
    if network.ipv4 {
        set("net/ipv4/ip_forward", "1")?;
    }
    if network.ipv6 && super::has_v6() && !is("net/ipv6/conf/all/forwarding", "1") {
        keep_routers()?;
        set("net/ipv6/conf/default/forwarding", "1")?;
        set("net/ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// A host that forwards stops listening to routers, and loses what it learnt from them (`accept_ra` in the kernel's
/// ip-sysctl): devices that listen now are told to go on.
fn keep_routers() -> Result<()> {
    let devices = fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten();
    for device in devices.filter_map(|entry| entry.file_name().into_string().ok()) {
        let parameter = format!("net/ipv6/conf/{device}/accept_ra");
        if !matches!(device.as_str(), "all" | "lo") && is(&parameter, "1") {
            set(&parameter, "2")?;
        }
    }
    Ok(())
}

/// Whether a kernel parameter has a value.
fn is(name: &str, value: &str) -> bool {
    fs::read_to_string(Path::new("/proc/sys").join(name)).is_ok_and(|found| found.trim_end() == value)
}

/// Sets a kernel parameter of the present network namespace, unless it has the value.
pub(crate) fn set(name: &str, value: &str) -> Result<()> {
    if is(name, value) {
        return Ok(());
    }
    fs::write(Path::new("/proc/sys").join(name), value).map_err(|cause| {
        Error::internal(format!("set {} to {value}: {cause}", name.replace('/', "."))).hinted(format!(
            "/proc/sys must be writable; or set it beforehand: sysctl -w {}={value}",
            name.replace('/', ".")
        ))
    })
}

/// A MAC address that does not change with the bridge's ports.
fn own_mac(network: &Network) -> [u8; 6] {
    let ip4 = match network.gateway(true) {
        Some(IpAddr::V4(address)) => Some(address),
        _ => None,
    };
    super::mac(&allocate::mac(ip4, &network.id)).unwrap_or([2, 0x42, 0, 0, 0, 1])
}

/// Removes the bridge of a network, if it is there.
pub fn remove(network: &Network) -> Result<()> {
    let Some(index) = index(&network.device)? else { return Ok(()) };
    let mut batch = Batch::default();
    super::delete(&mut batch, index);
    match open()?.send(&batch) {
        Err(refusal) if refusal.errno() == libc::ENODEV => Ok(()),
        sent => sent.step(|| format!("remove the bridge {}", network.device)),
    }
}

/// The kind of a device (`bridge`, `veth`); none for devices of hardware, an error if there is none of that name.
pub fn kind(name: &str) -> Result<Option<String>> {
    let step = || format!("look at the device {name}");
    let mut batch = Batch::default();
    batch.message(libc::RTM_GETLINK, ACK, &super::link_header(0, 0, 0)).put_text(libc::IFLA_IFNAME, name);
    let found = match open()?.exchange(&batch) {
        Err(refusal) if refusal.errno() == libc::ENODEV => {
            return Err(Error::new(Kind::NotFound, format!("there is no device {name}")));
        }
        found => found.step(step)?,
    };
    let info = found.first().and_then(|link| attribute(link.body.get(16..)?, libc::IFLA_LINKINFO).map(<[u8]>::to_vec));
    Ok(info.and_then(|info| attribute(&info, libc::IFLA_INFO_KIND).map(text)))
}
