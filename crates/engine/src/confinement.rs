//! What a container must not have to be confined: anything of the host's, and anything that loosens what the defaults
//! hold tight. Every field of the host part is named here, so that a new one does not compile before somebody has decided
//! about it.

use crate::Result;
use crate::bounds::forbidden;
use crate::model::{HostConfig, NetworkRequest, Ulimit};
use crate::request::defaults;
use crate::spec::caps;
use crate::table::Container;

/// Driver options of networks that touch nothing of the host's.
const NETWORK_OPTIONS: &[&str] = &[
    "com.docker.network.driver.mtu",
    "com.docker.network.bridge.enable_icc",
    "com.docker.network.container_iface_prefix",
];

/// Limits of processes whose higher values take something from the host.
const HOST_LIMITS: &[&str] = &["rtprio", "nice", "memlock"];

/// Refuses a container that is not confined. What its volumes are and whose namespaces it shares is asked elsewhere.
pub(crate) fn check(container: &Container) -> Result<()> {
    if image::is_host(&container.image) {
        return Err(forbidden("the host's files as an image"));
    }
    for mount in &container.mounts {
        match mount.point.kind.as_str() {
            "volume" | "tmpfs" => {}
            "image" if !image::is_host(&mount.point.source) => {}
            _ => return Err(forbidden(&format!("the host's {} in a container", mount.point.source))),
        }
    }
    check_host(&container.host)
}

fn refuse(asked: bool, what: &str) -> Result<()> {
    if asked { Err(forbidden(what)) } else { Ok(()) }
}

fn given<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

/// Refuses a host part that is not confined.
#[rustfmt::skip]
pub(crate) fn check_host(host: &HostConfig) -> Result<()> {
    let HostConfig {
        // What mounts come of these is judged as mounts.
        binds: _, volumes_from: _, mounts: _, tmpfs: _, volume_driver: _,
        // Of the container's own.
        container_id_file: _, log_config: _, port_bindings: _, publish_all_ports: _, restart_policy: _, auto_remove: _,
        console_size: _, annotations: _, cap_drop: _, dns: _, dns_options: _, dns_search: _, extra_hosts: _, group_add: _,
        links: _, readonly_rootfs: _, storage_opt: _, shm_size: _, runtime: _, isolation: _, init: _,
        // Only what has a namespace of its own is taken at all.
        sysctls: _,
        // Limits can be lowered only.
        cpu_shares: _, memory: _, nano_cpus: _, blkio_weight: _, blkio_weight_device: _, blkio_device_read_bps: _,
        blkio_device_write_bps: _, blkio_device_read_iops: _, blkio_device_write_iops: _, cpu_period: _, cpu_quota: _,
        cpuset_cpus: _, cpuset_mems: _, memory_reservation: _, memory_swap: _, memory_swappiness: _, pids_limit: _,
        privileged, devices, device_cgroup_rules, device_requests, cap_add, security_opt, masked_paths, readonly_paths,
        network_mode, ipc_mode, pid_mode, uts_mode, userns_mode, cgroupns_mode, cgroup, cgroup_parent, oom_score_adj,
        oom_kill_disable, cpu_realtime_period, cpu_realtime_runtime, ulimits,
    } = host;
    refuse(*privileged, "privileged containers")?;
    refuse(given(devices) || given(device_cgroup_rules) || given(device_requests), "devices of the host")?;
    let added = cap_add.iter().flatten().find(|name| !caps::is_default(name));
    refuse(added.is_some(), &format!("capability {}", added.map_or("", String::as_str)))?;
    let loosened = security_opt.iter().flatten().find(|option| !tightens(option));
    refuse(loosened.is_some(), "security options that loosen the defaults")?;
    refuse(shows_more(masked_paths, defaults::MASKED_PATHS), "paths of /proc and /sys that are masked by default")?;
    refuse(shows_more(readonly_paths, defaults::READONLY_PATHS), "paths of /proc that are read-only by default")?;
    for (mode, what) in [(network_mode, "network"), (ipc_mode, "IPC"), (pid_mode, "PID"), (uts_mode, "UTS"),
        (userns_mode, "user"), (cgroupns_mode, "cgroup")] {
        refuse(mode == "host", &format!("the host's {what} namespace"))?;
    }
    // Others map ids of the host's.
    let own = matches!(userns_mode.as_str(), "" | "auto") || userns_mode.starts_with("container:");
    refuse(!own, "ids of the host's in the user namespace")?;
    refuse(!cgroup.is_empty() || !cgroup_parent.is_empty(), "a cgroup of one's choice")?;
    refuse(*oom_score_adj < 0 || *oom_kill_disable == Some(true), "protection from the out-of-memory killer")?;
    refuse(*cpu_realtime_period != 0 || *cpu_realtime_runtime != 0, "real-time scheduling")?;
    let raised = |limit: &Ulimit| HOST_LIMITS.contains(&limit.name.trim_start_matches("RLIMIT_").to_lowercase().as_str());
    refuse(ulimits.iter().flatten().any(raised), "limits that take from the host")
}

