//! The proxy of published ports over real sockets, each test in a network namespace of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use network::proxy::{Proxy, Route};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};

fn own_network() {
    linux::namespace::unshare(linux::namespace::Kinds::NETWORK).expect("the tests need root");
    linux::net::loopback_up().unwrap();
}

struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(routes: Vec<Route>) -> Self {
        let mut proxy = Proxy::new(routes).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                wait(&proxy);
                proxy.turn();
                proxy.rest();
            }
        });
        Running { stop, thread: Some(thread) }
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

fn wait(proxy: &Proxy) {
    let until = proxy.deadline().map_or(Duration::from_millis(20), |at| at.saturating_duration_since(Instant::now()));
    let until = rustix::event::Timespec::try_from(until.min(Duration::from_millis(20))).unwrap();
    let descriptor = proxy.as_fd();
    let mut descriptors = [rustix::event::PollFd::new(&descriptor, rustix::event::PollFlags::IN)];
    let _ = rustix::event::poll(&mut descriptors, Some(&until));
}

/// A socket bound to `address`, as whoever reserves a port has it, and where it is.
fn reserved(address: &str, kind: SocketType) -> (OwnedFd, SocketAddr) {
    let address: SocketAddr = address.parse().unwrap();
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &address).unwrap();
    let at = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
    (socket, at)
}

/// A server that sends back what it gets, in capital letters, and then ends; its address.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                all.make_ascii_uppercase();
                stream.write_all(&all).unwrap();
            });
        }
    });
    address
}

fn ask(at: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

#[test]
fn connections_of_ipv6_reach_a_container_with_ipv4() {
    own_network();
    let (socket, at) = reserved("[::1]:0", SocketType::STREAM);
    let _proxy =
        Running::start(vec![Route { socket, datagrams: false, target: echo(), other: None, transparent: false }]);
    assert_eq!(ask(at, b"hello").unwrap(), b"HELLO");
    // More than any buffer holds, both ways, on several connections at once.
    let much = vec![b'x'; 20 << 20];
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(ask(at, &much).unwrap(), vec![b'X'; 20 << 20]));
        }
    });
    for _ in 0..300 {
        assert_eq!(ask(at, b"again").unwrap(), b"AGAIN");
    }
}

#[test]
fn a_container_that_does_not_listen_ends_the_connection() {
    own_network();
    let (socket, at) = reserved("127.0.0.1:0", SocketType::STREAM);
    let target = "127.0.0.1:9".parse().unwrap();
    let _proxy = Running::start(vec![Route { socket, datagrams: false, target, other: None, transparent: false }]);
    for _ in 0..3 {
        assert!(ask(at, b"hello").map_or(true, |answer| answer.is_empty()));
    }
}

#[test]
fn a_client_that_breaks_off_is_noticed() {
    own_network();
    let (socket, at) = reserved("127.0.0.1:0", SocketType::STREAM);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let _proxy = Running::start(vec![Route { socket, datagrams: false, target, other: None, transparent: false }]);
    let client = TcpStream::connect(at).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    drop(client);
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ended = server.read(&mut [0; 1]);
    assert!(
        ended.as_ref().is_ok_and(|count| *count == 0)
            || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
    );
}

#[test]
fn datagrams_find_their_way_back() {
    own_network();
    let (socket, at) = reserved("[::1]:0", SocketType::DGRAM);
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = server.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 65535];
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            buffer[..length].make_ascii_uppercase();
            server.send_to(&buffer[..length], from).unwrap();
        }
    });
    let _proxy = Running::start(vec![Route { socket, datagrams: true, target, other: None, transparent: false }]);
    let clients: Vec<UdpSocket> = (0..20).map(|_| UdpSocket::bind("[::1]:0").unwrap()).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send_to(format!("client {number}").as_bytes(), at).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut buffer = [0; 100];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (format!("CLIENT {number}").as_bytes(), at));
    }
}
