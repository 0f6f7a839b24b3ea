//! The images that tests run on, below `target/test-images`: busybox as `docker save` and as OCI archive, and a real
//! Debian without and with PostgreSQL. Beside them, below `target/test-clients`, the Docker clients. Each is made once;
//! deleting the directory makes them again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use kiste_tests::archive::{self, Image};
use serde_json::json;

use crate::process::{self, at, command};
use crate::{Result, packages};

/// What a database server does without: its compiler for queries, and the tables of a Perl that only installs it. And no
/// cluster is made while it is installed; tests make their own.
const POSTGRES: [&str; 9] = [
    "--dpkgopt=path-exclude=/usr/lib/*/libLLVM*",
    "--dpkgopt=path-exclude=/usr/lib/*/libz3*",
    "--dpkgopt=path-exclude=/usr/lib/llvm-*",
    "--dpkgopt=path-exclude=/usr/lib/postgresql/*/lib/bitcode/*",
    "--dpkgopt=path-exclude=/usr/lib/postgresql/*/lib/llvmjit*",
    "--dpkgopt=path-exclude=/usr/lib/*/perl/*/auto/Encode/??/*",
    "--dpkgopt=path-exclude=/usr/lib/*/perl/*/CORE/*",
    "--dpkgopt=path-exclude=/usr/share/perl/*/Unicode/*",
    "--setup-hook=mkdir -p \"$1/etc/postgresql-common\" && echo 'create_main_cluster = false' > \"$1/etc/postgresql-common/createcluster.conf\"",
];

/// Makes what is missing; the directory.
pub(crate) fn prepare(root: &Path) -> Result<PathBuf> {
    packages::ensure(packages::TESTS)?;
    let directory = root.join("target/test-images");
    at("create", &directory, fs::create_dir_all(&directory))?;
    publish(&directory.join("busybox.tar"), || Ok(archive::busybox().docker()))?;
    publish(&directory.join("busybox-oci.tar"), || Ok(archive::busybox().oci()))?;
    publish(&directory.join("debian.tar"), || debian("debian:test", "", &[], &directory))?;
    publish(&directory.join("postgres.tar"), || debian("postgres:test", "postgresql", &POSTGRES, &directory))?;
    clients(&root.join("target/test-clients"))?;
    docker_py(&root.join("target/test-clients/python"))?;
    erofs_utils(&root.join("target/erofs-utils"))?;
    Ok(directory)
}

/// The Python library `docker` from PyPI.
fn docker_py(directory: &Path) -> Result {
    if directory.join("docker/__init__.py").exists() {
        return Ok(());
    }
    println!("making {}", directory.display());
    let arguments = ["install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"];
    process::run(command("pip3", arguments).arg(directory).arg("docker==7.1.0"))
}

/// Unpacks the docker command, `docker buildx` and `docker compose`, which no Debian release has in a version of today.
fn clients(directory: &Path) -> Result {
    if directory.join("usr/libexec/docker/cli-plugins/docker-buildx").exists() {
        return Ok(());
    }
    // An older selection goes.
    if directory.exists() {
        at("remove", directory, fs::remove_dir_all(directory))?;
    }
    println!("making {}", directory.display());
    let new = directory.with_extension("new");
    if new.exists() {
        at("remove", &new, fs::remove_dir_all(&new))?;
    }
    bootstrap_suite("sid", "extract", "docker-cli,docker-compose,docker-buildx", &[], &new)?;
    at("publish", directory, fs::rename(&new, directory))
}

/// Writes a file that is not there yet, whole or not at all.
fn publish(file: &Path, content: impl FnOnce() -> Result<Vec<u8>>) -> Result {
    if file.exists() {
        return Ok(());
    }
    println!("making {}", file.display());
    let new = file.with_extension("new");
    at("write", &new, fs::write(&new, content()?))?;
    at("publish", file, fs::rename(&new, file))
}

/// A Debian with more packages, as an image; `options` are mmdebstrap's.
fn debian(name: &str, packages: &str, options: &[&str], directory: &Path) -> Result<Vec<u8>> {
    let tar = directory.join("debian-root.tar");
    bootstrap_suite("trixie", "minbase", packages, options, &tar)?;
    let layer = at("read", &tar, fs::read(&tar))?;
    at("remove", &tar, fs::remove_file(&tar))?;
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let image = Image::new(name, vec![layer], json!({"Cmd": ["bash"], "Env": [path]}));
    Ok(image.docker())
}

/// erofs-utils with all that they need, unpacked and not installed: those of older Debian releases know no blocks of 512
/// bytes.
fn erofs_utils(directory: &Path) -> Result {
    if directory.join("usr/bin/fsck.erofs").exists() {
        return Ok(());
    }
    println!("making {}", directory.display());
    let new = directory.with_extension("new");
    if new.exists() {
        at("remove", &new, fs::remove_dir_all(&new))?;
    }
    bootstrap("extract", "erofs-utils", &new)?;
    at("publish", directory, fs::rename(&new, directory))
}

/// Makes a Debian root (a directory, or a tar archive if it is called so) with mmdebstrap(1).
pub(crate) fn bootstrap(variant: &str, include: &str, target: &Path) -> Result {
    bootstrap_suite("trixie", variant, include, &[], target)
}

fn bootstrap_suite(suite: &str, variant: &str, include: &str, options: &[&str], target: &Path) -> Result {
    let mut mmdebstrap = command("mmdebstrap", ["--quiet", &format!("--variant={variant}")]);
    // The mirror may be a frozen copy, whose release file has expired.
    mmdebstrap.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    mmdebstrap.args(
        ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"].map(|p| format!("--dpkgopt=path-exclude={p}")),
    );
    mmdebstrap.args(options);
    if !include.is_empty() {
        mmdebstrap.arg(format!("--include={include}"));
    }
    process::run(mmdebstrap.arg(suite).arg(target).arg("http://deb.debian.org/debian").stdin(Stdio::null()))
}