/// Options that leave everything as it is by default, or tighter.
fn tightens(option: &str) -> bool {
    matches!(option, "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true" | "seccomp=builtin")
}

/// Whether a list of hidden or read-only paths lacks one of the default's.
fn shows_more(paths: &Option<Vec<String>>, default: &[&str]) -> bool {
    paths.as_ref().is_some_and(|paths| !default.iter().all(|path| paths.iter().any(|one| one == path)))
}

/// Refuses a network that reaches the host's own devices.
pub(crate) fn check_network(request: &NetworkRequest) -> Result<()> {
    refuse(!matches!(request.driver.as_str(), "" | "bridge" | "default"), "networks on devices of the host")?;
    let other = request.options.keys().find(|name| !NETWORK_OPTIONS.contains(&name.as_str()));
    refuse(other.is_some(), &format!("network option {}", other.map_or("", String::as_str)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_confined() {
        let mut host = HostConfig::default();
        defaults::fill_host(&mut host);
        check_host(&host).unwrap();
        host.cap_add = Some(vec!["net_bind_service".to_owned()]);
        host.security_opt = Some(vec!["no-new-privileges".to_owned()]);
        check_host(&host).unwrap();
    }

    #[test]
    fn whatever_loosens_them_is_not() {
        let refused = |change: &dyn Fn(&mut HostConfig)| {
            let mut host = HostConfig::default();
            change(&mut host);
            check_host(&host).unwrap_err();
        };
        let list = |word: &str| Some(vec![word.to_owned()]);
        refused(&|host| host.privileged = true);
        refused(&|host| host.cap_add = list("SYS_ADMIN"));
        refused(&|host| host.cap_add = list("ALL"));
        refused(&|host| host.cap_add = list("cap_net_admin"));
        refused(&|host| host.devices = Some(vec![Default::default()]));
        refused(&|host| host.device_cgroup_rules = list("c 1:1 rwm"));
        refused(&|host| host.device_requests = Some(vec![Default::default()]));
        for option in [
            "seccomp=unconfined",
            "seccomp={}",
            "apparmor=unconfined",
            "no-new-privileges=false",
            "label=disable",
            "systempaths=unconfined",
        ] {
            refused(&|host| host.security_opt = list(option));
        }
        refused(&|host| host.masked_paths = Some(Vec::new()));
        refused(&|host| host.readonly_paths = Some(Vec::new()));
        let own = || "host".to_owned();
        refused(&|host| host.network_mode = own());
        refused(&|host| host.ipc_mode = own());
        refused(&|host| host.pid_mode = own());
        refused(&|host| host.uts_mode = own());
        refused(&|host| host.userns_mode = own());
        refused(&|host| host.cgroupns_mode = own());
        refused(&|host| host.userns_mode = "keep-id:uid=0,gid=0".to_owned());
        refused(&|host| host.cgroup_parent = "/system.slice".to_owned());
        refused(&|host| host.oom_score_adj = -1);
        refused(&|host| host.cpu_realtime_runtime = 1);
        refused(&|host| host.ulimits = Some(vec![Ulimit { name: "rtprio".to_owned(), soft: 1, hard: 1 }]));
    }

    #[test]
    fn networks_stay_off_the_hosts_devices() {
        let request = |driver: &str, option: &str| NetworkRequest {
            driver: driver.to_owned(),
            options: [(option.to_owned(), "x".to_owned())].into(),
            ..NetworkRequest::default()
        };
        check_network(&request("bridge", "com.docker.network.driver.mtu")).unwrap();
        check_network(&request("macvlan", "com.docker.network.driver.mtu")).unwrap_err();
        check_network(&request("", "com.docker.network.bridge.name")).unwrap_err();
        check_network(&request("", "parent")).unwrap_err();
    }
}
