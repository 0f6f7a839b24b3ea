//! `--security-opt`, `--sysctl` and `--ulimit`: their grammars, what is allowed, and what they mean.

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use crate::model::{HostConfig, Map};
use crate::{Context as _, Error, Result};

/// Which seccomp profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The built-in one.
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON, or the path of a file with one.
    Custom(String),
}

/// What `--security-opt` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Seccomp profile.
    pub(crate) seccomp: Profile,
    /// Whether no program can gain privileges. On by default, unlike Docker.
    pub(crate) no_new_privileges: bool,
    /// Whether the container may write its cgroup.
    pub(crate) writable_cgroups: bool,
}

impl Options {
    /// Reads all options, `key=value`, or `key:value` as old clients write it.
    pub(crate) fn parse(host: &HostConfig) -> Result<Self> {
        let seccomp = if host.privileged { Profile::Unconfined } else { Profile::Default };
        let mut options = Options { seccomp, no_new_privileges: !host.privileged, writable_cgroups: host.privileged };
        for option in host.security_opt.iter().flatten() {
            options.set(option)?;
        }
        Ok(options)
    }

    fn set(&mut self, option: &str) -> Result<()> {
        let bad = || Error::invalid(format!("invalid --security-opt 2: {option:?}"));
        let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some(pair) => pair,
            None if option == "no-new-privileges" => (option, "true"),
            None => return Err(bad()),
        };
        match key {
            "seccomp" => self.seccomp = seccomp(value),
            "no-new-privileges" => self.no_new_privileges = boolean(value).ok_or_else(bad)?,
            "writable-cgroups" => self.writable_cgroups = boolean(value).ok_or_else(bad)?,
            "systempaths" if value == "unconfined" => {}
            "apparmor" => apparmor(value)?,
            "label" => label(value)?,
            _ => {
                return Err(bad().hinted(
                    "the options are seccomp=, no-new-privileges, apparmor=, label=, systempaths=unconfined, writable-cgroups=",
                ));
            }
        }
        Ok(())
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn seccomp(value: &str) -> Profile {
    match value {
        "unconfined" => Profile::Unconfined,
        "builtin" | "default" => Profile::Default,
        _ => Profile::Custom(value.to_owned()),
    }
}

fn apparmor(value: &str) -> Result<()> {
    if value == "unconfined" {
        return Ok(());
    }
    let message = format!("--security-opt apparmor={value}: AppArmor profiles are not supported yet");
    Err(Error::not_implemented(message).hinted("leave it out, or use apparmor=unconfined"))
}

fn label(value: &str) -> Result<()> {
    if value == "disable" || value.starts_with("disable") {
        return Ok(());
    }
    Err(Error::not_implemented(format!("--security-opt label={value}: SELinux labels are not available"))
        .hinted("leave it out, or use label=disable"))
}

/// Replaces the path of a seccomp profile by the profile, so that the record does not depend on the file, and checks it.
pub(crate) fn embed_profile(host: &mut HostConfig) -> Result<()> {
    if host.security_opt.is_none() {
        return Ok(());
    }
    let names = super::caps::names(&super::caps::effective(host)?);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for option in host.security_opt.iter_mut().flatten() {
        let Some(value) = option.strip_prefix("seccomp=").or_else(|| option.strip_prefix("seccomp:")) else { continue };
        let Profile::Custom(profile) = seccomp(value) else { continue };
        let json = if profile.trim_start().starts_with('{') { profile } else { read_profile(&profile)? };
        sandbox::seccomp::from_docker_json(&json, &names)
            .map_err(|e| Error::invalid(format!("decoding seccomp profile failed: {e}")))?;
        *option = format!("seccomp={json}");
    }
    Ok(())
}

fn read_profile(path: &str) -> Result<String> {
    const LIMIT: u64 = 4 << 20;
    let data =
        std::fs::metadata(path).map_err(|e| Error::invalid(format!("opening seccomp profile ({path}) failed: {e}")))?;
    if !data.is_file() || data.len() > LIMIT {
        return Err(Error::invalid(format!("opening seccomp profile ({path}) failed: not a file of at most 4 MiB")));
    }
    std::fs::read_to_string(path).step(|| format!("opening seccomp profile ({path}) failed"))
}

const IPC_SYSCTLS: &[&str] = &[
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Allows only parameters of namespaces that are the container's own (Docker's list).
pub(crate) fn check_sysctls(host: &HostConfig) -> Result<()> {
    for (name, value) in &host.sysctls {
        let of_ipc = IPC_SYSCTLS.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
        let of_net = name.starts_with("net.");
        if name.contains("..") || name.contains('/') || value.contains(['\n', '\0']) || !(of_ipc || of_net) {
            return Err(Error::invalid(format!("sysctl '{name}={value}' is not allowed"))
                .hinted("only parameters of the container's own namespaces: net.*, fs.mqueue.*, kernel.shm*, kernel.msg*, kernel.sem"));
        }
        let shared = |mode: &str, own: bool| own && (mode == "host" || mode.starts_with("container:"));
        if shared(&host.network_mode, of_net) {
            return Err(Error::invalid(format!("sysctl '{name}' not allowed in host network namespace")));
        }
        if shared(&host.ipc_mode, of_ipc) {
            return Err(Error::invalid(format!("sysctl '{name}' not allowed in host ipc namespace")));
        }
    }
    Ok(())
}

/// The container's kernel parameters: those asked for and, in a network namespace of its own, Docker's defaults: ports
/// below 1024 need no privilege, and every group (up to `last_group` of the container) may ping, so that neither needs a
/// capability.
pub(crate) fn sysctls(host: &HostConfig, last_group: u32) -> Map<String> {
    let mut all = host.sysctls.clone();
    if host.network_mode != "host" && !host.network_mode.starts_with("container:") {
        let defaults = [
            ("net.ipv4.ip_unprivileged_port_start", "0".to_owned()),
            ("net.ipv4.ping_group_range", format!("0 {last_group}")),
        ];
        for (name, value) in defaults {
            all.entry(name.to_owned()).or_insert(value);
        }
    }
    all
}

fn rlimit_type(name: &str) -> Option<PosixRlimitType> {
    use PosixRlimitType as T;
    Some(match name {
        "core" => T::RlimitCore,
        "cpu" => T::RlimitCpu,
        "data" => T::RlimitData,
        "fsize" => T::RlimitFsize,
        "locks" => T::RlimitLocks,
        "memlock" => T::RlimitMemlock,
        "msgqueue" => T::RlimitMsgqueue,
        "nice" => T::RlimitNice,
        "nofile" => T::RlimitNofile,
        "nproc" => T::RlimitNproc,
        "rss" => T::RlimitRss,
        "rtprio" => T::RlimitRtprio,
        "rttime" => T::RlimitRttime,
        "sigpending" => T::RlimitSigpending,
        "stack" => T::RlimitStack,
        _ => return None,
    })
}

/// Checks `--ulimit` values.
pub(crate) fn check_ulimits(host: &HostConfig) -> Result<()> {
    rlimits(host).map(drop)
}

/// The container's resource limits.
pub(crate) fn rlimits(host: &HostConfig) -> Result<Vec<PosixRlimit>> {
    let mut limits = Vec::new();
    for limit in host.ulimits.iter().flatten() {
        let kind =
            rlimit_type(&limit.name).ok_or_else(|| Error::invalid(format!("invalid ulimit type: {}", limit.name)))?;
        // -1 is "unlimited", which as an unsigned number is the largest.
        let (soft, hard) = (limit.soft as u64, limit.hard as u64);
        if limit.soft < -1 || limit.hard < -1 || soft > hard {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            )));
        }
        let rlimit = PosixRlimitBuilder::default().typ(kind).soft(soft).hard(hard).build();
        limits.push(rlimit.step(|| format!("describe ulimit {}", limit.name))?);
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Ulimit;

    fn options(list: &[&str]) -> Result<Options> {
        let list = list.iter().map(|option| (*option).to_owned()).collect();
        Options::parse(&HostConfig { security_opt: Some(list), ..HostConfig::default() })
    }

    #[test]
    fn defaults_are_strict_and_options_loosen_them() {
        let default = options(&[]).unwrap();
        assert!(default.no_new_privileges && default.seccomp == Profile::Default && !default.writable_cgroups);
        let loose = options(&["seccomp=unconfined", "no-new-privileges=false", "systempaths=unconfined"]).unwrap();
        assert!(!loose.no_new_privileges && loose.seccomp == Profile::Unconfined);
        assert!(options(&["no-new-privileges"]).unwrap().no_new_privileges);
        assert!(options(&["no-new-privileges:true"]).unwrap().no_new_privileges);
        for bad in ["foo", "foo=bar", "systempaths=x", "no-new-privileges=maybe", "label=type:x"] {
            assert!(options(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_parameters_of_own_namespaces() {
        let with = |name: &str, network: &str| HostConfig {
            sysctls: Map::from([(name.to_owned(), "1".to_owned())]),
            network_mode: network.to_owned(),
            ..HostConfig::default()
        };
        check_sysctls(&with("net.core.somaxconn", "none")).unwrap();
        check_sysctls(&with("kernel.shmmax", "none")).unwrap();
        assert!(check_sysctls(&with("net.core.somaxconn", "host")).is_err());
        assert!(check_sysctls(&with("kernel.panic", "none")).is_err());
        assert!(check_sysctls(&with("net.../../kernel.panic", "none")).is_err());
    }

    #[test]
    fn limits() {
        let with = |name: &str, soft, hard| HostConfig {
            ulimits: Some(vec![Ulimit { name: name.to_owned(), soft, hard }]),
            ..HostConfig::default()
        };
        assert_eq!(rlimits(&with("nofile", 1024, -1)).unwrap()[0].hard(), u64::MAX);
        assert!(rlimits(&with("nofile", 10, 5)).is_err());
        assert!(rlimits(&with("nofile", -1, 5)).is_err());
        assert!(rlimits(&with("files", 1, 1)).unwrap_err().message.contains("invalid ulimit type: files"));
    }
}
