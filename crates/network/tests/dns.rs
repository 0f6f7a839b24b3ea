//! The DNS server over real sockets: each test has a network namespace of its own with servers in it that answer, lie,
//! or are silent.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use network::dns::{Entry, Member, Names, Outside, Server, Settings, Sockets, Zone};
use proptest::prelude::*;

const A: u16 = 1;
const AAAA: u16 = 28;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// Moves the test's thread into a network of its own.
fn own_network() {
    linux::namespace::unshare(linux::namespace::Kinds::NETWORK).expect("the tests need root");
    linux::net::loopback_up().unwrap();
}

/// A running server.
struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Running {
    /// With one network, in which `web` is 10.0.0.2 and fd00::2.
    fn start(outside: impl FnOnce(&Path) -> Outside) -> Self {
        Self::with(outside, false)
    }

    fn with(outside: impl FnOnce(&Path) -> Outside, ndots: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let zone = Zone::at(directory.path().join("zone"));
        let names = ["web".to_owned()];
        let addresses: [IpAddr; 2] = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        zone.add(&Entry { container: "abc", names: &names, addresses: &addresses }).unwrap();
        let names = Names { networks: vec![Member { name: "net".to_owned(), zone }], links: Vec::new() };
        let sockets = Sockets::open().unwrap();
        let address = SocketAddr::from((network::dns::ADDRESS, sockets.port().unwrap()));
        let settings = Settings { names, outside: outside(directory.path()), ndots };
        let mut server = Server::new(sockets, settings).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                wait(&server);
                server.turn();
                server.rest();
            }
        });
        Running { stop, thread: Some(thread), address, _directory: directory }
    }

    fn udp(&self, message: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket.send(message).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut buffer = vec![0; 65535];
        let length = socket.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }

    fn ask(&self, name: &str, kind: u16) -> Reply {
        Reply::read(&self.udp(&question(7, name, kind)).expect("no answer"))
    }

    fn ask_tcp(&self, name: &str, kind: u16) -> Reply {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let message = question(7, name, kind);
        stream.write_all(&(message.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(&message).unwrap();
        Reply::read(&read_tcp(&mut stream))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

fn wait(server: &Server) {
    let until = server.deadline().map_or(Duration::from_millis(20), |at| at.saturating_duration_since(Instant::now()));
    let until = rustix::event::Timespec::try_from(until.min(Duration::from_millis(20))).unwrap();
    let descriptor = server.as_fd();
    let mut descriptors = [rustix::event::PollFd::new(&descriptor, rustix::event::PollFlags::IN)];
    let _ = rustix::event::poll(&mut descriptors, Some(&until));
}

fn read_tcp(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes: Vec<u8> = [id, 0x0100, 1, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes).collect();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, (kind >> 8) as u8, kind as u8, 0, 1]);
    bytes
}

/// What tests look at of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    id: u16,
    code: u8,
    truncated: bool,
    answers: u16,
    tail: Vec<u8>,
}

impl Reply {
    fn read(bytes: &[u8]) -> Self {
        assert!(bytes[2] & 0x80 != 0, "an answer");
        Reply {
            id: u16::from_be_bytes([bytes[0], bytes[1]]),
            code: bytes[3] & 15,
            truncated: bytes[2] & 2 != 0,
            answers: u16::from_be_bytes([bytes[6], bytes[7]]),
            tail: bytes[bytes.len() - 4..].to_vec(),
        }
    }
}

/// A server outside. `behaviour` gets each question and says what is sent back.
struct Outsider {
    questions: Arc<AtomicUsize>,
}

impl Outsider {
    fn start(address: &str, behaviour: impl Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let udp = UdpSocket::bind(address).unwrap();
        let tcp = TcpListener::bind(address).unwrap();
        let questions = Arc::new(AtomicUsize::new(0));
        let behaviour = Arc::new(behaviour);
        let (count, behave) = (questions.clone(), behaviour.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 65535];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                count.fetch_add(1, Ordering::Relaxed);
                for reply in behave(&buffer[..length], false) {
                    udp.send_to(&reply, from).unwrap();
                }
            }
        });
        let count = questions.clone();
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let message = read_tcp(&mut stream);
                count.fetch_add(1, Ordering::Relaxed);
                for reply in behaviour(&message, true) {
                    // In two pieces, as networks do.
                    let whole = [&(reply.len() as u16).to_be_bytes()[..], &reply].concat();
                    stream.write_all(&whole[..5]).unwrap();
                    stream.flush().unwrap();
                    std::thread::sleep(Duration::from_millis(5));
                    stream.write_all(&whole[5..]).unwrap();
                }
            }
        });
        Outsider { questions }
    }

    fn asked(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }
}

