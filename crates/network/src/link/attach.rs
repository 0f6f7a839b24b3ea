//! Endpoints of a container: its devices, their addresses and its routes. The devices are made from the host's side,
//! straight into the container's namespace; the rest is one batch of messages inside. The end of the namespace takes
//! everything away.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use linux::namespace::Kinds;
use linux::netlink::{ACK, Batch, CREATE, EXCLUSIVE, Socket};

use super::{
    add_address, add_default_route, add_forwarding, bandwidth, bridge, index, link_header, mac, open, parent, set_up,
};
use crate::error::{Context as _, Error, Result};
use crate::model::{Driver, Endpoint, Network};
use crate::options::sysctl_path;
use crate::subnet::Net;

/// Opens the network namespace of a process.
pub fn namespace(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/net");
    File::open(&path).map(OwnedFd::from).step(|| format!("open {path}"))
}

/// The calling thread is in another network namespace until this is dropped.
pub struct Inside(File);

impl Inside {
    /// Enters a namespace.
    pub fn enter(namespace: BorrowedFd<'_>) -> Result<Self> {
        let own = File::open("/proc/thread-self/ns/net").step(|| "open the own network namespace".to_owned())?;
        linux::namespace::join(namespace, Kinds::NETWORK).step(|| "join the network namespace".to_owned())?;
        Ok(Inside(own))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // Nothing that follows may happen in the container's namespace.
        if linux::namespace::join(self.0.as_fd(), Kinds::NETWORK).is_err() {
            std::process::abort();
        }
    }
}

/// Makes the host's side of all endpoints. Whether a bridge had to be made, which the firewall does not know yet.
pub fn outside(endpoints: &[Endpoint], namespace: BorrowedFd<'_>) -> Result<bool> {
    let (socket, mut made) = (open()?, false);
    for endpoint in endpoints {
        match endpoint.network.driver {
            Driver::Bridge => {
                let (bridge, new) = bridge::ensure(&endpoint.network)?;
                made |= new;
                pair(&socket, endpoint, bridge, namespace)?;
            }
            Driver::Macvlan | Driver::Ipvlan => sub_device(&socket, endpoint, namespace)?,
            Driver::Host | Driver::Null => {}
        }
    }
    Ok(made)
}

/// How often another name is tried for the host's end of a pair.
const ATTEMPTS: usize = 4;

/// A pair of virtual Ethernet devices: one end on the bridge, the other in the container.
fn pair(socket: &Socket, endpoint: &Endpoint, bridge: u32, namespace: BorrowedFd<'_>) -> Result<()> {
    let step = || format!("make the device {} in network {}", endpoint.device, endpoint.network.name);
    let address = endpoint_mac(endpoint)?;
    for attempt in 0..ATTEMPTS {
        let name = host_name()?;
        let mut batch = Batch::default();
        pair_message(&mut batch, &name, endpoint, &address, bridge, namespace);
        match socket.send(&batch) {
            // The end of an earlier run goes with its namespace, a moment after it.
            Err(refusal) if refusal.errno() == libc::EEXIST && attempt + 1 < ATTEMPTS => continue,
            sent => sent.step(step)?,
        }
        let port = index(&name)?.ok_or_else(|| Error::internal(format!("{}: {name} is gone again", step())))?;
        let mut batch = Batch::default();
        set_port(&mut batch, port, &endpoint.network);
        set_up(&mut batch, port);
        bandwidth::outside(&mut batch, port, endpoint);
        add_forwarding(&mut batch, port, &address);
        return socket.send(&batch).step(step);
    }
    Err(Error::internal(format!("{}: no free name", step())))
}

