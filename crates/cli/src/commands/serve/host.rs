//! What `--host` says: where to listen, and with words behind commas what the clients of that socket may do and who may
//! be one.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use api::Policy;

use crate::failure::{Failure, Result};

/// One `--host`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) address: Address,
    pub(super) policy: Policy,
    pub(super) mode: Option<u32>,
    pub(super) group: Option<String>,
}

/// Where to listen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
    /// Sockets of systemd with that `FileDescriptorName=`; all if empty.
    Inherited(String),
}

impl Host {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut words = text.split(',');
        let address = address(words.next().unwrap_or_default())?;
        let mut host = Host { address, policy: Policy::default(), mode: None, group: None };
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("mode", bits) => host.mode = Some(mode(bits).map_err(Failure::new)?),
                ("group", name) if !name.is_empty() => host.group = Some(name.to_owned()),
                _ if host.policy.add(word) => {}
                _ => {
                    let message = format!("invalid option {word:?} of --host {text}");
                    let known = "the options are read-only, confined, label=NAME=VALUE, mode=660 and group=NAME";
                    return Err(Failure::new(format!("{message}: {known}")));
                }
            }
        }
        if (host.mode.is_some() || host.group.is_some()) && !matches!(host.address, Address::Unix(_)) {
            return Err(Failure::new(format!("--host {text}: only a unix socket that is made has a mode and a group")));
        }
        Ok(host)
    }
}

fn address(text: &str) -> Result<Address> {
    let wrong =
        || Failure::new(format!("cannot listen on {text}: it is unix:///PATH, tcp://ADDRESS:PORT or fd://[NAME]"));
    match text.split_once("://").ok_or_else(wrong)? {
        ("unix", path) if path.starts_with('/') => Ok(Address::Unix(path.into())),
        ("tcp", address) => {
            let address = address.replace("localhost:", "127.0.0.1:");
            Ok(Address::Tcp(address.parse().map_err(|_| wrong())?))
        }
        ("fd", name) => Ok(Address::Inherited(name.to_owned())),
        _ => Err(wrong()),
    }
}

pub(super) fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o777 == 0);
    mode.ok_or_else(|| format!("{text:?} are no permission bits: for example 660"))
}

/// Whoever connects is as good as root: without TLS only processes of this machine may.
pub(super) fn check_plain(address: SocketAddr) -> Result<(), String> {
    match address.ip().is_loopback() {
        true => Ok(()),
        false => Err("TCP beyond this machine needs --tlsverify with --tlscacert, --tlscert and --tlskey".to_owned()),
    }
}

/// A group by number, or by name in the host's group(5).
pub(super) fn group(name: &str) -> Result<u32, String> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let line = groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name);
    let id = line.and_then(|fields| fields.get(2)?.parse().ok());
    id.ok_or_else(|| format!("unable to find group {name}: no matching entries in group file"))
}

/// A socket that was opened before us.
pub(super) struct Inherited {
    pub(super) name: String,
    pub(super) descriptor: OwnedFd,
}

/// The sockets that systemd hands over (sd_listen_fds(3)).
pub(super) fn inherited() -> Vec<Inherited> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("LISTEN_PID") != std::process::id().to_string() {
        return Vec::new();
    }
    let names = variable("LISTEN_FDNAMES");
    let mut names = names.split(':').map(str::to_owned);
    let descriptors = linux::process::inherited(variable("LISTEN_FDS").parse().unwrap_or(0));
    let named = |descriptor| Inherited { name: names.next().unwrap_or_default(), descriptor };
    descriptors.into_iter().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_say_where_and_what() {
        let host = Host::parse("unix:///run/x.sock,label=team=a,mode=600,group=ci").unwrap();
        assert_eq!(host.address, Address::Unix("/run/x.sock".into()));
        assert_eq!((host.mode, host.group.as_deref()), (Some(0o600), Some("ci")));
        assert!(host.policy.bounds.confined && !host.policy.read_only);
        assert_eq!(Host::parse("tcp://localhost:2376").unwrap().address, Address::Tcp(([127, 0, 0, 1], 2376).into()));
        assert_eq!(Host::parse("fd://").unwrap().address, Address::Inherited(String::new()));
        for bad in [
            "",
            "/x",
            "unix://x",
            "tcp://x",
            "npipe://x",
            "unix:///x,bogus",
            "unix:///x,mode=9",
            "tcp://[::1]:1,mode=600",
        ] {
            Host::parse(bad).unwrap_err();
        }
    }

    #[test]
    fn without_tls_nobody_else_is_reached() {
        assert!(check_plain("127.0.0.1:2375".parse().unwrap()).is_ok());
        assert!(check_plain("[::1]:2375".parse().unwrap()).is_ok());
        assert!(check_plain("0.0.0.0:2375".parse().unwrap()).is_err());
        assert!(check_plain("192.0.2.1:2375".parse().unwrap()).is_err());
    }
}
