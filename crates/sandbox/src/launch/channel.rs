//! What parent and child tell each other while a process is being made: a few typed messages over one pair of sockets.
//! The child's end is closed by a successful `execve`, which is how the parent learns of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use super::step::Step;
use linux::clone::exit as clone_exit;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Error;

/// Longest text of an error; long paths are cut, nothing else comes near.
const LIMIT: usize = 16 << 10;

/// From child to parent.
pub(super) enum Report {
    /// Everything is in place. The user and group that the program will run as, in the container's numbers; with the
    /// master of its terminal, if it has one.
    Ready { uid: u32, gid: u32, terminal: Option<OwnedFd> },
    /// The descriptor of the real child, which an intermediate process has made.
    Child(OwnedFd),
    /// A mount that was made in another mount namespace.
    Made(OwnedFd),
    /// The child is in its network namespace, into which devices can be moved.
    Devices,
    /// Number of the descriptor, in the child, of its filter's listener.
    Listener(i32),
    /// The child is in a new time namespace that nobody has entered: its clocks can be set.
    Clocks,
    /// The mounts are made and the old root is still there: the moment of the hooks that run outside.
    Hooks,
    /// The end of the other side without an error: after [`go`], the program runs.
    Gone,
}

/// Child: waits until the parent has done what only it can (id maps, clocks).
pub(super) fn wait_done(socket: &OwnedFd) {
    expect(socket, b'd');
}

/// Parent: what the child waits for is done.
pub(super) fn done(socket: &OwnedFd) -> Result<(), Error> {
    linux::socket::send(socket, b"d", &[]).step(|| "tell the child to go on".into())
}

/// Child: asks for its clocks to be set.
pub(super) fn ask_for_clocks(socket: &OwnedFd) -> Result<(), Error> {
    linux::socket::send(socket, b"t", &[]).step(|| "ask for clocks".into())?;
    wait_done(socket);
    Ok(())
}

/// Child: asks for the network devices that are to be moved to it.
pub(super) fn ask_for_devices(socket: &OwnedFd) -> Result<(), Error> {
    linux::socket::send(socket, b"n", &[]).step(|| "ask for network devices".into())?;
    wait_done(socket);
    Ok(())
}

/// Child: tells of its filter's listener, which stays open until the program is executed.
pub(super) fn listener(socket: &OwnedFd, listener: OwnedFd) -> Result<(), Error> {
    let mut message = [b's', 0, 0, 0, 0];
    message[1..].copy_from_slice(&listener.into_raw_fd().to_ne_bytes());
    rustix::io::write(socket, &message).step(|| "tell of the filter's listener".into()).map(drop)
}

/// Child: lets the hooks run that run outside.
pub(super) fn ask_for_hooks(socket: &OwnedFd) -> Result<(), Error> {
    linux::socket::send(socket, b"h", &[]).step(|| "ask for hooks".into())?;
    wait_done(socket);
    Ok(())
}

/// Parent: goes away; somebody else will [`go`].
pub(super) fn leave(socket: &OwnedFd) -> Result<(), Error> {
    linux::socket::send(socket, b"l", &[]).step(|| "leave the container's process, which has ended".into())
}

/// Parent: lets the program be executed; returns once it was, or why it was not.
pub(super) fn go(socket: &OwnedFd) -> Result<(), Error> {
    linux::socket::send(socket, b"g", &[]).step(|| "start the container's process, which has ended".into())?;
    match receive(socket)? {
        Report::Gone => Ok(()),
        _ => Err(Error::Step("start: unexpected message from the child".into())),
    }
}

/// Child: waits for [`go`]; exits if the parent has died.
pub(super) fn wait_go(socket: &OwnedFd) {
    expect(socket, b'g');
}

/// Child: waits for [`go`] (true) or [`leave`] (false); exits if the parent has died.
pub(super) fn wait_go_or_leave(socket: &OwnedFd) -> bool {
    match linux::socket::receive(socket, 1) {
        Ok(Some((message, _))) if message == b"g" => true,
        Ok(Some((message, _))) if message == b"l" => false,
        _ => clone_exit(1),
    }
}

/// Child: waits for one message; without a parent there is nothing left to do.
fn expect(socket: &OwnedFd, wanted: u8) {
    match linux::socket::receive(socket, 1) {
        Ok(Some((message, _))) if message == [wanted] => {}
        _ => clone_exit(1),
    }
}

