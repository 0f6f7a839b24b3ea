//! The life of a container under `kiste runtime`, as containerd, podman and people drive runc.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use kiste_tests::{Bundle, finish, fixtures, wait_until};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

fn stopped(bundle: &Bundle, id: &str) {
    wait_until("the container stops", PATIENCE, || (bundle.status(id) == "stopped").then_some(()));
}

#[test]
fn run_gives_the_programs_exit_code_and_leaves_nothing() {
    let bundle = Bundle::new("echo out; exit 7");
    let output = bundle.run("c");
    assert_eq!((output.code(), output.stdout.as_str()), (7, "out\n"), "{output:?}");
    bundle.runtime(&["state", "c"]).fails(1, &["container does not exist"]);
}

#[test]
fn created_started_stopped_deleted() {
    let bundle = Bundle::new("echo $0 runs; sleep 100");
    bundle.create("c", &["--pid-file", "pid"]).ok();
    let state = bundle.state("c");
    assert_eq!(state["status"], "created");
    assert_eq!(state["pid"].to_string(), fs::read_to_string(bundle.path("pid")).unwrap());
    assert_eq!(state["ociVersion"], "1.3.0");
    assert_eq!(state["bundle"], bundle.path("").canonicalize().unwrap().to_string_lossy().as_ref());
    assert_eq!(bundle.output("c"), "", "nothing runs before the start");
    bundle.runtime(&["start", "c"]).ok();
    assert_eq!(bundle.status("c"), "running");
    bundle.runtime(&["start", "c"]).fails(1, &["already running"]);
    bundle.create("c", &[]).fails(1, &["already exists"]);
    bundle.runtime(&["delete", "c"]).fails(1, &["cannot delete container c that is not stopped: running"]);
    bundle.runtime(&["kill", "c", "KILL"]).ok();
    stopped(&bundle, "c");
    assert_eq!(bundle.state("c")["pid"], 0);
    bundle.runtime(&["kill", "c", "KILL"]).fails(1, &["container not running"]);
    bundle.runtime(&["start", "c"]).fails(1, &["stopped"]);
    bundle.runtime(&["delete", "c"]).ok();
    bundle.runtime(&["delete", "c"]).fails(1, &["does not exist"]);
    bundle.runtime(&["delete", "--force", "c"]).ok();
}

#[test]
fn a_created_container_survives_its_maker_and_is_deleted_without_force() {
    let bundle = Bundle::new("true");
    bundle.create("c", &[]).ok();
    bundle.runtime(&["delete", "c"]).ok();
}

