//! The text of a container's `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname`, by Docker's rules. Pure: reading the
//! host's files and writing the container's is the caller's business.

use std::net::IpAddr;

/// What stands in `/etc/resolv.conf`. Empty lists: the host's.
#[derive(Clone, Debug, Default)]
pub struct Resolver<'a> {
    /// Name servers (`--dns`).
    pub servers: &'a [String],
    /// Search domains (`--dns-search`); a single `.` means none.
    pub search: &'a [String],
    /// Options (`--dns-option`).
    pub options: &'a [String],
}

/// Name servers for a host that has none that a container can reach, as Docker has them.
const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// `/etc/hosts` of a container in a network of its own: the standard lines and the container's own names at each of its
/// addresses.
pub fn hosts(names: &str, addresses: &[IpAddr]) -> String {
    let own: String = addresses.iter().map(|address| format!("{address}\t{names}\n")).collect();
    format!(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n\
         {own}"
    )
}

/// A hosts file with further lines (`--add-host`), each a name and an address.
pub fn with_hosts<'a>(mut text: String, more: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, address) in more {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    text
}

/// `/etc/resolv.conf` from the host's and the user's wishes. In a network of its own (`own_network`) a container cannot
/// reach the host's loopback: such servers are left out, and [`FALLBACK`] stands in when none remain.
pub fn resolv_conf(host: &str, wanted: &Resolver<'_>, own_network: bool) -> String {
    let host = HostFile::read(host);
    let mut servers: Vec<&str> = match wanted.servers {
        [] => host.servers.into_iter().filter(|server| !own_network || !is_loopback(server)).collect(),
        wanted => wanted.iter().map(String::as_str).collect(),
    };
    if servers.is_empty() && own_network {
        servers.extend(FALLBACK);
    }
    let search: Vec<&str> = match wanted.search {
        [] => host.search,
        [none] if none == "." => Vec::new(),
        wanted => wanted.iter().map(String::as_str).collect(),
    };
    let options: Vec<&str> = match wanted.options {
        [] => host.options,
        wanted => wanted.iter().map(String::as_str).collect(),
    };
    let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (keyword, values) in [("search", search), ("options", options)] {
        if !values.is_empty() {
            text.push_str(&format!("{keyword} {}\n", values.join(" ")));
        }
    }
    text
}

/// Whether a host has name servers, and none that a container in a network of its own can reach.
pub fn only_loopback(host: &str) -> bool {
    let servers = HostFile::read(host).servers;
    !servers.is_empty() && servers.into_iter().all(is_loopback)
}

/// `/etc/resolv.conf` of a container with a name server of its own, which knows all others.
pub fn own_resolv_conf(host: &str, wanted: &Resolver<'_>) -> String {
    let server = [crate::dns::ADDRESS.to_string()];
    let text = resolv_conf(host, &Resolver { servers: &server, ..wanted.clone() }, false);
    // Docker's: every name is asked for as it stands first, because containers' names have no dots.
    let options = text.lines().find(|line| line.starts_with("options "));
    match options {
        Some(line) if line.contains(" ndots:") => text,
        Some(line) => text.replace(line, &format!("{line} ndots:0")),
        None => text + "options ndots:0\n",
    }
}

/// The parts of a resolv.conf(5) that containers take over. As there, the last `search` line counts.
#[derive(Default)]
struct HostFile<'a> {
    servers: Vec<&'a str>,
    search: Vec<&'a str>,
    options: Vec<&'a str>,
}

impl<'a> HostFile<'a> {
    fn read(text: &'a str) -> Self {
        let mut file = HostFile::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => file.servers.extend(words.next()),
                Some("search" | "domain") => file.search = words.collect(),
                Some("options") => file.options.extend(words),
                _ => {}
            }
        }
        file
    }
}

/// Whether a server is only reachable on the host's own loopback. Text that is no address is left out too.
fn is_loopback(server: &str) -> bool {
    let address = server.split('%').next().unwrap_or(server);
    address.parse::<IpAddr>().map_or(true, |address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_has_the_standard_lines_and_the_extra_ones() {
        let text = hosts("abc.example abc", &["127.0.1.1".parse().unwrap()]);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"));
        assert!(text.ends_with("127.0.1.1\tabc.example abc\n"));
        let more = [("db", "10.0.0.7")];
        assert_eq!(with_hosts("1.2.3.4 x".to_owned(), more.into_iter()), "1.2.3.4 x\n10.0.0.7\tdb\n");
    }

    const HOST: &str =
        "# comment\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch a.example b.example\noptions ndots:2\n";

    #[test]
    fn the_hosts_loopback_is_left_out_of_an_own_network() {
        let own = resolv_conf(HOST, &Resolver::default(), true);
        assert_eq!(own, "nameserver 192.0.2.1\nsearch a.example b.example\noptions ndots:2\n");
        let shared = resolv_conf(HOST, &Resolver::default(), false);
        assert!(shared.starts_with("nameserver 127.0.0.53\nnameserver 192.0.2.1\n"));
    }

    #[test]
    fn without_a_server_docker_s_stand_in() {
        assert_eq!(resolv_conf("", &Resolver::default(), true), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        assert_eq!(resolv_conf("", &Resolver::default(), false), "");
    }

    #[test]
    fn with_a_name_server_of_its_own() {
        let own = own_resolv_conf(HOST, &Resolver::default());
        assert_eq!(own, "nameserver 127.0.0.11\nsearch a.example b.example\noptions ndots:2\n");
        assert_eq!(
            own_resolv_conf("nameserver 1.1.1.1\n", &Resolver::default()),
            "nameserver 127.0.0.11\noptions ndots:0\n"
        );
        assert!(only_loopback("nameserver 127.0.0.53\n") && !only_loopback(HOST) && !only_loopback(""));
    }

    #[test]
    fn the_user_s_wishes_replace_the_host_s() {
        let (servers, search, options) = (["::1".to_owned()], [".".to_owned()], ["edns0".to_owned()]);
        let wanted = Resolver { servers: &servers, search: &search, options: &options };
        assert_eq!(resolv_conf(HOST, &wanted, true), "nameserver ::1\noptions edns0\n");
    }
}
