//! Checks of a create request before anything is made: malformed values, contradictions, and what is not there yet.
//! No field is ignored: what this version cannot do is refused by name. Texts follow Docker's.

use std::net::IpAddr;

use crate::model::{Config, CreateRequest, Healthcheck, HostConfig, RestartPolicy};
use crate::request::{limits, names, signal};
use crate::spec::{caps, devices, security};
use crate::{Error, Result};

/// Checks the whole request; the answer is warnings for the user.
pub(crate) fn check(request: &CreateRequest) -> Result<Vec<String>> {
    if let Some(name) = &request.name {
        names::container_name(name)?;
    }
    check_platform(request.platform.as_deref())?;
    check_config(&request.config)?;
    check_not_implemented(request)?;
    check_modes(&request.host)?;
    check_contradictions(&request.config, &request.host)?;
    check_life(&request.host)?;
    check_hosts(&request.host)?;
    check_security(&request.host)?;
    crate::request::network::ports(&request.config, &request.host)?;
    limits::check(&request.host)?;
    Ok(warnings(&request.host))
}

fn check_platform(platform: Option<&str>) -> Result<()> {
    let Some(platform) = platform.filter(|platform| !platform.is_empty()) else { return Ok(()) };
    let os = platform.split('/').next().unwrap_or_default();
    if os != "linux" {
        return Err(Error::invalid(format!("operating system is not supported: {platform}"))
            .hinted("containers share the host's kernel, which is Linux"));
    }
    Ok(())
}

/// The host-independent part, which `create` checks again after merging the image's into it.
pub(crate) fn check_config(config: &Config) -> Result<()> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if let Some(entry) = config.env.iter().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        return Err(Error::invalid(format!("invalid environment variable: {entry}")));
    }
    if let Some(text) = all_texts(config).find(|text| text.contains('\0')) {
        return Err(Error::invalid(format!("a command, variable or name contains a NUL byte: {text:?}")));
    }
    check_hostname(&config.hostname)?;
    if !config.stop_signal.is_empty() {
        signal::parse(&config.stop_signal)?;
    }
    for port in config.exposed_ports.iter().flatten() {
        check_port(port.0)?;
    }
    config.healthcheck.as_ref().map_or(Ok(()), check_health)
}

fn all_texts(config: &Config) -> impl Iterator<Item = &String> {
    let commands = config.cmd.iter().flatten().chain(config.entrypoint.iter().flatten());
    commands.chain(&config.env).chain([&config.user, &config.working_dir, &config.hostname, &config.domainname])
}

/// RFC 1123 labels, 63 bytes in all: what sethostname(2) and the resolver can hold.
fn check_hostname(name: &str) -> Result<()> {
    let label_is_good = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.is_empty() || (name.len() <= 63 && name.split('.').all(label_is_good)) {
        return Ok(());
    }
    Err(Error::invalid(format!("invalid hostname format: {name}")))
}