#[test]
fn list_shows_all_and_one_with_a_damaged_state_can_be_removed() {
    let bundle = Bundle::new("sleep 100");
    bundle.create("a", &[]).ok();
    bundle.started("b");
    assert_eq!(bundle.runtime(&["list", "--quiet"]).ok(), "a\nb");
    let list: Value = serde_json::from_str(bundle.runtime(&["list", "--format", "json"]).ok()).unwrap();
    let statuses: Vec<&str> = list.as_array().unwrap().iter().map(|one| one["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["created", "running"]);
    assert!(bundle.runtime(&["list"]).stdout.starts_with("ID          PID         STATUS"));
    fs::create_dir(bundle.root().join("half")).unwrap();
    fs::write(bundle.root().join("half/state.json"), "{\"id\":\"ha").unwrap();
    bundle.runtime(&["state", "half"]).fails(1, &["does not exist", "delete --force"]);
    assert_eq!(bundle.runtime(&["list", "-q"]).ok(), "a\nb\nhalf");
    bundle.runtime(&["delete", "--force", "half"]).ok();
}

#[test]
fn exec_runs_in_the_container_with_its_limits() {
    let bundle = Bundle::new("echo $$ > /tmp/first; sleep 100");
    bundle.started("c");
    let exec = |words: &[&str]| bundle.runtime(&[&["exec"], words].concat());
    let output =
        exec(&["-e", "A=1", "--cwd", "/tmp", "-u", "5:6", "-g", "7", "c", "sh", "-c", "id; pwd; echo $A; exit 9"]);
    assert_eq!(output.code(), 9);
    assert_eq!(output.lines(), ["uid=5 gid=6 groups=7", "/tmp", "1"]);
    assert!(exec(&["c", "grep", "NoNewPrivs", "/proc/self/status"]).ok().ends_with('1'));
    exec(&["c", "nothing-of-that-name"]).fails(255, &["executable file not found in $PATH"]);
    exec(&["c", "/nothing"]).fails(255, &["no such file or directory"]);
    exec(&["-u", "1:", "c", "true"]).fails(255, &["--user 1:"]);
    let process =
        json!({"user": {"uid": 1, "gid": 2}, "args": ["sh", "-c", "id -u"], "cwd": "/", "env": ["PATH=/bin"]});
    fs::write(bundle.path("process.json"), process.to_string()).unwrap();
    assert_eq!(exec(&["--process", "process.json", "c"]).ok(), "1");
    let inside = fs::read_to_string(bundle.cgroup("c", "pids").join("cgroup.procs")).unwrap();
    assert_eq!(inside.trim(), bundle.state("c")["pid"].to_string());
}

#[test]
fn exec_in_a_sub_cgroup_stays_below_the_containers() {
    let bundle = Bundle::new("sleep 100");
    bundle.started("c");
    fs::create_dir(bundle.cgroup("c", "pids").join("sub")).unwrap();
    let exec = |path: &str| bundle.runtime(&["exec", "--cgroup", path, "c", "cat", "/proc/self/cgroup"]);
    assert!(exec("sub").ok().contains("/sub"));
    exec("../x").fails(255, &["`..` components are not allowed"]);
    exec("missing").fails(255, &["missing"]);
}

#[test]
fn paused_containers_wait_and_can_be_killed() {
    let bundle = Bundle::new("sleep 100");
    bundle.started("c");
    bundle.runtime(&["resume", "c"]).fails(1, &["not paused"]);
    bundle.runtime(&["pause", "c"]).ok();
    assert_eq!(bundle.status("c"), "paused");
    bundle.runtime(&["exec", "c", "true"]).fails(255, &["paused container"]);
    bundle.runtime(&["resume", "c"]).ok();
    assert_eq!(bundle.status("c"), "running");
    bundle.runtime(&["pause", "c"]).ok();
    bundle.runtime(&["kill", "c", "KILL"]).ok();
    stopped(&bundle, "c");
    bundle.runtime(&["delete", "c"]).ok();
    bundle.started("c");
    bundle.runtime(&["pause", "c"]).ok();
    bundle.runtime(&["delete", "c"]).fails(1, &["not stopped: paused"]);
    bundle.runtime(&["delete", "--force", "c"]).ok();
}

/// On cgroup v1 a process that is frozen by a cgroup below the container's own does not die of a signal either.
#[test]
fn what_a_container_has_frozen_by_itself_can_be_killed() {
    let bundle = Bundle::new("sleep 100");
    for command in [&["delete", "--force", "c"][..], &["kill", "c", "KILL"], &["kill", "--all", "c", "KILL"]] {
        bundle.started("c");
        let below = bundle.cgroup("c", "freezer").join("below");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("cgroup.procs"), bundle.state("c")["pid"].to_string()).unwrap();
        let (file, word) = match below.join("freezer.state").exists() {
            true => ("freezer.state", "FROZEN"),
            false => ("cgroup.freeze", "1"),
        };
        fs::write(below.join(file), word).unwrap();
        bundle.runtime(command).ok();
        if command[0] == "kill" {
            stopped(&bundle, "c");
            bundle.runtime(&["delete", "c"]).ok();
        }
        assert!(!below.exists(), "{command:?}");
    }
}

#[test]
fn ps_update_and_events_speak_of_the_container() {
    let bundle = Bundle::new("sleep 100");
    bundle.started("c");
    let pid = bundle.state("c")["pid"].to_string();
    assert_eq!(bundle.runtime(&["ps", "--format", "json", "c"]).ok(), format!("[{pid}]"));
    assert!(bundle.runtime(&["ps", "c", "-o", "pid,args"]).ok().contains("sleep 100"));
    bundle.runtime(&["update", "--pids-limit", "33", "--memory", "64M", "c"]).ok();
    let limit = fs::read_to_string(bundle.cgroup("c", "pids").join("pids.max")).unwrap();
    assert_eq!(limit.trim(), "33");
    let json = br#"{"pids": {"limit": 44}}"#;
    finish(&mut bundle.command(&["update", "--resources", "-", "c"]), Some(json), PATIENCE).ok();
    let stats: Value = serde_json::from_str(bundle.runtime(&["events", "--stats", "c"]).ok()).unwrap();
    assert_eq!((&stats["type"], &stats["id"]), (&json!("stats"), &json!("c")));
    assert_eq!(stats["data"]["pids"]["limit"], 44);
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], 64 << 20);
    bundle.runtime(&["update", "--memory", "lots", "c"]).fails(1, &["memory", "lots"]);
}

