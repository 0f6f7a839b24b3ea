//! What is in the kernel's firewall: whether our own rules are whole, and whether somebody else's drop what containers
//! send and receive. Nothing is changed here.

use std::collections::HashSet;

use linux::netlink::{Batch, DUMP, Family, Message, Socket, attribute, text};

use super::base;
use super::encode::header;
use crate::error::{Context as _, Result};

const GETCHAIN: u16 = 10 << 8 | 4;
const GETRULE: u16 = 10 << 8 | 7;
/// `NF_INET_FORWARD`.
const FORWARD: u32 = 2;
/// Families of `struct nfgenmsg`.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// Length of `struct nfgenmsg`.
const HEADER: usize = 4;
/// What the names of all our bridges begin with.
const OURS: &str = "kiste";

/// Whether all rules are there. Elements of sets are not looked at.
pub fn is_whole(table: &str) -> Result<bool> {
    let rules = dump(GETRULE, INET, Some(table))?;
    let own = rules.iter().filter(|rule| field(rule, 2) != base::USER).count();
    Ok(own == base::rules())
}

/// Tables of others that drop forwarded packets without having heard of our bridges: a sentence for each, with what to do.
pub fn foreign() -> Result<Vec<String>> {
    let chains = dump(GETCHAIN, 0, None)?;
    let mut tables: Vec<(u8, String)> = chains.iter().filter(|chain| drops(chain)).map(place).collect();
    let has_firewalld = chains.iter().any(|chain| place(chain) == (INET, "firewalld".to_owned()));
    tables.extend(has_firewalld.then(|| (INET, "firewalld".to_owned())));
    tables.retain(|(family, table)| !table.starts_with(OURS) && !knows_us(*family, table));
    let named = |family, table: &str, name: &str| {
        chains.iter().any(|chain| place(chain) == (family, table.to_owned()) && field(chain, 3) == name)
    };
    let mut seen = HashSet::new();
    tables.retain(|table| seen.insert(table.clone()));
    Ok(tables.iter().map(|(family, table)| sentence(*family, table, named(*family, table, "DOCKER-USER"))).collect())
}

/// A chain at the hook for forwarded packets whose last word is to drop.
fn drops(chain: &Message) -> bool {
    let number = |bytes: &[u8]| bytes.try_into().map(u32::from_be_bytes).ok();
    let attributes = chain.body.get(HEADER..).unwrap_or_default();
    let hook = attribute(attributes, 4).and_then(|hook| attribute(hook, 1)).and_then(number);
    let family = chain.body.first().copied().unwrap_or(0);
    matches!(family, INET | IPV4 | IPV6)
        && hook == Some(FORWARD)
        && attribute(attributes, 5).and_then(number) == Some(0)
}

/// Family and table of a chain.
fn place(chain: &Message) -> (u8, String) {
    (chain.body.first().copied().unwrap_or(0), field(chain, 1))
}

fn field(message: &Message, kind: u16) -> String {
    attribute(message.body.get(HEADER..).unwrap_or_default(), kind).map(text).unwrap_or_default()
}

/// Whether a rule of the table names our bridges, whatever it then does with them.
fn knows_us(family: u8, table: &str) -> bool {
    let rules = dump(GETRULE, family, Some(table)).unwrap_or_default();
    rules.iter().any(|rule| rule.body.windows(OURS.len()).any(|bytes| bytes == OURS.as_bytes()))
}

fn sentence(family: u8, table: &str, docker: bool) -> String {
    let program = if family == IPV6 { "ip6tables" } else { "iptables" };
    let word = match family {
        IPV4 => "ip",
        IPV6 => "ip6",
        _ => "inet",
    };
    let accept =
        |chain: &str| format!("{program} -I {chain} -i {OURS}+ -j ACCEPT; {program} -I {chain} -o {OURS}+ -j ACCEPT");
    let remedy = match (table, docker) {
        ("firewalld", _) => {
            "firewall-cmd --zone=trusted --add-interface=kiste0 (and each other bridge; --permanent to keep it)"
                .to_owned()
        }
        (_, true) => accept("DOCKER-USER"),
        ("filter", false) => accept("FORWARD"),
        _ => format!("nft insert rule {word} {table} CHAIN iifname \"{OURS}*\" accept, and the same with oifname"),
    };
    format!("the firewall table {word} {table} of another program drops what containers exchange with others: {remedy}")
}

/// Everything of a kind, of one table or of all.
fn dump(kind: u16, family: u8, table: Option<&str>) -> Result<Vec<Message>> {
    let mut batch = Batch::default();
    batch.message(kind, DUMP, &header(family));
    if let Some(table) = table {
        batch.put_text(1, table);
    }
    let socket = Socket::open(Family::Netfilter).step(|| "open a netlink socket".to_owned())?;
    socket.exchange(&batch).step(|| "read the firewall's rules".to_owned())
}
