//! Exit codes as Docker has them: the program's own, 125 for the engine's refusals, 126 and 127 for programs that cannot
//! be executed or found, 128 and the number for signals.

use kiste_tests::Env;

#[test]
fn the_programs_own_code() {
    let env = Env::with_busybox();
    for code in [0, 1, 42, 125, 255] {
        let line = format!("exit {code}");
        let output = env.kiste(&["run", "--rm", "busybox", "sh", "-c", &line]);
        assert_eq!(output.code(), code, "{output:#?}");
        assert_eq!(output.stderr, "");
    }
}

#[test]
fn signals() {
    let env = Env::with_busybox();
    // The first process of a container ignores what it has no handler for, except SIGKILL from outside; a child does not.
    env.kiste(&["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -TERM $$'; exit $?"]).fails(143, &[]);
    env.detached(&["--name", "killed"], "sleep 60");
    env.ok(&["kill", "killed"]);
    assert_eq!(env.ok(&["wait", "killed"]), "137");
    env.detached(&["--name", "user"], "trap 'exit 5' USR1; while :; do sleep 0.1; done");
    std::thread::sleep(std::time::Duration::from_millis(300));
    env.ok(&["kill", "-s", "USR1", "user"]);
    assert_eq!(env.ok(&["wait", "user"]), "5");
}

#[test]
fn what_cannot_be_found_is_127() {
    let env = Env::with_busybox();
    env.kiste(&["run", "--rm", "busybox", "nope"]).fails(127, &["\"nope\"", "executable file not found in $PATH"]);
    env.kiste(&["run", "--rm", "busybox", "/no/such"]).fails(127, &["/no/such", "no such file or directory"]);
    let script = "printf '#!/no/interpreter\\n' >/s; chmod +x /s";
    env.ok(&["run", "--name", "made", "--entrypoint", "sh", "busybox", "-c", script]);
    env.kiste(&["exec", "made", "true"]).fails(1, &["is not running"]);
}

#[test]
fn a_missing_interpreter_or_loader_is_named() {
    let env = Env::with_busybox();
    let directory = env.path("bin");
    std::fs::create_dir(&directory).unwrap();
    let install = |name: &str, content: &[u8]| {
        let file = directory.join(name);
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    install("script", b"#!/no/interpreter -x\n");
    install("dynamic", &std::fs::read("/bin/true").unwrap());
    install("garbage", b"\x01\x02\x03\x04 not a program");
    install("arm", &elf_for(183));
    let volume = format!("{}:/b:ro", directory.display());
    let run = |program: &str| env.kiste(&["run", "--rm", "-v", &volume, "busybox", program]);
    run("/b/script").fails(127, &["/no/interpreter"]);
    run("/b/dynamic").fails(127, &["/lib64/ld-linux"]);
    run("/b/garbage").fails(126, &["exec format error"]);
    run("/b/arm").fails(126, &["exec format error", "arm64"]);
}

/// The head of a program for another machine.
fn elf_for(machine: u16) -> Vec<u8> {
    let mut elf = vec![0; 128];
    elf[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    elf[16..18].copy_from_slice(&2u16.to_le_bytes());
    elf[18..20].copy_from_slice(&machine.to_le_bytes());
    elf[52..54].copy_from_slice(&64u16.to_le_bytes());
    elf
}

#[test]
fn what_cannot_be_executed_is_126() {
    let env = Env::with_busybox();
    env.kiste(&["run", "--rm", "busybox", "/etc/passwd"]).fails(126, &["/etc/passwd", "permission denied"]);
    env.kiste(&["run", "--rm", "busybox", "/etc"]).fails(126, &["/etc"]);
}

#[test]
fn refusals_are_125_and_leave_nothing() {
    let env = Env::with_busybox();
    env.kiste(&["run", "--no-such-flag", "busybox"]).fails(125, &["--no-such-flag"]);
    env.kiste(&["run", "--pull", "never", "nosuch:1", "true"]).fails(125, &["nosuch:1"]);
    env.kiste(&["run", "-m", "1m", "busybox", "true"]).fails(125, &["Minimum memory limit allowed is 6MB"]);
    env.kiste(&["run", "--rm", "--restart", "always", "busybox", "true"]).fails(125, &["--restart", "--rm"]);
    env.kiste(&["run", "BusyBox", "true"]).fails(125, &["invalid reference format"]);
    assert_eq!(env.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_failed_start_keeps_the_container_with_its_error() {
    let env = Env::with_busybox();
    env.kiste(&["run", "--name", "broken", "busybox", "nope"]).fails(127, &["nope"]);
    let state = &env.inspect("broken")["State"];
    assert_eq!(state["Status"], "created");
    assert_eq!(state["ExitCode"], 127);
    assert!(state["Error"].as_str().unwrap_or_default().contains("nope"), "{state}");
    env.kiste(&["start", "broken"]).fails(1, &["nope"]);
}

#[test]
fn exec_has_the_same_codes() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "sleep 60");
    env.kiste(&["exec", "cc", "sh", "-c", "exit 9"]).fails(9, &[]);
    env.kiste(&["exec", "cc", "nope"]).fails(127, &["nope", "not found"]);
    env.kiste(&["exec", "cc", "/etc/passwd"]).fails(126, &["permission denied"]);
    env.kiste(&["exec", "cc", "sh", "-c", "kill -9 $$"]).fails(137, &[]);
    env.kiste(&["exec", "nosuch", "true"]).fails(1, &["no such container: nosuch"]);
}
