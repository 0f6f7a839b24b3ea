//! Published ports of UDP and SCTP, and networks whose addresses are known outside: packets between sockets that stand in
//! the network namespaces of containers and of other hosts.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use kiste_tests::{Env, Netns, finish, neighbour, within};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket};

const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for what is to come, where nothing is to come.
const SILENCE: Duration = Duration::from_millis(700);

fn udp(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A datagram to `to` and back; who the server saw, and who answered.
fn round_trip(server: &UdpSocket, client: &UdpSocket, to: &str) -> (IpAddr, SocketAddr) {
    let mut buffer = [0; 16];
    client.send_to(b"ping", to).unwrap();
    let (length, from) = server.recv_from(&mut buffer).unwrap_or_else(|e| panic!("nothing arrives from {to}: {e}"));
    assert_eq!(&buffer[..length], b"ping");
    server.send_to(b"pong", from).unwrap();
    let (length, answered) = client.recv_from(&mut buffer).unwrap_or_else(|e| panic!("no answer from {to}: {e}"));
    assert_eq!(&buffer[..length], b"pong");
    (from.ip().to_canonical(), answered)
}

#[test]
fn datagrams_come_with_their_clients_addresses() {
    let env = Env::with_busybox();
    let other = neighbour();
    env.detached(&["--name", "web", "-p", "5300:53/udp", "-p", "6000-6002:7000-7002/udp"], "exec sleep 1000");
    let pid = env.pid("web");
    let server = within(pid, || udp("[::]:53"));
    for (local, to, seen) in
        [("192.0.2.2:0", "192.0.2.1:5300", "192.0.2.2"), ("[2001:db8::2]:0", "[2001:db8::1]:5300", "2001:db8::2")]
    {
        let client = other.within(|| udp(local));
        let (from, answered) = round_trip(&server, &client, to);
        assert_eq!((from, answered.to_string().as_str()), (seen.parse().unwrap(), to), "from another host");
    }
    let gateway: IpAddr = "172.17.0.1".parse().unwrap();
    assert_eq!(round_trip(&server, &udp("127.0.0.1:0"), "127.0.0.1:5300").0, gateway, "the host's loopback");
    assert_eq!(round_trip(&server, &udp("192.0.2.1:0"), "192.0.2.1:5300").0.to_string(), "192.0.2.1", "the host");
    round_trip(&server, &udp("[::1]:0"), "[::1]:5300");
    let own = within(pid, || udp("0.0.0.0:0"));
    assert_eq!(round_trip(&server, &own, "172.17.0.1:5300").0, gateway, "from itself, by way of the host");
    let second = within(pid, || udp("0.0.0.0:7001"));
    round_trip(&second, &other.within(|| udp("192.0.2.2:0")), "192.0.2.1:6001");
    assert_eq!(env.ok(&["port", "web", "7001/udp"]), "0.0.0.0:6001\n[::]:6001");
}

#[test]
fn a_new_container_gets_the_datagrams_of_the_old_one_s_clients() {
    let env = Env::with_busybox();
    let other = neighbour();
    let client = other.within(|| udp("192.0.2.2:0"));
    for name in ["old", "new"] {
        env.detached(&["--name", name, "-p", "5300:53/udp"], "exec sleep 1000");
        let server = within(env.pid(name), || udp("0.0.0.0:53"));
        round_trip(&server, &client, "192.0.2.1:5300");
        env.ok(&["rm", "-f", name]);
    }
}

/// The checksum of SCTP (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// An INIT chunk, by which an association begins.
fn init(from: u16, to: u16) -> Vec<u8> {
    let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20, 0, 0, 0, 7, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]);
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

