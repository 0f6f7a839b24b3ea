//! Connections that become a container's streams: `attach` and `exec`. The client's bytes go to standard input until it
//! closes its sending side; output comes back raw from a terminal, in frames otherwise.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use engine::Session;
use engine::detach::Keys;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{StatusCode, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use crate::descriptor::{Descriptor, Watched, hung_up, taken};
use crate::lenient::Begun;
use crate::reply::{Body, Reply, status};
use crate::request::Request;
use crate::transport::Connection;
use crate::version::Version;

/// Bytes moved at a time.
const CHUNK: usize = 16 << 10;
/// How long the streams wait for the client to read the head of the answer: some (docker-py) read it by the buffer, and
/// lose what of the streams is in it.
const HEAD_TAKEN_WITHIN: Duration = Duration::from_millis(500);
/// Bytes of a frame's head.
const HEAD: usize = 8;

/// Which output a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Stdout = 1,
    Stderr = 2,
}

/// The head of a frame: channel, three zeros, length.
pub(crate) fn frame_head(channel: Channel, length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [channel as u8, 0, 0, 0, a, b, c, d]
}

/// How a connection is used.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    /// Whether the process has a terminal: then nothing is framed.
    pub(crate) tty: bool,
    /// What detaches, where there is a terminal.
    pub(crate) keys: Keys,
    /// Whether output is at its end when the process has ended, whoever still holds the other ends of its streams.
    pub(crate) until_exit: bool,
}

/// The answer that turns the connection over: `101` for clients that ask for it, else `200` and the streams as its body.
pub(crate) fn switch(request: &Request, tty: bool) -> Reply {
    let framed = !tty && request.version >= Version(1, 42);
    let kind = if framed { "application/vnd.docker.multiplexed-stream" } else { "application/vnd.docker.raw-stream" };
    let mut reply = status(StatusCode::SWITCHING_PROTOCOLS);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    reply
}

/// A `200` for clients that do not ask for another protocol: the streams are the body.
pub(crate) fn plain(body: Body) -> Reply {
    let mut reply = status(StatusCode::OK);
    *reply.body_mut() = body;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/vnd.docker.raw-stream"));
    reply
}

/// The connection behind an upgrade once the client has read the head of the answer, and what it sent too early.
pub(crate) async fn connection(upgraded: Upgraded) -> io::Result<(UnixStream, Vec<u8>)> {
    let parts = upgraded.downcast::<TokioIo<Begun>>().map_err(|_| io::Error::other("not a connection of ours"))?;
    let (stream, mut early) = parts.io.into_inner().into_parts();
    // What the library has read comes before what it has not.
    early.splice(0..0, parts.read_buf);
    // What is read over the network is read by the packet.
    let local = matches!(stream, Connection::Unix(_));
    let stream = stream.into_unix()?;
    if local {
        taken(&stream, HEAD_TAKEN_WITHIN).await?;
    }
    Ok((stream, early))
}

/// Moves bytes until the process has ended and everything is written, the client has gone, or it detaches.
pub(crate) async fn relay(
    mut socket: UnixStream,
    early: Vec<u8>,
    mut session: Session,
    manner: Manner,
) -> io::Result<()> {
    let gone = socket.as_fd().try_clone_to_owned()?;
    let input = session.stdin.take().map(|fd| Descriptor::new(fd, Interest::WRITABLE)).transpose()?;
    let output = |fd: Option<OwnedFd>| fd.map(|fd| Descriptor::new(fd, Interest::READABLE)).transpose();
    let (stdout, stderr) = (output(session.stdout.take())?, output(session.stderr.take())?);
    let ended = Watched::new(session.ended())?;
    let (mut from, to) = socket.split();
    let to = Mutex::new(to);
    let outputs = async {
        let all = async {
            let first = copy_out(stdout.as_ref(), &to, Channel::Stdout, manner.tty);
            let second = copy_out(stderr.as_ref(), &to, Channel::Stderr, manner.tty);
            tokio::try_join!(first, second).map(drop)
        };
        if !manner.until_exit {
            all.await?;
            return ended.readable().await;
        }
        tokio::select! {
            biased;
            done = all => { done?; ended.readable().await }
            over = ended.readable() => {
                over?;
                copy_rest(stdout.as_ref(), &to, Channel::Stdout, manner.tty).await?;
                copy_rest(stderr.as_ref(), &to, Channel::Stderr, manner.tty).await
            }
        }
    };
    let keys = manner.tty.then(|| manner.keys.clone());
    let typing = async {
        let end = copy_in(&mut from, early, input, keys).await?;
        match end {
            InputEnd::Detached => Ok(()),
            // The client may still read.
            InputEnd::Finished => hung_up(&gone).await,
        }
    };
    tokio::select! {
        done = outputs => done?,
        done = typing => done?,
    }
    socket.shutdown().await
}

/// Why input is over.
enum InputEnd {
    Finished,
    Detached,
}

/// Moves the client's bytes to standard input. Where there is none they are read all the same, to see the client go.
async fn copy_in(
    from: &mut tokio::net::unix::ReadHalf<'_>,
    early: Vec<u8>,
    mut input: Option<Descriptor>,
    mut keys: Option<Keys>,
) -> io::Result<InputEnd> {
    let mut buffer = vec![0; CHUNK];
    let mut bytes = early;
    loop {
        let detached = keys.as_mut().is_some_and(|keys| keys.filter(&mut bytes));
        // A process that does not read any more is no reason to end: it may still write.
        if let Some(stdin) = &input
            && stdin.write_all(&bytes).await.is_err()
        {
            input = None;
        }
        if detached {
            return Ok(InputEnd::Detached);
        }
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(InputEnd::Finished);
        }
        bytes.clear();
        bytes.extend_from_slice(&buffer[..count]);
    }
}

type Sink<'a, 'b> = Mutex<tokio::net::unix::WriteHalf<'b>>;

/// Moves one output until its end.
async fn copy_out(from: Option<&Descriptor>, to: &Sink<'_, '_>, channel: Channel, raw: bool) -> io::Result<()> {
    let Some(from) = from else { return Ok(()) };
    let mut buffer = vec![0; HEAD + CHUNK];
    loop {
        let count = from.read(&mut buffer[HEAD..]).await?;
        if count == 0 {
            return Ok(());
        }
        write_frame(&mut buffer, count, to, channel, raw).await?;
    }
}

/// Moves what is in one output now.
async fn copy_rest(from: Option<&Descriptor>, to: &Sink<'_, '_>, channel: Channel, raw: bool) -> io::Result<()> {
    let Some(from) = from else { return Ok(()) };
    let mut buffer = vec![0; HEAD + CHUNK];
    while let Some(count) = from.read_now(&mut buffer[HEAD..]) {
        write_frame(&mut buffer, count, to, channel, raw).await?;
    }
    Ok(())
}

/// Writes `count` bytes that stand behind the room for a head.
async fn write_frame(
    buffer: &mut [u8],
    count: usize,
    to: &Sink<'_, '_>,
    channel: Channel,
    raw: bool,
) -> io::Result<()> {
    buffer[..HEAD].copy_from_slice(&frame_head(channel, count));
    let bytes = &buffer[if raw { HEAD } else { 0 }..HEAD + count];
    to.lock().await.write_all(bytes).await
}
