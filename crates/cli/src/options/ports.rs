//! The grammar of `-p` and `--expose`: ranges, addresses, protocols.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use engine::model::PortBinding;

use super::mount::fields;

/// `-p`: `[[ip:][hostPort[-end]]:]port[-end][/proto]`, or CSV of `target=`, `published=`, `protocol=`, `mode=`.
pub(super) fn publish(text: &str) -> Result<Vec<(String, PortBinding)>, String> {
    if text.contains('=') { long(text) } else { short(text) }
}

/// `--expose`: `port[-end][/proto]`.
pub(super) fn expose(text: &str) -> Result<Vec<String>, String> {
    let (ports, protocol) = protocol(text)?;
    let range = range(ports).map_err(|_| format!("invalid range format for --expose: {text}"))?;
    Ok(range.map(|port| format!("{port}/{protocol}")).collect())
}

fn short(text: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let (rest, protocol) = protocol(text)?;
    let (host, container) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (address, host) = match host.rsplit_once(':') {
        // An IPv6 address needs its brackets: `[::1]:80:80`.
        Some((address, port)) => (address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address), port),
        None if host.parse::<IpAddr>().is_ok() => (host, ""),
        None => ("", host),
    };
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    pairs(address, host, container, protocol)
}

fn long(text: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let (mut target, mut published, mut protocol) = (String::new(), String::new(), "tcp".to_owned());
    for field in fields(text)? {
        let (key, value) = field.split_once('=').ok_or_else(|| format!("invalid field: {field}"))?;
        match key {
            "target" => target = value.to_owned(),
            "published" => published = value.to_owned(),
            "protocol" if matches!(value, "tcp" | "udp" | "sctp") => protocol = value.to_owned(),
            "protocol" => return Err(format!("invalid protocol value '{value}'")),
            "mode" if matches!(value, "host" | "ingress") => {}
            "mode" => return Err(format!("invalid publish mode value '{value}'")),
            _ => return Err(format!("invalid field key: {key}")),
        }
    }
    if target.is_empty() {
        return Err(format!("missing mandatory field '\"target\"' in '{text}'"));
    }
    pairs("", &published, &target, &protocol)
}

fn pairs(address: &str, host: &str, container: &str, protocol: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let container = range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let binding = |port: &str| PortBinding { host_ip: address.to_owned(), host_port: port.to_owned() };
    let key = |port: u16| format!("{port}/{protocol}");
    if host.is_empty() {
        return Ok(container.map(|port| (key(port), binding(""))).collect());
    }
    let outer = range(host).map_err(|_| format!("invalid hostPort: {host}"))?;
    if container.len() == 1 && outer.len() > 1 {
        // One port of the container, the first free one of a range of the host.
        return Ok(vec![(key(*container.start()), binding(host))]);
    }
    if container.len() != outer.len() {
        let ranges = [&container, &outer].map(|range| format!("{}-{}", range.start(), range.end()));
        return Err(format!("invalid ranges specified for container and host Ports: {} and {}", ranges[0], ranges[1]));
    }
    Ok(container.zip(outer).map(|(inner, outer)| (key(inner), binding(&outer.to_string()))).collect())
}

fn protocol(text: &str) -> Result<(&str, &str), String> {
    match text.split_once('/') {
        None => Ok((text, "tcp")),
        Some((rest, "")) => Ok((rest, "tcp")),
        Some((rest, protocol)) => {
            let known = ["tcp", "udp", "sctp"].into_iter().find(|name| protocol.eq_ignore_ascii_case(name));
            Ok((rest, known.ok_or_else(|| format!("invalid proto: {protocol}"))?))
        }
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, ()> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |part: &str| part.parse::<u16>().map_err(|_| ());
    let range = number(first)?..=number(last)?;
    if range.is_empty() { Err(()) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<Vec<String>, String> {
        Ok(publish(text)?
            .into_iter()
            .map(|(port, host)| format!("{}|{}|{port}", host.host_ip, host.host_port))
            .collect())
    }

    #[test]
    fn every_form_of_publish() {
        for (text, wanted) in [
            ("80", &["||80/tcp"][..]),
            ("8080:80", &["|8080|80/tcp"]),
            ("8080:80/udp", &["|8080|80/udp"]),
            ("127.0.0.1:8080:80", &["127.0.0.1|8080|80/tcp"]),
            ("127.0.0.1::80", &["127.0.0.1||80/tcp"]),
            ("[::1]:8080:80", &["::1|8080|80/tcp"]),
            ("[::1]::80", &["::1||80/tcp"]),
            ("8000-8001:80-81", &["|8000|80/tcp", "|8001|81/tcp"]),
            ("8000-8010:80", &["|8000-8010|80/tcp"]),
            ("target=80,published=8080,protocol=udp,mode=host", &["|8080|80/udp"]),
        ] {
            assert_eq!(shown(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn malformed_ports_are_refused() {
        for (text, error) in [
            ("", "no port specified: <empty>"),
            ("x", "invalid containerPort: x"),
            ("x:80", "invalid hostPort: x"),
            ("99999", "invalid containerPort: 99999"),
            ("80/icmp", "invalid proto: icmp"),
            ("1.2.3:1:80", "invalid IP address: 1.2.3"),
            ("8000-8001:80-82", "invalid ranges specified for container and host Ports: 80-82 and 8000-8001"),
            ("published=1", "missing mandatory field '\"target\"' in 'published=1'"),
        ] {
            assert_eq!(publish(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn exposed_ports_expand() {
        assert_eq!(expose("80-81/udp").unwrap(), ["80/udp", "81/udp"]);
        assert!(expose("81-80").is_err() && expose("x").is_err());
    }
}
