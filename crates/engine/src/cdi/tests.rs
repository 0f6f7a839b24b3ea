//! Files of vendors: what they bring to a container, which of two counts, and what is refused.

use super::*;
use crate::model::HostConfig;

const VENDOR: &str = r#"
cdiVersion: "0.6.0"
kind: vendor.com/device
containerEdits:
  env: [COMMON=1, BOTH=file]
devices:
  - name: one
    containerEdits:
      env: [BOTH=one]
      deviceNodes:
        - {path: /dev/mine, hostPath: /dev/full, permissions: rw}
      mounts:
        - {hostPath: /usr/lib, containerPath: /opt/lib, options: [ro, nosuid, rbind]}
      additionalGids: [0, 44]
  - name: two
    containerEdits:
      hooks:
        - {hookName: createContainer, path: /bin/true, args: [true, x]}
"#;

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn found(directories: &[&tempfile::TempDir]) -> Found {
    Found::read(&directories.iter().map(|directory| directory.path().to_owned()).collect::<Vec<_>>())
}

fn spec() -> Spec {
    serde_json::from_value(serde_json::json!({
        "ociVersion": "1.2.0", "process": {"cwd": "/", "args": ["true"], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
        "mounts": [], "linux": {"resources": {"devices": []}}
    }))
    .unwrap()
}

fn requests(request: DeviceRequest) -> HostConfig {
    HostConfig { device_requests: Some(vec![request]), ..HostConfig::default() }
}

fn gpu(driver: &str, count: i64, ids: &[&str]) -> HostConfig {
    requests(DeviceRequest {
        driver: driver.to_owned(),
        count,
        device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        capabilities: vec![vec!["gpu".to_owned()]],
        ..Default::default()
    })
}

#[test]
fn a_device_brings_what_its_file_says_after_what_the_file_says_for_all() {
    let vendor = directory(&[("vendor.yaml", VENDOR)]);
    let found = found(&[&vendor]);
    let mut spec = spec();
    let edits = found.edits(&["vendor.com/device=one".to_owned(), "vendor.com/device=two".to_owned()]).unwrap();
    let groups = edits::apply(&mut spec, &edits, true, false).unwrap();
    assert_eq!(groups, ["44"]);
    let env = spec.process().as_ref().unwrap().env().clone().unwrap();
    assert_eq!(env, ["PATH=/bin", "COMMON=1", "BOTH=one"]);
    let mount = &spec.mounts().as_ref().unwrap()[0];
    assert_eq!(mount.options().as_ref().unwrap(), &["ro", "nosuid", "rbind", "ridmap"]);
    let linux = spec.linux().as_ref().unwrap();
    let device = &linux.devices().as_ref().unwrap()[0];
    assert_eq!((device.path().to_str(), device.major(), device.minor()), (Some("/dev/mine"), 1, 7));
    let rule = &linux.resources().as_ref().unwrap().devices().as_ref().unwrap()[0];
    assert_eq!((rule.allow(), rule.access().as_deref()), (true, Some("rw")));
    assert_eq!(spec.hooks().as_ref().unwrap().create_container().as_ref().unwrap().len(), 1);
}

#[test]
fn later_directories_count_more_and_equals_cancel_out() {
    let other = VENDOR.replace("BOTH=one", "BOTH=other");
    let (low, high) = (directory(&[("a.yaml", VENDOR)]), directory(&[("b.yaml", other.as_str())]));
    let names = ["vendor.com/device=one".to_owned()];
    let both = found(&[&low, &high]);
    assert_eq!(both.edits(&names).unwrap()[1].env, ["BOTH=other"]);
    let twice = directory(&[("a.yaml", VENDOR), ("b.yaml", VENDOR)]);
    let error = found(&[&twice]).edits(&names).map(drop).unwrap_err();
    assert!(error.hint.unwrap().contains("two files describe vendor.com/device=one"));
}

#[test]
fn what_is_not_there_or_broken_is_named() {
    let broken =
        directory(&[("bad.json", r#"{"cdiVersion": "1.0.0", "kind": "vendor.com/device", "devices": [], "x": 1}"#)]);
    let error = found(&[&broken]).edits(&["vendor.com/device=one".to_owned()]).map(drop).unwrap_err();
    assert_eq!(error.message, "CDI device injection failed: unresolvable CDI devices vendor.com/device=one");
    assert!(error.hint.unwrap().contains("unknown field"));
}

#[test]
fn specifications_that_break_the_rules_are_refused() {
    let cases = [
        ("kind: vendor.com/device", "kind: vendor.com"),
        ("name: one", "name: -one"),
        ("name: two", "name: one"),
        ("permissions: rw", "permissions: rx"),
        ("path: /dev/mine", "path: /dev/../etc/mine"),
        ("hookName: createContainer", "hookName: created"),
        ("cdiVersion: \"0.6.0\"", "cdiVersion: \"7\""),
        ("env: [BOTH=one]", "env: [BOTH]"),
    ];
    for (from, to) in cases {
        let directory = directory(&[("x.yaml", &VENDOR.replace(from, to))]);
        assert!(found(&[&directory]).devices.is_empty(), "{to}");
    }
}

#[test]
fn gpus_are_their_vendors_devices() {
    let nvidia = directory(&[("n.yaml", &VENDOR.replace("vendor.com/device", "nvidia.com/gpu"))]);
    let found_one = found(&[&nvidia]);
    assert_eq!(found_one.names(&gpu("", -1, &[])).unwrap(), ["nvidia.com/gpu=all"]);
    assert_eq!(found_one.names(&gpu("nvidia", 2, &[])).unwrap(), ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
    assert_eq!(found_one.names(&gpu("", 0, &["one"])).unwrap(), ["nvidia.com/gpu=one"]);
    let error = found_one.names(&gpu("amd", 1, &[])).unwrap_err();
    assert_eq!(error.message, r#"could not select device driver "amd" with capabilities: [[gpu]]"#);
}

#[test]
fn names_have_a_vendor_a_class_and_a_device() {
    for good in ["vendor.com/class=name", "a/b=0", "nvidia.com/gpu=GPU-1:0", "v/c=a_b.c-d"] {
        assert!(parse(good).is_ok(), "{good}");
    }
    for bad in ["", "a=b", "a/b", "a/b=", "a/b=-x", "1a/b=x", "a/b=x.", "a/b/c=x", "a b/c=x"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