fn pair_message(
    batch: &mut Batch,
    name: &str,
    endpoint: &Endpoint,
    address: &[u8; 6],
    bridge: u32,
    namespace: BorrowedFd<'_>,
) {
    const VETH_INFO_PEER: u16 = 1;
    let mtu = endpoint.network.mtu();
    let put_mtu = |link: &mut Batch| {
        if let Some(mtu) = mtu {
            link.put(libc::IFLA_MTU, &mtu.to_ne_bytes());
        }
    };
    let link = batch.message(libc::RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &link_header(0, 0, 0));
    link.put_text(libc::IFLA_IFNAME, name).put(libc::IFLA_MASTER, &bridge.to_ne_bytes());
    put_mtu(link);
    link.nest(libc::IFLA_LINKINFO, |link| {
        link.put_text(libc::IFLA_INFO_KIND, "veth").nest(libc::IFLA_INFO_DATA, |link| {
            link.nest(VETH_INFO_PEER, |link| {
                link.raw(&link_header(0, 0, 0)).put_text(libc::IFLA_IFNAME, &endpoint.device);
                link.put(libc::IFLA_ADDRESS, address);
                link.put(libc::IFLA_NET_NS_FD, &(namespace.as_raw_fd() as u32).to_ne_bytes());
                put_mtu(link);
            });
        });
    });
}

/// The host's end: no addresses of its own. A container may ask its own published port, whose packets come back to where
/// they came from; where containers must not reach each other, the bridge keeps them apart, unless the firewall does.
pub(super) fn set_port(batch: &mut Batch, index: u32, network: &Network) {
    const BRPORT_HAIRPIN: u16 = 4;
    const BRPORT_ISOLATED: u16 = 33;
    batch.message(libc::RTM_NEWLINK, ACK, &link_header(index, 0, 0));
    super::without_own_v6(batch);
    batch.nest(libc::IFLA_LINKINFO, |link| {
        link.put_text(libc::IFLA_INFO_SLAVE_KIND, "bridge").nest(libc::IFLA_INFO_SLAVE_DATA, |link| {
            link.put(BRPORT_HAIRPIN, &[1]);
            link.put(BRPORT_ISOLATED, &[u8::from(!network.icc() && !bridge::is_filtered())]);
        });
    });
}

/// `veth` and seven random digits, as everybody's rules for such devices expect.
fn host_name() -> Result<String> {
    let mut bytes = [0; 4];
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    read.map_err(std::io::Error::from).step(|| "read random bytes".to_owned())?;
    Ok(format!("veth{:07x}", u32::from_ne_bytes(bytes) >> 4))
}

fn endpoint_mac(endpoint: &Endpoint) -> Result<[u8; 6]> {
    mac(&endpoint.mac).ok_or_else(|| Error::invalid(format!("invalid MAC address: {}", endpoint.mac)))
}

/// A device on top of one of the host's.
fn sub_device(socket: &Socket, endpoint: &Endpoint, namespace: BorrowedFd<'_>) -> Result<()> {
    let network = &endpoint.network;
    let step = || format!("make the device {} in network {} on {}", endpoint.device, network.name, network.device);
    let parent = parent::ensure(network)?;
    let mut batch = Batch::default();
    let link = batch.message(libc::RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &link_header(0, 0, 0));
    link.put_text(libc::IFLA_IFNAME, &endpoint.device).put(libc::IFLA_LINK, &parent.to_ne_bytes());
    link.put(libc::IFLA_NET_NS_FD, &(namespace.as_raw_fd() as u32).to_ne_bytes());
    if let Some(mtu) = network.mtu() {
        link.put(libc::IFLA_MTU, &mtu.to_ne_bytes());
    }
    if network.driver == Driver::Macvlan && network.mode() != "passthru" {
        link.put(libc::IFLA_ADDRESS, &endpoint_mac(endpoint)?);
    }
    link.nest(libc::IFLA_LINKINFO, |link| {
        link.put_text(libc::IFLA_INFO_KIND, network.driver.name());
        link.nest(libc::IFLA_INFO_DATA, |link| parent::mode(link, network));
    });
    socket.send(&batch).step(step).map_err(|error| match error.kind {
        crate::error::Kind::Unsupported => error.hinted(format!("load the kernel module {}", network.driver.name())),
        _ => error,
    })
}

