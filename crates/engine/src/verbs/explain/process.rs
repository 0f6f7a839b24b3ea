//! What the kernel tells about one process below `/proc`: its namespaces, id maps, mounts and privileges. The files are
//! the kernel's own, of a process that the caller has identified.

use std::fs;

use serde::Serialize;

use crate::{Context as _, Result};

/// One kind of namespace.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Namespace {
    /// The kernel's word (`mnt`).
    pub kind: &'static str,
    /// What it isolates, in a few words.
    pub isolates: &'static str,
    /// Inode number of the container's.
    pub container: u64,
    /// Inode number of the host's.
    pub host: u64,
    /// Whether the container has its own.
    pub own: bool,
}

/// One range of ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct IdMap {
    /// First id in the container.
    pub container: u32,
    /// First id on the host.
    pub host: u32,
    /// How many.
    pub size: u32,
}

/// One mount, as `/proc/PID/mountinfo` has it (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    /// Where in the container.
    pub target: String,
    /// Which part of the file system.
    pub root: String,
    /// File system type.
    pub kind: String,
    /// The file system's source.
    pub source: String,
    /// Options of this mount.
    pub options: String,
}

/// What a process may do.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Privileges {
    /// Capabilities in force.
    pub effective: Vec<String>,
    /// Capabilities that it could put in force.
    pub permitted: Vec<String>,
    /// Capabilities kept over execve by inheritable files.
    pub inheritable: Vec<String>,
    /// Capabilities that it can ever get.
    pub bounding: Vec<String>,
    /// Capabilities kept over execve.
    pub ambient: Vec<String>,
    /// `disabled`, `strict` or `filter`.
    pub seccomp: &'static str,
    /// Number of filters.
    pub seccomp_filters: u32,
    /// Whether setuid programs gain nothing.
    pub no_new_privileges: bool,
    /// Label of the security module; empty: none.
    pub security_label: String,
}

const NAMESPACES: [(&str, &str); 8] = [
    ("mnt", "which files it sees"),
    ("uts", "host and domain name"),
    ("ipc", "shared memory, semaphores, message queues"),
    ("pid", "which processes it sees, and their numbers"),
    ("net", "interfaces, addresses, ports, routes, firewall"),
    ("user", "who its users are on the host"),
    ("cgroup", "which part of the cgroup tree it sees"),
    ("time", "its monotonic and boot clocks"),
];

/// Every kind of namespace of `pid` beside this process's.
pub(super) fn namespaces(pid: i32) -> Result<Vec<Namespace>> {
    NAMESPACES
        .iter()
        .map(|&(kind, isolates)| {
            let container = namespace(&pid.to_string(), kind)?;
            let host = namespace("self", kind)?;
            Ok(Namespace { kind, isolates, container, host, own: container != host })
        })
        .collect()
}

/// The inode number in the link `/proc/PID/ns/KIND` (namespaces(7)): `mnt:[4026531840]`.
fn namespace(process: &str, kind: &str) -> Result<u64> {
    let path = format!("/proc/{process}/ns/{kind}");
    let link = fs::read_link(&path).step(|| format!("read {path}"))?;
    let digits: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    digits.parse().step(|| format!("parse {path}"))
}

/// `/proc/PID/uid_map` or `gid_map` (user_namespaces(7)).
pub(super) fn id_map(pid: i32, file: &str) -> Result<Vec<IdMap>> {
    let path = format!("/proc/{pid}/{file}");
    Ok(parse_id_map(&fs::read_to_string(&path).step(|| format!("read {path}"))?))
}

fn parse_id_map(text: &str) -> Vec<IdMap> {
    let number = |field: Option<&str>| field.and_then(|n| n.parse().ok());
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (container, host) = (number(fields.next())?, number(fields.next())?);
            Some(IdMap { container, host, size: number(fields.next())? })
        })
        .collect()
}

