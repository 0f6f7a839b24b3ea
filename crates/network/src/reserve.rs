//! The host's ports, held by real sockets: nobody else can bind what is published, and what a program of the host has
//! already is an error at once. The kernel's rules lead packets past these sockets; what they cannot do is served from
//! them elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, getsockname, ipproto, socket_with, sockopt};

use crate::error::{Error, Result};
use crate::model::{Attachment, Port, Protocol};
use crate::publish::shown;

/// A port that is held.
pub struct Reserved {
    /// The port.
    pub port: Port,
    /// The socket that holds it: bound; an IPv4 one of TCP also listens, and lets nothing in.
    pub socket: OwnedFd,
}

/// Connections that wait to be accepted: none ever is.
const BACKLOG: i32 = 1;

/// Whether the host has IPv6.
pub(crate) fn host_has_v6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

/// Holds every published port of a container.
pub fn all(attachment: &Attachment) -> Result<Vec<Reserved>> {
    let mut reserved = Vec::with_capacity(attachment.ports.len());
    if attachment.ports.len() > 256 {
        raise_descriptor_limit();
    }
    for port in attachment.ports.iter().filter(|port| port.port != 0) {
        match bind(port.protocol, port.address, port.port) {
            Ok(socket) => {
                hold(port, &socket).map_err(|errno| failure(attachment, port, errno))?;
                reserved.push(Reserved { port: *port, socket });
            }
            // Kernels without the protocol have no program that could take the port.
            Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) if port.protocol == Protocol::Sctp => {}
            Err(errno) => return Err(failure(attachment, port, errno)),
        }
    }
    Ok(reserved)
}

/// As many descriptors as the process may have at all.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If that fails, so does the socket that is one too many, with a hint.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn failure(attachment: &Attachment, port: &Port, errno: Errno) -> Error {
    let target = attachment.published(port.address.is_ipv4()).or_else(|| attachment.published(true));
    let target = target.and_then(|endpoint| endpoint.address(true).or_else(|| endpoint.address(false)));
    let target = target.map(|address| format!(":{}", shown(address))).unwrap_or_default();
    let cause = plain(errno);
    let protocol = port.protocol.name();
    let message = format!(
        "failed to bind host port {}:{}{target}:{}/{protocol}: {cause}",
        shown(port.address),
        port.port,
        port.target
    );
    let error = Error::conflict(message);
    match errno {
        Errno::ADDRINUSE => {
            let owner = crate::owner::of_port(port.protocol, port.port);
            let owner = owner.unwrap_or_else(|| "a program of the host".to_owned());
            error.hinted(format!("{owner} has it: publish on another port, or stop that program"))
        }
        Errno::ADDRNOTAVAIL => error.hinted("publish on an address that a device of the host has (ip address)"),
        Errno::MFILE | Errno::NFILE => error.hinted("raise the limit of open files (ulimit -n)"),
        _ => error,
    }
}

fn plain(errno: Errno) -> String {
    std::io::Error::from(errno).to_string()
}

/// IPv4: nobody but the kernel's rules lets anything through. IPv6 over TCP only counts as taken once it listens, which
/// whoever serves it does.
fn hold(port: &Port, socket: &OwnedFd) -> rustix::io::Result<()> {
    if !port.address.is_ipv4() {
        return Ok(());
    }
    // Before a rule is in place (or when somebody flushes them all) a packet is better dropped than answered by us.
    let _ = linux::net::drop_all(socket);
    if port.protocol == Protocol::Tcp { rustix::net::listen(socket, BACKLOG) } else { Ok(()) }
}

fn bind(protocol: Protocol, address: IpAddr, port: u16) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, Some(number))?;
    if protocol == Protocol::Tcp {
        // Connections of an earlier program that linger are no obstacle.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if !address.is_ipv4() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(address, port))?;
    Ok(socket)
}

/// Whether nobody of the host has the port at this moment.
pub(crate) fn is_free(protocol: Protocol, address: IpAddr, port: u16) -> bool {
    match bind(protocol, address, port) {
        Ok(socket) => protocol != Protocol::Tcp || rustix::net::listen(&socket, BACKLOG).is_ok(),
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT) => protocol == Protocol::Sctp,
        Err(_) => false,
    }
}

/// A port that the kernel finds free at all of these addresses.
pub(crate) fn any_free(protocol: Protocol, addresses: &[IpAddr]) -> Option<u16> {
    // A port of another protocol is as good a proposal where the kernel does not have this one.
    let socket = bind(protocol, addresses[0], 0).or_else(|_| bind(Protocol::Udp, addresses[0], 0)).ok()?;
    let port = SocketAddr::try_from(getsockname(&socket).ok()?).ok()?.port();
    drop(socket);
    addresses.iter().all(|address| is_free(protocol, *address, port)).then_some(port)
}

/// Every address of a family.
pub fn any(v4: bool) -> IpAddr {
    if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}
