//! Devices by name: the Container Device Interface, with which vendors describe in files what a container needs to use
//! their device, and requests by kind (`--gpus`) in its terms. The files are read here, `edits` applies what they say.
//! Semantics: github.com/cncf-tags/container-device-interface, SPEC.md and pkg/cdi.

mod document;
mod edits;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::model::{DeviceRequest, HostConfig};
use crate::{Error, Result};
use document::{Device, Document, Edits};

/// Where specifications are, those that count less first (SPEC.md, "CDI JSON Specification").
const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// Size of a specification, at most: a host with hundreds of devices has some hundred KiB.
const MAX_BYTES: u64 = 16 << 20;
/// Devices of one request by number (`--gpus 4`), at most.
const MAX_COUNT: i64 = 1024;

/// Vendors of what `--gpus` asks for without a driver, the first that is there.
const GPU_KINDS: [&str; 2] = ["nvidia.com/gpu", "amd.com/gpu"];

/// Checks the requests of a new container; whether the devices exist is seen when it starts, as with Docker.
pub(crate) fn check(host: &HostConfig) -> Result<()> {
    for request in host.device_requests.iter().flatten() {
        if request.driver == "cdi" {
            request.device_ids.iter().try_for_each(|name| parse(name).map(drop))?;
            if request.count != 0 || !request.options.is_empty() {
                return Err(Error::invalid("a request for CDI devices has neither a count nor options"));
            }
        } else if !request.options.is_empty() {
            return Err(Error::not_implemented("options of a request for GPUs are not available (--gpus options=)")
                .hinted("name the device with --device VENDOR/CLASS=NAME"));
        } else if request.count > MAX_COUNT || request.count < -1 {
            return Err(Error::invalid(format!("invalid count of devices: {}", request.count)));
        } else if request.count != 0 && !request.device_ids.is_empty() {
            return Err(Error::invalid("cannot set both Count and DeviceIDs on device request"));
        }
    }
    Ok(())
}

/// Applies what the requested devices need to a container's configuration; the answer is further groups of its process.
/// With `mapped` the container has ids of its own.
pub(crate) fn inject(spec: &mut Spec, host: &HostConfig, mapped: bool) -> Result<Vec<String>> {
    if host.device_requests.iter().flatten().next().is_none() {
        return Ok(Vec::new());
    }
    let found = Found::read(&DIRECTORIES.map(PathBuf::from));
    let edits = found.edits(&found.names(host)?)?;
    edits::apply(spec, &edits, mapped, host.privileged)
}

/// Vendor and class, and the name.
fn parse(name: &str) -> Result<(&str, &str)> {
    let bad = || {
        Error::invalid(format!("invalid CDI device name {name:?}"))
            .hinted("it is VENDOR/CLASS=NAME, for example nvidia.com/gpu=0")
    };
    let (kind, device) = name.split_once('=').ok_or_else(bad)?;
    (is_kind(kind) && is_word(device, "-_.:", true)).then_some((kind, device)).ok_or_else(bad)
}

fn is_kind(kind: &str) -> bool {
    kind.split_once('/').is_some_and(|(vendor, class)| is_word(vendor, "-_.", false) && is_word(class, "-_.", false))
}

