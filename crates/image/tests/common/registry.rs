//! A real registry (Debian's docker-registry), filled over its HTTP interface.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::Digest;
use serde_json::json;

use super::{MANIFEST, configuration, oci_manifest};

/// A real registry on a port of its own.
pub(crate) struct RealRegistry {
    process: Child,
    pub(crate) host: String,
    passwords: Option<tempfile::TempDir>,
    _directory: tempfile::TempDir,
}

impl RealRegistry {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// With more lines in the section `http`.
    pub(crate) fn start_with(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let storage = directory.path().join("storage");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: {host}\n{more}",
            storage.display()
        );
        let path = directory.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is needed: apt-get install docker-registry");
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&host).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        RealRegistry { process, host, passwords: None, _directory: directory }
    }

    /// With a user; `password` must be the one below.
    pub(crate) fn with_password(user: &str, password: &str) -> Self {
        assert_eq!(password, "secret", "the only one whose hash is known here");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        std::fs::write(&path, format!("{user}:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"))
            .unwrap();
        let mut registry = Self::start_with(&format!("auth:\n  htpasswd: {{realm: x, path: {}}}\n", path.display()));
        registry.passwords = Some(directory);
        registry
    }

    pub(crate) fn blob(&self, repository: &str, bytes: &[u8]) {
        let url = format!("http://{}/v2/{repository}/blobs/uploads/", self.host);
        let begun = ureq::post(&url).send_empty().unwrap();
        let place = begun.headers()["location"].to_str().unwrap();
        let separator = if place.contains('?') { '&' } else { '?' };
        ureq::put(format!("{place}{separator}digest={}", Digest::of(bytes)))
            .header("content-type", "application/octet-stream")
            .send(bytes)
            .unwrap();
    }

    pub(crate) fn manifest(&self, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.host);
        ureq::put(url).header("content-type", media_type).send(bytes).unwrap();
    }

    /// Pushes an OCI image; its configuration and manifest.
    pub(crate) fn image(
        &self,
        repository: &str,
        tag: &str,
        layers: &[Vec<u8>],
        packed: &[Vec<u8>],
    ) -> (Vec<u8>, Vec<u8>) {
        let ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = configuration(&ids, json!({"Cmd": ["/bin/sh"]}));
        let manifest = oci_manifest(&config, packed);
        packed.iter().chain([&config]).for_each(|blob| self.blob(repository, blob));
        self.manifest(repository, tag, MANIFEST, &manifest);
        (config, manifest)
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
