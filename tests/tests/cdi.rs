//! Devices by their CDI names: what the vendor's file says is in the container, hooks included.

use std::process::Command;
use std::time::Duration;

use kiste_tests::{Env, Output, finish, fixtures};

const VENDOR: &str = r#"
cdiVersion: "0.6.0"
kind: vendor.com/device
containerEdits:
  env: [COMMON=for-all]
devices:
  - name: one
    containerEdits:
      env: [MINE=one]
      deviceNodes:
        - {path: /dev/mine, hostPath: /dev/zero, permissions: r}
      mounts:
        - {hostPath: LIBRARY, containerPath: /opt/library, options: [ro, nosuid, nodev, bind]}
      hooks:
        - {hookName: createContainer, path: HOOK, args: [hook, written]}
      additionalGids: [4242]
"#;

/// Finds the container's root as the vendors' own hooks do: by the state on its input and the bundle's configuration.
const HOOK: &str = r#"#!/bin/sh
bundle=$(sed -n 's/.*"bundle":"\([^"]*\)".*/\1/p')
root=$(sed -n 's/.*"root":{"path":"\([^"]*\)".*/\1/p' "$bundle/config.json")
echo "$1" >"$root/hooked"
"#;

/// Runs the script where `/run/cdi` holds only the vendor's file.
fn among_devices(env: &Env, script: &str) -> Output {
    let hook = env.write("hook", HOOK);
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let library = env.write("library", "from the host\n");
    let text = VENDOR.replace("LIBRARY", &library.display().to_string()).replace("HOOK", &hook.display().to_string());
    let vendor = env.write("vendor.yaml", text);
    let place = format!("mount -t tmpfs -o mode=755 t /run && mkdir /run/cdi && cp {} /run/cdi/", vendor.display());
    let run = format!("run() {{ $KISTE run --rm --network none --cgroup-parent={} \"$@\"; }}", env.cgroup());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &format!("{place}; {run}; {script}")]);
    env.prepare(&mut command);
    command.env("KISTE", fixtures::kiste());
    finish(&mut command, None, Duration::from_secs(60))
}

#[test]
fn a_named_device_brings_all_that_its_file_says() {
    let env = Env::with_busybox();
    let look = "echo $COMMON $MINE; head -c 3 /dev/mine | od -An -tx1; cat /opt/library /hooked; id -G";
    let output = among_devices(&env, &format!("run --device vendor.com/device=one busybox sh -c '{look}'"));
    let lines: Vec<&str> = output.ok().lines().map(str::trim).collect();
    assert_eq!(lines[..4], ["for-all one", "00 00 00", "from the host", "written"], "{output:#?}");
    assert!(lines[4].split(' ').any(|group| group == "4242"), "{output:#?}");
}

#[test]
fn devices_that_are_not_there_are_named() {
    let env = Env::with_busybox();
    let output = among_devices(&env, "run --device vendor.com/device=two busybox true");
    output.fails(125, &["CDI device injection failed: unresolvable CDI devices vendor.com/device=two", "/var/run/cdi"]);
    let output = among_devices(&env, "run --gpus all busybox true");
    output.fails(125, &["could not select device driver \"\" with capabilities: [[gpu]]"]);
    assert_eq!(env.ok(&["ps", "-aq"]), "");
}
