//! `info` and `version`, in Docker's JSON (`SystemInfo` and `SystemVersion` of the Engine API). What Docker has and
//! Kiste has not (swarm, plugins, containerd) says so in the way in which clients expect it.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use linux::namespace::is_rootless;
use sandbox::cgroup;

use crate::model::Status;
use crate::{Engine, ListRequest, Result, clock};

/// API versions, newest and oldest, whose documents the engine's answers follow.
const API_VERSIONS: (&str, &str) = ("1.51", "1.24");

impl Engine {
    /// Docker's `SystemInfo` document.
    pub fn info(&self) -> Result<Value> {
        let containers = self.list(&ListRequest { all: true, ..ListRequest::default() })?;
        let count = |status: Status| containers.iter().filter(|row| row.status == status).count();
        let (running, paused) = (count(Status::Running) + count(Status::Restarting), count(Status::Paused));
        let mut info = self.host_info();
        let storage = self.images().driver()?;
        let counts = json!({
            "Containers": containers.len(),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": containers.len() - running - paused,
            "Images": self.list_images(true, &Default::default())?.len(),
            "Warnings": warnings(),
            "Driver": storage.driver.to_string(),
            "DriverStatus": [["Reason", storage.reason], ["Native Overlay Diff", "true"]],
        });
        if let (Value::Object(info), Value::Object(counts)) = (&mut info, counts) {
            info.extend(counts);
        }
        Ok(info)
    }

    /// Docker's `SystemVersion` document.
    pub fn version(&self) -> Value {
        let kernel = rustix::system::uname();
        let (release, version) = (text(kernel.release()), env!("CARGO_PKG_VERSION"));
        json!({
            "Platform": { "Name": "Kiste" },
            "Version": version,
            "ApiVersion": API_VERSIONS.0,
            "MinAPIVersion": API_VERSIONS.1,
            "Os": "linux",
            "Arch": go_architecture(),
            "KernelVersion": release,
            "GoVersion": "",
            "GitCommit": "",
            "BuildTime": "",
            "Components": [{
                "Name": "Engine",
                "Version": version,
                "Details": {
                    "ApiVersion": API_VERSIONS.0,
                    "MinAPIVersion": API_VERSIONS.1,
                    "Arch": go_architecture(),
                    "Os": "linux",
                    "KernelVersion": release,
                    "Experimental": "false",
                    "GoVersion": "",
                    "GitCommit": "",
                    "BuildTime": "",
                },
            }],
        })
    }

    /// What does not depend on containers and images.
    fn host_info(&self) -> Value {
        let kernel = rustix::system::uname();
        json!({
            "ID": host_id(),
            "Name": text(kernel.nodename()),
            "ServerVersion": env!("CARGO_PKG_VERSION"),
            "KernelVersion": text(kernel.release()),
            "OperatingSystem": operating_system("PRETTY_NAME"),
            "OSVersion": operating_system("VERSION_ID"),
            "OSType": "linux",
            "Architecture": text(kernel.machine()),
            "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
            "MemTotal": total_memory(),
            "DockerRootDir": self.root(),
            "LoggingDriver": "json-file",
            "CgroupDriver": if cgroup::is_available() { "cgroupfs" } else { "none" },
            "CgroupVersion": if is_v2() { "2" } else { "1" },
            "Plugins": { "Volume": ["local"], "Network": ["host", "none"], "Authorization": null, "Log": ["json-file", "local", "none"] },
            "SystemTime": clock::rfc3339(clock::now()),
            "SecurityOptions": security_options(),
            "Runtimes": { "kiste": { "path": "kiste" } },
            "RuncCommit": { "ID": "" },
            "ContainerdCommit": { "ID": "" },
            "InitCommit": { "ID": "" },
            "GenericResources": null,
            "FirewallBackend": { "Driver": "nftables" },
            "DefaultRuntime": "kiste",
            "Swarm": { "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null },
            "LiveRestoreEnabled": true,
            "InitBinary": "built in",
            "Debug": false,
            "NFd": 0,
            "NGoroutines": 0,
            "NEventsListener": 0,
            "MemoryLimit": cgroup::is_available(),
            "SwapLimit": cgroup::is_available() && has_swap_limit(),
            "CpuCfsPeriod": cgroup::is_available(),
            "CpuCfsQuota": cgroup::is_available(),
            "CPUShares": cgroup::is_available(),
            "CPUSet": cgroup::is_available(),
            "PidsLimit": cgroup::is_available(),
            "OomKillDisable": !is_v2(),
            "IPv4Forwarding": sysctl("net/ipv4/ip_forward"),
            "HttpProxy": variable("HTTP_PROXY"),
            "HttpsProxy": variable("HTTPS_PROXY"),
            "NoProxy": variable("NO_PROXY"),
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": { "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"], "IndexConfigs": {
                "docker.io": { "Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true },
            }, "Mirrors": [] },
            "Labels": [],
            "ExperimentalBuild": false,
            "Isolation": "",
            "ProductLicense": "",
        })
    }
}

