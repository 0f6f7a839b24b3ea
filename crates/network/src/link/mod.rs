//! Devices, addresses and routes by rtnetlink: the messages that bridges and endpoints are made of. Which ones, and in
//! which order, is decided by the modules below.

pub mod attach;
mod bandwidth;
pub mod bridge;
pub mod parent;
pub mod repair;
pub mod routes;

use std::net::{IpAddr, Ipv6Addr};

use linux::netlink::{ACK, Batch, CREATE, EXCLUSIVE, Family, REPLACE, Socket};

use crate::error::{Context as _, Result};
use crate::subnet::Net;

/// Whether the present network namespace speaks IPv6.
pub fn has_v6() -> bool {
    let off = std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    off.is_ok_and(|off| off.trim_end() == "0")
}

/// Whether a refusal says that a device or the kernel speaks no IPv6.
fn is_without_v6(errno: i32) -> bool {
    matches!(errno, libc::EACCES | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
}

/// `IFF_UP`.
const UP: u32 = libc::IFF_UP as u32;
const AF_UNSPEC: u8 = libc::AF_UNSPEC as u8;
const AF_BRIDGE: u8 = libc::AF_BRIDGE as u8;

/// A socket for devices, addresses and routes in the present network namespace.
pub(crate) fn open() -> Result<Socket> {
    Socket::open(Family::Route).step(|| "open a netlink socket".to_owned())
}

/// The number of a device in the present network namespace; none if there is none of that name.
pub(crate) fn index(name: &str) -> Result<Option<u32>> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};
    let step = || format!("look for the device {name}");
    let io = |errno: rustix::io::Errno| std::io::Error::from(errno);
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).map_err(io).step(step)?;
    match netdevice::name_to_index(&socket, name) {
        Ok(index) => Ok(Some(index)),
        Err(rustix::io::Errno::NODEV) => Ok(None),
        Err(errno) => Err(io(errno)).step(step),
    }
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// Begins a message that makes a device, up at once.
fn new_link<'b>(batch: &'b mut Batch, name: &str) -> &'b mut Batch {
    batch
        .message(libc::RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &link_header(0, UP, UP))
        .put_text(libc::IFLA_IFNAME, name)
}

/// Begins a message that changes a device by its number, and brings it up.
fn set_up(batch: &mut Batch, index: u32) -> &mut Batch {
    batch.message(libc::RTM_NEWLINK, ACK, &link_header(index, UP, UP))
}

/// Removes a device.
fn delete(batch: &mut Batch, index: u32) {
    batch.message(libc::RTM_DELLINK, ACK, &link_header(index, 0, 0));
}

/// The kernel makes no link-local address and asks no router by itself (`IN6_ADDR_GEN_MODE_NONE`).
fn without_own_v6(batch: &mut Batch) {
    const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
    const NONE: u8 = 1;
    batch.nest(libc::IFLA_AF_SPEC, |batch| {
        batch.nest(libc::AF_INET6 as u16, |batch| {
            batch.put(IFLA_INET6_ADDR_GEN_MODE, &[NONE]);
        });
    });
}

/// Gives a device an address. IPv6 ones are used at once: nobody else can have them (`IFA_F_NODAD`).
fn add_address(batch: &mut Batch, index: u32, net: Net) {
    const NODAD: u8 = libc::IFA_F_NODAD as u8;
    let (family, bytes, flags) = octets(net.address, NODAD);
    let mut header = [family, net.prefix, flags, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    batch.message(libc::RTM_NEWADDR, ACK | CREATE | REPLACE, &header);
    batch.put(libc::IFA_LOCAL, &bytes).put(libc::IFA_ADDRESS, &bytes);
    if let (IpAddr::V4(_), 1..=30) = (net.address, net.prefix)
        && let IpAddr::V4(broadcast) = net.at(net.last())
    {
        batch.put(libc::IFA_BROADCAST, &broadcast.octets());
    }
}

/// The link-local address that belongs to a MAC address (RFC 4291, appendix A), which the kernel would first ask the
/// link about for a second (RFC 4862).
fn link_local(mac: &[u8; 6]) -> Net {
    let [a, b, c, d, e, f] = *mac;
    let interface = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Net { address: Ipv6Addr::from_bits(0xfe80_u128 << 112 | u128::from(interface)).into(), prefix: 64 }
}

/// A default route, by way of a gateway or straight into the device.
fn add_default_route(batch: &mut Batch, index: u32, v4: bool, gateway: Option<IpAddr>) {
    let family = if v4 { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let scope = if gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
    // struct rtmsg: family, destination and source length, tos, table, protocol, scope, type, flags.
    let header = [family, 0, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_BOOT, scope, libc::RTN_UNICAST, 0, 0, 0, 0];
    batch.message(libc::RTM_NEWROUTE, ACK | CREATE | REPLACE, &header).put(libc::RTA_OIF, &index.to_ne_bytes());
    if let Some(gateway) = gateway {
        batch.put(libc::RTA_GATEWAY, &octets(gateway, 0).1);
    }
}

/// The address family, the bytes of an address, and the flags that only IPv6 has.
fn octets(address: IpAddr, v6_flags: u8) -> (u8, Vec<u8>, u8) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec(), 0),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec(), v6_flags),
    }
}

/// The six bytes of a MAC address; none if it is malformed.
pub(crate) fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

/// The bridge learns at once which of its ports leads to a MAC address, even if another port had it a moment ago. Static
/// (`NUD_NOARP`): a port whose other end is not up yet cannot learn.
fn add_forwarding(batch: &mut Batch, index: u32, mac: &[u8; 6]) {
    const MASTER: u8 = libc::NTF_MASTER;
    // struct ndmsg: family, padding, device, state, flags, type.
    let mut header = [AF_BRIDGE, 0, 0, 0, 0, 0, 0, 0, 0, 0, MASTER, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&libc::NUD_NOARP.to_ne_bytes());
    batch.message(libc::RTM_NEWNEIGH, ACK | CREATE | REPLACE, &header).put(libc::NDA_LLADDR, mac);
}
