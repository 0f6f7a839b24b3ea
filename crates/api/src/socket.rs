//! Where clients come from: a unix socket that we make, or sockets that systemd hands over; and who they are.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::{Served, server};

/// Who may connect to a socket that we make.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Group id, if another one than ours is to own it.
    pub group: Option<u32>,
}

/// Makes a socket at a path. One that nobody listens on any more is replaced; one that somebody does is an error.
pub fn bind(path: &Path, access: Access) -> io::Result<UnixListener> {
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

/// Takes over sockets that were opened before us (sd_listen_fds(3)).
pub fn inherited(descriptors: Vec<OwnedFd>) -> Vec<UnixListener> {
    descriptors.into_iter().map(UnixListener::from).collect()
}

pub(crate) fn to_runtime(listener: UnixListener) -> io::Result<tokio::net::UnixListener> {
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

/// How long to wait when no more descriptors are to be had.
const BREATH: Duration = Duration::from_millis(100);

/// Accepts clients for ever.
pub(crate) async fn accept(listener: tokio::net::UnixListener, served: Arc<Served>) -> io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(server::connection(stream, served.clone()))),
            Err(error) => {
                served.engines.log(&format!("accept a client: {}", engine::plain(error.to_string())));
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}
