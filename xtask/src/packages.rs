//! The Debian packages that tests and the virtual machine need: installed when this runs as root, named otherwise.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::process::{self, find};
use crate::{Result, process::command};

/// Package and a program of it: the program's presence is enough, wherever it came from.
pub(crate) type Package = (&'static str, &'static str);

/// For the tests on this machine.
pub(crate) const TESTS: &[Package] = &[
    ("busybox-static", "busybox"),
    ("docker-registry", "docker-registry"),
    ("mmdebstrap", "mmdebstrap"),
    ("util-linux", "unshare"),
    ("procps", "ps"),
    ("iproute2", "ip"),
    ("uidmap", "newuidmap"),
    ("passt", "pasta"),
    ("podman", "podman"),
    ("containerd", "containerd"),
    ("docker.io", "dockerd"),
    ("nftables", "nft"),
    ("dbus", "dbus-daemon"),
    ("python3-dbus", "/usr/lib/python3/dist-packages/dbus"),
    ("python3-gi", "/usr/lib/python3/dist-packages/gi"),
    ("openssl", "openssl"),
    ("systemd", "systemd-socket-activate"),
    ("python3-pip", "pip3"),
];

/// For the virtual machine.
pub(crate) const MACHINE: &[Package] = &[
    ("mmdebstrap", "mmdebstrap"),
    ("busybox-static", "busybox"),
    ("qemu-system-x86", "qemu-system-x86_64"),
    ("qemu-system-common", "/usr/lib/qemu"),
    ("e2fsprogs", "mkfs.ext4"),
    ("xz-utils", "xz"),
    ("kmod", "depmod"),
];

/// Installs what is missing.
pub(crate) fn ensure(packages: &[Package]) -> Result {
    let missing: Vec<&str> = packages.iter().filter(|(_, program)| !present(program)).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        return Err(format!("Debian packages are missing; as root: apt-get install {}", missing.join(" ")));
    }
    println!("installing {}", missing.join(" "));
    if install(&missing).is_ok() {
        return Ok(());
    }
    // Package lists may be absent, or too old to name files that the mirror still has.
    process::run(&mut apt(&["update", "-qq"]))?;
    install(&missing)
}

fn present(program: &str) -> bool {
    find(program).is_some() || program.starts_with('/') && Path::new(program).exists()
}

fn install(packages: &[&str]) -> Result {
    let mut command = apt(&["install", "-y", "-qq", "--no-install-recommends"]);
    process::run(command.args(packages).stdout(Stdio::null()))
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = command("apt-get", ["-o", "Acquire::Check-Valid-Until=false", "-o", "Acquire::Retries=3"]);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}
