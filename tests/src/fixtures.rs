//! Where the binary under test and the test images are.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The binary under test: `KISTE_TEST_BINARY`, else the `kiste` that was built beside this test program.
pub fn kiste() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("KISTE_TEST_BINARY") {
            return PathBuf::from(path);
        }
        // …/target/TRIPLE/PROFILE/deps/TEST → …/target/TRIPLE/PROFILE/kiste
        let test = std::env::current_exe().expect("a running program has a path");
        let binary = test.ancestors().nth(2).expect("cargo's directories").join("kiste");
        assert!(
            binary.is_file(),
            "no {}: build it first (cargo build -p cli, with the same profile)",
            binary.display()
        );
        binary
    })
}

/// The busybox image as a `docker save` archive: made by `cargo xtask images`, else made now and kept in memory.
pub fn busybox() -> &'static [u8] {
    static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();
    ARCHIVE.get_or_init(|| match directory().map(|directory| std::fs::read(directory.join("busybox.tar"))) {
        Some(Ok(archive)) => archive,
        _ => crate::archive::busybox().docker(),
    })
}

/// The real Debian image, a `docker save` archive with the name `debian:test`. Needs `cargo xtask images`.
pub fn debian() -> PathBuf {
    let archive = directory().map(|directory| directory.join("debian.tar")).filter(|file| file.is_file());
    archive.expect("the Debian image is missing: run `cargo xtask images`")
}

/// PostgreSQL of Debian, a `docker save` archive with the name `postgres:test`. Needs `cargo xtask images`.
pub fn postgres() -> PathBuf {
    let archive = directory().map(|directory| directory.join("postgres.tar")).filter(|file| file.is_file());
    archive.expect("the PostgreSQL image is missing: run `cargo xtask images`")
}

/// `KISTE_TEST_IMAGES`, else `target/test-images`.
fn directory() -> Option<PathBuf> {
    if let Some(directory) = std::env::var_os("KISTE_TEST_IMAGES") {
        return Some(PathBuf::from(directory));
    }
    let test = std::env::current_exe().ok()?;
    test.ancestors().map(|directory| directory.join("test-images")).find(|directory| directory.is_dir())
}

/// A program of the Docker clients: from `KISTE_TEST_CLIENTS`, else `target/test-clients`, where `cargo xtask images`
/// unpacks them.
pub fn client(path: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let directory = match std::env::var_os("KISTE_TEST_CLIENTS") {
        Some(directory) => Some(PathBuf::from(directory)),
        None => test.ancestors().map(|directory| directory.join("test-clients")).find(|directory| directory.is_dir()),
    };
    let file = directory.map(|directory| directory.join(path)).filter(|file| file.is_file());
    file.unwrap_or_else(|| panic!("the Docker client {path} is missing: run `cargo xtask images`"))
}
