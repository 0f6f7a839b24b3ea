//! Which proxy a request goes through, by the environment variables and the rules of Go's `net/http`, which Docker's users
//! know: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, in capitals or not; never for this machine itself.

use std::net::IpAddr;

use ureq::Proxy;
use ureq::http::Uri;

use super::dns::is_loopback;
use crate::error::{Error, Result};

/// The proxy for a request.
pub(crate) fn for_url(url: &Uri) -> Result<Option<Proxy>> {
    choose(url, |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
}

fn choose(url: &Uri, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>> {
    let host = url.host().unwrap_or("");
    if is_loopback(host) {
        return Ok(None);
    }
    let either = |name: &str| variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
    let own = if url.scheme_str() == Some("http") { "HTTP_PROXY" } else { "HTTPS_PROXY" };
    let Some(address) = either(own).or_else(|| either("ALL_PROXY")) else { return Ok(None) };
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    if either("NO_PROXY").is_some_and(|list| list.split(',').any(|rule| excludes(rule.trim(), host, port))) {
        return Ok(None);
    }
    let bad = |why: &str| Error::Invalid(format!("{own}: {why}; want http://host:port"));
    if !address.contains("://") {
        return Proxy::new(&format!("http://{address}")).map(Some).map_err(|_| bad("malformed proxy"));
    }
    if !address.starts_with("http://") && !address.starts_with("https://") {
        return Err(bad("only http and https proxies are supported"));
    }
    Proxy::new(&address).map(Some).map_err(|_| bad("malformed proxy"))
}

/// Whether one rule of `NO_PROXY` takes a host out: `*`, an address, a network, or a domain with all below it (`.domain`:
/// only what is below).
fn excludes(rule: &str, host: &str, port: u16) -> bool {
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let rule = rule.to_ascii_lowercase();
    if rule == "*" {
        return true;
    }
    if let Some((network, bits)) = rule.split_once('/') {
        let address = (network.parse::<IpAddr>(), bits.parse(), host.parse::<IpAddr>());
        return matches!(address, (Ok(network), Ok(bits), Ok(host)) if contains(network, bits, host));
    }
    let (name, wanted) = match rule.rsplit_once(':') {
        Some((name, number)) if number.parse::<u16>().is_ok() && !name.contains(':') => (name, number.parse().ok()),
        _ => (rule.trim_matches(['[', ']']), None),
    };
    if name.is_empty() || wanted.is_some_and(|wanted: u16| wanted != port) {
        return false;
    }
    let below = name.trim_start_matches('*').trim_start_matches('.');
    let is_below = host.strip_suffix(below).is_some_and(|rest| rest.ends_with('.'));
    is_below || (host == below && !name.starts_with(['.', '*']))
}

/// Whether the network `network/bits` has the address.
pub(super) fn contains(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    let same =
        |one: u128, other: u128, width: u32| bits <= width && (bits == 0 || (one ^ other) >> (width - bits) == 0);
    match (network, address) {
        (IpAddr::V4(one), IpAddr::V4(other)) => same(one.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => same(one.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        choose(&url.parse().unwrap(), find).unwrap().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn by_scheme_and_environment() {
        let all = [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "p:2")];
        assert_eq!(proxy("https://r/v2/", &all).as_deref(), Some("s:1"));
        assert_eq!(proxy("http://r/v2/", &all).as_deref(), Some("p:2"));
        assert_eq!(proxy("https://127.0.0.1:5000/v2/", &all), None);
        assert_eq!(proxy("https://localhost/v2/", &all), None);
        assert_eq!(proxy("https://r/", &[("ALL_PROXY", "http://a:3")]).as_deref(), Some("a:3"));
        assert_eq!(proxy("https://r/", &[]), None);
        let socks = |name: &str| (name == "ALL_PROXY").then(|| "socks5://x:1".to_owned());
        assert!(choose(&"https://r/".parse().unwrap(), socks).is_err());
    }

    #[test]
    fn exceptions() {
        for (rule, host, out) in [
            ("*", "a", true),
            ("example.com", "example.com", true),
            ("example.com", "r.example.com", true),
            ("example.com", "badexample.com", false),
            (".example.com", "r.example.com", true),
            (".example.com", "example.com", false),
            ("*.example.com", "r.example.com", true),
            ("example.com:443", "example.com", true),
            ("example.com:80", "example.com", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("fd00::/8", "[fd00::1]", true),
            ("::1", "[::1]", true),
            ("", "a", false),
        ] {
            assert_eq!(excludes(rule, host, 443), out, "{rule} {host}");
        }
    }
}