fn raw() -> OwnedFd {
    let socket = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::SCTP)).unwrap();
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn associations_are_led_to_the_container() {
    let env = Env::with_busybox();
    let other = neighbour();
    env.detached(&["--name", "web", "-p", "9899:36412/sctp"], "exec sleep 1000");
    let server = within(env.pid("web"), raw);
    let client = other.within(raw);
    let to: SocketAddr = "192.0.2.1:0".parse().unwrap();
    sendto(&client, &init(4000, 9899), SendFlags::empty(), &to).unwrap();
    let mut packet = [0; 128];
    let (length, _) = recv(&server, &mut packet, RecvFlags::empty()).expect("an INIT chunk");
    assert!(length >= 52);
    assert_eq!(packet[12..16], [192, 0, 2, 2], "the client's own address");
    assert_eq!(packet[22..24], 36412_u16.to_be_bytes(), "the container's port");
}

fn ask(other: &Netns, address: &str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    other.within(|| TcpStream::connect_timeout(&address, SILENCE).is_ok())
}

#[test]
fn addresses_of_routed_and_unprotected_networks_are_reached() {
    let env = Env::with_busybox();
    let other = neighbour();
    for (name, mode, net) in
        [("routed", "routed", "10.91.0"), ("open", "nat-unprotected", "10.92.0"), ("nat", "nat", "10.93.0")]
    {
        let mode = format!("com.docker.network.bridge.gateway_mode_ipv4={mode}");
        env.ok(&["network", "create", "-o", &mode, "--subnet", &format!("{net}.0/24"), name]);
        let route = format!("route add {net}.0/24 via 192.0.2.1");
        finish(&mut other.command("ip", &route.split(' ').collect::<Vec<_>>()), None, PATIENCE).ok();
        env.detached(&["--name", name, "--network", name, "-p", "80"], "exec sleep 1000");
    }
    let listeners: Vec<(TcpListener, TcpListener)> = ["routed", "open", "nat"]
        .iter()
        .map(|name| {
            within(env.pid(name), || {
                (TcpListener::bind("0.0.0.0:80").unwrap(), TcpListener::bind("0.0.0.0:81").unwrap())
            })
        })
        .collect();
    let reached = |address: &str| (ask(&other, &format!("{address}:80")), ask(&other, &format!("{address}:81")));
    assert_eq!(reached("10.91.0.2"), (true, false), "routed: what is published");
    assert_eq!(reached("10.92.0.2"), (true, true), "unprotected: everything");
    assert_eq!(reached("10.93.0.2"), (false, false), "behind address translation: nothing");
    let (_, from) = listeners[0].0.accept().unwrap();
    assert_eq!(from.ip().to_string(), "192.0.2.2");
    assert!(
        env.kiste(&["network", "create", "-o", "com.docker.network.bridge.gateway_mode_ipv4=isolated", "x"]).code()
            != 0
    );
    env.ok(&["network", "create", "--internal", "-o", "com.docker.network.bridge.gateway_mode_ipv4=isolated", "shut"]);
    assert_eq!(
        env.sh(&["--network", "shut"], "ip -4 -o addr show eth0 | wc -l; ip route | grep -c default || true"),
        "1\n0"
    );
}

#[test]
fn a_port_is_free_as_soon_as_the_end_is_known() {
    let env = Env::with_busybox();
    for _ in 0..8 {
        env.sh(&["-p", "8080:80", "-p", "8080:80/udp"], "true");
    }
}

#[test]
fn a_program_s_port_is_an_error_that_names_it() {
    let env = Env::with_busybox();
    let _taken = udp("0.0.0.0:5353");
    env.kiste(&["run", "--rm", "-p", "5353:53/udp", "busybox", "true"])
        .fails(125, &["address already in use", &format!("(process {})", std::process::id())]);
    env.detached(&["--name", "first", "-p", "5354:53/udp"], "exec sleep 1000");
    env.kiste(&["run", "--rm", "-p", "5354:53/udp", "busybox", "true"])
        .fails(125, &["port is already allocated", "container first has it"]);
    env.sh(&["-p", "5354:53/tcp"], "true");
}
