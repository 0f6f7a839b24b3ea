//! Applies what the specification of a device asks for to a container's OCI configuration (pkg/cdi, container-edits.go).

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use oci_spec::runtime::{Hook, Hooks, Linux, LinuxDevice, LinuxDeviceType, LinuxIntelRdt, LinuxNetDevice, Mount, Spec};

use super::document::{self, DeviceNode, Edits, IntelRdt};
use crate::request::merge::overlay_env;
use crate::spec::devices::rule;
use crate::{Error, Result};

/// Applies all of them in order; the answer is further groups of the container's process.
pub(super) fn apply(spec: &mut Spec, all: &[&Edits], mapped: bool, privileged: bool) -> Result<Vec<String>> {
    let mut groups = Vec::new();
    for edits in all {
        environment(spec, edits);
        for mount in &edits.mounts {
            add_mount(spec, mount, mapped);
        }
        add_hooks(spec, &edits.hooks)?;
        let Some(linux) = spec.linux_mut() else { continue };
        for node in &edits.device_nodes {
            add_node(linux, node, privileged)?;
        }
        add_interfaces(linux, edits);
        if let Some(rdt) = &edits.intel_rdt {
            linux.set_intel_rdt(Some(resource_control(rdt)?));
        }
        groups.extend(edits.additional_gids.iter().filter(|gid| **gid != 0).map(u32::to_string));
    }
    if let Some(mounts) = spec.mounts_mut() {
        // Shallow ones first, so that none hides another.
        mounts.sort_by_key(|mount| mount.destination().components().count());
    }
    Ok(groups)
}

fn environment(spec: &mut Spec, edits: &Edits) {
    let Some(process) = spec.process_mut() else { return };
    let env = process.env().clone().unwrap_or_default();
    process.set_env(Some(overlay_env(env, &edits.env)));
}

fn add_mount(spec: &mut Spec, wanted: &document::Mount, mapped: bool) {
    let mut options = wanted.options.clone();
    let has = |names: &[&str]| options.iter().any(|option| names.contains(&option.as_str()));
    let kind = if wanted.kind.is_empty() { "bind" } else { wanted.kind.as_str() };
    if kind == "bind" {
        let (bound, recursive) = (has(&["bind", "rbind"]), has(&["rbind"]));
        if !bound {
            options.push("bind".to_owned());
        }
        if mapped {
            options.push(if recursive { "ridmap" } else { "idmap" }.to_owned());
        }
    }
    let mut mount = Mount::default();
    mount.set_destination(wanted.container_path.clone().into());
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(wanted.host_path.clone().into()));
    mount.set_options(Some(options));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.retain(|other| other.destination() != mount.destination());
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
}

#[allow(deprecated, reason = "specifications still use prestart")]
fn add_hooks(spec: &mut Spec, wanted: &[document::Hook]) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut hooks = spec.hooks().clone().unwrap_or_default();
    for hook in wanted {
        let name = hook.hook_name.as_str();
        let list = match name {
            "prestart" => hooks.prestart_mut(),
            "createRuntime" => hooks.create_runtime_mut(),
            "createContainer" => hooks.create_container_mut(),
            "startContainer" => hooks.start_container_mut(),
            _ => {
                let message = format!("a CDI device asks for a hook {name}, which is not available");
                return Err(Error::not_implemented(message).hinted("hooks up to startContainer are"));
            }
        };
        list.get_or_insert_default().push(made(hook));
    }
    spec.set_hooks(Some::<Hooks>(hooks));
    Ok(())
}

fn made(wanted: &document::Hook) -> Hook {
    let mut hook = Hook::default();
    hook.set_path(wanted.path.clone().into());
    hook.set_args((!wanted.args.is_empty()).then(|| wanted.args.clone()));
    hook.set_env((!wanted.env.is_empty()).then(|| wanted.env.clone()));
    hook.set_timeout(wanted.timeout);
    hook
}

