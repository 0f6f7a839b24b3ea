//! Which program of the host has a port: for error messages only, so it may take its time.

use std::fs;

use crate::model::Protocol;

/// `NAME (PID)` of a process that has a socket on this port.
pub(crate) fn of_port(protocol: Protocol, port: u16) -> Option<String> {
    let tables = ["", "6"].map(|family| format!("/proc/net/{}{family}", protocol.name()));
    let inodes: Vec<String> = tables.iter().flat_map(|table| inodes(table, port)).collect();
    let targets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let processes = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut numbers = processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    numbers.find(|pid| has_one(pid, &targets)).map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!("{} (process {pid})", name.trim_end())
    })
}

/// Inodes of sockets on a local port that listen or are bound, from a table like `/proc/net/tcp` (proc_net(5)).
fn inodes(table: &str, port: u16) -> Vec<String> {
    let text = fs::read_to_string(table).unwrap_or_default();
    let matches = |line: &str| -> Option<String> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = fields.get(1)?.rsplit(':').next()?;
        // 0A listens, 07 is what bound UDP sockets show.
        let bound = matches!(*fields.get(3)?, "0A" | "07");
        (bound && u16::from_str_radix(local, 16) == Ok(port)).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    };
    text.lines().skip(1).filter_map(matches).collect()
}

fn has_one(pid: &str, targets: &[String]) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.any(|link| targets.iter().any(|target| link.as_os_str() == target.as_str()))
}
