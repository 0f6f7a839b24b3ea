//! `kiste runtime` under the engines that it is for: the real podman, containerd and dockerd of Debian's packages, each with
//! a root of its own. What they do all day: run, exec, terminals, limits, pause, stop, restart, and their exit codes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kiste_tests::{Output, finish, fixtures, wait_until};
use tempfile::TempDir;

/// Starting a daemon on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(90);

/// A directory with the runtime under its own name and the image archive; a daemon, ended with it.
struct Engine {
    directory: TempDir,
    daemon: Option<Child>,
    client: Vec<String>,
}

impl Engine {
    fn new() -> Self {
        let directory = TempDir::with_prefix("kiste-under-").expect("a temporary directory");
        symlink(fixtures::kiste(), directory.path().join("kiste-runtime")).expect("the directory is writable");
        fs::write(directory.path().join("busybox.tar"), fixtures::busybox()).expect("the directory is writable");
        Engine { directory, daemon: None, client: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn podman() -> Self {
        let mut engine = Self::new();
        let (root, state, runtime) = (engine.text("root"), engine.text("state"), engine.text("kiste-runtime"));
        let words = ["podman", "--root", &root, "--runroot", &state, "--runtime", &runtime, "--storage-driver", "vfs"];
        engine.client = words.map(str::to_owned).to_vec();
        // Its own defaults are above what a machine without CAP_SYS_RESOURCE may give.
        let limits = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        fs::write(engine.path("containers.conf"), limits).expect("the directory is writable");
        engine.client.extend(["--cgroup-manager=cgroupfs", "--events-backend=file"].map(str::to_owned));
        engine
    }

    fn docker() -> Self {
        let mut engine = Self::new();
        let socket = format!("unix://{}", engine.text("docker.sock"));
        let runtime = format!("kiste={}", engine.text("kiste-runtime"));
        let mut daemon = Command::new("dockerd");
        daemon.args(["--data-root", &engine.text("root"), "--exec-root", &engine.text("exec"), "-H", &socket]);
        daemon.args(["-p", &engine.text("pid"), "--iptables=false", "--ip6tables=false", "--bridge=none"]);
        daemon.args(["--add-runtime", &runtime, "--default-runtime=kiste", "--storage-driver=vfs"]);
        engine.start(&mut daemon);
        engine.client = ["docker", "-H", &socket].map(str::to_owned).to_vec();
        wait_until("dockerd answers", PATIENCE, || (engine.run(&["version"]).code() == 0).then_some(()));
        engine
    }

    fn start(&mut self, daemon: &mut Command) {
        let log = fs::File::create(self.path("daemon.log")).expect("the directory is writable");
        let error = log.try_clone().expect("a descriptor can be copied");
        self.daemon =
            Some(daemon.stdin(Stdio::null()).stdout(log).stderr(error).spawn().expect("the daemon is installed"));
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.client[0]);
        command.args(&self.client[1..]).args(arguments).env("CONTAINERS_CONF", self.path("containers.conf"));
        finish(&mut command, None, PATIENCE)
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok().to_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let pid = rustix::process::Pid::from_child(&daemon);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = daemon.wait();
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = self.directory.path().to_string_lossy().into_owned();
        for point in
            mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).filter(|point| point.starts_with(&own))
        {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// What docker and podman have in common, words and exit codes included.
fn everyday(engine: &Engine) {
    engine.ok(&["load", "-i", &engine.text("busybox.tar")]);
    let run = |words: &[&str]| engine.run(&[&["run", "--rm", "--network=none"], words].concat());
    let output = run(&["busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((output.code(), output.stdout.as_str(), output.stderr.as_str()), (7, "out\n", "err\n"));
    let limited = ["--user", "5:6", "--read-only", "--cap-drop=all", "busybox", "sh", "-c", "id -u; id -g; touch /x"];
    let output = run(&limited);
    assert_eq!(output.lines(), ["5", "6"]);
    assert!(output.stderr.contains("Read-only file system"), "{output:?}");
    assert_eq!(run(&["busybox", "/nothing"]).code(), 127);
    assert_eq!(run(&["busybox", "/etc"]).code(), 126);
    assert_eq!(run(&["--memory=16m", "busybox", "sh", "-c", "x=a; while true; do x=$x$x; done"]).code(), 137);
    let tty = run(&["-t", "busybox", "tty"]);
    assert!(tty.ok().starts_with("/dev/pts/"), "{tty:?}");
    run(&["--privileged", "busybox", "true"]).ok();
    engine.ok(&[
        "run",
        "-d",
        "--name=c1",
        "--network=none",
        "--memory=64m",
        "--pids-limit=50",
        "busybox",
        "sleep",
        "1000",
    ]);
    let exec = engine.run(&["exec", "-e", "A=1", "-w", "/tmp", "c1", "sh", "-c", "pwd; echo $A; exit 9"]);
    assert_eq!((exec.code(), exec.stdout.as_str()), (9, "/tmp\n1\n"));
    assert!(engine.ok(&["exec", "-t", "c1", "tty"]).starts_with("/dev/pts/"));
    let status = || engine.ok(&["inspect", "--format", "{{.State.Status}}", "c1"]);
    engine.ok(&["pause", "c1"]);
    assert_eq!(status(), "paused");
    engine.ok(&["unpause", "c1"]);
    assert_eq!(status(), "running");
    assert!(engine.ok(&["top", "c1"]).contains("sleep 1000"));
    engine.ok(&["stats", "--no-stream", "c1"]);
    engine.ok(&["kill", "c1"]);
    wait_until("it has ended", PATIENCE, || (status() == "exited").then_some(()));
    engine.ok(&["start", "c1"]);
    engine.ok(&["restart", "-t", "0", "c1"]);
    assert_eq!(status(), "running");
    engine.ok(&["stop", "-t", "0", "c1"]);
    assert_eq!(engine.ok(&["inspect", "--format", "{{.State.ExitCode}}", "c1"]), "137");
    engine.ok(&["rm", "-f", "c1"]);
}

#[test]
fn podmans_everyday_life() {
    everyday(&Engine::podman());
}

#[test]
fn dockers_everyday_life() {
    let engine = Engine::docker();
    assert!(engine.ok(&["info"]).contains("Default Runtime: kiste"));
    everyday(&engine);
}

#[test]
fn containerds_everyday_life() {
    let mut engine = Engine::new();
    let config = format!(
        "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/run\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = \"{0}/c.sock\"\n[ttrpc]\naddress = \"{0}/t.sock\"\n",
        engine.directory.path().display()
    );
    fs::write(engine.path("config.toml"), config).unwrap();
    let mut daemon = Command::new("containerd");
    daemon.args(["--config", &engine.text("config.toml")]);
    engine.start(&mut daemon);
    engine.client = ["ctr", "-a", &engine.text("c.sock")].map(str::to_owned).to_vec();
    wait_until("containerd answers", PATIENCE, || (engine.run(&["version"]).code() == 0).then_some(()));
    let runtime = engine.text("kiste-runtime");
    engine.ok(&["image", "import", "--snapshotter=native", &engine.text("busybox.tar")]);
    let image = engine.ok(&["image", "ls", "-q"]);
    let options = ["--snapshotter=native", "--runc-binary", &runtime];
    let run = |words: &[&str]| engine.run(&[&["run"], &options[..], words].concat());
    assert_eq!(run(&["--rm", &image, "a", "sh", "-c", "echo out; exit 7"]).code(), 7);
    run(&["-d", "--memory-limit=67108864", &image, "c", "sleep", "1000"]).ok();
    let task = |words: &[&str]| engine.run(&[&["task"], words].concat());
    let exec = task(&["exec", "--exec-id=e", "c", "sh", "-c", "echo in; exit 9"]);
    assert_eq!((exec.code(), exec.stdout.as_str()), (9, "in\n"));
    task(&["pause", "c"]).ok();
    assert!(task(&["ls"]).ok().contains("PAUSED"));
    task(&["resume", "c"]).ok();
    assert_eq!(task(&["ps", "c"]).ok().lines().count(), 2);
    task(&["kill", "-s", "KILL", "c"]).ok();
    wait_until("it has ended", PATIENCE, || task(&["ls"]).ok().contains("STOPPED").then_some(()));
    task(&["delete", "c"]);
    engine.ok(&["container", "delete", "c"]);
}