fn security_options() -> Vec<&'static str> {
    let mut options = vec!["name=seccomp,profile=builtin"];
    if is_rootless() {
        options.push("name=rootless");
    }
    options.extend(["name=userns", "name=cgroupns"]);
    options
}

fn text(name: &std::ffi::CStr) -> String {
    name.to_string_lossy().into_owned()
}

/// The machine's architecture as images name it.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn is_v2() -> bool {
    sandbox::cgroup::version() == sandbox::cgroup::Version::V2
}

/// Swap is accounted where the kernel shows its file: always on v2, with `swapaccount=1` on older v1 kernels.
fn has_swap_limit() -> bool {
    is_v2() || Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
}

fn sysctl(name: &str) -> bool {
    fs::read_to_string(Path::new("/proc/sys").join(name)).is_ok_and(|value| value.trim() == "1")
}

fn variable(name: &str) -> String {
    std::env::var(name).or_else(|_| std::env::var(name.to_lowercase())).unwrap_or_default()
}

/// The machine's own id (machine-id(5)), empty where it has none.
fn host_id() -> String {
    fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned()
}

/// A field of os-release(5).
fn operating_system(field: &str) -> String {
    let file = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = file.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix('='));
    value.unwrap_or_default().trim_matches('"').to_owned()
}

/// Bytes of memory that the kernel manages.
fn total_memory() -> u64 {
    let memory = rustix::system::sysinfo();
    memory.totalram as u64 * u64::from(memory.mem_unit)
}

/// What the user of this host should know.
fn warnings() -> Vec<String> {
    let mut warnings = if is_rootless() { rootless_warnings() } else { Vec::new() };
    if !is_v2() {
        warnings.push("WARNING: cgroup v1 is in use; block I/O limits of buffered writes need cgroup v2".to_owned());
    }
    warnings.extend(crate::verbs::membership::firewall_warnings());
    if !has_swap_limit() {
        warnings.push("WARNING: No swap limit support".to_owned());
    }
    warnings
}

/// What an ordinary user lacks, and how to get it.
fn rootless_warnings() -> Vec<String> {
    let user = sandbox::rootless::user();
    let mut missing = match linux::namespace::has_one_id() {
        true => sandbox::rootless::needs(user),
        false => Vec::new(),
    };
    if linux::namespace::has_one_id() {
        missing.insert(0, "containers have one user and group id only: programs cannot become another user".to_owned());
    }
    missing.extend(crate::user_network::missing().map(|what| format!("no networks but none and host: {what}")));
    if !cgroup::is_available() {
        missing.push(match is_v2() {
            true => {
                "no limits, stats and pause: no cgroup is delegated to this user: log in through systemd, or call with \
                `systemd-run --user --scope -p Delegate=yes`"
                    .to_owned()
            }
            false => "no limits, stats and pause: cgroup v1 cannot be delegated safely; boot with \
                systemd.unified_cgroup_hierarchy=1"
                .to_owned(),
        });
    }
    missing.into_iter().map(|text| format!("WARNING: {text}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_described() {
        let directory = tempfile::tempdir().unwrap();
        let paths = crate::Paths { root: directory.path().join("root"), state: directory.path().join("state") };
        let info = Engine::new(paths).host_info();
        assert!(info["MemTotal"].as_u64().unwrap() > 1 << 20);
        assert!(info["NCPU"].as_u64().unwrap() > 0);
        assert_eq!(info["Swarm"]["LocalNodeState"], "inactive");
        assert_eq!(info["CgroupDriver"], "cgroupfs");
    }
}
