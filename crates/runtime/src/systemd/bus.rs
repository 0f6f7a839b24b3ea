//! A connection to a message bus: authentication, calls with their answers, one awaited signal. Blocking and without
//! threads, because a container's first process is a copy of the caller's single-threaded process; every wait ends at
//! a deadline. What is called is [`unit`](super::unit)'s.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::value::{Value, decode, pad};
use crate::error::Step;
use crate::{Error, Result};

/// How long a manager under load may take to answer, and to finish a job (as runc).
const PATIENCE: Duration = Duration::from_secs(30);

/// Largest message that is read, in bytes.
const LIMIT: usize = 1 << 20;

/// The bytes before the header's fields.
const FIXED: usize = 16;

const ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };

/// Types of messages.
const CALL: u8 = 1;
const ANSWER: u8 = 2;
const FAILURE: u8 = 3;
const SIGNAL: u8 = 4;

/// Fields of headers.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const ANSWERS: u8 = 5;
const DESTINATION: u8 = 6;
const BODY_TYPES: u8 = 8;

/// Where a manager can be reached.
pub(super) enum Place {
    /// The bus that everybody is on.
    Bus(PathBuf),
    /// The manager's own socket: nobody else is there.
    Private(PathBuf),
}

/// Which method of which object.
pub(super) struct Method<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// Why a call has no answer.
pub(super) struct Failure {
    /// As `org.freedesktop.systemd1.NoSuchUnit`; empty if the connection failed.
    pub(super) name: String,
    pub(super) text: String,
}

/// A signal: its member and its values.
pub(super) struct Signal {
    pub(super) member: String,
    pub(super) values: Vec<Value>,
}

/// An open connection.
pub(super) struct Bus {
    socket: UnixStream,
    shared: bool,
    serial: u32,
    signals: VecDeque<Signal>,
}

impl Bus {
    /// Connects and introduces itself.
    pub(super) fn connect(place: &Place) -> Result<Self> {
        let (Place::Bus(path) | Place::Private(path)) = place;
        let what = || format!("connect to the message bus at {}", path.display());
        let shared = matches!(place, Place::Bus(_));
        let mut bus = Self { socket: open(path).step(what)?, shared, serial: 0, signals: VecDeque::new() };
        bus.authenticate().step(what)?;
        if shared {
            let hello = Method {
                destination: "org.freedesktop.DBus",
                path: "/org/freedesktop/DBus",
                interface: "org.freedesktop.DBus",
                member: "Hello",
            };
            bus.call(&hello, &[]).map_err(|failure| failure.during(what()))?;
        }
        Ok(bus)
    }

