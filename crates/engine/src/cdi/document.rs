//! The files of the Container Device Interface as they are written (SPEC.md, version 1.1.0). Unknown fields are refused, as
//! the original does: what a device needs must not be left out silently.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One file: the devices of one vendor and class.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Document {
    #[serde(rename = "cdiVersion")]
    version: String,
    /// `VENDOR/CLASS`.
    pub(super) kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    pub(super) devices: Vec<Device>,
    /// What each of them needs.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
    pub(super) container_edits: Edits,
}

/// Changes to a container.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) net_devices: Vec<NetDevice>,
    pub(super) hooks: Vec<Hook>,
    pub(super) mounts: Vec<Mount>,
    pub(super) intel_rdt: Option<IntelRdt>,
    pub(super) additional_gids: Vec<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DeviceNode {
    /// In the container.
    pub(super) path: String,
    /// On the host, if it is another one.
    #[serde(default)]
    pub(super) host_path: String,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) major: i64,
    #[serde(default)]
    pub(super) minor: i64,
    pub(super) file_mode: Option<u32>,
    /// Of `rwm`; all if none are given.
    #[serde(default)]
    pub(super) permissions: String,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NetDevice {
    pub(super) host_interface_name: String,
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<String>,
    /// Seconds.
    pub(super) timeout: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    #[serde(default)]
    pub(super) options: Vec<String>,
    #[serde(default, rename = "type")]
    pub(super) kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct IntelRdt {
    #[serde(rename = "closID")]
    pub(super) clos_id: Option<String>,
    pub(super) l3_cache_schema: Option<String>,
    pub(super) mem_bw_schema: Option<String>,
    pub(super) schemata: Option<Vec<String>>,
    #[serde(rename = "enableCMT")]
    pub(super) enable_cmt: bool,
    #[serde(rename = "enableMBM")]
    pub(super) enable_mbm: bool,
    pub(super) enable_monitoring: bool,
}

impl Document {
    /// What the grammar cannot say.
    pub(super) fn check(&self) -> Result<(), String> {
        let known = self.version.split('.').next().is_some_and(|major| matches!(major, "0" | "1"));
        if !known {
            return Err(format!("cdiVersion {:?} is not known", self.version));
        }
        if !super::is_kind(&self.kind) {
            return Err(format!("kind {:?} is not VENDOR/CLASS", self.kind));
        }
        if self.devices.is_empty() {
            return Err("devices: there are none".to_owned());
        }
        self.container_edits.check()?;
        for (index, device) in self.devices.iter().enumerate() {
            if !super::is_word(&device.name, "-_.:", true) {
                return Err(format!("devices: the name {:?} is not allowed", device.name));
            }
            if self.devices[..index].iter().any(|other| other.name == device.name) {
                return Err(format!("devices: {:?} is there twice", device.name));
            }
            device.container_edits.check().map_err(|cause| format!("devices: {}: {cause}", device.name))?;
        }
        Ok(())
    }
}

impl Edits {
    fn check(&self) -> Result<(), String> {
        if let Some(entry) = self.env.iter().find(|entry| !entry.contains('=')) {
            return Err(format!("env: {entry:?} is not NAME=VALUE"));
        }
        for node in &self.device_nodes {
            if !matches!(node.kind.as_str(), "" | "b" | "c" | "u" | "p") {
                return Err(format!("deviceNodes: {}: type {:?} is not known", node.path, node.kind));
            }
            if !is_place(&node.path) || !node.permissions.chars().all(|c| "rwm".contains(c)) {
                return Err(format!("deviceNodes: {:?}: a path or permissions are not valid", node.path));
            }
        }
        if let Some(mount) = self.mounts.iter().find(|mount| !is_place(&mount.container_path)) {
            return Err(format!("mounts: {:?} is no path for a container", mount.container_path));
        }
        let known = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
        match self.hooks.iter().find(|hook| !known.contains(&hook.hook_name.as_str()) || hook.path.is_empty()) {
            Some(hook) => Err(format!("hooks: {:?} is not known, or has no path", hook.hook_name)),
            None => Ok(()),
        }
    }
}

/// An absolute path that leads nowhere else.
fn is_place(path: &str) -> bool {
    path.starts_with('/') && !path.split('/').any(|part| part == "..")
}
