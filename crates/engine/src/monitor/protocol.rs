//! What is said over a monitor's socket: one message a packet (`SOCK_SEQPACKET`), a version byte and one JSON document,
//! descriptors beside it (`SCM_RIGHTS`). Both ends may be of different builds: a monitor lives as long as its container.
//! Who may say what, and what follows from it, is decided elsewhere.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::RestartPolicy;
use crate::{Context, Error, Result};

/// First byte of every message. A change that an older peer cannot understand gets a new number.
const VERSION: u8 = 1;
/// Longest message in bytes; longer ones are refused.
const LONGEST: usize = 16 << 10;
/// Most descriptors that come with one message.
const DESCRIPTORS: usize = 3;

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// The first message to a new monitor, with the run lock beside it.
    Begin {
        /// Take over a process whose monitor has died, instead of starting one.
        adopt: bool,
        /// Streams that the starting client wants.
        attach: Option<Streams>,
        /// Rows and columns of the terminal.
        console: Option<(u16, u16)>,
    },
    /// Connect to the streams; the connection then only carries the end.
    Attach(Streams),
    /// Set the terminal's size.
    Resize { rows: u16, columns: u16 },
    /// Send a signal to the first process.
    Signal { signal: i32 },
    /// Send a signal on a user's behalf: one that means the end stops restarts too.
    Kill { signal: i32 },
    /// Ask the process to end, force it after `timeout` seconds (negative: never; absent: the container's own).
    Stop { signal: Option<i32>, timeout: Option<i64> },
    /// Freeze.
    Pause,
    /// Thaw.
    Unpause,
    /// Say when the run is over. `next`: when the present process ends, though it be restarted.
    Wait { next: bool },
    /// From now on this happens at the end.
    UpdateRestart(RestartPolicy),
    /// The container has another name now.
    Renamed { name: String },
}

/// What the monitor answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Done as asked. To `Begin` and `Attach`: the descriptors beside it are the streams asked for, in the order
    /// stdin, stdout, stderr, without those that the container does not have.
    Done {
        #[serde(default)]
        streams: Streams,
    },
    /// Not done.
    Failed(Error),
    /// The process has ended, and all that follows from it is done.
    Ended { code: i32 },
    /// The monitor disconnects this client, which did not read what it was sent.
    Dropped { reason: String },
}

impl Answer {
    pub(crate) fn done() -> Self {
        Answer::Done { streams: Streams::default() }
    }
}

/// A pair of connected sockets.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .step(|| "make a pair of sockets".to_owned())
}

/// Connects to the socket `monitor.sock` in a state directory; none if nobody listens there.
pub(crate) fn connect(directory: &Path) -> Result<Option<OwnedFd>> {
    let Some(address) = address(directory)? else { return Ok(None) };
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .step(|| "make a socket".to_owned())?;
    match rustix::net::connect(&socket, &address.1) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::NOENT | Errno::CONNREFUSED) => Ok(None),
        Err(errno) => Err(Error::internal(format!("connect to {}/monitor.sock: {errno}", directory.display()))),
    }
}

/// Listens on `monitor.sock` in a state directory, for this user alone.
pub(crate) fn listen(directory: &Path) -> Result<OwnedFd> {
    let step = || format!("listen on {}/monitor.sock", directory.display());
    match std::fs::remove_file(directory.join("monitor.sock")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).step(step),
        _ => {}
    }
    let Some(address) = address(directory)? else { return Err(Errno::NOENT).step(step) };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).step(step)?;
    // The mode of the socket itself becomes that of the file, so there is no moment at which others could connect.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).step(step)?;
    rustix::net::bind(&socket, &address.1).step(step)?;
    rustix::net::listen(&socket, 64).step(step)?;
    Ok(socket)
}

