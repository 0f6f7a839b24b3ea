//! The firewall: one nf_tables table of our own, spoken to over netlink. A network is a handful of elements in it, a
//! published port is one, so that a start is one small transaction however many others there are.

mod base;
mod elements;
mod encode;
mod look;
mod redirect;

use std::path::Path;

use linux::netlink::{Batch, Family, Refusal, Socket};
use records::rusqlite::Connection;

use crate::error::{Error, Kind, Result};
use crate::model::{Attachment, Network};
use encode::Transaction;
pub use look::{foreign, is_whole};
pub(crate) use redirect::mark_transparent;
pub use redirect::redirect_questions;

/// The root directory whose names are short.
const USUAL_ROOT: &str = "/var/lib/kiste";

/// What the names of the table and of bridges carry so that several roots can share a network namespace; nothing for
/// the usual root.
fn suffix(connection: &Connection) -> String {
    let root = connection.path().map(Path::new).and_then(Path::parent).unwrap_or(Path::new(""));
    if root == Path::new(USUAL_ROOT) {
        return String::new();
    }
    // FNV-1a
    let hash = root
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("-{hash:08x}")
}

/// Name of the table of these records.
pub fn table(connection: &Connection) -> String {
    format!("kiste{}", suffix(connection))
}

/// Name of the default network's bridge.
pub(crate) fn default_bridge(connection: &Connection) -> String {
    format!("kiste0{}", suffix(connection))
}

/// Adds the networks of an attachment and its ports; false if the table is not there (or not whole), which
/// [`install`] makes. Nothing is sent if there is nothing to add.
pub fn publish(attachment: &Attachment, networks: bool) -> Result<bool> {
    let mut transaction = Transaction::new(&attachment.table);
    if networks {
        let networks = attachment.endpoints.iter().map(|endpoint| &endpoint.network);
        networks.for_each(|network| elements::add_network(&mut transaction, network));
    }
    let ports = elements::add_ports(&mut transaction, attachment);
    if !networks && !ports {
        return Ok(true);
    }
    match send(&transaction.finish())? {
        Ok(()) => Ok(true),
        Err(refusal) if refusal.errno() == libc::ENOENT => Ok(false),
        Err(refusal) => Err(failure("publish ports", &refusal)),
    }
}

/// Takes the ports of an attachment away; no error if somebody else has.
pub fn withdraw(attachment: &Attachment) -> Result<()> {
    let mut transaction = Transaction::new(&attachment.table);
    if !elements::remove_ports(&mut transaction, attachment) {
        return Ok(());
    }
    match send(&transaction.finish())? {
        Ok(()) => Ok(()),
        Err(refusal) if refusal.errno() == libc::ENOENT => withdraw_singly(attachment),
        Err(refusal) => Err(failure("withdraw published ports", &refusal)),
    }
}

/// Some are gone already: a transaction for each of the others.
fn withdraw_singly(attachment: &Attachment) -> Result<()> {
    for port in &attachment.ports {
        let mut transaction = Transaction::new(&attachment.table);
        let one = Attachment { ports: vec![*port], ..attachment.clone() };
        if elements::remove_ports(&mut transaction, &one) {
            match send(&transaction.finish())? {
                Err(refusal) if refusal.errno() != libc::ENOENT => {
                    return Err(failure("withdraw published ports", &refusal));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Adds a network that has just been made; false if the table is not there.
pub fn add_network(table: &str, network: &Network) -> Result<bool> {
    let mut transaction = Transaction::new(table);
    elements::add_network(&mut transaction, network);
    match send(&transaction.finish())? {
        Ok(()) => Ok(true),
        Err(refusal) if refusal.errno() == libc::ENOENT => Ok(false),
        Err(refusal) => Err(failure("add the network to the firewall", &refusal)),
    }
}

/// Takes a network away; no error if somebody else has.
pub fn remove_network(table: &str, network: &Network) -> Result<()> {
    let mut transaction = Transaction::new(table);
    elements::remove_network(&mut transaction, network);
    match send(&transaction.finish())? {
        Err(refusal) if refusal.errno() != libc::ENOENT => {
            Err(failure("take the network out of the firewall", &refusal))
        }
        _ => Ok(()),
    }
}

/// Makes the table with these networks and the ports of these containers, and nothing else; what is right already stays
/// in force throughout. The administrator's own chain is left as it is.
pub fn install(table: &str, networks: &[Network], attachments: &[Attachment]) -> Result<()> {
    let mut transaction = Transaction::new(table);
    base::install(&mut transaction);
    base::SETS.iter().for_each(|(name, ..)| transaction.flush_set(name));
    networks.iter().for_each(|network| elements::add_network(&mut transaction, network));
    for attachment in attachments {
        elements::add_ports(&mut transaction, attachment);
    }
    send(&transaction.finish())?.map_err(|refusal| failure("make the firewall's table", &refusal))
}

/// Removes the table, if it is there.
pub fn remove(table: &str) -> Result<()> {
    let mut transaction = Transaction::new(table);
    transaction.delete_table();
    match send(&transaction.finish())? {
        Err(refusal) if refusal.errno() != libc::ENOENT => Err(failure("remove the firewall's table", &refusal)),
        _ => Ok(()),
    }
}

/// Sends a transaction. The outer error: this kernel has no nf_tables.
fn send(batch: &Batch) -> Result<std::result::Result<(), Refusal>> {
    let socket = Socket::open(Family::Netfilter).map_err(|cause| missing(&cause))?;
    match socket.send(batch) {
        Err(refusal)
            if matches!(refusal.errno(), libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EINVAL)
                && refusal.index == 0 =>
        {
            Err(missing(&refusal.error))
        }
        sent => Ok(sent),
    }
}

fn missing(cause: &std::io::Error) -> Error {
    Error::new(Kind::Unsupported, format!("this kernel has no nf_tables, which networks need: {cause}"))
        .hinted("load it (modprobe nf_tables), or do without a network of its own: --network host or --network none")
}

fn failure(step: &str, refusal: &Refusal) -> Error {
    let error = Error::new(Kind::Internal, format!("{step}: message {} to nf_tables: {refusal}", refusal.index));
    match refusal.errno() {
        libc::EOPNOTSUPP | libc::ENOENT | libc::EPROTONOSUPPORT => error.hinted(
            "the kernel lacks a part of nf_tables (nft_nat, nft_masq, nft_fib_inet, nft_ct): load it, or use --network host",
        ),
        _ => error,
    }
}
