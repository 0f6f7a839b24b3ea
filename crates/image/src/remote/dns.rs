//! Host names to addresses without the C library, whose resolver loads plug-ins and crashes in a static binary:
//! literal addresses, `localhost`, `/etc/hosts`, then the name servers of `/etc/resolv.conf` (RFC 1035, RFC 6761).

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use ureq::Error;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

/// Answers over TCP may be this long; over UDP without extensions 512.
const ANSWER: usize = 65_535;
const DNS_PORT: u16 = 53;
/// As many addresses as ureq keeps.
const ADDRESSES: usize = 16;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// The resolver for ureq.
#[derive(Debug)]
pub(crate) struct Names;

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &ureq::config::Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let mut found = self.empty();
        for address in addresses(host).map_err(Error::Io)?.into_iter().take(ADDRESSES) {
            found.push(SocketAddr::new(address, port));
        }
        if found.is_empty() { Err(Error::HostNotFound) } else { Ok(found) }
    }
}

/// Whether the name means this machine itself.
pub(crate) fn is_loopback(host: &str) -> bool {
    literal(host).map_or_else(|| host == "localhost" || host.ends_with(".localhost"), |address| address.is_loopback())
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The addresses of a host.
pub fn addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    if let Some(address) = literal(host) {
        return Ok(vec![address]);
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let known = in_hosts(&hosts, host);
    if !known.is_empty() {
        return Ok(known);
    }
    if is_loopback(host) {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let settings = Settings::parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    settings.lookup(host)
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or(""));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
        })
        .collect()
}

/// What `/etc/resolv.conf` says (resolv.conf(5)).
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

impl Settings {
    fn parse(text: &str) -> Self {
        let mut found = Settings {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => found.servers.extend(
                    words
                        .next()
                        .and_then(|word| word.parse().ok())
                        .map(|address: IpAddr| SocketAddr::new(address, DNS_PORT)),
                ),
                Some("search" | "domain") => {
                    found.search = words.map(|word| word.trim_matches('.').to_owned()).collect()
                }
                Some("options") => words.for_each(|word| found.option(word)),
                _ => {}
            }
        }
        found.servers.truncate(3);
        if found.servers.is_empty() {
            found.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS_PORT));
        }
        found
    }

    fn option(&mut self, word: &str) {
        let Some((name, value)) = word.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(u64::from(value.clamp(1, 30))),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }

    /// Tries the name as it is and below each search domain, in the order that `ndots` says.
    fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let absolute = host.trim_end_matches('.').to_owned();
        let mut names: Vec<String> = self.search.iter().map(|domain| format!("{absolute}.{domain}")).collect();
        match (host.ends_with('.'), absolute.matches('.').count() >= self.ndots) {
            (true, _) => names = vec![absolute],
            (_, true) => names.insert(0, absolute),
            _ => names.push(absolute),
        }
        for name in &names {
            let mut found = self.ask(name, TYPE_A)?;
            found.extend(self.ask(name, TYPE_AAAA).unwrap_or_default());
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// Asks each server in turn until one answers.
    fn ask(&self, name: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
        let mut last = io::Error::new(io::ErrorKind::TimedOut, "no name server answers");
        for _ in 0..self.attempts {
            for server in &self.servers {
                match query(*server, name, kind, self.timeout) {
                    Ok(found) => return Ok(found),
                    Err(error) => last = error,
                }
            }
        }
        Err(io::Error::new(last.kind(), format!("look up {name}: {last}")))
    }
}

fn query(server: SocketAddr, name: &str, kind: u16, timeout: Duration) -> io::Result<Vec<IpAddr>> {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty())?;
    let question = encode(id, name, kind)?;
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.send(&question)?;
    let mut answer = vec![0; ANSWER];
    loop {
        let length = socket.recv(&mut answer)?;
        // Something else than the answer to this question is not worth more than waiting on.
        if answers(&answer[..length], &question) {
            let truncated = answer[2] & 0x02 != 0;
            return if truncated {
                query_tcp(server, &question, kind, timeout)
            } else {
                decode(&answer[..length], kind)
            };
        }
    }
}

fn query_tcp(server: SocketAddr, question: &[u8], kind: u16, timeout: Duration) -> io::Result<Vec<IpAddr>> {
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    let mut message = (question.len() as u16).to_be_bytes().to_vec();
    message.extend_from_slice(question);
    stream.write_all(&message)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    if !answers(&answer, question) {
        return Err(malformed());
    }
    decode(&answer, kind)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed answer of the name server")
}

