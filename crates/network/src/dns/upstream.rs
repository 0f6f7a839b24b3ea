//! Which servers are asked about names outside: the container's own (`--dns`), asked from inside its network, or the
//! host's, asked from the host's network and read again whenever its file has changed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use rustix::fs::Stat;

const PORT: u16 = 53;
/// As many as other resolvers use (resolv.conf(5), MAXNS).
const MOST: usize = 3;
/// Bytes of the host's file that are read.
const FILE: usize = 64 << 10;

/// The address that the container asks; asking it ourselves would be a loop.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Servers to be asked.
#[derive(Debug)]
pub(super) enum Upstream {
    /// Those that the user named.
    Own(Vec<SocketAddr>),
    /// The host's.
    Host {
        /// `/etc/resolv.conf`.
        file: PathBuf,
        servers: Vec<SocketAddr>,
        seen: Option<Seen>,
    },
    /// None: the network is internal.
    None,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    inode: u64,
    size: i64,
    changed: (i64, i64),
}

impl Seen {
    fn of(stat: &Stat) -> Self {
        Seen { inode: stat.st_ino, size: stat.st_size, changed: (stat.st_mtime, stat.st_mtime_nsec as i64) }
    }
}

impl Upstream {
    /// The servers that the user named.
    pub(super) fn own(servers: &[String]) -> Self {
        let servers = servers.iter().filter_map(|server| address(server));
        Upstream::Own(servers.filter(|server| server.ip() != IpAddr::V4(ADDRESS)).take(MOST).collect())
    }

    /// The host's servers, as `file` has them at each moment.
    pub(super) fn host(file: PathBuf) -> Self {
        Upstream::Host { file, servers: Vec::new(), seen: None }
    }

    /// Reads the host's file again if it has changed; whether it had.
    pub(super) fn refresh(&mut self) -> bool {
        let Upstream::Host { file, servers, seen } = self else { return false };
        let now = rustix::fs::stat(&*file).ok().map(|stat| Seen::of(&stat));
        if now == *seen && seen.is_some() {
            return false;
        }
        let text = read(file);
        *servers = host_servers(&text);
        std::mem::replace(seen, now).is_some()
    }

    /// The servers, in order.
    pub(super) fn servers(&self) -> &[SocketAddr] {
        match self {
            Upstream::Own(servers) | Upstream::Host { servers, .. } => servers,
            Upstream::None => &[],
        }
    }
}

fn read(file: &std::path::Path) -> String {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let _ = std::fs::File::open(file).and_then(|file| file.take(FILE as u64).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The servers of a resolv.conf(5); without any it means this machine.
fn host_servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
    let named =
        lines.filter(|rest| rest.starts_with([' ', '\t'])).filter_map(|rest| address(rest.split_whitespace().next()?));
    let mut servers: Vec<SocketAddr> = named.take(MOST).collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    servers
}

/// An address, for IPv6 with the zone it may be in (`fe80::1%eth0`, `%2`).
fn address(text: &str) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return Some((text.parse::<IpAddr>().ok()?, PORT).into());
    };
    let index = zone.parse().ok().or_else(|| {
        let path = format!("/sys/class/net/{zone}/ifindex");
        (!zone.contains('/')).then(|| std::fs::read_to_string(path).ok()?.trim().parse().ok())?
    })?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, index).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_s_file_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("resolv.conf");
        std::fs::write(&file, "search x\nnameserver 192.0.2.1\n nameserver\t192.0.2.2 # two\nnameserverx 1.1.1.1\n")
            .unwrap();
        let mut upstream = Upstream::host(file.clone());
        assert!(!upstream.refresh());
        assert_eq!(upstream.servers(), ["192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap()]);
        assert!(!upstream.refresh());
        std::fs::write(&file, "nameserver fd00::1\n").unwrap();
        assert!(upstream.refresh());
        assert_eq!(upstream.servers(), ["[fd00::1]:53".parse().unwrap()]);
        std::fs::remove_file(&file).unwrap();
        assert!(upstream.refresh());
        assert_eq!(upstream.servers(), ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn own_servers_leave_out_ourselves_and_what_is_no_address() {
        let own = ["127.0.0.11", "10.0.0.1", "nonsense", "fe80::1%7"].map(str::to_owned);
        let upstream = Upstream::own(&own);
        assert_eq!(upstream.servers().len(), 2);
        let SocketAddr::V6(local) = upstream.servers()[1] else { panic!() };
        assert_eq!(local.scope_id(), 7);
    }
}