/// Letters, digits and the other characters, which stand neither first nor last.
fn is_word(text: &str, others: &str, may_begin_with_digit: bool) -> bool {
    let first = |c: char| if may_begin_with_digit { c.is_ascii_alphanumeric() } else { c.is_ascii_alphabetic() };
    text.starts_with(first)
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// The devices of this machine.
#[derive(Default)]
struct Found {
    documents: Vec<Document>,
    /// By qualified name: the place of the document, and of the device in it; none if two files of the same rank have it.
    devices: BTreeMap<String, Option<(usize, usize)>>,
    /// Files that cannot be used, and why.
    broken: Vec<String>,
}

impl Found {
    fn read(directories: &[PathBuf]) -> Self {
        let mut found = Found::default();
        for directory in directories {
            let begin = found.documents.len();
            for path in files(directory) {
                match read(&path) {
                    Ok(document) => found.add(document, begin),
                    Err(cause) => found.broken.push(format!("{}: {cause}", path.display())),
                }
            }
        }
        found
    }

    /// What comes later counts more; within one directory (documents from `begin`) none counts more than another.
    fn add(&mut self, document: Document, begin: usize) {
        let index = self.documents.len();
        for (place, device) in document.devices.iter().enumerate() {
            let name = format!("{}={}", document.kind, device.name);
            let twice = matches!(self.devices.get(&name), Some(None))
                || matches!(self.devices.get(&name), Some(Some((other, _))) if *other >= begin);
            self.devices.insert(name, (!twice).then_some((index, place)));
        }
        self.documents.push(document);
    }

    /// Qualified names of all devices that are asked for.
    fn names(&self, host: &HostConfig) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for request in host.device_requests.iter().flatten() {
            if request.driver == "cdi" {
                names.extend(request.device_ids.iter().cloned());
                continue;
            }
            let kind = self.kind(request).ok_or_else(|| no_driver(request))?;
            match request.count {
                0 => names.extend(request.device_ids.iter().map(|id| format!("{kind}={id}"))),
                -1 => names.push(format!("{kind}=all")),
                count => names.extend((0..count).map(|number| format!("{kind}={number}"))),
            }
        }
        Ok(names)
    }

    /// The kind of device that a request for GPUs means on this machine.
    fn kind(&self, request: &DeviceRequest) -> Option<&'static str> {
        let is_gpu = |all: &Vec<String>| all.iter().any(|name| name == "gpu");
        if !request.capabilities.iter().any(is_gpu) {
            return None;
        }
        let fits = |kind: &&&str| request.driver.is_empty() || kind.starts_with(&format!("{}.", request.driver));
        let is_here = |kind: &&&str| self.documents.iter().any(|document| document.kind == ***kind);
        GPU_KINDS.iter().filter(fits).find(is_here).copied()
    }

    /// What the devices need, in order: that of their file once, then their own.
    fn edits(&self, names: &[String]) -> Result<Vec<&Edits>> {
        let (mut edits, mut begun, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            let Some(Some((document, place))) = self.devices.get(name) else {
                missing.push(name.as_str());
                continue;
            };
            let document_edits = &self.documents[*document];
            if !begun.contains(document) {
                begun.push(*document);
                edits.push(&document_edits.container_edits);
            }
            let device: &Device = &document_edits.devices[*place];
            edits.push(&device.container_edits);
        }
        if missing.is_empty() { Ok(edits) } else { Err(self.unresolvable(&missing)) }
    }

    fn unresolvable(&self, missing: &[&str]) -> Error {
        let error =
            Error::invalid(format!("CDI device injection failed: unresolvable CDI devices {}", missing.join(", ")));
        let twice = missing.iter().find(|name| matches!(self.devices.get(**name), Some(None)));
        error.hinted(match (twice, self.broken.first()) {
            (Some(name), _) => format!("two files describe {name}"),
            (None, Some(broken)) => format!("a specification cannot be used: {broken}"),
            (None, None) => format!("specifications are looked for in {}", DIRECTORIES.join(" and ")),
        })
    }
}

/// Docker's words, which people look for.
fn no_driver(request: &DeviceRequest) -> Error {
    let sets: Vec<String> = request.capabilities.iter().map(|all| format!("[{}]", all.join(" "))).collect();
    let message =
        format!("could not select device driver {:?} with capabilities: [{}]", request.driver, sets.join(" "));
    Error::invalid(message).hinted(format!(
        "GPUs are found by the CDI files of their vendor in {}, for example those of `nvidia-ctk cdi generate`",
        DIRECTORIES.join(" or ")
    ))
}

/// Specifications in a directory, by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let is_one = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "json" || kind == "yaml");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_one).collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Result<Document, String> {
    let data = fs::metadata(path).map_err(|e| e.to_string())?;
    if !data.is_file() || data.len() > MAX_BYTES {
        return Err("it is no file, or far too long".to_owned());
    }
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let document: Document = match path.extension().is_some_and(|kind| kind == "json") {
        true => serde_json::from_str(&text).map_err(|e| e.to_string())?,
        false => serde_yaml_ng::from_str(&text).map_err(|e| e.to_string())?,
    };
    document.check()?;
    Ok(document)
}

#[cfg(test)]
mod tests;