fn answer(message: &[u8], count: u16, address: [u8; 4]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    bytes[2] |= 0x80;
    bytes[6..8].copy_from_slice(&count.to_be_bytes());
    for _ in 0..count {
        bytes.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        bytes.extend(address);
    }
    bytes
}

fn code(message: &[u8], code: u8) -> Vec<u8> {
    let mut bytes = answer(message, 0, [0; 4]);
    bytes[3] |= code;
    bytes
}

fn host(servers: &'static [&'static str]) -> impl FnOnce(&Path) -> Outside {
    move |directory| {
        let file = directory.join("resolv.conf");
        let lines: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        std::fs::write(&file, lines).unwrap();
        Outside::Host(file)
    }
}

#[test]
fn names_of_containers_are_answered_over_udp_and_tcp() {
    own_network();
    let server = Running::start(|_| Outside::Nowhere);
    for reply in [server.ask("web", A), server.ask_tcp("WEB.net", A)] {
        assert_eq!((reply.id, reply.code, reply.answers, &reply.tail[..]), (7, 0, 1, &[10, 0, 0, 2][..]));
    }
    assert_eq!(server.ask("web", AAAA).tail, [0, 0, 0, 2]);
    assert_eq!(server.ask("web", 65).answers, 0);
    assert_eq!(server.ask("2.0.0.10.in-addr.arpa", 12).answers, 1);
    assert_eq!(server.ask("elsewhere.example", A).code, SERVFAIL);
}

#[test]
fn other_names_are_asked_for_outside_once() {
    own_network();
    let outsider = Outsider::start("127.0.0.1:53", |message, _| vec![answer(message, 1, [9, 9, 9, 9])]);
    let server = Running::start(host(&["127.0.0.1"]));
    for _ in 0..3 {
        let reply = server.ask("elsewhere.example", A);
        assert_eq!((reply.id, reply.code, reply.answers, &reply.tail[..]), (7, 0, 1, &[9, 9, 9, 9][..]));
    }
    assert_eq!(outsider.asked(), 1);
    assert_eq!(server.ask_tcp("other.example", A).tail, [9, 9, 9, 9]);
    assert_eq!(server.ask("web", AAAA).tail, [0, 0, 0, 2]);
    assert_eq!(outsider.asked(), 2);
}

#[test]
fn a_dead_or_failing_server_is_passed_over() {
    own_network();
    let silent = Outsider::start("127.0.0.1:53", |_, _| Vec::new());
    let failing = Outsider::start("127.0.0.2:53", |message, _| vec![code(message, SERVFAIL)]);
    let _good = Outsider::start("127.0.0.3:53", |message, _| vec![answer(message, 1, [8, 8, 8, 8])]);
    // Nobody listens at the first one of the second list: the kernel says so at once.
    let server = Running::start(host(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]));
    assert_eq!(server.ask("a.example", A).tail, [8, 8, 8, 8]);
    assert_eq!((silent.asked(), failing.asked()), (1, 1));
    let refusing = Running::start(host(&["127.0.0.9", "127.0.0.3"]));
    assert_eq!(refusing.ask("a.example", A).tail, [8, 8, 8, 8]);
    assert_eq!(refusing.ask_tcp("b.example", A).tail, [8, 8, 8, 8]);
    let hopeless = Running::start(host(&["127.0.0.2", "127.0.0.9"]));
    assert_eq!(hopeless.ask("a.example", A).code, SERVFAIL);
    let nobody = Running::start(host(&["127.0.0.9"]));
    assert_eq!(nobody.ask("a.example", A).code, SERVFAIL);
}

#[test]
fn lies_are_not_believed() {
    own_network();
    let _liar = Outsider::start("127.0.0.1:53", |message, _| {
        let good = answer(message, 1, [7, 7, 7, 7]);
        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] ^= byte;
            bad
        };
        vec![
            with(0, 1),
            with(1, 1),
            with(2, 0x80),
            with(13, 1),
            good[..good.len() - 2].to_vec(),
            b"x".to_vec(),
            good.clone(),
        ]
    });
    let server = Running::start(host(&["127.0.0.1"]));
    assert_eq!(server.ask("a.example", A).tail, [7, 7, 7, 7]);
    assert_eq!(server.ask_tcp("never.example", A).code, SERVFAIL);
}

#[test]
fn what_does_not_fit_comes_over_tcp() {
    own_network();
    let _outsider = Outsider::start("127.0.0.1:53", |message, tcp| match tcp {
        true => vec![answer(message, 1000, [6, 6, 6, 6])],
        false => {
            let mut short = answer(message, 0, [0; 4]);
            short[2] |= 2;
            vec![short]
        }
    });
    let server = Running::start(host(&["127.0.0.1"]));
    let short = server.ask("many.example", A);
    assert!(short.truncated && short.answers == 0);
    assert_eq!(server.ask_tcp("many.example", A).answers, 1000);
    // By now the answer is in the cache, and still does not fit.
    assert!(server.ask("many.example", A).truncated);
}