fn add_node(linux: &mut Linux, node: &DeviceNode, privileged: bool) -> Result<()> {
    let device = device(node)?;
    let mut devices = linux.devices().clone().unwrap_or_default();
    devices.retain(|other| other.path() != device.path());
    if !privileged && matches!(device.typ(), LinuxDeviceType::B | LinuxDeviceType::C) {
        let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
        let rule = rule(true, device.typ(), Some(device.major()), Some(device.minor()), access);
        if let Some(resources) = linux.resources_mut() {
            resources.devices_mut().get_or_insert_default().push(rule);
        }
    }
    devices.push(device);
    linux.set_devices(Some(devices));
    Ok(())
}

/// The node as the file says, and what it leaves open as the host's is.
fn device(node: &DeviceNode) -> Result<LinuxDevice> {
    let outside = if node.host_path.is_empty() { &node.path } else { &node.host_path };
    let fail = |cause: String| Error::invalid(format!("CDI device injection failed: device node {outside}: {cause}"));
    let (mut kind, mut numbers) = (parse_kind(&node.kind), (node.major, node.minor));
    if kind.is_none() || numbers == (0, 0) && kind != Some(LinuxDeviceType::P) {
        let data = fs::metadata(outside).map_err(|e| fail(e.to_string()))?;
        let found = match data.file_type() {
            found if found.is_block_device() => LinuxDeviceType::B,
            found if found.is_char_device() => LinuxDeviceType::C,
            found if found.is_fifo() => LinuxDeviceType::P,
            _ => return Err(fail("not a device node".to_owned())),
        };
        if kind.is_some_and(|kind| kind != found) {
            return Err(fail(format!("it is of another type than {:?}", node.kind)));
        }
        kind = Some(found);
        if numbers == (0, 0) {
            let device = data.rdev();
            numbers = (i64::from(rustix::fs::major(device)), i64::from(rustix::fs::minor(device)));
        }
    }
    let mut device = LinuxDevice::default();
    device.set_path(Path::new(&node.path).to_owned());
    device.set_typ(kind.unwrap_or_default());
    device.set_major(numbers.0);
    device.set_minor(numbers.1);
    device.set_file_mode(node.file_mode);
    device.set_uid(node.uid);
    device.set_gid(node.gid);
    Ok(device)
}

fn parse_kind(word: &str) -> Option<LinuxDeviceType> {
    match word {
        "b" => Some(LinuxDeviceType::B),
        "c" | "u" => Some(LinuxDeviceType::C),
        "p" => Some(LinuxDeviceType::P),
        _ => None,
    }
}

fn add_interfaces(linux: &mut Linux, edits: &Edits) {
    if edits.net_devices.is_empty() {
        return;
    }
    let mut all: HashMap<String, LinuxNetDevice> = linux.net_devices().clone().unwrap_or_default();
    for wanted in &edits.net_devices {
        let mut device = LinuxNetDevice::default();
        device.set_name(Some(wanted.name.clone()));
        all.insert(wanted.host_interface_name.clone(), device);
    }
    linux.set_net_devices(Some(all));
}

fn resource_control(wanted: &IntelRdt) -> Result<LinuxIntelRdt> {
    if wanted.enable_monitoring {
        return Err(Error::not_implemented("a CDI device asks for intelRdt.enableMonitoring, which is not available"));
    }
    let mut rdt = LinuxIntelRdt::default();
    rdt.set_clos_id(wanted.clos_id.clone());
    rdt.set_l3_cache_schema(wanted.l3_cache_schema.clone());
    rdt.set_mem_bw_schema(wanted.mem_bw_schema.clone());
    rdt.set_schemata(wanted.schemata.clone());
    rdt.set_enable_cmt(wanted.enable_cmt.then_some(true));
    rdt.set_enable_mbm(wanted.enable_mbm.then_some(true));
    Ok(rdt)
}
