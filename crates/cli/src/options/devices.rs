//! Flags about devices.

use engine::model::{CreateRequest, DeviceMapping, DeviceRequest};

use super::list;
use super::mount::fields;
use crate::failure::Result;

/// Flags about devices.
#[derive(clap::Args)]
#[command(next_help_heading = "Devices")]
pub(super) struct Devices {
    /// Add a host device to the container
    #[arg(long, value_name = "list", value_parser = device)]
    device: Vec<Device>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "list", value_parser = rule)]
    device_cgroup_rule: Vec<String>,
    /// GPU devices to add to the container ('all' to pass all GPUs)
    #[arg(long, value_name = "gpu-request", value_parser = gpus)]
    gpus: Vec<DeviceRequest>,
}

/// A `--device`: a node, or the name of a device that a CDI specification describes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Device {
    Node(DeviceMapping),
    Cdi(String),
}

impl Devices {
    pub(super) fn apply(self, request: &mut CreateRequest) {
        let (mut nodes, mut named) = (Vec::new(), Vec::new());
        for device in self.device {
            match device {
                Device::Node(node) => nodes.push(node),
                Device::Cdi(name) => named.push(name),
            }
        }
        let mut requests = self.gpus;
        if !named.is_empty() {
            requests.push(DeviceRequest { driver: "cdi".to_owned(), device_ids: named, ..Default::default() });
        }
        request.host.devices = list(nodes);
        request.host.device_cgroup_rules = list(self.device_cgroup_rule);
        request.host.device_requests = list(requests);
    }
}

/// `HOST[:CONTAINER][:rwm]`, or a CDI name `vendor/class=device`.
fn device(text: &str) -> Result<Device, String> {
    if !text.starts_with('/') && text.contains('/') && text.contains('=') {
        return Ok(Device::Cdi(text.to_owned()));
    }
    let modes = |part: &str| !part.is_empty() && part.chars().all(|c| "rwm".contains(c));
    let (host, container, permissions) = match text.split(':').collect::<Vec<_>>()[..] {
        [host] => (host, host, "rwm"),
        [host, second] if modes(second) => (host, host, second),
        [host, container] => (host, container, "rwm"),
        [host, container, permissions] if modes(permissions) => (host, container, permissions),
        [_, _, permissions] => return Err(format!("bad mode specified: {permissions}")),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    Ok(Device::Node(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    }))
}

/// `a|b|c MAJOR:MINOR rwm`, with `*` for any number.
fn rule(text: &str) -> Result<String, String> {
    let number = |part: &str| part == "*" || !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let valid = match text.split(' ').collect::<Vec<_>>()[..] {
        ["a" | "b" | "c", numbers, access] => {
            numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
                && (1..=3).contains(&access.len())
                && access.chars().all(|c| "rwm".contains(c))
        }
        _ => false,
    };
    if valid { Ok(text.to_owned()) } else { Err(format!("invalid device cgroup format '{text}'")) }
}

/// `all`, a number, or CSV of `driver=`, `count=`, `device=`, `capabilities=`, `options=`.
fn gpus(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest::default();
    let mut seen = Vec::new();
    for field in fields(text)? {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        if seen.iter().any(|name| name == key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key.to_owned());
        match key {
            "driver" => request.driver = value.to_owned(),
            "count" if value == "all" => request.count = -1,
            "count" => {
                request.count = value
                    .parse()
                    .map_err(|_| format!("invalid count ({value}): value must be either \"all\" or an integer"))?
            }
            "device" => request.device_ids = fields(value)?,
            "capabilities" => request.capabilities = vec![fields(value)?],
            "options" => {
                let option = |field: String| {
                    field.split_once('=').map_or((field.clone(), String::new()), |(k, v)| (k.into(), v.into()))
                };
                request.options = fields(value)?.into_iter().map(option).collect();
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if !seen.iter().any(|key| key == "count") && request.device_ids.is_empty() {
        request.count = 1;
    }
    match request.capabilities.first_mut() {
        Some(capabilities) if !capabilities.iter().any(|name| name == "gpu") => capabilities.push("gpu".to_owned()),
        Some(_) => {}
        None => request.capabilities = vec![vec!["gpu".to_owned()]],
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_a_path_each_side_and_permissions() {
        let node = |host: &str, container: &str, permissions: &str| {
            Ok(Device::Node(DeviceMapping {
                path_on_host: host.into(),
                path_in_container: container.into(),
                cgroup_permissions: permissions.into(),
            }))
        };
        assert_eq!(device("/dev/fuse"), node("/dev/fuse", "/dev/fuse", "rwm"));
        assert_eq!(device("/dev/a:r"), node("/dev/a", "/dev/a", "r"));
        assert_eq!(device("/dev/a:/dev/b:rw"), node("/dev/a", "/dev/b", "rw"));
        assert_eq!(device("vendor.com/class=name"), Ok(Device::Cdi("vendor.com/class=name".into())));
        for bad in ["/dev/a:/dev/b:x", "/dev/a:b", "/a:/b:r:w", "relative"] {
            assert!(device(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_are_checked() {
        for good in ["c 42:* rmw", "a *:* r", "b 8:0 rw"] {
            assert_eq!(rule(good), Ok(good.to_owned()));
        }
        for bad in ["", "x 1:1 r", "c 1 r", "c 1:1 rx", "c 1:1 rwmr", "c  1:1 r", "c a:b r"] {
            assert_eq!(rule(bad), Err(format!("invalid device cgroup format '{bad}'")));
        }
    }

    #[test]
    fn gpu_requests_follow_docker() {
        assert_eq!(gpus("all").unwrap().count, -1);
        assert_eq!(gpus("2").unwrap().count, 2);
        let request = gpus("\"device=0,1\",capabilities=utility").unwrap();
        assert_eq!((request.count, request.device_ids), (0, vec!["0".into(), "1".into()]));
        assert_eq!(request.capabilities, [["utility", "gpu"]]);
        assert!(gpus("count=x").is_err() && gpus("bogus=1").is_err() && gpus("count=1,count=2").is_err());
    }
}
