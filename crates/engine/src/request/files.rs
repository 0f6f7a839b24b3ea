//! The files that every container gets: `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`, by Docker's rules.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::model::{Config, HostConfig};
use crate::request::validate::split_host;

/// Content of `/etc/hostname`.
pub(crate) fn hostname(config: &Config) -> String {
    format!("{}\n", config.hostname)
}

/// Content of `/etc/hosts`: the host's own in the host's network, else the loopback names and the container's (which
/// is its loopback as long as the container has no other address), then `--add-host`.
pub(crate) fn hosts(config: &Config, host: &HostConfig, of_host: &str) -> String {
    let mut text = if host.network_mode == "host" {
        of_host.to_owned()
    } else {
        let mut text = String::from(
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n\
             ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
        );
        let _ = writeln!(text, "127.0.1.1\t{}", own_names(config));
        text
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for entry in host.extra_hosts.iter().flatten() {
        if let Some((name, address)) = split_host(entry) {
            let _ = writeln!(text, "{address}\t{name}");
        }
    }
    text
}

/// The container's full name and, if that has a domain, the name before it.
fn own_names(config: &Config) -> String {
    let mut full = config.hostname.clone();
    if !config.domainname.is_empty() {
        full = format!("{full}.{}", config.domainname);
    }
    match full.split_once('.') {
        Some((short, _)) => format!("{full} {short}"),
        None => full,
    }
}

/// Servers that Docker writes where the host's own cannot be reached from the container and none were given.
const FALLBACK: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// Content of `/etc/resolv.conf`: the host's, with what the user gave in the place of the host's. In a network of its
/// own, servers on the host's loopback are left out: they are not there.
pub(crate) fn resolv_conf(host: &HostConfig, of_host: &str) -> String {
    let keep_loopback = host.network_mode == "host";
    let from_host = |keyword: &str| -> Vec<String> {
        let lines = of_host.lines().filter_map(|line| line.trim().strip_prefix(keyword));
        let values = lines.filter(|rest| rest.starts_with([' ', '\t'])).flat_map(str::split_whitespace);
        values.map(str::to_owned).collect()
    };
    let mut servers = host.dns.clone();
    if servers.is_empty() {
        servers = from_host("nameserver").into_iter().filter(|server| keep_loopback || !is_loopback(server)).collect();
        if servers.is_empty() && !keep_loopback {
            servers = FALLBACK.map(str::to_owned).into();
        }
    }
    let search = if host.dns_search.is_empty() { from_host("search") } else { host.dns_search.clone() };
    let options = if host.dns_options.is_empty() { from_host("options") } else { host.dns_options.clone() };
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    // A single dot asks for no search list at all.
    if !search.is_empty() && search != ["."] {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

fn is_loopback(server: &str) -> bool {
    let address = server.split('%').next().unwrap_or(server);
    address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str =
        "# made by hand\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch corp.example\noptions edns0 trust-ad\n";

    #[test]
    fn loopback_servers_stay_on_the_host() {
        let own = HostConfig { network_mode: "bridge".into(), ..HostConfig::default() };
        assert_eq!(resolv_conf(&own, HOST), "nameserver 10.0.0.1\nsearch corp.example\noptions edns0 trust-ad\n");
        let host = HostConfig { network_mode: "host".into(), ..HostConfig::default() };
        assert!(resolv_conf(&host, HOST).contains("127.0.0.53"));
        assert!(resolv_conf(&own, "nameserver ::1\n").contains("8.8.8.8"));
    }

    #[test]
    fn what_the_user_gave_wins() {
        let host = HostConfig {
            dns: vec!["1.1.1.1".into()],
            dns_search: vec![".".into()],
            dns_options: vec!["ndots:2".into()],
            ..HostConfig::default()
        };
        assert_eq!(resolv_conf(&host, HOST), "nameserver 1.1.1.1\noptions ndots:2\n");
    }

    #[test]
    fn hosts_names_the_container_and_extra_hosts() {
        let config = Config { hostname: "web".into(), domainname: "example".into(), ..Config::default() };
        let host =
            HostConfig { extra_hosts: Some(vec!["db:10.0.0.9".into(), "six:[::2]".into()]), ..HostConfig::default() };
        let text = hosts(&config, &host, "");
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.contains("127.0.1.1\tweb.example web\n"));
        assert!(text.ends_with("10.0.0.9\tdb\n::2\tsix\n"));
        let dotted = Config { hostname: "web.example".into(), ..Config::default() };
        assert!(hosts(&dotted, &host, "").contains("127.0.1.1\tweb.example web\n"));
        let of_host = HostConfig { network_mode: "host".into(), ..HostConfig::default() };
        assert_eq!(hosts(&config, &of_host, "1.2.3.4 x"), "1.2.3.4 x\n");
    }
}
