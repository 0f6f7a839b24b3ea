//! Descriptors of any kind (pipes, terminals, epoll sets) for the runtime to wait on.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Hands a descriptor to the runtime. It is owned, so it stays the same until it is given back.
#[allow(deprecated, reason = "the successor leaves to the caller what the type of an owned descriptor proves")]
fn register(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, interest)
}

/// A stream's descriptor, non-blocking from here on.
pub(crate) struct Descriptor(AsyncFd<OwnedFd>);

impl Descriptor {
    /// Takes over an end of a pipe or a terminal.
    pub(crate) fn new(descriptor: OwnedFd, interest: Interest) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&descriptor)?;
        rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?;
        Ok(Descriptor(register(descriptor, interest)?))
    }

    /// Reads once; 0 at the end. A terminal that nobody has open any more is at its end.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut *buffer)?)).await;
        match read {
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
            read => read,
        }
    }

    /// Reads what is there now; none if there is nothing.
    pub(crate) fn read_now(&self, buffer: &mut [u8]) -> Option<usize> {
        rustix::io::read(self.0.get_ref(), buffer).ok().filter(|count| *count > 0)
    }

    /// Writes all of it.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.0.async_io(Interest::WRITABLE, |fd| Ok(rustix::io::write(fd, bytes)?)).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }
}

/// A descriptor of the engine's that says when to look again.
pub(crate) struct Watched(AsyncFd<OwnedFd>);

impl Watched {
    /// Waits on behalf of the owner of `source`.
    pub(crate) fn new(source: impl AsFd) -> io::Result<Self> {
        let copy = source.as_fd().try_clone_to_owned()?;
        Ok(Watched(register(copy, Interest::READABLE)?))
    }

    /// Comes back when the descriptor is readable.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        loop {
            let mut guard = self.0.readable().await?;
            if is_ready(self.0.get_ref(), PollFlags::IN) {
                return Ok(());
            }
            guard.clear_ready();
        }
    }
}

/// Comes back when the peer of a socket has read everything, or has had `patience` to do so.
pub(crate) async fn taken(socket: &impl AsFd, patience: Duration) -> io::Result<()> {
    let socket = register(socket.as_fd().try_clone_to_owned()?, Interest::WRITABLE)?;
    let waiting = async {
        // Each time that it reads there is more room than before.
        while engine::unread(socket.get_ref())? > 0 {
            let mut guard = socket.writable().await?;
            if engine::unread(socket.get_ref())? > 0 {
                guard.clear_ready();
            }
        }
        Ok(())
    };
    tokio::time::timeout(patience, waiting).await.unwrap_or(Ok(()))
}

/// Comes back when the peer of a socket has gone altogether; one that only has finished sending is still there.
pub(crate) async fn hung_up(socket: &OwnedFd) -> io::Result<()> {
    let socket = register(socket.try_clone()?, Interest::WRITABLE)?;
    loop {
        let mut guard = socket.writable().await?;
        if is_ready(socket.get_ref(), PollFlags::empty()) {
            return Ok(());
        }
        guard.clear_ready();
    }
}

/// Whether one of these, an error or a hang-up is there now.
fn is_ready(descriptor: impl AsFd, flags: PollFlags) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(&descriptor, flags)], Some(&now)), Ok(1..))
}
