//! What an engine needs beside its containers: proportional set sizes of its helper processes and of its daemons.

use std::fs;

use super::engines::Engine;

/// Kibibytes of proportional set size.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Memory {
    /// The processes that are there once for each container.
    pub monitors: u64,
    /// The processes that are there anyway.
    pub daemons: u64,
}

/// Sums over the processes of one engine. Peers are told by their programs' names and, because others may run the same,
/// by sharing this process's mount namespace.
pub(super) fn of(engine: &Engine) -> Memory {
    let mut memory = Memory::default();
    for pid in processes() {
        let Ok(command) = fs::read_to_string(format!("/proc/{pid}/cmdline")) else { continue };
        let words: Vec<&str> = command.split('\0').collect();
        let program = words[0].rsplit('/').next().unwrap_or_default();
        let (monitor, daemon) = match engine.name.as_str() {
            "kiste" => (words.contains(&"monitor") && command.contains(engine.mark()), false),
            "docker" => (program.starts_with("containerd-shim"), matches!(program, "dockerd" | "containerd")),
            _ => (program == "conmon", false),
        };
        if engine.name != "kiste" && !shares_mounts(&pid) {
            continue;
        }
        memory.monitors += if monitor { proportional_size(&pid) } else { 0 };
        memory.daemons += if daemon { proportional_size(&pid) } else { 0 };
    }
    memory
}

fn processes() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
}

fn shares_mounts(pid: &str) -> bool {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    namespace(pid).is_some_and(|theirs| namespace("self") == Some(theirs))
}

/// Kibibytes; 0 for a process that has ended.
pub(super) fn proportional_size(pid: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