/// A query: header with "recursion desired", one question of class IN.
fn encode(id: [u8; 2], name: &str, kind: u16) -> io::Result<Vec<u8>> {
    let mut message = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 || name.len() > 253 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("malformed host name {name:?}")));
        }
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    Ok(message)
}

/// Whether it is a response with the question's id and the question itself.
fn answers(answer: &[u8], question: &[u8]) -> bool {
    answer.len() >= question.len()
        && answer[..2] == question[..2]
        && answer[2] & 0x80 != 0
        && answer[12..question.len()].eq_ignore_ascii_case(&question[12..])
}

/// The addresses of a response; a name that does not exist has none. The server has followed CNAMEs.
fn decode(answer: &[u8], kind: u16) -> io::Result<Vec<IpAddr>> {
    match answer[3] & 0x0f {
        0 => {}
        3 => return Ok(Vec::new()),
        code => return Err(io::Error::other(format!("the name server answers with error {code}"))),
    }
    let number = |at: usize| -> io::Result<u16> {
        let bytes = answer.get(at..at + 2).ok_or_else(malformed)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let mut at = skip_name(answer, 12)? + 4;
    let mut found = Vec::new();
    for _ in 0..number(6)? {
        at = skip_name(answer, at)?;
        let (record, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = answer.get(at + 10..at + 10 + length).ok_or_else(malformed)?;
        if record == kind {
            found.extend(address(data));
        }
        at += 10 + length;
    }
    Ok(found)
}

fn address(data: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(data) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(data).ok().map(Into::into)
}

/// The offset after a name: labels up to a zero, or up to a pointer.
fn skip_name(message: &[u8], mut at: usize) -> io::Result<usize> {
    loop {
        match *message.get(at).ok_or_else(malformed)? {
            0 => return Ok(at + 1),
            0xc0.. => return Ok(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let hosts = "127.0.0.1 localhost\n10.0.0.1 a B # c\nnonsense b\n::2 b\n";
        assert_eq!(in_hosts(hosts, "b"), ["10.0.0.1".parse::<IpAddr>().unwrap(), "::2".parse().unwrap()]);
        assert!(in_hosts(hosts, "c").is_empty());
        let text =
            "nameserver 9.9.9.9\nnameserver ::1\nsearch a.example b.example\noptions ndots:2 timeout:1 attempts:9";
        let settings = Settings::parse(text);
        assert_eq!((settings.servers.len(), settings.search.len()), (2, 2));
        assert_eq!((settings.ndots, settings.timeout.as_secs(), settings.attempts), (2, 1, 5));
    }

    #[test]
    fn loopback_names() {
        for (host, expected) in
            [("localhost", true), ("127.3.2.1", true), ("[::1]", true), ("10.0.0.1", false), ("a", false)]
        {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }

    /// A server on loopback: truncated over UDP, complete over TCP, with a CNAME before the address.
    #[test]
    fn asks_over_udp_and_then_tcp() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = udp.local_addr().unwrap();
        let tcp = std::net::TcpListener::bind(server).unwrap();
        let worker = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (length, client) = udp.recv_from(&mut buffer).unwrap();
            let mut wrong = buffer[..length].to_vec();
            wrong[0] ^= 1;
            wrong[2] |= 0x80;
            udp.send_to(&wrong, client).unwrap();
            let mut short = buffer[..length].to_vec();
            short[2] |= 0x82;
            udp.send_to(&short, client).unwrap();
            let (mut stream, _) = tcp.accept().unwrap();
            let mut question = vec![0; length + 2];
            stream.read_exact(&mut question).unwrap();
            let mut answer = question.split_off(2);
            answer[2] |= 0x80;
            answer[7] = 2;
            answer.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 3, 1, b'x', 0]);
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7]);
            stream.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
        });
        let found = query(server, "www.example", TYPE_A, Duration::from_secs(5)).unwrap();
        assert_eq!(found, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
        worker.join().unwrap();
    }

    #[test]
    fn malformed_answers_are_errors() {
        let question = encode([1, 2], "a.b", TYPE_A).unwrap();
        let mut answer = question.clone();
        answer[7] = 9;
        for cut in 12..answer.len() {
            assert!(skip_name(&answer[..cut], 12).is_err() || decode(&answer[..cut], TYPE_A).is_err(), "{cut}");
        }
        assert!(decode(&answer, TYPE_A).is_err());
        assert!(encode([0, 0], "a..b", TYPE_A).is_err());
        assert!(encode([0, 0], &"a".repeat(64), TYPE_A).is_err());
    }
}