/// Everything mounted in the process's mount namespace.
pub(super) fn mounts(pid: i32) -> Result<Vec<Mount>> {
    let path = format!("/proc/{pid}/mountinfo");
    let text = fs::read_to_string(&path).step(|| format!("read {path}"))?;
    Ok(text.lines().filter_map(parse_mount).collect())
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let mut file_system = file_system.split(' ');
    Some(Mount {
        root: unescape(mount.next()?),
        target: unescape(mount.next()?),
        options: mount.next()?.to_owned(),
        kind: file_system.next()?.to_owned(),
        source: unescape(file_system.next()?),
    })
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        match rest.get(at + 1..at + 4).and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                plain.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    plain + rest
}

/// `/proc/PID/status`, read once.
pub(super) struct ProcessStatus(String);

/// Reads `/proc/PID/status`.
pub(super) fn read_status(pid: i32) -> Result<ProcessStatus> {
    let path = format!("/proc/{pid}/status");
    fs::read_to_string(&path).map(ProcessStatus).step(|| format!("read {path}"))
}

impl ProcessStatus {
    fn field(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    fn number(&self, name: &str) -> u32 {
        self.field(name).and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    fn capabilities(&self, name: &str) -> Vec<String> {
        let set = self.field(name).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
        capability_names(set)
    }

    /// Its numbers: the last of `NSpid` is its own view.
    pub(super) fn process(&self, pid: i32) -> super::Process {
        let own = self.field("NSpid").and_then(|pids| pids.split_whitespace().next_back()?.parse().ok());
        super::Process { host_pid: pid, container_pid: own.unwrap_or(pid), host_uid: self.number("Uid") }
    }

    /// What it may do.
    pub(super) fn privileges(&self, pid: i32) -> Privileges {
        Privileges {
            effective: self.capabilities("CapEff"),
            permitted: self.capabilities("CapPrm"),
            inheritable: self.capabilities("CapInh"),
            bounding: self.capabilities("CapBnd"),
            ambient: self.capabilities("CapAmb"),
            seccomp: match self.number("Seccomp") {
                0 => "disabled",
                1 => "strict",
                _ => "filter",
            },
            seccomp_filters: self.number("Seccomp_filters"),
            no_new_privileges: self.number("NoNewPrivs") == 1,
            security_label: security_label(pid),
        }
    }
}

/// The security module's label; reading it fails where there is no such module.
fn security_label(pid: i32) -> String {
    let label = fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap_or_default();
    label.trim_end_matches(['\0', '\n']).to_owned()
}

/// Names of all capabilities by number (linux/capability.h).
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

fn capability_names(set: u64) -> Vec<String> {
    (0..64)
        .filter(|bit| set & (1 << bit) != 0)
        .map(|bit| CAPABILITIES.get(bit).map_or_else(|| format!("CAP_{bit}"), |name| (*name).to_owned()))
        .collect()
}

/// Proportional memory (PSS) of a process, bytes.
pub(super) fn proportional_memory(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_namespaces_are_the_hosts() {
        let all = namespaces(std::process::id() as i32).unwrap();
        assert_eq!(all.len(), 8);
        assert!(all.iter().all(|namespace| !namespace.own && namespace.host > 0));
    }

    #[test]
    fn id_maps_are_parsed() {
        let map = parse_id_map("         0 2147483648      65536\n     65536          5          1\n");
        assert_eq!(map[0], IdMap { container: 0, host: 2_147_483_648, size: 65536 });
        assert_eq!(map[1], IdMap { container: 65536, host: 5, size: 1 });
    }

    #[test]
    fn mounts_are_parsed_with_escapes_and_optional_fields() {
        let line = r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse_mount(line).unwrap();
        assert_eq!(mount.target, "/mnt 2");
        assert_eq!((mount.root.as_str(), mount.kind.as_str(), mount.source.as_str()), ("/mnt1", "ext3", "/dev/root"));
        assert_eq!(mount.options, "rw,noatime");
    }

    #[test]
    fn capabilities_have_names_and_unknown_ones_numbers() {
        assert_eq!(capability_names(0b1), ["CAP_CHOWN"]);
        assert_eq!(capability_names(1 << 40), ["CAP_CHECKPOINT_RESTORE"]);
        assert_eq!(capability_names(1 << 50), ["CAP_50"]);
    }
}