/// Parent: passes prepared descriptors, in as many messages as it takes.
pub(super) fn send_fds(socket: &OwnedFd, fds: &[OwnedFd]) -> Result<(), Error> {
    for part in fds.chunks(linux::socket::MAX_FDS) {
        let part: Vec<BorrowedFd<'_>> = part.iter().map(AsFd::as_fd).collect();
        linux::socket::send(socket, b"f", &part).step(|| "pass the prepared mounts to the child".into())?;
    }
    Ok(())
}

/// Child: takes `count` descriptors.
pub(super) fn receive_fds(socket: &OwnedFd, count: usize) -> Result<Vec<OwnedFd>, Error> {
    let mut fds = Vec::with_capacity(count);
    while fds.len() < count {
        match linux::socket::receive(socket, 1).step(|| "receive the prepared mounts".into())? {
            Some((message, some)) if message == b"f" && !some.is_empty() => fds.extend(some),
            _ => clone_exit(1),
        }
    }
    Ok(fds)
}

/// Child: everything is in place.
pub(super) fn ready(socket: &OwnedFd, uid: u32, gid: u32, terminal: Option<OwnedFd>) -> Result<(), Error> {
    let mut message = vec![b'r'];
    message.extend(uid.to_ne_bytes());
    message.extend(gid.to_ne_bytes());
    let fds: Vec<BorrowedFd<'_>> = terminal.iter().map(AsFd::as_fd).collect();
    linux::socket::send(socket, &message, &fds).step(|| "report readiness".into())
}

/// Intermediate process: hands over the real child. Not its number, which counts in the namespace of the intermediate
/// process.
pub(super) fn child(socket: &OwnedFd, child: &linux::clone::Child) -> Result<(), Error> {
    linux::socket::send(socket, b"c", &[child.pidfd.as_fd()]).step(|| "hand over the child".into())
}

/// Maker of a mount: hands it over.
pub(super) fn made(socket: &OwnedFd, tree: BorrowedFd<'_>) -> Result<(), Error> {
    linux::socket::send(socket, b"o", &[tree]).step(|| "hand over the mount".into())
}

/// Child: reports a failure. If even that fails, the parent sees the child's end.
pub(super) fn fail(socket: &OwnedFd, error: &Error) {
    let (kind, text) = match error {
        Error::CommandNotFound(text) => (b'N', text),
        Error::NotExecutable(text) => (b'X', text),
        Error::Invalid(text) => (b'I', text),
        Error::Hook(text) => (b'H', text),
        Error::Step(text) => (b'S', text),
        Error::NotRunning => (b'S', &error.to_string()),
    };
    let mut message = vec![kind];
    message.extend(text.bytes().take(LIMIT - 1));
    let _ = linux::socket::send(socket, &message, &[]);
}

/// Parent: the child's next report; its failure as an error.
pub(super) fn receive(socket: &OwnedFd) -> Result<Report, Error> {
    // A child that ends without having read all of our messages resets the connection once; what it said is still there.
    let received = match linux::socket::receive(socket, LIMIT) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => linux::socket::receive(socket, LIMIT),
        other => other,
    };
    let received = received.step(|| "hear from the child".into())?;
    let Some((message, fds)) = received else { return Ok(Report::Gone) };
    let number = |at: usize| message.get(at..at + 4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    let text = || String::from_utf8_lossy(&message[1..]).into_owned();
    let mut fds = fds.into_iter();
    match (message[0], number(1), number(5)) {
        (b'r', Some(uid), Some(gid)) => Ok(Report::Ready { uid, gid, terminal: fds.next() }),
        (b'c', ..) if let Some(pidfd) = fds.next() => Ok(Report::Child(pidfd)),
        (b'o', ..) if let Some(tree) = fds.next() => Ok(Report::Made(tree)),
        (b's', Some(fd), _) => Ok(Report::Listener(fd as i32)),
        (b'n', ..) => Ok(Report::Devices),
        (b't', ..) => Ok(Report::Clocks),
        (b'h', ..) => Ok(Report::Hooks),
        (b'N', ..) => Err(Error::CommandNotFound(text())),
        (b'X', ..) => Err(Error::NotExecutable(text())),
        (b'I', ..) => Err(Error::Invalid(text())),
        (b'H', ..) => Err(Error::Hook(text())),
        (b'S', ..) => Err(Error::Step(text())),
        _ => Err(Error::Step("malformed message from the child".into())),
    }
}

/// Parent: an error that the child has sent before it ended; never waits.
pub(super) fn pending(socket: &OwnedFd) -> Option<Error> {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(1) => receive(socket).err(),
        _ => None,
    }
}