/// The socket's address by way of a descriptor of its directory: a path may be longer than the 107 bytes of `sun_path`.
fn address(directory: &Path) -> Result<Option<(OwnedFd, SocketAddrUnix)>> {
    use std::os::fd::AsRawFd;
    let handle = match rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        handle => handle.step(|| format!("open {}", directory.display()))?,
    };
    let path = format!("/proc/self/fd/{}/monitor.sock", handle.as_raw_fd());
    let address = SocketAddrUnix::new(path).step(|| "make a socket address".to_owned())?;
    Ok(Some((handle, address)))
}

/// Sends one message with at most three descriptors.
pub(crate) fn send<T: Serialize>(socket: impl AsFd, message: &T, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let step = || "send to the peer of a monitor's socket".to_owned();
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, message).step(step)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Error::internal("too many descriptors in one message"));
    }
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return sent.map(|_| ()).step(step),
        }
    }
}

/// What came from a socket.
pub(crate) enum Received<T> {
    /// A message with its descriptors.
    Message(T, Vec<OwnedFd>),
    /// Nothing at the moment (non-blocking sockets only).
    Nothing,
    /// The peer is gone.
    Closed,
}

/// Receives one message.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd, flags: RecvFlags) -> Result<Received<T>> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let result = loop {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        match rustix::net::recvmsg(&socket, &mut slices, &mut control, flags | RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            Err(Errno::CONNRESET | Errno::PIPE) => return Ok(Received::Closed),
            result => break result.step(|| "receive from a monitor's socket".to_owned())?,
        }
    };
    let descriptors = control
        .drain()
        .filter_map(|message| if let RecvAncillaryMessage::ScmRights(list) = message { Some(list) } else { None })
        .flatten()
        .collect();
    if result.flags.contains(ReturnFlags::TRUNC) {
        return Err(Error::invalid(format!("a message on a monitor's socket is longer than {LONGEST} bytes")));
    }
    decode(&bytes[..result.bytes], descriptors)
}

fn decode<T: DeserializeOwned>(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<Received<T>> {
    match bytes.split_first() {
        None => Ok(Received::Closed),
        Some((&VERSION, json)) => {
            let message = serde_json::from_slice(json)
                .map_err(|cause| Error::invalid(format!("a message on a monitor's socket is malformed: {cause}")))?;
            Ok(Received::Message(message, descriptors))
        }
        Some((version, _)) => Err(Error::invalid(format!(
            "the peer on a monitor's socket speaks version {version} of the protocol, this one speaks {VERSION}"
        ))
        .hinted("the container was started by another version of kiste: stop and start it once with that version")),
    }
}

/// Waits for an answer on a blocking socket; none if the monitor is gone.
pub(crate) fn answer(socket: impl AsFd) -> Result<Option<(Answer, Vec<OwnedFd>)>> {
    match receive(socket, RecvFlags::empty())? {
        Received::Message(answer, descriptors) => Ok(Some((answer, descriptors))),
        Received::Nothing | Received::Closed => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_descriptors() {
        let (here, there) = pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        send(&here, &Request::Wait { next: true }, &[file.as_fd()]).unwrap();
        match receive::<Request>(&there, RecvFlags::empty()).unwrap() {
            Received::Message(request, descriptors) => {
                assert_eq!(request, Request::Wait { next: true });
                assert_eq!(descriptors.len(), 1);
            }
            _ => panic!("no message"),
        }
        drop(here);
        assert!(matches!(receive::<Request>(&there, RecvFlags::empty()).unwrap(), Received::Closed));
    }

    #[test]
    fn garbage_is_refused() {
        let (here, there) = pair().unwrap();
        for bytes in [&b"\x01{"[..], b"\x02{}", b"\x01\"nonsense\""] {
            rustix::net::send(&here, bytes, SendFlags::empty()).unwrap();
            assert!(receive::<Request>(&there, RecvFlags::empty()).is_err());
        }
    }

    #[test]
    fn a_socket_below_a_long_path_listens_and_connects() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("x".repeat(120));
        std::fs::create_dir(&long).unwrap();
        assert!(connect(&long).unwrap().is_none());
        let _listener = listen(&long).unwrap();
        assert!(connect(&long).unwrap().is_some());
    }
}