/// Inside the container's namespace, which the caller has entered: addresses, routes, and the devices up.
pub fn inside(endpoints: &[Endpoint]) -> Result<()> {
    let socket = open()?;
    for endpoint in endpoints.iter().filter(|endpoint| !matches!(endpoint.network.driver, Driver::Host | Driver::Null))
    {
        let step = || format!("configure the device {} of network {}", endpoint.device, endpoint.network.name);
        let index = index(&endpoint.device)?.ok_or_else(|| Error::internal(format!("{}: it is gone", step())))?;
        let mut batch = Batch::default();
        if endpoint.network.driver == Driver::Bridge || endpoint.ip6.is_none() {
            batch.message(libc::RTM_NEWLINK, ACK, &link_header(index, 0, 0));
            super::without_own_v6(&mut batch);
        }
        set_sysctls(endpoint)?;
        set_up(&mut batch, index);
        bandwidth::inside(&mut batch, index, endpoint);
        add_family(&mut batch, endpoint, index, true);
        let only_v4 = batch.len();
        add_family(&mut batch, endpoint, index, false);
        match socket.send(&batch) {
            // A container, or a kernel, that speaks no IPv6 does without.
            Err(refusal) if refusal.index >= only_v4 && super::is_without_v6(refusal.errno()) => {}
            sent => sent.step(step)?,
        }
    }
    Ok(())
}

/// Addresses of a family, and the default route where it goes this way.
fn add_family(batch: &mut Batch, endpoint: &Endpoint, index: u32, v4: bool) {
    endpoint.addresses().filter(|net| net.is_v4() == v4).for_each(|net| add_address(batch, index, net));
    if !v4
        && endpoint.ip6.is_some()
        && endpoint.network.driver == Driver::Bridge
        && let Some(mac) = mac(&endpoint.mac)
    {
        add_address(batch, index, super::link_local(&mac));
    }
    let more = endpoint.link_local.iter().filter(|address| address.is_ipv4() == v4);
    more.for_each(|address| add_address(batch, index, single(*address)));
    add_route(batch, endpoint, index, v4);
}

fn single(address: std::net::IpAddr) -> Net {
    // Docker's prefixes of link-local addresses.
    Net { address, prefix: if address.is_ipv4() { 16 } else { 64 } }
}

/// The default route of a family, if the endpoint has it.
fn add_route(batch: &mut Batch, endpoint: &Endpoint, index: u32, v4: bool) {
    if endpoint.default_route[usize::from(!v4)] {
        let gateway = endpoint.network.gateway(v4).filter(|_| !endpoint.network.is_layer3());
        add_default_route(batch, index, v4, gateway);
    }
}

/// Gives a device the default route that another one had. The caller is in the container's namespace.
pub fn reroute(endpoint: &Endpoint) -> Result<()> {
    let Some(index) = index(&endpoint.device)? else { return Ok(()) };
    let mut batch = Batch::default();
    add_route(&mut batch, endpoint, index, true);
    let only_v4 = batch.len();
    add_route(&mut batch, endpoint, index, false);
    match open()?.send(&batch) {
        Err(refusal) if refusal.index >= only_v4 && super::is_without_v6(refusal.errno()) => Ok(()),
        sent => sent.step(|| format!("set the default route by way of {}", endpoint.device)),
    }
}

/// Kernel parameters of the device, in the present namespace: `/proc/sys/net` shows that of who looks.
fn set_sysctls(endpoint: &Endpoint) -> Result<()> {
    for pair in &endpoint.sysctls {
        let (path, value) = sysctl_path(pair, &endpoint.device)
            .ok_or_else(|| Error::invalid(format!("invalid kernel parameter of an endpoint: {pair:?}")))?;
        bridge::set(&path, value)?;
    }
    Ok(())
}

/// Removes a device from the namespace that the caller has entered, and with it the host's end.
pub fn detach(device: &str) -> Result<()> {
    let Some(index) = index(device)? else { return Ok(()) };
    let mut batch = Batch::default();
    super::delete(&mut batch, index);
    match open()?.send(&batch) {
        Err(refusal) if refusal.errno() == libc::ENODEV => Ok(()),
        sent => sent.step(|| format!("remove the device {device}")),
    }
}