    /// Whether others are on it, so that we are only told what we ask for.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Who we are is known from the socket (`EXTERNAL`). No id is named: in a user namespace it would be the wrong one.
    fn authenticate(&mut self) -> io::Result<()> {
        self.socket.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\n")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.line(deadline)?;
            match line.split(' ').next().unwrap_or_default() {
                "DATA" => {}
                "OK" => return self.socket.write_all(b"BEGIN\r\n"),
                _ => return Err(io::Error::new(ErrorKind::PermissionDenied, format!("refused: {line}"))),
            }
        }
    }

    /// Byte by byte: what follows the last line belongs to messages.
    fn line(&mut self, deadline: Instant) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < 4096 {
            line.extend(self.read(1, deadline)?);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Calls a method and waits for its answer.
    pub(super) fn call(
        &mut self,
        method: &Method<'_>,
        arguments: &[Value],
    ) -> std::result::Result<Vec<Value>, Failure> {
        let deadline = Instant::now() + PATIENCE;
        self.serial += 1;
        self.socket.write_all(&encode(self.serial, method, arguments)).map_err(broken)?;
        loop {
            let message = self.message(deadline).map_err(broken)?;
            match (message.kind, message.number(ANSWERS)) {
                (ANSWER, Some(serial)) if serial == self.serial => return message.values().ok_or_else(malformed),
                (FAILURE, Some(serial)) if serial == self.serial => return Err(message.failure()),
                _ => self.signals.extend(message.signal()),
            }
        }
    }

    /// The next signal.
    pub(super) fn signal(&mut self, deadline: Instant) -> io::Result<Signal> {
        loop {
            if let Some(signal) = self.signals.pop_front() {
                return Ok(signal);
            }
            let message = self.message(deadline)?;
            self.signals.extend(message.signal());
        }
    }

    fn message(&mut self, deadline: Instant) -> io::Result<Message> {
        let mut header = self.read(FIXED, deadline)?;
        let number = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (body, fields) = (number(4) as usize, number(12) as usize);
        if header[0] != ORDER || body > LIMIT || fields > LIMIT {
            return Err(io::Error::new(ErrorKind::InvalidData, "a malformed message"));
        }
        header.extend(self.read(fields.next_multiple_of(8), deadline)?);
        let body = self.read(body, deadline)?;
        let fields = decode("a(yv)", &header, 12).and_then(|mut values| values.pop());
        match fields {
            Some(Value::Array(_, fields)) => Ok(Message { kind: header[1], fields, body }),
            _ => Err(io::Error::new(ErrorKind::InvalidData, "a malformed message")),
        }
    }

    fn read(&mut self, count: usize, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let mut have = 0;
        while have < count {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.read(&mut bytes[have..]) {
                Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed")),
                Ok(more) => have += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(io::Error::new(ErrorKind::TimedOut, "no answer in 30 seconds"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }
}

/// Writing ends at the deadline too: a bus that does not read must not hold us.
fn open(path: &Path) -> io::Result<UnixStream> {
    let socket = UnixStream::connect(path)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn broken(error: io::Error) -> Failure {
    Failure { name: String::new(), text: error.to_string() }
}

fn malformed() -> Failure {
    Failure { name: String::new(), text: "a malformed answer".into() }
}

impl Failure {
    /// As an error of this runtime.
    pub(super) fn during(self, what: String) -> Error {
        let name = if self.name.is_empty() { String::new() } else { format!(" ({})", self.name) };
        Error::new(format!("{what}: {}{name}", self.text))
    }
}

fn encode(serial: u32, method: &Method<'_>, arguments: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    arguments.iter().for_each(|argument| argument.encode(&mut body));
    let field = |code: u8, value: Value| Value::Tuple(vec![Value::Byte(code), value.variant()]);
    let mut fields = vec![
        field(PATH, Value::Path(method.path.into())),
        field(INTERFACE, Value::text(method.interface)),
        field(MEMBER, Value::text(method.member)),
        field(DESTINATION, Value::text(method.destination)),
    ];
    if !arguments.is_empty() {
        let types = arguments.iter().map(Value::signature).collect();
        fields.push(field(BODY_TYPES, Value::Signature(types)));
    }
    let mut message = vec![ORDER, CALL, 0, 1];
    message.extend((body.len() as u32).to_ne_bytes());
    message.extend(serial.to_ne_bytes());
    Value::Array("(yv)".into(), fields).encode(&mut message);
    pad(&mut message, 8);
    message.extend(body);
    message
}

struct Message {
    kind: u8,
    fields: Vec<Value>,
    body: Vec<u8>,
}

impl Message {
    fn field(&self, code: u8) -> Option<&Value> {
        self.fields.iter().find_map(|field| match field {
            Value::Tuple(pair) if pair.first() == Some(&Value::Byte(code)) => pair.get(1),
            _ => None,
        })
    }

    fn text(&self, code: u8) -> String {
        self.field(code).and_then(Value::as_text).unwrap_or_default().to_owned()
    }

    fn number(&self, code: u8) -> Option<u32> {
        match self.field(code)? {
            Value::Variant(value) => match **value {
                Value::U32(number) => Some(number),
                _ => None,
            },
            _ => None,
        }
    }

    fn values(&self) -> Option<Vec<Value>> {
        decode(&self.text(BODY_TYPES), &self.body, 0)
    }

    fn failure(&self) -> Failure {
        let values = self.values().unwrap_or_default();
        let text = values.first().and_then(Value::as_text).unwrap_or("no reason given").to_owned();
        Failure { name: self.text(ERROR_NAME), text }
    }

    fn signal(&self) -> Option<Signal> {
        (self.kind == SIGNAL).then(|| Some(Signal { member: self.text(MEMBER), values: self.values()? }))?
    }
}
