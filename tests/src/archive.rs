//! Image archives, made by hand so that tests decide on every byte: `docker save`'s format and OCI layouts, sound ones and
//! hostile ones.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// One layer: a tar archive that grows entry by entry.
#[derive(Default)]
pub struct Layer(Vec<u8>);

impl Layer {
    /// An empty layer.
    pub fn new() -> Self {
        Layer::default()
    }

    /// A directory.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(path, EntryType::Directory, mode, (0, 0), "", b"")
    }

    /// A regular file of root's.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(path, EntryType::Regular, mode, (0, 0), "", content)
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Symlink, 0o777, (0, 0), target, b"")
    }

    /// A hard link.
    #[must_use]
    pub fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(path, EntryType::Link, 0o644, (0, 0), target, b"")
    }

    /// Any entry; neither name nor target are checked. Names are at most 100 bytes long.
    #[must_use]
    pub fn entry(
        mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        owner: (u64, u64),
        target: &str,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        old.linkname[..target.len()].copy_from_slice(target.as_bytes());
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).and_then(|()| header.set_device_minor(3)).expect("device numbers fit");
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// The archive, with its end mark.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// An image that is to become an archive.
pub struct Image {
    /// `name:tag`.
    pub name: String,
    /// Layers as tar archives, lowest first.
    pub layers: Vec<Vec<u8>>,
    /// The `config` object of the image configuration: `Cmd`, `Env`, `User`, ….
    pub config: Value,
    /// Processor architecture, in Go's words.
    pub architecture: String,
}

impl Image {
    /// An image of these layers for this machine.
    pub fn new(name: &str, layers: Vec<Vec<u8>>, config: Value) -> Self {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        Image { name: name.to_owned(), layers, config, architecture: architecture.to_owned() }
    }

    /// The image configuration document.
    pub fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        let document = json!({
            "architecture": self.architecture, "os": "linux", "created": "2024-01-02T03:04:05Z", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        document.to_string().into_bytes()
    }

    /// What `docker save` (before version 25) writes.
    pub fn docker(&self) -> Vec<u8> {
        self.docker_with(&self.configuration())
    }

    /// The same with another configuration document.
    pub fn docker_with(&self, config: &[u8]) -> Vec<u8> {
        let config_name = format!("{}.json", hex(config));
        let names: Vec<String> = (0..self.layers.len()).map(|index| format!("layer{index}/layer.tar")).collect();
        let manifest = json!([{"Config": config_name, "RepoTags": [self.name], "Layers": names}]);
        let mut archive = Layer::new().file(&config_name, 0o644, config);
        for (name, layer) in names.iter().zip(&self.layers) {
            archive = archive.file(name, 0o644, layer);
        }
        archive.file("manifest.json", 0o644, manifest.to_string().as_bytes()).finish()
    }

    /// An OCI image layout with gzip-compressed layers, in a tar archive.
    pub fn oci(&self) -> Vec<u8> {
        let Parts { manifest, blobs } = self.parts();
        let descriptor = json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(&manifest), "size": manifest.len(),
            "annotations": {"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": self.name},
        });
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
        let mut archive = Layer::new().file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
        for blob in blobs.iter().chain([&manifest]) {
            archive = archive.file(&format!("blobs/sha256/{}", hex(blob)), 0o644, blob);
        }
        archive.file("index.json", 0o644, index.to_string().as_bytes()).finish()
    }

    /// The OCI manifest and the blobs that it names (configuration and compressed layers), as a registry keeps them.
    pub fn parts(&self) -> Parts {
        let config = self.configuration();
        let layers: Vec<Vec<u8>> = self.layers.iter().map(|layer| gzip(layer)).collect();
        let describe = |kind: &str, blob: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(blob), "size": blob.len()});
        let described: Vec<Value> = layers.iter().map(|layer| describe("layer.v1.tar+gzip", layer)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("config.v1+json", &config), "layers": described,
        });
        let blobs = std::iter::once(config).chain(layers).collect();
        Parts { manifest: manifest.to_string().into_bytes(), blobs }
    }
}

/// An image as content-addressed blobs.
pub struct Parts {
    /// The manifest.
    pub manifest: Vec<u8>,
    /// Configuration first, then the layers.
    pub blobs: Vec<Vec<u8>>,
}

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compresses with gzip(1), without a time stamp.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    filter("gzip", &["-nc1"], bytes)
}

/// Sends bytes through a program.
pub fn filter(program: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let mut input = child.stdin.take().expect("stdin is a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(bytes).expect("the program reads its input"));
        let output = child.wait_with_output().expect("the program ends");
        assert!(output.status.success(), "{program}: {}", output.status);
        output.stdout
    })
}

/// Debian's static busybox.
pub fn busybox_binary() -> Vec<u8> {
    let binary = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| std::fs::read(path).ok());
    binary.expect("Debian's package busybox-static is installed (cargo xtask test does that)")
}

/// The busybox image of the tests: Debian's static busybox with a link for each of its programs, and a few users.
pub fn busybox() -> Image {
    let binary = busybox_binary();
    let list = Command::new("busybox").arg("--list").output().expect("busybox runs");
    let mut layer = Layer::new();
    for (directory, mode) in BUSYBOX_DIRECTORIES {
        layer = layer.directory(directory, *mode);
    }
    layer = layer.file("bin/busybox", 0o755, &binary);
    for program in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
        layer = layer.symlink(&format!("bin/{program}"), "busybox");
    }
    layer = layer.file("etc/passwd", 0o644, PASSWD).file("etc/group", 0o644, GROUP);
    let config = json!({"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]});
    Image::new("busybox:latest", vec![layer.finish()], config)
}

const BUSYBOX_DIRECTORIES: &[(&str, u32)] = &[
    ("bin/", 0o755),
    ("dev/", 0o755),
    ("etc/", 0o755),
    ("home/", 0o755),
    ("proc/", 0o755),
    ("root/", 0o700),
    ("sys/", 0o755),
    ("tmp/", 0o1777),
    ("usr/", 0o755),
    ("usr/bin/", 0o755),
    ("var/", 0o755),
];
const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
app:x:1000:1000:app:/home/app:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n";
const GROUP: &[u8] =
    b"root:x:0:\ndaemon:x:1:\ntty:x:5:\naudio:x:29:app\nstaff:x:50:app\napp:x:1000:\nnogroup:x:65534:\n";
