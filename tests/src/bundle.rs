//! A world for the runc-compatible face: a bundle with busybox, a state root and cgroups of its own, an end that leaves
//! nothing behind.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Output, finish};
use crate::{fixtures, leaks};

/// Longest that a command may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Programs that the root file system has, all of them busybox.
const PROGRAMS: [&str; 14] =
    ["sh", "cat", "echo", "env", "false", "grep", "id", "ls", "mount", "ps", "sleep", "stat", "true", "tty"];

/// A bundle and everything around it. Dropping it removes every container and then panics if anything is left.
pub struct Bundle {
    directory: TempDir,
    cgroup: String,
    /// The configuration; written out before each `create` and `run`.
    pub config: Value,
}

impl Bundle {
    /// One whose container runs a shell line.
    pub fn new(line: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let directory = TempDir::with_prefix("kiste-bundle-").expect("a temporary directory");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/kiste-bundle-{}-{number}", std::process::id());
        fill(&directory.path().join("rootfs"));
        let mut bundle = Bundle { directory, cgroup, config: Value::Null };
        bundle.runtime(&["spec", "--bundle", &bundle.path("").to_string_lossy()]).ok();
        let config = fs::read(bundle.path("config.json")).expect("spec writes it");
        bundle.config = serde_json::from_slice(&config).expect("in JSON");
        bundle.config["process"]["terminal"] = false.into();
        bundle.config["root"]["readonly"] = false.into();
        bundle.set_line(line);
        bundle
    }

    /// Lets the container run another shell line.
    pub fn set_line(&mut self, line: &str) {
        self.config["process"]["args"] = json!(["sh", "-c", line]);
    }

    /// A path in the bundle's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The state root.
    pub fn root(&self) -> PathBuf {
        self.path("state")
    }

    /// Where the container's cgroup of this v1 controller is, or its only one.
    pub fn cgroup(&self, id: &str, controller: &str) -> PathBuf {
        let top = Path::new("/sys/fs/cgroup");
        let top = if top.join(controller).is_dir() { top.join(controller) } else { top.to_owned() };
        top.join(self.cgroup.trim_start_matches('/')).join(id)
    }

    /// The runtime with arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(fixtures::kiste());
        command.arg("runtime").arg("--root").arg(self.root()).args(arguments).current_dir(self.directory.path());
        for variable in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"] {
            command.env_remove(variable);
        }
        command
    }

    /// Runs it.
    #[track_caller]
    pub fn runtime(&self, arguments: &[&str]) -> Output {
        finish(&mut self.command(arguments), None, LIMIT)
    }

    /// Writes the configuration, with a place for the container's cgroup.
    pub fn write(&self, id: &str) {
        let mut config = self.config.clone();
        if config["linux"].is_object() && config["linux"]["cgroupsPath"].is_null() {
            config["linux"]["cgroupsPath"] = format!("{}/{id}", self.cgroup).into();
        }
        fs::write(self.path("config.json"), config.to_string()).expect("the bundle is writable");
    }

    /// `run` in the foreground.
    #[track_caller]
    pub fn run(&self, id: &str) -> Output {
        self.write(id);
        self.runtime(&["run", id])
    }

    /// `create` with more flags; the container's output goes to the file `ID.out`.
    #[track_caller]
    pub fn create(&self, id: &str, flags: &[&str]) -> Output {
        self.write(id);
        let arguments = [&["create"], flags, &[id]].concat();
        self.detached(&mut self.command(&arguments), id)
    }

    /// Runs a command whose container keeps its output: a file, because a pipe would stay open.
    #[track_caller]
    pub fn detached(&self, command: &mut Command, id: &str) -> Output {
        let log = self.path(&format!("{id}.log"));
        let mut arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        arguments.splice(1..1, ["--log".into(), log.clone().into_os_string()]);
        let mut again = Command::new(command.get_program());
        again.args(arguments).current_dir(self.directory.path());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => again.env(name, value),
                None => again.env_remove(name),
            };
        }
        let out = File::create(self.path(&format!("{id}.out"))).expect("the bundle is writable");
        let shown = format!("{again:?}");
        let status = again
            .stdin(std::process::Stdio::null())
            .stdout(out.try_clone().expect("a descriptor can be copied"))
            .stderr(out)
            .status()
            .expect("the runtime runs");
        let stderr = fs::read_to_string(log).unwrap_or_default();
        Output { command: shown, status, stdout: String::new(), stderr }
    }

    /// What the container of `create` has written.
    pub fn output(&self, id: &str) -> String {
        fs::read_to_string(self.path(&format!("{id}.out"))).unwrap_or_default()
    }

    /// A container that is created and started.
    #[track_caller]
    pub fn started(&self, id: &str) {
        self.create(id, &[]).ok();
        self.runtime(&["start", id]).ok();
    }

    /// The `state` document.
    #[track_caller]
    pub fn state(&self, id: &str) -> Value {
        let output = self.runtime(&["state", id]);
        serde_json::from_str(output.ok()).expect("in JSON")
    }

    /// Its status.
    #[track_caller]
    pub fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().expect("a word").to_owned()
    }

    fn leaks(&self) -> Vec<String> {
        let mut found = leaks::processes(self.directory.path());
        found.extend(leaks::cgroups(&self.cgroup));
        found.extend(leaks::entries(&self.root()).into_iter().filter(|entry| !entry.contains("/@")));
        found
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        for id in self.runtime(&["list", "-q"]).stdout.lines() {
            self.runtime(&["delete", "--force", id]);
        }
        let remains = if failed { Vec::new() } else { leaks::settled(|| self.leaks()) };
        leaks::clean(self.directory.path(), &self.cgroup);
        assert!(remains.is_empty(), "left behind: {remains:#?}");
    }
}

/// A root file system.
fn fill(rootfs: &Path) {
    for directory in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(rootfs.join(directory)).expect("the bundle is writable");
    }
    let busybox = ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
    fs::copy(busybox.expect("busybox-static is installed"), rootfs.join("bin/busybox"))
        .expect("the bundle is writable");
    for program in PROGRAMS {
        symlink("busybox", rootfs.join("bin").join(program)).expect("the bundle is writable");
    }
}