/// `80`, `80/tcp`, `80-90/udp`.
fn check_port(port: &str) -> Result<()> {
    let (range, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| text.parse::<u16>().ok().filter(|number| *number > 0);
    match (number(first), number(last), protocol) {
        (Some(first), Some(last), "tcp" | "udp" | "sctp") if first <= last => Ok(()),
        _ => Err(Error::invalid(format!("invalid port format for --expose: {port}"))),
    }
}

fn check_health(check: &Healthcheck) -> Result<()> {
    const MILLISECOND: i64 = 1_000_000;
    let durations = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    for (name, duration) in durations {
        if duration != 0 && duration < MILLISECOND {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if check.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    match check.test.first().map(String::as_str) {
        None | Some("NONE") => Ok(()),
        Some("CMD" | "CMD-SHELL") if check.test.len() > 1 => Ok(()),
        Some(kind) => Err(Error::invalid(format!("invalid healthcheck test {kind:?}"))
            .hinted("it is [\"NONE\"], [\"CMD\", program, …] or [\"CMD-SHELL\", line]")),
    }
}

/// What Docker can do and this version cannot, each named.
fn check_not_implemented(request: &CreateRequest) -> Result<()> {
    let host = &request.host;
    let refuse = |asked: bool, what: &str, hint: &str| match asked {
        true => Err(Error::not_implemented(what.to_owned()).hinted(hint)),
        false => Ok(()),
    };
    let windows_only = "this is an option of Windows containers";
    crate::cdi::check(host)?;
    crate::disk::size(&host.storage_opt)?;
    let foreign = !matches!(host.isolation.as_str(), "" | "default");
    refuse(
        foreign,
        &format!("isolation technology {:?} is not available (--isolation)", host.isolation),
        windows_only,
    )?;
    if !matches!(host.runtime.as_str(), "" | "kiste" | "runc") {
        return Err(Error::invalid(format!("unknown or invalid runtime name: {}", host.runtime))
            .hinted("containers are started by the built-in runtime; leave --runtime out"));
    }
    // As with Docker, the driver matters when a volume is made with it.
    let makes_volumes = host.binds.iter().flatten().any(|bind| !bind.starts_with('/'));
    if makes_volumes { crate::request::mounts::check_driver(&host.volume_driver) } else { Ok(()) }
}

fn check_modes(host: &HostConfig) -> Result<()> {
    check_network(&host.network_mode)?;
    let one_of = |value: &str, words: &[&str], container: bool, what: &str| {
        let joins = container && value.strip_prefix("container:").is_some_and(|name| !name.is_empty());
        if joins || words.contains(&value) { Ok(()) } else { Err(Error::invalid(format!("invalid {what}: {value}"))) }
    };
    one_of(&host.ipc_mode, &["", "private", "shareable", "host", "none"], true, "IPC mode")?;
    one_of(&host.pid_mode, &["", "private", "host"], true, "PID mode")?;
    one_of(&host.uts_mode, &["", "private", "host"], false, "UTS mode")?;
    one_of(&host.cgroupns_mode, &["", "private", "host"], false, "cgroup namespace mode")?;
    crate::spec::userns::Mode::parse(&host.userns_mode).map(drop)
}

/// `container:` needs a name; every other word may be a network's.
fn check_network(mode: &str) -> Result<()> {
    match mode {
        "container" | "container:" => Err(Error::invalid("invalid container format container:<name|id>")),
        _ => Ok(()),
    }
}

fn check_contradictions(config: &Config, host: &HostConfig) -> Result<()> {
    let conflict = |both: bool, what: &str| match both {
        true => Err(Error::invalid(format!("conflicting options: {what}"))),
        false => Ok(()),
    };
    let joins = host.network_mode.starts_with("container:");
    crate::links::check(host)?;
    let names_itself = !config.hostname.is_empty();
    let dns = !(host.dns.is_empty() && host.dns_search.is_empty() && host.dns_options.is_empty());
    conflict(joins && names_itself, "hostname and the network mode")?;
    conflict(host.uts_mode == "host" && names_itself, "hostname and the UTS mode")?;
    conflict(host.uts_mode == "host" && !config.domainname.is_empty(), "domainname and the UTS mode")?;
    conflict(joins && dns, "dns and the network mode")?;
    let hosts = host.extra_hosts.iter().flatten().next().is_some();
    conflict(joins && hosts, "custom host-to-IP mapping and the network mode")?;
    let published = host.publish_all_ports || !host.port_bindings.is_empty();
    conflict(joins && published, "port publishing and the container type network mode")?;
    conflict(
        joins && config.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty()),
        "port exposing and the container type network mode",
    )?;
    let policy = host.restart_policy.name.as_str();
    if host.auto_remove && !matches!(policy, "" | "no") {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy")
            .hinted("--rm and --restart exclude each other"));
    }
    let own_ids = crate::spec::userns::Mode::parse(&host.userns_mode)?.is_own();
    if host.privileged && own_ids && !host.userns_mode.is_empty() {
        return Err(Error::invalid(
            "privileged mode is incompatible with user namespaces. You must run the container in the host namespace when \
             running privileged mode",
        ));
    }
    Ok(())
}

fn check_life(host: &HostConfig) -> Result<()> {
    check_restart_policy(&host.restart_policy)?;
    crate::log::Options::parse(&host.log_config).map(drop)
}

/// Name and retry count of a restart policy.
pub(crate) fn check_restart_policy(policy: &RestartPolicy) -> Result<()> {
    let bad = |what: String| Err(Error::invalid(format!("invalid restart policy: {what}")));
    match policy.name.as_str() {
        "on-failure" if policy.maximum_retry_count < 0 => bad("maximum retry count cannot be negative".to_owned()),
        "on-failure" => Ok(()),
        "" | "no" | "always" | "unless-stopped" if policy.maximum_retry_count != 0 => {
            bad("maximum retry count can only be used with 'on-failure'".to_owned())
        }
        "" | "no" | "always" | "unless-stopped" => Ok(()),
        unknown => {
            bad(format!("unknown policy '{unknown}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"))
        }
    }
}

fn check_hosts(host: &HostConfig) -> Result<()> {
    for entry in host.extra_hosts.iter().flatten() {
        let Some((name, address)) = split_host(entry) else {
            return Err(Error::invalid(format!("bad format for add-host: \"{entry}\"")));
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Error::invalid(format!("bad format for add-host: \"{entry}\"")));
        }
        if address != "host-gateway" && address.parse::<IpAddr>().is_err() {
            return Err(Error::invalid(format!("invalid IP address in add-host: \"{address}\"")));
        }
    }
    match host.dns.iter().find(|server| server.parse::<IpAddr>().is_err()) {
        Some(server) => Err(Error::invalid(format!("{server} is not an ip address"))),
        None => Ok(()),
    }
}

