//! Network devices of the host that become the container's (`linux.netDevices`): moved, renamed, with the addresses that
//! somebody has given them, and up. They go with the network namespace; who wants them back must take care of that.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use linux::clone::Child;
use linux::namespace::Kinds;
use linux::netlink::{ACK, Batch, CREATE, DUMP, EXCLUSIVE, Family, Message, Refusal, Socket, attribute};
use oci_spec::runtime::Linux;

use super::Error;
use super::namespaces::Namespaces;
use super::step::{Step, describe};

/// Longest name of a device with the zero that ends it (`IFNAMSIZ`).
const NAME_LIMIT: usize = 16;
/// Bytes of `struct ifinfomsg` and `struct ifaddrmsg`.
const LINK: usize = 16;
const ADDRESS: usize = 8;
/// `IFA_F_PERMANENT`: not one of DHCP or router advertisements.
const PERMANENT: u8 = 0x80;
/// `RT_SCOPE_UNIVERSE`: not only valid on this host or link.
const GLOBAL: u8 = 0;

/// Whether there are devices to be moved.
pub(super) fn has_some(linux: &Linux) -> bool {
    linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())
}

/// What can be said before anything is made.
pub(super) fn check(linux: &Linux, namespaces: &Namespaces) -> Result<(), Error> {
    let invalid = |text: String| Err(Error::Invalid(format!("linux.netDevices: {text}")));
    if has_some(linux) && !namespaces.separate(Kinds::NETWORK) {
        return invalid("unable to move network devices without a NET namespace".into());
    }
    if has_some(linux) && crate::rootless::is_rootless() {
        return invalid("network devices are not supported for rootless containers".into());
    }
    for (name, device) in linux.net_devices().iter().flatten() {
        for name in [Some(name), device.name().as_ref().filter(|name| !name.is_empty())].into_iter().flatten() {
            let valid = (1..NAME_LIMIT).contains(&name.len()) && name != "." && name != "..";
            if !valid || name.contains(['/', ':', '\0']) || name.contains(char::is_whitespace) {
                return invalid(format!("invalid network device name {name:?}"));
            }
        }
    }
    Ok(())
}

/// Moves all into the network namespace of the child.
pub(super) fn give(linux: &Linux, child: &Child) -> Result<(), Error> {
    let path = format!("/proc/{}/ns/net", child.pid);
    let namespace: OwnedFd = std::fs::File::open(&path).step(|| format!("open {path}"))?.into();
    let host = Socket::open(Family::Route).step(|| "open a netlink socket".into())?;
    let inside = open_inside(&namespace)?;
    for (name, device) in linux.net_devices().iter().flatten() {
        let wanted = device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(name);
        let step = |(step, refusal): (&str, Refusal)| {
            Error::Step(format!("linux.netDevices: {step} {name}: {}", describe(&refusal.error)))
        };
        give_one(&host, &inside, &namespace, name, wanted).map_err(step)?;
    }
    Ok(())
}

/// A socket belongs to the namespace in which it was opened.
fn open_inside(namespace: &OwnedFd) -> Result<Socket, Error> {
    let what = || "open a netlink socket in the container's network namespace".to_owned();
    let own: OwnedFd = std::fs::File::open("/proc/self/ns/net").step(what)?.into();
    linux::namespace::join(namespace.as_fd(), Kinds::NETWORK).step(what)?;
    let socket = Socket::open(Family::Route);
    linux::namespace::join(own.as_fd(), Kinds::NETWORK).step(|| "return to the own network namespace".into())?;
    socket.step(what)
}

