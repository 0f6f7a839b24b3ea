//! The host's device under macvlan and ipvlan devices: one that is there, a VLAN of one (`eth0.50`), or, for internal
//! networks, one that leads nowhere.

use linux::netlink::Batch;

use super::{index, new_link, open};
use crate::error::{Context as _, Error, Kind, Result};
use crate::model::{Driver, Network};

/// The number of a network's device, which is made if it can be.
pub(crate) fn ensure(network: &Network) -> Result<u32> {
    let name = &network.device;
    if let Some(index) = index(name)? {
        return Ok(index);
    }
    let mut batch = Batch::default();
    match vlan(name)? {
        _ if is_own(network) => kind(new_link(&mut batch, name), "dummy", |_| {}),
        Some((parent, tag)) => {
            new_link(&mut batch, name).put(libc::IFLA_LINK, &parent.to_ne_bytes());
            const IFLA_VLAN_ID: u16 = 1;
            kind(&mut batch, "vlan", |link| {
                link.put(IFLA_VLAN_ID, &tag.to_ne_bytes());
            });
        }
        None => return Err(missing(name)),
    }
    match open()?.send(&batch) {
        Err(refusal) if refusal.errno() == libc::EEXIST => {}
        sent => sent.step(|| format!("make the device {name} of network {}", network.name))?,
    }
    index(name)?.ok_or_else(|| missing(name))
}

fn missing(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("the device {name} of the host does not exist"))
        .hinted("give one that does with -o parent=DEVICE")
}

fn kind(link: &mut Batch, kind: &str, data: impl FnOnce(&mut Batch)) {
    link.nest(libc::IFLA_LINKINFO, |link| {
        link.put_text(libc::IFLA_INFO_KIND, kind).nest(libc::IFLA_INFO_DATA, data);
    });
}

/// Whether the device is ours alone: there was no parent to name.
pub(crate) fn is_own(network: &Network) -> bool {
    network.options.get("parent").is_none_or(String::is_empty)
}

/// The device under a VLAN's and the VLAN's tag, if the name is `DEVICE.TAG` and the device is there.
fn vlan(name: &str) -> Result<Option<(u32, u16)>> {
    let Some((device, tag)) = name.rsplit_once('.') else { return Ok(None) };
    let Some(tag) = tag.parse().ok().filter(|tag| (1..=4094).contains(tag)) else { return Ok(None) };
    Ok(index(device)?.map(|index| (index, tag)))
}

/// The kernel's words for the mode of a sub-device.
pub(super) fn mode(link: &mut Batch, network: &Network) {
    const MODE: u16 = 1;
    const IPVLAN_FLAGS: u16 = 2;
    if network.driver == Driver::Macvlan {
        let mode: u32 = match network.mode() {
            "private" => 1,
            "vepa" => 2,
            "passthru" => 8,
            _ => 4,
        };
        link.put(MODE, &mode.to_ne_bytes());
        return;
    }
    let mode: u16 = match network.mode() {
        "l3" => 1,
        "l3s" => 2,
        _ => 0,
    };
    let flags: u16 = match network.ipvlan_flag() {
        "private" => 1,
        "vepa" => 2,
        _ => 0,
    };
    link.put(MODE, &mode.to_ne_bytes()).put(IPVLAN_FLAGS, &flags.to_ne_bytes());
}

/// Removes the device of a network if it is ours alone.
pub fn remove(network: &Network) -> Result<()> {
    if is_own(network) { super::bridge::remove(network) } else { Ok(()) }
}
