//! Which capabilities a container gets: the default set, `--cap-add`, `--cap-drop`, `--privileged`, by Docker's rules.

use std::str::FromStr as _;

use oci_spec::runtime::{Capability, LinuxCapabilities};

use crate::model::HostConfig;
use crate::{Error, Result};

/// What a container gets by default: Podman's set, which is Docker's without MKNOD, NET_RAW and AUDIT_WRITE.
const DEFAULT: &[Capability] = &[
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Whether a word of `--cap-add` names a capability that containers have by default.
pub(crate) fn is_default(word: &str) -> bool {
    matches!(parse_word(word, "CapAdd"), Ok(Word::One(cap)) if DEFAULT.contains(&cap))
}

/// Every capability by its number in the kernel (capability.h).
pub(crate) const BY_NUMBER: &[Capability] = &[
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// One word of `--cap-add` or `--cap-drop`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    All,
    One(Capability),
}

fn parse(words: Option<&Vec<String>>, field: &str) -> Result<Vec<Word>> {
    words.into_iter().flatten().map(|word| parse_word(word, field)).collect()
}

fn parse_word(word: &str, field: &str) -> Result<Word> {
    let upper = word.trim().to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if upper == "ALL" || upper == "CAP_ALL" {
        return Ok(Word::All);
    }
    Capability::from_str(bare).map(Word::One).map_err(|_| {
        Error::invalid(format!("invalid {field}: unknown capability: \"CAP_{bare}\""))
            .hinted("capabilities(7) lists the names")
    })
}

/// The container's capabilities, in the order of their numbers. Docker's rules: `--cap-add ALL` is everything but what
/// is dropped, `--cap-drop ALL` nothing but what is added.
pub(crate) fn effective(host: &HostConfig) -> Result<Vec<Capability>> {
    let add = parse(host.cap_add.as_ref(), "CapAdd")?;
    let drop = parse(host.cap_drop.as_ref(), "CapDrop")?;
    let added = |cap: Capability| add.contains(&Word::One(cap));
    let dropped = |cap: Capability| drop.contains(&Word::One(cap));
    let keep = |cap: Capability| {
        if host.privileged {
            true
        } else if add.contains(&Word::All) {
            !dropped(cap)
        } else if drop.contains(&Word::All) {
            added(cap)
        } else {
            added(cap) || DEFAULT.contains(&cap) && !dropped(cap)
        }
    };
    // Every kernel knows the default ones.
    let known = if host.privileged || !add.is_empty() { last_known() } else { BY_NUMBER.len() };
    Ok(BY_NUMBER
        .iter()
        .copied()
        .enumerate()
        .filter(|(number, cap)| *number <= known && keep(*cap))
        .map(|(_, cap)| cap)
        .collect())
}

/// What of `wanted` the caller itself has, where no namespace gives more: "all" of a privileged container means all that
/// there is to give. A capability that was named stays, so that its lack is an error and no surprise.
pub(crate) fn held(wanted: Vec<Capability>, host: &HostConfig) -> Vec<Capability> {
    let named = parse(host.cap_add.as_ref(), "CapAdd").unwrap_or_default();
    let bounding = bounding_set();
    let has =
        |cap: &Capability| BY_NUMBER.iter().position(|known| known == cap).is_some_and(|n| bounding >> n & 1 == 1);
    wanted.into_iter().filter(|cap| has(cap) || named.contains(&Word::One(*cap))).collect()
}

/// The caller's bounding set, bit by number.
fn bounding_set() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(u64::MAX)
}

/// Number of the newest capability that the running kernel knows.
fn last_known() -> usize {
    let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
    text.trim().parse().unwrap_or(BY_NUMBER.len() - 1)
}

/// The five sets: nothing inheritable or ambient, so that a process of another user starts without any (as Docker).
pub(crate) fn sets(capabilities: &[Capability]) -> LinuxCapabilities {
    let all: std::collections::HashSet<Capability> = capabilities.iter().copied().collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(all.clone()));
    sets.set_permitted(Some(all.clone()));
    sets.set_effective(Some(all));
    sets.set_inheritable(None);
    sets.set_ambient(None);
    sets
}

/// `CAP_…` names.
pub(crate) fn names(capabilities: &[Capability]) -> Vec<String> {
    capabilities.iter().map(|capability| format!("CAP_{capability}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(add: &[&str], drop: &[&str]) -> Vec<String> {
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        names(&effective(&HostConfig { cap_add: words(add), cap_drop: words(drop), ..HostConfig::default() }).unwrap())
    }

    #[test]
    fn default_is_podmans_eleven() {
        let default = result(&[], &[]);
        assert_eq!(default.len(), 11);
        assert!(!default.contains(&"CAP_MKNOD".to_owned()) && !default.contains(&"CAP_NET_RAW".to_owned()));
    }

    #[test]
    fn adding_and_dropping() {
        assert_eq!(result(&["net_admin"], &["all"]), ["CAP_NET_ADMIN"]);
        assert!(!result(&["ALL"], &["CAP_SYS_ADMIN"]).contains(&"CAP_SYS_ADMIN".to_owned()));
        assert!(result(&["ALL"], &[]).contains(&"CAP_SYS_ADMIN".to_owned()));
        assert!(result(&["CAP_SYS_TIME"], &[]).contains(&"CAP_SYS_TIME".to_owned()));
        assert!(!result(&[], &["chown"]).contains(&"CAP_CHOWN".to_owned()));
    }

    #[test]
    fn unknown_names_are_dockers_error() {
        let host = HostConfig { cap_add: Some(vec!["foo".to_owned()]), ..HostConfig::default() };
        assert_eq!(effective(&host).unwrap_err().message, "invalid CapAdd: unknown capability: \"CAP_FOO\"");
    }

    #[test]
    fn names_are_what_the_specification_writes() {
        for capability in BY_NUMBER {
            let json = serde_json::to_value(capability).unwrap();
            assert_eq!(json.as_str().unwrap(), format!("CAP_{capability}"));
        }
    }
}
