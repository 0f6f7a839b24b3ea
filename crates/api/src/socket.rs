//! Where clients come from: unix sockets that we make or that systemd hands over, and TCP; and who they are.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::UnixStream;

use crate::policy::Policy;
use crate::tls::{self, TlsFiles};
use crate::transport::Connection;
use crate::{Served, server};

/// Who may connect to a socket that we make.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Group id, if another one than ours is to own it.
    pub group: Option<u32>,
}

/// A socket that clients come to, and what they may do there.
pub struct Listener {
    kind: Kind,
    /// How it is called in the log.
    name: String,
    pub(crate) policy: Policy,
}

enum Kind {
    Unix(UnixListener),
    Tcp(TcpListener, Option<Arc<ServerConfig>>),
}

impl Listener {
    /// Makes a unix socket.
    pub fn unix(path: &Path, access: Access, policy: Policy) -> io::Result<Self> {
        Ok(Listener { kind: Kind::Unix(bind(path, access)?), name: path.display().to_string(), policy })
    }

    /// Listens on TCP. Without TLS everybody who reaches the address is let in: the caller sees to that nobody can.
    pub fn tcp(address: SocketAddr, tls: Option<&TlsFiles>, policy: Policy) -> io::Result<Self> {
        let config = tls.map(tls::configuration).transpose()?;
        Ok(Listener { kind: Kind::Tcp(TcpListener::bind(address)?, config), name: address.to_string(), policy })
    }

    /// Takes over a unix socket that was opened before us (sd_listen_fds(3)).
    pub fn inherited(descriptor: OwnedFd, policy: Policy) -> io::Result<Self> {
        use rustix::net::{AddressFamily, sockopt};
        let family = sockopt::socket_domain(descriptor.as_fd()).map_err(io::Error::from);
        let listens = sockopt::socket_acceptconn(descriptor.as_fd());
        if family? != AddressFamily::UNIX || !listens? {
            return Err(io::Error::other("an inherited descriptor is no listening unix socket"));
        }
        let listener = UnixListener::from(descriptor);
        let path = listener.local_addr().ok().and_then(|address| Some(address.as_pathname()?.display().to_string()));
        let name = path.unwrap_or_else(|| "an inherited socket".to_owned());
        Ok(Listener { kind: Kind::Unix(listener), name, policy })
    }
}

/// Makes a socket at a path. One that nobody listens on any more is replaced; one that somebody does is an error.
fn bind(path: &Path, access: Access) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(data) if data.file_type().is_socket() => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there"));
            }
            std::fs::remove_file(path)?;
        }
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else than a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Until owner and mode are right nobody else may connect.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = listener?;
    if let Some(group) = access.group {
        std::os::unix::fs::chown(path, None, Some(group))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(access.mode))?;
    Ok(listener)
}

/// How long to wait when no more descriptors are to be had.
const BREATH: Duration = Duration::from_millis(100);
/// How long a client may take to agree on keys.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(30);

/// Accepts clients for ever.
pub(crate) async fn accept(listener: Listener, served: Arc<Served>) -> io::Result<()> {
    let Listener { kind, name, .. } = listener;
    match kind {
        Kind::Unix(listener) => {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::UnixListener::from_std(listener)?;
            loop {
                if let Some((stream, _)) = accepted(listener.accept().await, &served).await {
                    let peer = format!("{} on {name}", peer(&stream));
                    tokio::spawn(server::connection(Connection::Unix(stream), peer, served.clone()));
                }
            }
        }
        Kind::Tcp(listener, tls) => {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                if let Some((stream, address)) = accepted(listener.accept().await, &served).await {
                    let peer = format!("{address} on {name}");
                    tokio::spawn(greet(stream, tls.clone(), peer, served.clone()));
                }
            }
        }
    }
}

async fn accepted<T>(outcome: io::Result<T>, served: &Served) -> Option<T> {
    match outcome {
        Ok(client) => Some(client),
        Err(error) => {
            served.engines.log(&format!("accept a client: {}", engine::plain(error.to_string())));
            tokio::time::sleep(BREATH).await;
            None
        }
    }
}

/// Who a client is, as the kernel knows it.
fn peer(stream: &UnixStream) -> String {
    match stream.peer_cred() {
        Ok(peer) => format!("uid {} gid {} pid {}", peer.uid(), peer.gid(), peer.pid().unwrap_or_default()),
        Err(_) => "an unknown peer".to_owned(),
    }
}

/// Agrees on keys with a client of TCP, and serves it.
async fn greet(stream: tokio::net::TcpStream, tls: Option<Arc<ServerConfig>>, peer: String, served: Arc<Served>) {
    drop(stream.set_nodelay(true));
    let Some(config) = tls else { return server::connection(Connection::Tcp(stream), peer, served).await };
    let handshake = tokio_rustls::TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await {
        Ok(Ok(stream)) => server::connection(Connection::Tls(Box::new(stream)), peer, served).await,
        Ok(Err(error)) => served.engines.log(&format!("refused {peer}: {}", engine::plain(error.to_string()))),
        Err(_) => {}
    }
}