#[test]
fn the_host_s_resolvers_are_followed() {
    own_network();
    let _one = Outsider::start("127.0.0.1:53", |message, _| vec![answer(message, 1, [1, 1, 1, 1])]);
    let _two = Outsider::start("127.0.0.2:53", |message, _| vec![answer(message, 1, [2, 2, 2, 2])]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
    let server = Running::start(|_| Outside::Host(file.clone()));
    assert_eq!(server.ask("a.example", A).tail, [1, 1, 1, 1]);
    std::fs::write(&file, "nameserver 127.0.0.2 # other\n").unwrap();
    assert_eq!(server.ask("a.example", A).tail, [2, 2, 2, 2]);
}

#[test]
fn a_no_is_kept_as_long_as_the_zone_says() {
    own_network();
    let outsider = Outsider::start("127.0.0.1:53", |message, _| {
        let mut no = code(message, NXDOMAIN);
        if message[13] == b'k' {
            no[9] = 1;
            no.extend([0, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0]);
            no.extend([0; 19]);
            no.push(60);
        }
        vec![no]
    });
    let server = Running::start(host(&["127.0.0.1"]));
    for _ in 0..2 {
        assert_eq!(server.ask("kept.example", A).code, NXDOMAIN);
    }
    assert_eq!(outsider.asked(), 1);
    for _ in 0..2 {
        assert_eq!(server.ask("not.example", A).code, NXDOMAIN);
    }
    assert_eq!(outsider.asked(), 3);
}

#[test]
fn with_ndots_a_short_name_stays_inside() {
    own_network();
    let outsider = Outsider::start("127.0.0.1:53", |message, _| vec![answer(message, 1, [1, 1, 1, 1])]);
    let server = Running::with(host(&["127.0.0.1"]), true);
    assert_eq!((server.ask("short", A).answers, outsider.asked()), (0, 0));
    assert_eq!(server.ask("not.short", A).answers, 1);
}

#[test]
fn the_user_s_servers_are_asked_from_inside() {
    own_network();
    let inside = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
    let _inside = Outsider::start("127.0.0.1:53", |message, _| vec![answer(message, 1, [5, 5, 5, 5])]);
    let sockets = std::thread::spawn(|| {
        own_network();
        let _outside = Outsider::start("127.0.0.1:53", |message, _| vec![answer(message, 1, [4, 4, 4, 4])]);
        let servers = vec!["127.0.0.11".to_owned(), "127.0.0.1".to_owned()];
        let server = Running::start(|_| Outside::Servers(servers, Some(inside.into())));
        assert_eq!(server.ask("a.example", A).tail, [5, 5, 5, 5]);
    });
    sockets.join().unwrap();
}

#[test]
fn a_client_that_never_ends_its_question_disturbs_nobody() {
    own_network();
    let server = Running::start(|_| Outside::Nowhere);
    let slow: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(&[0, 30, 1]).unwrap();
            stream
        })
        .collect();
    assert_eq!(server.ask_tcp("web", A).answers, 1);
    let mut oversized = TcpStream::connect(server.address).unwrap();
    oversized.write_all(&[0xFF, 0xFF, 1]).unwrap();
    assert_eq!(oversized.read(&mut [0; 1]).unwrap_or(0), 0);
    drop(slow);
    // Several questions at once on one connection.
    let mut stream = TcpStream::connect(server.address).unwrap();
    let one = question(1, "web", A);
    let framed = [&(one.len() as u16).to_be_bytes()[..], &one].concat();
    stream.write_all(&framed.repeat(20)).unwrap();
    for _ in 0..20 {
        assert_eq!(Reply::read(&read_tcp(&mut stream)).answers, 1);
    }
}

#[test]
fn nonsense_and_answers_do_no_harm() {
    own_network();
    let server = Running::start(|_| Outside::Nowhere);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address).unwrap();
    // An answer must not be answered: two servers could go on for ever.
    socket.send(&answer(&question(1, "web", A), 1, [1, 1, 1, 1])).unwrap();
    let mut runner = proptest::test_runner::TestRunner::default();
    let mutated = (any::<Vec<(prop::sample::Index, u8)>>(), 0usize..40);
    runner
        .run(&mutated, |(changes, cut)| {
            let mut bytes = question(3, "web.net", A);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            socket.send(&bytes).unwrap();
            Ok(())
        })
        .unwrap();
    for length in [0, 1, 11, 12, 13, 512, 4096, 5000, 60000] {
        socket.send(&vec![0xFF; length]).unwrap();
    }
    assert_eq!(server.ask("web", A).answers, 1);
    let mut none = question(1, "web", A);
    none[5] = 0;
    assert_eq!(Reply::read(&[server.udp(&none).unwrap(), vec![0; 4]].concat()).code, 1);
}
