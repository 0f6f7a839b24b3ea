//! A real registry (Debian's `docker-registry`) on the loopback interface, filled over its HTTP interface.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::archive::{Image, Parts, digest};
use crate::netns;
use crate::process::wait_until;

/// A running registry; it ends and forgets everything when dropped.
pub struct Registry {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl Registry {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start() -> Self {
        Self::start_with(TempDir::with_prefix("kiste-registry-").expect("a temporary directory"), "")
    }

    /// One that wants the user `u` with the password `secret`.
    pub fn with_password() -> Self {
        let directory = TempDir::with_prefix("kiste-registry-").expect("a temporary directory");
        let users = directory.path().join("htpasswd");
        std::fs::write(&users, "u:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n").expect("a file");
        Self::start_with(directory, &format!("auth: {{htpasswd: {{realm: x, path: {}}}}}\n", users.display()))
    }

    /// One in the network namespace in which the caller is.
    pub fn start_here() -> Self {
        Self::launch(TempDir::with_prefix("kiste-registry-").expect("a temporary directory"), "")
    }

    fn start_with(directory: TempDir, more: &str) -> Self {
        netns::isolate();
        Self::launch(directory, more)
    }

    fn launch(directory: TempDir, more: &str) -> Self {
        let port = free_port();
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  delete: {{enabled: true}}\n  filesystem: {{rootdirectory: {}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n{more}",
            storage.display()
        );
        std::fs::write(&config, text).expect("a file in the temporary directory");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child =
            command.spawn().expect("Debian's package docker-registry is installed (cargo xtask test does that)");
        let connected = || TcpStream::connect(("127.0.0.1", port)).ok();
        wait_until("the registry answers", Duration::from_secs(20), connected);
        Registry { child, directory, port }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Uploads an image; the name to pull it by.
    pub fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        self.push_parts(repository, tag, &image.parts())
    }

    /// Uploads a manifest and its blobs; the name to pull it by.
    pub fn push_parts(&self, repository: &str, tag: &str, parts: &Parts) -> String {
        for blob in &parts.blobs {
            self.upload(repository, blob);
        }
        let path = format!("/v2/{repository}/manifests/{tag}");
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let (status, answer) = self.request("PUT", &path, kind, &parts.manifest);
        assert_eq!(status, 201, "PUT {path}: {answer}");
        format!("{}/{repository}:{tag}", self.address())
    }

    /// File of a blob in the registry's storage, for tests that damage it.
    pub fn blob_file(&self, blob: &[u8]) -> std::path::PathBuf {
        let digest = digest(blob);
        let hex = digest.trim_start_matches("sha256:");
        let name = format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        self.directory.path().join(name)
    }

    fn upload(&self, repository: &str, blob: &[u8]) {
        let (status, head) = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        assert_eq!(status, 202, "start an upload: {head}");
        let location = head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("location")));
        let (_, location) = location.expect("an upload has a location");
        let path = location.trim().trim_start_matches("http://").trim_start_matches(&self.address()).to_owned();
        let path = format!("{path}&digest={}", digest(blob));
        let (status, answer) = self.request("PUT", &path, "application/octet-stream", blob);
        assert_eq!(status, 201, "upload a blob: {answer}");
    }

    /// One HTTP request; status and the whole answer.
    fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the registry listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address(),
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("the registry reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the registry answers");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        (status, answer)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}