/// Like runc's `devChangeNetNamespace`: what fails is named.
fn give_one(
    host: &Socket,
    inside: &Socket,
    namespace: &OwnedFd,
    name: &str,
    wanted: &str,
) -> Result<(), (&'static str, Refusal)> {
    let index = find(host, name).map_err(|error| ("find network device", error))?;
    // The kernel would move it first and then find that it cannot be called so. `%d` asks for a free number.
    if !wanted.contains('%') && find(inside, wanted).is_ok() {
        let exists = std::io::Error::from_raw_os_error(libc::EEXIST);
        return Err(("move into the container's network namespace", exists.into()));
    }
    let addresses = addresses(host, index).map_err(|error| ("list the addresses of", error))?;
    set_up(host, index, false).map_err(|error| ("take down", error))?;
    let before = indices(inside).map_err(|error| ("list the devices beside", error))?;
    let mut batch = Batch::default();
    let number = namespace.as_raw_fd().to_ne_bytes();
    batch.message(libc::RTM_NEWLINK, ACK, &link(index, 0, 0));
    batch.put_text(libc::IFLA_IFNAME, wanted).put(libc::IFLA_NET_NS_FD, &number);
    host.send(&batch).map_err(|error| ("move into the container's network namespace", error))?;
    let after = indices(inside).map_err(|error| ("find again", error))?;
    let index = after.into_iter().find(|index| !before.contains(index)).unwrap_or(index);
    for address in &addresses {
        add_address(inside, index, address).map_err(|error| ("give its addresses again to", error))?;
    }
    set_up(inside, index, true).map_err(|error| ("bring up", error))
}

/// `struct ifinfomsg`.
fn link(index: u32, flags: u32, change: u32) -> [u8; LINK] {
    let mut header = [0; LINK];
    for (at, word) in [(4, index), (8, flags), (12, change)] {
        header[at..at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    header
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}

fn find(socket: &Socket, name: &str) -> Result<u32, Refusal> {
    let mut batch = Batch::default();
    batch.message(libc::RTM_GETLINK, 0, &[0; LINK]).put_text(libc::IFLA_IFNAME, name);
    let found = socket.exchange(&batch)?;
    found
        .first()
        .map(|message| word(&message.body, 4))
        .ok_or_else(|| std::io::Error::from_raw_os_error(libc::ENODEV).into())
}

fn indices(socket: &Socket) -> Result<Vec<u32>, Refusal> {
    let mut batch = Batch::default();
    batch.message(libc::RTM_GETLINK, DUMP, &[0; LINK]);
    Ok(socket.exchange(&batch)?.iter().map(|message| word(&message.body, 4)).collect())
}

/// The permanent addresses of global scope.
fn addresses(socket: &Socket, index: u32) -> Result<Vec<Message>, Refusal> {
    let mut batch = Batch::default();
    batch.message(libc::RTM_GETADDR, DUMP, &[0; ADDRESS]);
    let mut all = socket.exchange(&batch)?;
    all.retain(|message| {
        let header = &message.body;
        let kept = header.get(2).is_some_and(|flags| flags & PERMANENT != 0) && header.get(3) == Some(&GLOBAL);
        kept && word(header, 4) == index
    });
    Ok(all)
}

fn add_address(socket: &Socket, index: u32, address: &Message) -> Result<(), Refusal> {
    let (header, attributes) = address.body.split_at(ADDRESS);
    let mut fixed = [header[0], header[1], PERMANENT, GLOBAL, 0, 0, 0, 0];
    fixed[4..].copy_from_slice(&index.to_ne_bytes());
    let mut batch = Batch::default();
    batch.message(libc::RTM_NEWADDR, ACK | CREATE | EXCLUSIVE, &fixed);
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS, libc::IFA_BROADCAST] {
        if let Some(value) = attribute(attributes, kind) {
            batch.put(kind, value);
        }
    }
    socket.send(&batch)
}

fn set_up(socket: &Socket, index: u32, up: bool) -> Result<(), Refusal> {
    let flag = libc::IFF_UP as u32;
    let mut batch = Batch::default();
    batch.message(libc::RTM_NEWLINK, ACK, &link(index, if up { flag } else { 0 }, flag));
    socket.send(&batch)
}
