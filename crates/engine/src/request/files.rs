//! The files that every container gets, `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`: what the container's
//! configuration says of them. Their text is the network crate's.

use std::net::{IpAddr, Ipv4Addr};

use network::Attachment;
use network::files::{self, Resolver};

use crate::model::{Config, HostConfig};
use crate::networking::addresses;
use crate::request::validate::split_host;

/// Content of `/etc/hostname`.
pub(crate) fn hostname(config: &Config) -> String {
    format!("{}\n", config.hostname)
}

/// Where a container finds itself that has no address in a network: on its loopback.
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1));

/// Content of `/etc/hosts`: the host's own in the host's network, else the loopback names and the container's, then
/// `--add-host`, where `host-gateway` stands for the host itself.
pub(crate) fn hosts(config: &Config, host: &HostConfig, of_host: &str, attachment: Option<&Attachment>) -> String {
    let own = attachment.map(addresses).filter(|own| !own.is_empty()).unwrap_or_else(|| vec![OWN]);
    let base = match host.network_mode.as_str() {
        "host" => of_host.to_owned(),
        _ => files::hosts(&own_names(config), &own),
    };
    let gateways: Vec<String> = host_gateways(attachment).iter().map(IpAddr::to_string).collect();
    let lines = host.extra_hosts.iter().flatten().filter_map(|entry| split_host(entry)).flat_map(|(name, address)| {
        let addresses =
            if address == "host-gateway" { gateways.iter().map(String::as_str).collect() } else { vec![address] };
        addresses.into_iter().map(move |address| (name, address))
    });
    files::with_hosts(base, lines.collect::<Vec<_>>().into_iter())
}

/// Where a container finds its host: at the gateways of its networks, else on the loopback that they share.
fn host_gateways(attachment: Option<&Attachment>) -> Vec<IpAddr> {
    let Some(attachment) = attachment else { return vec![Ipv4Addr::LOCALHOST.into()] };
    let gateway = |v4| attachment.published(v4).and_then(|endpoint| endpoint.network.gateway(v4));
    [true, false].into_iter().filter_map(gateway).collect()
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

/// Content of `/etc/resolv.conf` of a container with a name server of its own.
pub(crate) fn own_resolv_conf(host: &HostConfig, of_host: &str) -> String {
    let wanted = Resolver { servers: &[], search: &host.dns_search, options: &host.dns_options };
    files::own_resolv_conf(of_host, &wanted)
}

/// Content of `/etc/resolv.conf`: the host's, with what the user gave in the place of the host's.
pub(crate) fn resolv_conf(host: &HostConfig, of_host: &str) -> String {
    let wanted = Resolver { servers: &host.dns, search: &host.dns_search, options: &host.dns_options };
    files::resolv_conf(of_host, &wanted, host.network_mode != "host")
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
        let text = hosts(&config, &host, "", None);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.contains("127.0.1.1\tweb.example web\n"));
        assert!(text.ends_with("10.0.0.9\tdb\n::2\tsix\n"));
        let dotted = Config { hostname: "web.example".into(), ..Config::default() };
        assert!(hosts(&dotted, &host, "", None).contains("127.0.1.1\tweb.example web\n"));
        let of_host = HostConfig { network_mode: "host".into(), ..HostConfig::default() };
        assert_eq!(hosts(&config, &of_host, "1.2.3.4 x", None), "1.2.3.4 x\n");
    }
}
