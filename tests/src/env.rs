//! One test's world: directories and cgroups of its own, commands that run in it, and an end that leaves nothing behind.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Output, finish};
use crate::{fixtures, leaks, netns, user};

/// Longest that a command may take, unless the test says otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// A root and a state directory of its own. Dropping it removes every container and then panics if anything is left: a
/// process, a mount, a cgroup, a namespace, a directory or a record.
pub struct Env {
    directory: TempDir,
    cgroup: String,
    check: bool,
    user: Option<user::User>,
}

impl Env {
    /// An empty world.
    #[allow(clippy::new_without_default, reason = "it touches the machine")]
    pub fn new() -> Self {
        netns::isolate();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let directory = TempDir::with_prefix("kiste-test-").expect("a temporary directory");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/kiste-test-{}-{number}", std::process::id());
        Env { directory, cgroup, check: true, user: None }
    }

    /// A world with the image `busybox:latest`, whose commands an ordinary user calls who has `count` subordinate ids.
    pub fn of_user(count: u32) -> Self {
        let mut env = Env::new();
        env.user = Some(user::User::new(env.directory.path(), count));
        env.load(fixtures::busybox());
        env
    }

    /// A world with the image `busybox:latest`.
    pub fn with_busybox() -> Self {
        let env = Env::new();
        env.load(fixtures::busybox());
        env
    }

    /// A directory for the test's own files, outside of root and state.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file below [`Env::path`].
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        path
    }

    /// The product's root directory.
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// The product's state directory.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// The cgroup under which this world's containers are.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// The product's command with arguments; `run` and `create` get this world's parent cgroup.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.user.as_ref().map_or_else(|| Command::new(fixtures::kiste()), user::User::command);
        self.prepare(&mut command);
        command.args(self.arguments(arguments));
        command
    }

    /// Points a command at this world.
    pub fn prepare(&self, command: &mut Command) {
        command.env("KISTE_ROOT", self.root()).env("KISTE_STATE", self.state()).env_remove("KISTE_FAILPOINT");
    }

    /// The arguments with this world's parent cgroup added where a container is made.
    pub fn arguments(&self, arguments: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        if self.user.is_none() && matches!(arguments.first().map(String::as_str), Some("run" | "create")) {
            arguments.insert(1, format!("--cgroup-parent={}", self.cgroup));
        }
        arguments
    }

    /// Runs the product.
    #[track_caller]
    pub fn kiste(&self, arguments: &[&str]) -> Output {
        finish(&mut self.command(arguments), None, LIMIT)
    }

    /// Runs the product with standard input.
    #[track_caller]
    pub fn kiste_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        finish(&mut self.command(arguments), Some(input), LIMIT)
    }

    /// Runs the product with an environment variable.
    #[track_caller]
    pub fn kiste_with_env(&self, arguments: &[&str], name: &str, value: &str) -> Output {
        finish(self.command(arguments).env(name, value), None, LIMIT)
    }

    /// Runs the product; panics unless it succeeds; standard output without the final newline.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.kiste(arguments).ok().to_owned()
    }

    /// Runs a shell line in a new busybox container with these options, removed afterwards; what it printed.
    #[track_caller]
    pub fn sh(&self, options: &[&str], line: &str) -> String {
        let arguments = [&["run", "--rm"], options, &["busybox", "sh", "-c", line]].concat();
        self.ok(&arguments)
    }

    /// Starts a detached busybox container that runs a shell line; its id.
    #[track_caller]
    pub fn detached(&self, options: &[&str], line: &str) -> String {
        let arguments = [&["run", "-d"], options, &["busybox", "sh", "-c", line]].concat();
        self.ok(&arguments)
    }

    /// Loads an image archive.
    #[track_caller]
    pub fn load(&self, archive: &[u8]) -> Output {
        let output = self.kiste_with_input(&["load"], archive);
        output.ok();
        output
    }

    /// The `inspect` document of a container.
    #[track_caller]
    pub fn inspect(&self, name: &str) -> Value {
        let output = self.ok(&["inspect", name]);
        let documents: Value =
            serde_json::from_str(&output).unwrap_or_else(|e| panic!("inspect {name}: {e}: {output}"));
        documents[0].clone()
    }

    /// The state's word: `running`, `exited`, ….
    #[track_caller]
    pub fn status(&self, name: &str) -> String {
        self.ok(&["inspect", "--format", "{{.State.Status}}", name])
    }

    /// Host process id of the container's first process.
    #[track_caller]
    pub fn pid(&self, name: &str) -> u32 {
        let pid = self.ok(&["inspect", "--format", "{{.State.Pid}}", name]);
        pid.parse().unwrap_or_else(|_| panic!("pid of {name}: {pid:?}"))
    }

    /// The process ids of monitors that serve this world.
    pub fn monitors(&self) -> Vec<u32> {
        leaks::processes_with_argument(self.directory.path(), "monitor")
    }

    /// Takes the mounts of layers away, as a reboot does.
    pub fn unmount_layers(&self) {
        leaks::unmount_below(&self.state().join("layers"));
    }

    /// Removes all containers and volumes, then says what is left behind.
    pub fn remains(&self) -> Vec<String> {
        if self.root().exists() {
            let containers = self.kiste(&["ps", "-aq", "--no-trunc"]);
            for id in containers.stdout.lines() {
                self.kiste(&["rm", "-f", "-v", id]);
            }
        }
        leaks::settled(|| self.leaks())
    }

    fn leaks(&self) -> Vec<String> {
        let mut found = leaks::processes(self.directory.path());
        found.extend(leaks::cgroups(&self.cgroup));
        found.extend(leaks::entries(&self.root().join("containers")));
        found.extend(leaks::entries(&self.state().join("containers")));
        found.extend(netns::devices());
        if self.root().exists() {
            found.extend(self.kiste(&["ps", "-aq"]).stdout.lines().map(|id| format!("record of container {id}")));
        }
        found
    }

    /// Leaves the check at the end out, for tests that break the store on purpose.
    pub fn unchecked(&mut self) {
        self.check = false;
    }
}

impl Drop for Env {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let remains = if failed || !self.check { Vec::new() } else { self.remains() };
        leaks::clean(self.directory.path(), &self.cgroup);
        if failed && std::env::var_os("KISTE_TEST_KEEP").is_some() {
            self.directory.disable_cleanup(true);
        }
        assert!(remains.is_empty(), "left behind: {remains:#?}");
    }
}
