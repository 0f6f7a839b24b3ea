//! Netlink: messages with nested attributes, many of them in one system call, and their answers. What the messages mean
//! (routes, firewall) is the business of the crates above. The kernel works through a batch while it is sent, so every
//! answer is there when `send` returns: nothing here ever waits.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, socket_with};

use crate::check;

/// A request.
pub const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
/// Answer a success too.
pub const ACK: u16 = libc::NLM_F_ACK as u16;
/// Make it if it is not there.
pub const CREATE: u16 = libc::NLM_F_CREATE as u16;
/// It must not be there.
pub const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
/// Overwrite what is there.
pub const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
/// Behind what is there (rules of a chain).
pub const APPEND: u16 = libc::NLM_F_APPEND as u16;
/// Everything that there is.
pub const DUMP: u16 = libc::NLM_F_DUMP as u16;

const HEADER: usize = 16;
/// Bytes that one receive takes: the kernel never makes a larger part of a dump.
const PART: usize = 64 << 10;
/// Bytes of a batch beyond which the socket needs a larger buffer than the kernel gives by itself.
const LARGE: usize = 128 << 10;
/// Bytes of a batch beyond which the answers may need one, and how much more room than the batch they take: each message
/// of some 60 bytes is answered by one that the kernel counts with 768 and more.
const ANSWERED: usize = 8 << 10;
const ANSWERS: usize = 32;

/// The families that are spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nf_tables and connection tracking.
    Netfilter,
}

/// Several messages that are sent at once. Attributes go to the message begun last.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where the present message begins.
    start: usize,
    count: u32,
}

impl Batch {
    /// Begins a message with its fixed header.
    pub fn message(&mut self, kind: u16, flags: u16, fixed: &[u8]) -> &mut Self {
        self.start = self.bytes.len();
        self.count += 1;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        self.bytes.extend(self.count.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend(fixed);
        self.close(self.start, 4)
    }

    /// Adds an attribute.
    pub fn put(&mut self, kind: u16, payload: &[u8]) -> &mut Self {
        self.nest_with(kind, |batch| {
            batch.bytes.extend(payload);
        })
    }

    /// Adds a text with the zero byte that ends it.
    pub fn put_text(&mut self, kind: u16, text: &str) -> &mut Self {
        self.nest_with(kind, |batch| {
            batch.bytes.extend(text.as_bytes());
            batch.bytes.push(0);
        })
    }

    /// Adds an attribute that holds others.
    pub fn nest(&mut self, kind: u16, content: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest_with(kind | libc::NLA_F_NESTED as u16, content)
    }

    /// Adds bytes as they are: a fixed header inside an attribute.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self
    }

    /// How many messages there are.
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn nest_with(&mut self, kind: u16, content: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        content(self);
        let length = u16::try_from(self.bytes.len() - at).expect("callers split lists long before 64 KiB");
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self.close(self.start, 4)
    }

    /// Pads, and writes the length of the message that begins at `start`.
    fn close(&mut self, start: usize, align: usize) -> &mut Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

/// A message that came back.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its type.
    pub kind: u16,
    /// Fixed header and attributes.
    pub body: Vec<u8>,
}

