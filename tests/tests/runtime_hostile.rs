//! `kiste runtime` with configurations and root file systems that want more than they may have: classes of holes that
//! other runtimes had, one test each. The host's side is a canary that must stay as it is.

use std::fs;
use std::os::unix::fs::symlink;

use kiste_tests::Bundle;
use serde_json::json;

/// CVE-2025-52565, CVE-2026-41579: the terminal's place in an image's own `/dev`.
#[test]
fn a_console_that_is_a_link_stays_inside() {
    let mut bundle = Bundle::new("tty; ls -l /dev/console");
    let canary = bundle.path("canary");
    fs::create_dir(&canary).expect("the bundle is writable");
    let mounts = bundle.config["mounts"].as_array().expect("a list").clone();
    let own_dev = |mount: &&serde_json::Value| mount["destination"].as_str().is_some_and(|path| path == "/dev");
    bundle.config["mounts"] = mounts.iter().filter(|mount| !own_dev(mount)).cloned().collect();
    bundle.config["process"]["terminal"] = true.into();
    let escapes = [canary.join("new"), format!("../../../../..{}/new", canary.display()).into()];
    for target in escapes {
        let console = bundle.path("rootfs/dev/console");
        let _ = fs::remove_file(&console);
        symlink(&target, &console).expect("the bundle is writable");
        let output = bundle.run("c");
        assert!(output.stdout.contains("/dev/pts/0") || output.code() != 0, "{output:?}");
        assert_eq!(fs::read_dir(&canary).expect("it is there").count(), 0, "{}", target.display());
    }
}

/// CVE-2026-41579, CVE-2026-47766: devices below a `/dev` that leads outside.
#[test]
fn devices_below_a_link_are_refused() {
    let mut bundle = Bundle::new("true");
    let canary = bundle.path("canary");
    fs::create_dir(&canary).expect("the bundle is writable");
    bundle.config["mounts"] = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
    fs::remove_dir_all(bundle.path("rootfs/dev")).expect("the bundle is writable");
    symlink(&canary, bundle.path("rootfs/dev")).expect("the bundle is writable");
    let output = bundle.run("c");
    assert_ne!(output.code(), 0, "{output:?}");
    assert_eq!(fs::read_dir(&canary).expect("it is there").count(), 0);
}

/// CVE-2024-3154, CVE-2023-6476: who writes annotations has no say in what the container may do.
#[test]
fn annotations_change_nothing() {
    let mut bundle = Bundle::new("cat /proc/self/status; test ! -e /from-hook");
    let plain = bundle.run("c").ok().to_owned();
    bundle.config["annotations"] = json!({
        "org.systemd.property.ExecStartPost": "'touch /from-annotation'",
        "org.systemd.property.Broken": "'open",
        "org.criu.config": "/tmp/criu.conf",
        "run.oci.handler": "wasm",
        "run.oci.keep_original_groups": "1",
        "run.oci.seccomp_fail_unknown_syscall": "1",
        "run.oci.hooks.stdout": "/tmp/out",
        "run.oci.mount_context_type": "context",
        "io.kubernetes.cri-o.UnifiedCgroup": "memory.max=1",
    });
    let same = |text: &str| -> Vec<String> {
        let kept = ["CapEff", "CapBnd", "NoNewPrivs", "Seccomp:", "Groups", "Uid"];
        text.lines().filter(|line| kept.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect()
    };
    assert_eq!(same(bundle.run("c").ok()), same(&plain));
}

/// CVE-2022-0811: one value is one value, whatever is in it.
#[test]
fn values_of_sysctls_are_values() {
    let mut bundle = Bundle::new("true");
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("procfs");
    for value in ["a\nkernel.core_pattern=|/bin/x", "a+kernel.core_pattern=|/bin/x", "a kernel.core_pattern=|/bin/x"] {
        bundle.config["linux"]["sysctl"] = json!({"kernel.domainname": value});
        bundle.run("c");
        assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").expect("procfs"), before, "{value:?}");
    }
}

/// CVE-2026-30892: `-u 1` is user 1, not root; what is no number is refused.
#[test]
fn users_of_exec_are_exactly_what_was_written() {
    let bundle = Bundle::new("sleep 1000");
    bundle.started("c");
    for (word, expected) in [("1", "uid=1 gid=0"), ("1:2", "uid=1 gid=2"), ("4294967294:5", "uid=4294967294 gid=5")] {
        assert!(bundle.runtime(&["exec", "-u", word, "c", "id"]).ok().starts_with(expected), "{word}");
    }
    for word in ["", ":", "1:", ":1", "-1", "+1", "4294967295", "4294967296", "0x0", "root", "1:2:3", "1 ", "１"] {
        let output = bundle.runtime(&["exec", "-u", word, "c", "id"]);
        assert_eq!(output.code(), 255, "{word:?}");
        assert!(output.stderr.contains("--user"), "{word:?}: {}", output.stderr);
    }
}

/// CVE-2025-27612, CVE-2022-29162: further processes get what the container has, and nothing to inherit.
#[test]
fn further_processes_have_no_more_than_the_container() {
    let mut bundle = Bundle::new("sleep 1000");
    let caps = json!(["CAP_KILL", "CAP_CHOWN"]);
    bundle.config["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
    bundle.started("c");
    let sets = |words: &[&str]| -> Vec<String> {
        let words = [&["exec"], words, &["c", "grep", "Cap", "/proc/self/status"]].concat();
        bundle
            .runtime(&words)
            .lines()
            .iter()
            .map(|line| line.split_whitespace().nth(1).unwrap_or("").to_owned())
            .collect()
    };
    // Inheritable, permitted, effective, bounding, ambient.
    let [nothing, both] = ["0000000000000000", "0000000000000021"];
    assert_eq!(sets(&[]), [nothing, both, both, both, nothing]);
    assert_eq!(sets(&["-u", "7"]), [nothing, nothing, nothing, both, nothing]);
}
