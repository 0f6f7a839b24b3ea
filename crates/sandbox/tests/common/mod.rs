//! A container made of busybox, configured as Docker would, run on the real kernel. Needs root and Debian's
//! `busybox-static`.

#![allow(dead_code, unreachable_pub)] // every test file uses its own part

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// First host id of the containers' range.
pub const BASE: u32 = 2_147_483_648;

const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
];

/// A container to be.
pub struct Container {
    directory: TempDir,
    /// The job for `sandbox-try`.
    pub job: Value,
}

/// How it went.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Container {
    /// With a user namespace.
    pub fn new(args: &[&str]) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test needs root");
        let directory = tempfile::Builder::new().prefix("kiste-test-").tempdir().unwrap();
        let path = directory.path();
        // No way in for anybody but the host's root, like the engine's own directories.
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        for name in ["layer", "upper", "work", "empty"] {
            fs::create_dir(path.join(name)).unwrap();
        }
        fill(&path.join("layer"));
        let job = json!({
            "spec": spec(args),
            "lower": [path.join("layer")],
            "upper": path.join("upper"),
            "work": path.join("work"),
            "empty": path.join("empty"),
        });
        Self { directory, job }
    }

    /// A shell script in a container.
    pub fn sh(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    /// Sets a field of the job, by JSON pointer.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.job.pointer_mut(parent).unwrap()[key] = value;
        self
    }

    /// Adds to a list of the job.
    pub fn add(mut self, pointer: &str, value: Value) -> Self {
        let list = self.job.pointer_mut(pointer).unwrap();
        list.as_array_mut().unwrap().push(value);
        self
    }

    /// Adds a mount.
    pub fn mount(self, kind: &str, source: &Path, destination: &str, options: &[&str]) -> Self {
        let mount = json!({ "type": kind, "source": source, "destination": destination, "options": options });
        self.add("/spec/mounts", mount)
    }

    /// In the host's user namespace.
    pub fn host_user(mut self) -> Self {
        self.namespaces(|kind| kind != "user");
        let linux = &mut self.job["spec"]["linux"];
        linux.as_object_mut().unwrap().remove("uidMappings");
        linux.as_object_mut().unwrap().remove("gidMappings");
        self
    }

    /// Keeps the namespaces whose kind `keep` says.
    pub fn namespaces(&mut self, keep: impl Fn(&str) -> bool) {
        let list = self.job["spec"]["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| keep(namespace["type"].as_str().unwrap()));
    }

    /// Where the image is.
    pub fn layer(&self) -> PathBuf {
        self.directory.path().join("layer")
    }

    /// What the container changed.
    pub fn upper(&self) -> PathBuf {
        self.directory.path().join("upper")
    }

    /// A directory of the host beside the container's.
    pub fn host(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Runs it to its end.
    pub fn run(&self) -> Ended {
        self.command().output().unwrap().into()
    }

    /// Starts it and waits until it runs.
    pub fn start(mut self) -> Running {
        let pid_file = self.directory.path().join("pid");
        self.job["pid_file"] = json!(pid_file);
        let process = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running { container: self, process, pid: 0 };
        let end = Instant::now() + Duration::from_secs(20);
        while running.pid == 0 {
            assert!(Instant::now() < end, "the container did not start");
            std::thread::sleep(Duration::from_millis(2));
            running.pid = fs::read_to_string(&pid_file).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        }
        running
    }

    fn command(&self) -> Command {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut job = self.job.clone();
        job["cgroup"] = json!(format!("/kiste-test-launch-{}-{number}", std::process::id()));
        let path = self.directory.path().join("job.json");
        fs::write(&path, job.to_string()).unwrap();
        let mut command = Command::new(program());
        command.arg(path).stdin(Stdio::null());
        command
    }
}

/// `sandbox-try`: where cargo has built it or, on another machine, beside the test program.
fn program() -> PathBuf {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_sandbox-try"));
    if built.exists() { built } else { std::env::current_exe().unwrap().with_file_name("sandbox-try") }
}

/// A container that runs.
pub struct Running {
    pub container: Container,
    process: Child,
    /// Its first process on the host.
    pub pid: i32,
}

impl Running {
    /// Sends a signal to the first process.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_raw(self.pid).unwrap(), signal).unwrap();
    }

    /// Waits for its end.
    pub fn wait(self) -> Ended {
        self.process.wait_with_output().unwrap().into()
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    /// Its output, if it ended well.
    #[track_caller]
    pub fn output(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// Fails with this code and a text that contains this.
    #[track_caller]
    pub fn fails(self, code: i32, text: &str) {
        assert!(self.code == code && self.err.contains(text), "{} {}{}", self.code, self.out, self.err);
    }
}

fn fill(layer: &Path) {
    for directory in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "home/web"] {
        fs::create_dir_all(layer.join(directory)).unwrap();
    }
    fs::copy("/usr/bin/busybox", layer.join("bin/busybox")).expect("Debian's busybox-static is installed");
    let applets = "sh cat ls id env echo grep ps sleep mount umount mkdir touch stat readlink tty stty hostname true \
                   false kill chown ln rm wc find head ifconfig unshare mknod dd";
    for applet in applets.split_whitespace() {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n").unwrap();
    fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:1001:\nstaff:x:50:web\n").unwrap();
    fs::set_permissions(layer.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    chown(layer.join("home/web"), Some(1000), Some(1001)).unwrap();
}

/// What Docker configures, with every namespace.
fn spec(args: &[&str]) -> Value {
    let mount = |kind: &str, source: &str, destination: &str, options: &[&str]| json!({ "type": kind, "source": source, "destination": destination, "options": options });
    let strict = ["nosuid", "noexec", "nodev"];
    let kinds = ["mount", "uts", "ipc", "pid", "network", "cgroup", "time", "user"];
    let map = json!([{ "containerID": 0, "hostID": BASE, "size": 65536 }]);
    json!({
        "ociVersion": "1.2.0",
        "hostname": "box",
        "root": { "path": "/nowhere" },
        "process": process(args),
        "mounts": [
            mount("proc", "proc", "/proc", &strict),
            mount("tmpfs", "tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("devpts", "devpts", "/dev/pts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("sysfs", "sysfs", "/sys", &["nosuid", "noexec", "nodev", "ro"]),
            mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro", "nosuid", "noexec", "nodev"]),
            mount("mqueue", "mqueue", "/dev/mqueue", &strict),
            mount("tmpfs", "shm", "/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]),
        ],
        "linux": {
            "namespaces": kinds.map(|kind| json!({ "type": kind })),
            "uidMappings": map,
            "gidMappings": map,
            "devices": [],
            "sysctl": {},
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/scsi", "/proc/timer_list",
                "/proc/no-such-file", "/sys/firmware", "/sys/devices/virtual/powercap"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

/// A process of the container.
pub fn process(args: &[&str]) -> Value {
    json!({
        "args": args,
        "user": { "uid": 0, "gid": 0 },
        "cwd": "/",
        "env": ["PATH=/bin"],
        "noNewPrivileges": true,
        "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES },
    })
}
