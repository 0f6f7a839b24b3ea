//! Starting a container later and from another process: the ready container waits at a listening socket in its state
//! directory, and whoever starts it connects there and is told how that went. Sockets instead of a FIFO, because the
//! answer (the program's `execve`, or why it failed) comes back the same way.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use linux::clone::exit;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};

use super::step::Step;
use super::{Error, channel};

/// The place where a container waits for its start.
pub struct Gate(OwnedFd);

impl Gate {
    /// Makes the socket `name` in `directory`, which only its owner may enter.
    pub fn make(directory: BorrowedFd<'_>, name: &str) -> Result<Self, Error> {
        let what = || format!("make the socket {name} in the state directory");
        let socket = socket()?;
        bind(&socket, &address(directory, name)?).step(what)?;
        listen(&socket, 1).step(what)?;
        Ok(Self(socket))
    }

    /// Child: waits until somebody comes and says that the program is to run; exits if that one dies before.
    pub(super) fn wait(&self) -> OwnedFd {
        let starter = loop {
            match accept_with(&self.0, SocketFlags::CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => exit(1),
                Ok(starter) => break starter,
            }
        };
        channel::wait_go(&starter);
        starter
    }
}

/// Connects to the container that waits at `name`; [`Starter::start`] lets it go on.
pub fn knock(directory: BorrowedFd<'_>, name: &str) -> Result<Starter, Error> {
    let socket = socket()?;
    connect(&socket, &address(directory, name)?).step(|| "reach the container that waits for its start".into())?;
    Ok(Starter(socket))
}

/// A connection to a container that waits for its start.
pub struct Starter(OwnedFd);

impl Starter {
    /// Lets the program be executed; returns once `execve` has succeeded or failed.
    pub fn start(self) -> Result<(), Error> {
        channel::go(&self.0)
    }
}

fn socket() -> Result<OwnedFd, Error> {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).step(|| "make a socket".into())
}

/// By the directory's descriptor, because addresses are at most 107 bytes long and state directories may be anywhere.
fn address(directory: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix, Error> {
    let path = format!("/proc/self/fd/{}/{name}", directory.as_fd().as_raw_fd());
    SocketAddrUnix::new(path).step(|| format!("address the socket {name}"))
}
