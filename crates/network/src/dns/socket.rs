//! The server's sockets: those on which the container asks, in the container's network namespace, and those by which
//! other servers are asked, in the host's or there.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use linux::namespace::{Kinds, join};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::upstream::ADDRESS;

/// Where the container's questions arrive: 127.0.0.11, at a port that its own servers do not want.
#[derive(Debug)]
pub struct Sockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

/// Tries to find a port that is free for both protocols.
const ATTEMPTS: usize = 32;

impl Sockets {
    /// Opens them in the network namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let mut taken = None;
        for _ in 0..ATTEMPTS {
            let udp = UdpSocket::bind(SocketAddrV4::new(ADDRESS, 0))?;
            match TcpListener::bind(udp.local_addr()?) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = Some(error),
                tcp => return Self::finish(udp, tcp?),
            }
        }
        Err(taken.unwrap_or_else(|| Errno::ADDRINUSE.into()))
    }

    fn finish(udp: UdpSocket, tcp: TcpListener) -> io::Result<Self> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Sockets { udp, tcp })
    }

    /// From descriptors that somebody else has opened with [`Sockets::open`], the datagram socket first.
    pub fn from_descriptors(udp: OwnedFd, tcp: OwnedFd) -> Self {
        Sockets { udp: udp.into(), tcp: tcp.into() }
    }

    /// To hand them over.
    pub fn into_descriptors(self) -> [OwnedFd; 2] {
        [self.udp.into(), self.tcp.into()]
    }

    /// The port of both.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.udp.local_addr()?.port())
    }
}

/// The network namespace of another for a while, the calling thread's own again when dropped.
#[derive(Debug)]
pub struct Visit {
    own: OwnedFd,
}

impl Visit {
    /// Enters `target`, of which a descriptor is given.
    pub fn begin(target: BorrowedFd<'_>) -> io::Result<Self> {
        let own = rustix::fs::openat(CWD, "/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        join(target, Kinds::NETWORK)?;
        Ok(Visit { own })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if join(self.own.as_fd(), Kinds::NETWORK).is_err() {
            // Going on in the wrong network would be worse than not going on.
            std::process::abort();
        }
    }
}

/// How other servers are reached.
#[derive(Debug, Default)]
pub(super) struct Dialer {
    /// The container's network namespace, if they are asked from there.
    pub(super) inside: Option<OwnedFd>,
}

impl Dialer {
    /// A socket that sends datagrams to `server` and takes those of nobody else.
    pub(super) fn udp(&self, server: SocketAddr) -> io::Result<OwnedFd> {
        let socket = self.socket(server, SocketType::DGRAM)?;
        connect(&socket, &server)?;
        Ok(socket)
    }

    /// A connection to `server` that is being made.
    pub(super) fn tcp(&self, server: SocketAddr) -> io::Result<OwnedFd> {
        let socket = self.socket(server, SocketType::STREAM)?;
        match connect(&socket, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(errno) => Err(errno.into()),
        }
    }

    fn socket(&self, server: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let _visit = self.inside.as_ref().map(|inside| Visit::begin(inside.as_fd())).transpose()?;
        Ok(socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
    }
}
