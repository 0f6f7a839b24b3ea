//! Handing descriptors to the caller over sockets that it listens on: the master of a terminal (`--console-socket`) and
//! the descriptor of a process (`--pidfd-socket`).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::Result;
use crate::error::Step;

/// A connection to a caller that waits for a descriptor.
pub(crate) struct Receiver {
    socket: OwnedFd,
    path: PathBuf,
}

impl Receiver {
    /// Connects at once or fails: a caller that listens and never accepts does not make us wait.
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let what = || format!("connect to the socket {}", path.display());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).step(what)?;
        // By descriptor, because addresses are at most 107 bytes long and paths are not.
        let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(what)?;
        let short = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place));
        connect(&socket, &SocketAddrUnix::new(short).step(what)?).step(what)?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// Sends one descriptor, with a text that says what it is.
    pub(crate) fn send(&self, name: &str, descriptor: impl AsFd) -> Result<()> {
        linux::socket::send(&self.socket, name.as_bytes(), &[descriptor.as_fd()])
            .step(|| format!("send {name} over the socket {}", self.path.display()))
    }
}