/// Name and address of an `--add-host` value: `name:address`, `name=address`, the address perhaps in brackets.
pub(crate) fn split_host(entry: &str) -> Option<(&str, &str)> {
    let (name, address) = entry.split_once('=').or_else(|| entry.split_once(':'))?;
    Some((name, address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address)))
}

fn check_security(host: &HostConfig) -> Result<()> {
    caps::effective(host)?;
    security::Options::parse(host)?;
    security::check_sysctls(host)?;
    security::check_ulimits(host)?;
    devices::check(host)
}

fn warnings(host: &HostConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    if host.oom_kill_disable == Some(true) && host.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running \
             out of resources."
                .to_owned(),
        );
    }
    if host.oom_score_adj < 0 && !may_lower_oom_score() {
        warnings.push(format!(
            "The OOM score {} is raised to the lowest that the caller may set: CAP_SYS_RESOURCE is missing",
            host.oom_score_adj
        ));
    }
    let loopback = |server: &&String| server.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if let Some(server) = host.dns.iter().find(loopback).filter(|_| host.network_mode != "host") {
        warnings.push(format!("Localhost DNS ({server}) may fail in containers."));
    }
    if host.network_mode == "host" && (host.publish_all_ports || !host.port_bindings.is_empty()) {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    warnings
}

fn may_lower_oom_score() -> bool {
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_RESOURCE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn refused(change: impl FnOnce(&mut CreateRequest)) -> Error {
        let mut request = CreateRequest::default();
        change(&mut request);
        check(&request).unwrap_err()
    }

    #[test]
    fn empty_request_passes() {
        assert!(check(&CreateRequest::default()).unwrap().is_empty());
    }

    #[test]
    fn a_server_that_cannot_be_reached_is_warned_of() {
        let mut request = CreateRequest::default();
        request.host.dns = vec!["1.1.1.1".to_owned(), "::1".to_owned()];
        assert_eq!(check(&request).unwrap(), ["Localhost DNS (::1) may fail in containers."]);
    }

    #[test]
    fn malformed_values_are_named() {
        assert!(refused(|r| r.name = Some("-x".to_owned())).message.contains("Invalid container name (-x)"));
        assert!(refused(|r| r.config.working_dir = "tmp".to_owned()).message.contains("'tmp' is invalid"));
        assert!(refused(|r| r.config.env = vec!["=x".to_owned()]).message.contains("invalid environment variable"));
        assert!(refused(|r| r.config.stop_signal = "FOO".to_owned()).message.contains("invalid signal: FOO"));
        assert!(refused(|r| r.host.ipc_mode = "x".to_owned()).message.contains("invalid IPC mode: x"));
        assert!(
            refused(|r| r.host.extra_hosts = Some(vec!["a".to_owned()])).message.contains("bad format for add-host")
        );
        assert!(refused(|r| r.host.log_config.driver = "syslog".to_owned()).message.contains("named 'syslog'"));
    }

    #[test]
    fn what_is_missing_is_refused_by_name() {
        assert_eq!(refused(|r| r.host.isolation = "hyperv".to_owned()).kind, ErrorKind::NotImplemented);
    }

    #[test]
    fn contradictions_are_refused() {
        let error = refused(|r| {
            r.host.auto_remove = true;
            r.host.restart_policy.name = "always".to_owned();
        });
        assert!(error.message.contains("can't create 'AutoRemove'"));
        let error = refused(|r| {
            r.host.network_mode = "container:x".to_owned();
            r.config.hostname = "h".to_owned();
        });
        assert_eq!(error.message, "conflicting options: hostname and the network mode");
        let error = refused(|r| (r.host.privileged, r.host.userns_mode) = (true, "auto".to_owned()));
        assert!(error.message.contains("privileged mode is incompatible"));
    }
}