/// The first message of a batch that the kernel refused.
#[derive(Debug)]
pub struct Refusal {
    /// Its place in the batch, from 0.
    pub index: u32,
    /// Why.
    pub error: io::Error,
    /// The kernel's own words, where it had some.
    pub text: Option<String>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{text}: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl Refusal {
    /// The error's number; 0: none.
    pub fn errno(&self) -> i32 {
        self.error.raw_os_error().unwrap_or(0)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal { index: 0, error, text: None }
    }
}

/// A connection to the kernel, in the network namespace in which it was opened.
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens one in the present network namespace.
    pub fn open(family: Family) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol(family))?;
        // Refusals with the kernel's words, without the refused message. Kernels that cannot do that just do not.
        set_option(&socket, libc::NETLINK_EXT_ACK);
        set_option(&socket, libc::NETLINK_CAP_ACK);
        Ok(Socket(socket))
    }

    /// One that hears what happens in groups, given as bits, without being asked.
    pub fn listen(family: Family, groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol(family))?;
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, groups))?;
        Ok(Socket(socket))
    }

    /// Sends a batch; the first refusal is the error. Messages after a refused one of the routing family are carried
    /// out all the same.
    pub fn send(&self, batch: &Batch) -> Result<(), Refusal> {
        self.exchange(batch).map(drop)
    }

    /// Sends a batch and returns what came back: the objects that were asked for.
    pub fn exchange(&self, batch: &Batch) -> Result<Vec<Message>, Refusal> {
        if batch.bytes.len() > LARGE {
            rustix::net::sockopt::set_socket_send_buffer_size_force(&self.0, batch.bytes.len() * 2)
                .map_err(io::Error::from)?;
        }
        if batch.bytes.len() > ANSWERED {
            // Not allowed without the host's rights: then it is as large as it is.
            let size = batch.bytes.len() * ANSWERS;
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&self.0, size);
        }
        rustix::net::send(&self.0, &batch.bytes, SendFlags::empty()).map_err(io::Error::from)?;
        let (mut messages, mut refused) = (Vec::new(), None);
        let mut buffer = vec![0; PART];
        while let Some(bytes) = self.receive(&mut buffer)? {
            sort(bytes, &mut messages, &mut refused);
        }
        match refused {
            Some(refusal) => Err(refusal),
            None => Ok(messages),
        }
    }

    /// What has come in by itself. `None`: so much that the kernel had to drop some.
    pub fn heard(&self) -> io::Result<Option<Vec<Message>>> {
        let (mut messages, mut refused) = (Vec::new(), None);
        let mut buffer = vec![0; PART];
        loop {
            match self.receive(&mut buffer) {
                Ok(Some(bytes)) => sort(bytes, &mut messages, &mut refused),
                Ok(None) => return Ok(Some(messages)),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        loop {
            match rustix::net::recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => return Ok(Some(&buffer[..length])),
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn protocol(family: Family) -> Option<Protocol> {
    match family {
        Family::Route => None,
        Family::Netfilter => Some(netlink::NETFILTER),
    }
}

fn set_option(socket: &OwnedFd, option: libc::c_int) {
    let on: libc::c_int = 1;
    let (value, size) = ((&raw const on).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: `value` points to an int of `size` bytes that outlives the call.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, option, value, size) };
    let _ = check(result.into());
}

/// Takes the messages of one datagram apart.
fn sort(mut bytes: &[u8], messages: &mut Vec<Message>, refused: &mut Option<Refusal>) {
    while let Some(length) = bytes.get(..4).map(|word| word4(word) as usize) {
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= HEADER) else { return };
        let (kind, flags) = (word2(&message[4..]), word2(&message[6..]));
        let (sequence, body) = (word4(&message[8..]), &message[HEADER..]);
        match i32::from(kind) {
            libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                if let Some(refusal) = refusal(sequence, flags, body)
                    && refused.as_ref().is_none_or(|first| refusal.index < first.index)
                {
                    *refused = Some(refusal);
                }
            }
            libc::NLMSG_NOOP | libc::NLMSG_OVERRUN => {}
            _ => messages.push(Message { kind, body: body.to_owned() }),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// What an error message says; none for the acknowledgement of a success.
fn refusal(sequence: u32, flags: u16, body: &[u8]) -> Option<Refusal> {
    const ACK_TLVS: u16 = 0x200;
    const ERR_MESSAGE: u16 = 1;
    let code = word4(body.get(..4)?) as i32;
    if code >= 0 {
        return None;
    }
    // After the code comes the header of the refused message, then attributes.
    let more = if flags & ACK_TLVS != 0 { body.get(4 + HEADER..).unwrap_or_default() } else { &[] };
    let text = attributes(more).find(|(kind, _)| *kind == ERR_MESSAGE).map(|(_, value)| text(value));
    Some(Refusal { index: sequence.saturating_sub(1), error: io::Error::from_raw_os_error(-code), text })
}

/// The attributes in a message body behind its fixed header, or in another attribute. What is malformed ends the list.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(word2(bytes.get(..2)?));
        let kind = word2(bytes.get(2..4)?) & libc::NLA_TYPE_MASK as u16;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The attribute of a kind, if it is there.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A text attribute without the zero byte that ends it.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn word2(bytes: &[u8]) -> u16 {
    u16::from_ne_bytes([bytes[0], bytes[1]])
}

fn word4(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_nest_and_are_padded() {
        let mut batch = Batch::default();
        batch.message(7, ACK, &[1, 2]).put_text(3, "lo").nest(4, |batch| {
            batch.put(5, &[9]);
        });
        batch.message(8, 0, &[]);
        let length = word4(&batch.bytes) as usize;
        assert_eq!((length % 4, word2(&batch.bytes[4..])), (0, 7));
        let found: Vec<_> = attributes(&batch.bytes[HEADER + 4..length]).collect();
        assert_eq!(found[0], (3, &b"lo\0"[..]));
        assert_eq!(attribute(found[1].1, 5), Some(&[9][..]));
        assert_eq!(batch.bytes.len() - length, HEADER);
    }

    #[test]
    fn malformed_lists_end() {
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[200, 0, 1, 0, 5]).count(), 0);
        sort(&[255, 255, 255, 255, 0], &mut Vec::new(), &mut None);
    }

    #[test]
    fn the_kernel_answers() {
        let socket = Socket::open(Family::Route).unwrap();
        let mut batch = Batch::default();
        batch.message(libc::RTM_GETLINK, DUMP, &[0; 16]);
        let links = socket.exchange(&batch).unwrap();
        let name = |link: &Message| attribute(&link.body[16..], libc::IFLA_IFNAME).map(text);
        assert!(links.iter().any(|link| name(link).as_deref() == Some("lo")));
        let mut batch = Batch::default();
        batch.message(libc::RTM_GETLINK, ACK, &[0; 16]).put_text(libc::IFLA_IFNAME, "no-such-link");
        assert_eq!(socket.send(&batch).unwrap_err().errno(), libc::ENODEV);
    }
}