#[test]
fn kill_knows_names_numbers_and_all_processes() {
    let bundle = Bundle::new("trap 'echo got it; exit 4' USR1; echo ready; while true; do sleep 0.05; done");
    bundle.started("c");
    wait_until("the trap is set", PATIENCE, || bundle.output("c").contains("ready").then_some(()));
    bundle.runtime(&["kill", "c", "NONSENSE"]).fails(1, &["unknown signal"]);
    bundle.runtime(&["kill", "c", "sigusr1"]).ok();
    stopped(&bundle, "c");
    assert!(bundle.output("c").contains("got it"));
    let mut shared = Bundle::new("sleep 100 & sleep 100 & wait");
    shared.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    shared.started("d");
    let processes = || fs::read_to_string(shared.cgroup("d", "freezer").join("cgroup.procs")).unwrap_or_default();
    wait_until("all three run", PATIENCE, || (processes().lines().count() == 3).then_some(()));
    shared.runtime(&["kill", "--all", "d", "9"]).ok();
    wait_until("none is left", PATIENCE, || processes().is_empty().then_some(()));
}

/// The master of a terminal that somebody hands to a socket.
fn master(listener: &UnixListener) -> std::fs::File {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let (socket, _) = listener.accept().unwrap();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    recvmsg(&socket, &mut [std::io::IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.expect("a descriptor").into()
}

fn read_until(mut file: &std::fs::File, wanted: &str) -> String {
    use std::io::Read;
    let mut text = String::new();
    let mut buffer = [0; 512];
    while !text.contains(wanted) {
        let length = file.read(&mut buffer).unwrap_or(0);
        assert!(length > 0, "the end before {wanted:?}: {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    text
}

#[test]
fn a_terminal_is_handed_over_by_socket() {
    let mut bundle = Bundle::new("tty; stty size 2>/dev/null; read line; echo got $line");
    bundle.config["process"]["terminal"] = true.into();
    bundle.config["process"]["consoleSize"] = json!({"height": 11, "width": 33});
    bundle.create("none", &[]).fails(1, &["without setting console socket"]);
    let listener = UnixListener::bind(bundle.path("console")).unwrap();
    bundle.create("c", &["--console-socket", "console"]).ok();
    let mut master = master(&listener);
    assert_eq!(rustix::termios::tcgetwinsize(&master).map(|size| (size.ws_row, size.ws_col)).unwrap(), (11, 33));
    bundle.runtime(&["start", "c"]).ok();
    read_until(&master, "/dev/pts/0");
    master.write_all(b"hello\n").unwrap();
    read_until(&master, "got hello");
}

#[test]
fn exec_gets_a_terminal_too() {
    let bundle = Bundle::new("sleep 100");
    bundle.started("c");
    let listener = UnixListener::bind(bundle.path("console")).unwrap();
    let arguments = ["exec", "--tty", "--detach", "--pid-file", "exec.pid", "--console-socket", "console", "c", "tty"];
    bundle.runtime(&arguments).ok();
    read_until(&master(&listener), "/dev/pts/");
    assert!(fs::read_to_string(bundle.path("exec.pid")).unwrap().parse::<i32>().is_ok());
}

#[test]
fn nobody_waits_for_a_console_that_is_not_taken() {
    let mut bundle = Bundle::new("true");
    bundle.config["process"]["terminal"] = true.into();
    bundle.create("a", &["--console-socket", "missing"]).fails(1, &["missing", "no such file"]);
    drop(UnixListener::bind(bundle.path("dead")).unwrap());
    bundle.create("b", &["--console-socket", "dead"]).fails(1, &["dead", "refused"]);
    // Somebody listens and never accepts: what does not fit is an error, not a wait.
    let _listener = UnixListener::bind(bundle.path("full")).unwrap();
    for index in 0..3 {
        bundle.create(&format!("c{index}"), &["--console-socket", "full"]);
    }
}

#[test]
fn descriptors_are_preserved_and_no_other_leaks() {
    let bundle = Bundle::new("ls /proc/self/fd; cat <&3");
    bundle.write("c");
    fs::write(bundle.path("data"), "through").unwrap();
    let line = "exec 3<data 4</dev/null 9</dev/null; exec \"$@\"";
    let runtime = bundle.command(&["run", "--preserve-fds", "1", "c"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", line, "sh"]).arg(runtime.get_program()).args(runtime.get_args()).current_dir(bundle.path(""));
    let output = finish(&mut shell, None, PATIENCE);
    let lines = output.lines();
    // 4 is the directory that ls reads.
    assert_eq!(lines, ["0", "1", "2", "3", "4", "through"], "{output:?}");
}

#[test]
fn activated_sockets_are_told_to_the_program() {
    let bundle = Bundle::new("echo $LISTEN_FDS $LISTEN_PID; test -S /proc/self/fd/3 || ls -l /proc/self/fd");
    bundle.write("c");
    let listener = UnixListener::bind(bundle.path("s")).unwrap();
    let runtime = bundle.command(&["run", "c"]);
    let mut shell = Command::new("bash");
    let number = listener.as_raw_fd();
    rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
    let line = format!("exec 3<&{number} {number}<&-; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"");
    let line = if number == 3 { "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"".to_owned() } else { line };
    shell.args(["-c", &line, "sh"]).arg(runtime.get_program()).args(runtime.get_args()).current_dir(bundle.path(""));
    assert_eq!(finish(&mut shell, None, PATIENCE).ok(), "1 1");
}

#[test]
fn readiness_is_passed_on_to_the_manager() {
    let mut bundle = Bundle::new("echo $NOTIFY_SOCKET; stat -c %F $NOTIFY_SOCKET; sleep 100");
    bundle.config["process"]["env"].as_array_mut().unwrap().push("PATH=/bin".into());
    let manager = UnixDatagram::bind(bundle.path("manager")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    bundle.write("c");
    let mut create = bundle.command(&["create", "c"]);
    create.env("NOTIFY_SOCKET", bundle.path("manager"));
    bundle.detached(&mut create, "c").ok();
    let mut start = bundle.command(&["start", "c"]);
    let mut start = start.env("NOTIFY_SOCKET", bundle.path("manager")).stdout(Stdio::null()).spawn().unwrap();
    let socket = bundle.root().join("c/notify/notify.sock");
    wait_until("the socket is there", PATIENCE, || socket.exists().then_some(()));
    let container = UnixDatagram::unbound().unwrap();
    container.send_to(b"STATUS=almost", &socket).unwrap();
    container.send_to(b"STATUS=x\nREADY=1\nMAINPID=1", &socket).unwrap();
    let mut buffer = [0; 256];
    let length = manager.recv(&mut buffer).unwrap();
    let pid = bundle.state("c")["pid"].clone();
    assert_eq!(String::from_utf8_lossy(&buffer[..length]), format!("READY=1\nMAINPID={pid}\n"));
    assert!(start.wait().unwrap().success());
    wait_until("the container tells", PATIENCE, || bundle.output("c").contains("socket\n").then_some(()));
    assert!(bundle.output("c").starts_with("/run/notify/notify.sock\n"));
}

#[test]
fn errors_are_logged_as_callers_read_them() {
    let bundle = Bundle::new("true");
    let output = bundle.runtime(&["--log", "log.json", "--log-format", "json", "state", "nobody"]);
    assert_eq!(output.stderr, "container does not exist: nobody\n");
    let log = fs::read_to_string(bundle.path("log.json")).unwrap();
    let line: Value = serde_json::from_str(log.trim()).unwrap();
    assert_eq!((&line["level"], &line["msg"]), (&json!("error"), &json!("container does not exist: nobody")));
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    let text = bundle.runtime(&["state", "nobody"]);
    assert!(text.stderr.contains("level=error msg=\"container does not exist: nobody\""), "{text:?}");
}

#[test]
fn the_binarys_name_makes_it_a_runtime() {
    let bundle = Bundle::new("true");
    for name in ["runc", "crun", "kiste-runtime"] {
        std::os::unix::fs::symlink(fixtures::kiste(), bundle.path(name)).unwrap();
        let output = finish(Command::new(bundle.path(name)).arg("--version"), None, PATIENCE);
        assert!(output.ok().starts_with(&format!("{name} version ")), "{output:?}");
        assert!(output.stdout.contains("\nspec: 1.3.0\n"));
    }
    let features: Value = serde_json::from_str(bundle.runtime(&["features"]).ok()).unwrap();
    assert_eq!(features["ociVersionMax"], "1.3.0");
    assert_eq!(features["potentiallyUnsafeConfigAnnotations"], json!(["org.systemd.property."]));
}

#[test]
fn what_is_not_there_is_asked_for_as_under_runc() {
    let bundle = Bundle::new("sleep 100");
    bundle.started("c");
    bundle.runtime(&["kill", "c", "0"]).ok();
    bundle.runtime(&["kill", "c", "-1"]).fails(1, &[]);
    bundle.runtime(&["exec", "nobody", "true"]).fails(255, &["does not exist"]);
    assert!(bundle.runtime(&["exec", "-h"]).ok().contains("--console-socket"));
    bundle.runtime(&["kill", "c", "KILL"]).ok();
    stopped(&bundle, "c");
    bundle.runtime(&["kill", "c", "0"]).fails(1, &["container not running"]);
    assert_eq!(bundle.runtime(&["ps", "--format", "json", "c"]).ok(), "[]");
}

#[test]
fn limits_of_no_process_are_limits() {
    let mut bundle = Bundle::new("sleep 100");
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 0});
    bundle.started("c");
    let limit = || fs::read_to_string(bundle.cgroup("c", "pids").join("pids.max")).unwrap();
    assert_eq!(limit().trim(), "1");
    bundle.runtime(&["update", "--pids-limit", "-1", "c"]).ok();
    assert_eq!(limit().trim(), "max");
}
