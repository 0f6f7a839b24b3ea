//! Flags of `run`, `exec` and `ps` of which other tests see only the usual values: what the rarer ones do inside, and
//! what is said about those that cannot work.

use kiste_tests::Env;

/// Number of mounts of this machine below a directory.
fn mounts_below(path: &std::path::Path) -> usize {
    let path = path.display().to_string();
    std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(&path)).count()
}

#[test]
fn shared_memory_as_asked() {
    let env = Env::with_busybox();
    env.kiste(&["run", "--rm", "--ipc", "none", "busybox", "ls", "-d", "/dev/shm"]).fails(1, &["No such file"]);
    assert_eq!(env.sh(&["--ipc", "none", "--tmpfs", "/dev/shm"], "touch /dev/shm/x && echo mine"), "mine");
    let size = "df -k /dev/shm | tail -1 | awk '{ print $2 }'";
    assert_eq!(env.sh(&["--shm-size", "2m"], size), "2048");
    env.detached(&["--name", "donor", "--ipc", "shareable", "--shm-size", "3m"], "sleep 60");
    assert_eq!(env.sh(&["--ipc", "container:donor"], size), "3072", "the donor's size holds for all");
    assert_eq!(mounts_below(&env.state().join("containers")), 1);
    env.sh(&["--ipc", "container:donor"], "echo old > /dev/shm/x");
    env.ok(&["restart", "-t", "0", "donor"]);
    assert_eq!(env.ok(&["exec", "donor", "ls", "/dev/shm"]), "", "each run has a new one");
    env.ok(&["stop", "-t", "0", "donor"]);
    assert_eq!(mounts_below(&env.state().join("containers")), 0);
}

#[test]
fn variables_come_in_dockers_order() {
    let env = Env::with_busybox();
    let options = ["-h", "box", "-e", "B=2", "-e", "A=1", "-e", "PATH=/bin"];
    let output = env.ok(&[&["run", "--rm"], &options[..], &["busybox", "env"]].concat());
    let names: Vec<&str> = output.lines().collect();
    assert_eq!(names, ["PATH=/bin", "HOSTNAME=box", "B=2", "A=1", "HOME=/root"]);
}

#[test]
fn a_host_name_with_a_domain_is_found_under_both_names() {
    let env = Env::with_busybox();
    // At its address of each family.
    assert_eq!(env.sh(&["-h", "web.example"], "grep -c 'web.example web$' /etc/hosts"), "2");
}

#[test]
fn exec_makes_no_directories() {
    let env = Env::with_busybox();
    env.detached(&["--name", "cc"], "sleep 60");
    env.kiste(&["exec", "-w", "/nowhere", "cc", "pwd"]).fails(127, &["/nowhere", "no such file"]);
    env.kiste(&["exec", "-w", "/etc/passwd", "cc", "pwd"]).fails(126, &["/etc/passwd", "not a directory"]);
    env.kiste(&["exec", "-w", "tmp", "cc", "pwd"]).fails(1, &["absolute"]);
    assert_eq!(env.ok(&["exec", "-w", "/etc", "cc", "pwd"]), "/etc");
    env.kiste(&["exec", "cc", "ls", "/nowhere"]).fails(1, &["No such file"]);
}

#[test]
fn what_a_user_namespace_does_not_have_is_named() {
    let env = Env::with_busybox();
    let run = |options: &[&str]| env.kiste(&[&["run", "--rm"], options, &["busybox", "id", "-u"]].concat());
    run(&["-u", "70000"]).fails(125, &["user id 70000", "--userns=host"]);
    run(&["--group-add", "70000"]).fails(125, &["group id 70000", "--userns=host"]);
    assert_eq!(run(&["-u", "70000", "--userns", "host"]).ok(), "70000");
    // /proc is mounted below /, and cannot be id-mapped.
    run(&["-v", "/:/host"]).fails(125, &["/proc (proc) below it", "bind-recursive=disabled"]);
    run(&["--mount", "type=bind,src=/,dst=/host,bind-recursive=disabled"]).ok();
    run(&["--mount", "type=image,src=nosuch,dst=/x"]).fails(125, &["mount /x: No such image: nosuch:latest"]);
}

#[test]
fn values_that_the_kernel_would_change_are_refused() {
    let env = Env::with_busybox();
    let fails = |options: &[&str], text: &str| {
        env.kiste(&[&["run", "--rm"], options, &["busybox", "true"]].concat()).fails(125, &[text]);
    };
    fails(&["-c", "1"], "the minimum allowed cpu-shares is 2");
    fails(&["-c", "300000"], "the maximum allowed cpu-shares is 262144");
    fails(&["--cpus", "-1"], "range of CPUs is from 0.01");
    fails(&["--health-interval", "-1s"], "--health-interval cannot be negative");
    fails(&["--pids-limit", "x"], "strconv.ParseInt: parsing \"x\": invalid syntax");
    fails(&["--dns-search", "-bad"], "-bad is not a valid domain");
    fails(&["--ulimit", "nofile=1:2:3"], "too many limit value arguments");
    fails(&["--env-file", "/nonexistent"], "open /nonexistent: no such file or directory");
}

#[test]
fn the_list_quotes_arguments_and_knows_ports() {
    let env = Env::with_busybox();
    env.ok(&["create", "--name", "cc", "busybox", "sh", "-c", "echo 1"]);
    assert_eq!(env.ok(&["ps", "-a", "--format", "{{.Command}}"]), "\"sh -c 'echo 1'\"");
    env.kiste(&["ps", "-f", "publish=foo"]).fails(1, &["invalid filter 'publish=foo'"]);
    env.kiste(&["ps", "-f", "expose=80-x"]).fails(1, &["invalid filter 'expose=80-x'"]);
    assert_eq!(env.ok(&["ps", "-aqf", "publish=80"]), "");
}

#[test]
fn a_prune_takes_its_answer_from_a_pipe() {
    let env = Env::new();
    env.ok(&["volume", "create", "--name", "vv"]);
    env.kiste_with_input(&["volume", "prune", "-a"], b"n\n").ok();
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "vv");
    assert!(env.kiste_with_input(&["volume", "prune", "-a"], b"y\n").ok().contains("Deleted Volumes:\nvv\n"));
    env.kiste(&["volume", "prune", "-a"]).fails(1, &["--force"]);
    env.kiste(&["kill", "nosuch"]).fails(1, &["cannot kill container: nosuch: No such container: nosuch"]);
}

#[test]
fn a_volume_on_etc_shows_the_three_files() {
    let env = Env::with_busybox();
    let line = "hostname; cat /etc/hostname; ls /etc";
    assert_eq!(env.sh(&["-h", "box", "-v", "vol:/etc"], line), "box\nbox\ngroup\nhostname\nhosts\npasswd\nresolv.conf");
    let own = env.write("name", "mine\n");
    let bind = format!("{}:/etc/hostname", own.display());
    assert_eq!(env.sh(&["-v", "vol:/etc", "-v", &bind], "cat /etc/hostname"), "mine");
    env.kiste(&["run", "--rm", "-v", "/dev/null:/nothing", "busybox", "true"]).fails(125, &["file /dev/null"]);
}

#[test]
fn propagation_needs_a_mount_that_propagates() {
    let env = Env::with_busybox();
    let [private, shared] = ["private", "shared"].map(|kind| {
        let path = env.path(kind);
        std::fs::create_dir(&path).unwrap();
        let mount = |arguments: &[&str]| {
            assert!(std::process::Command::new("mount").args(arguments).arg(&path).status().unwrap().success());
        };
        mount(&["-t", "tmpfs", "flags"]);
        mount(&[&format!("--make-{kind}")]);
        path
    });
    let run = |options: &str, source: &std::path::Path, line: &str| {
        let volume = format!("{}:/x:{options}", source.display());
        env.kiste(&["run", "--rm", "-v", &volume, "busybox", "sh", "-c", line])
    };
    run("rslave", &private, "true")
        .fails(125, &["is mounted on", "but it is not a shared or slave mount", "--make-rshared"]);
    run("rshared", &private, "true").fails(125, &["but it is not a shared mount"]);
    assert_eq!(run("rslave", &shared, "grep -c ' /x .* master:' /proc/self/mountinfo").ok(), "1");
    assert_eq!(run("rprivate", &shared, "grep -c ' /x .* master:' /proc/self/mountinfo; true").ok(), "0");
    for path in [private, shared] {
        assert!(std::process::Command::new("umount").arg(path).status().unwrap().success());
    }
}

#[test]
fn removing_what_removes_itself() {
    let env = Env::with_busybox();
    for _ in 0..5 {
        env.ok(&["run", "-di", "--rm", "--name", "cc", "busybox", "cat"]);
        assert_eq!(env.ok(&["rm", "-f", "cc"]), "cc");
        assert_eq!(std::fs::read_dir(env.state().join("containers")).unwrap().count(), 0);
    }
}

#[test]
fn create_ends_with_one_where_the_engine_refuses() {
    let env = Env::with_busybox();
    env.kiste(&["create", "--pull", "never", "nosuch"]).fails(1, &["No such image: nosuch:latest"]);
    env.kiste(&["create", "-m", "1m", "busybox"]).fails(1, &["Minimum memory limit allowed is 6MB"]);
    env.kiste(&["create", "-m", "x", "busybox"]).fails(125, &["invalid size: 'x'"]);
    env.kiste(&["create", "--no-healthcheck", "--health-cmd", "x", "busybox"]).fails(125, &["conflicts"]);
    env.kiste(&["ps", "-f", "name=["]).fails(1, &["invalid filter 'name=[': unclosed character class\n"]);
    env.detached(&["--name", "cc"], "sleep 60");
    env.kiste(&["top", "cc", "-C", "nosuch"]).fails(1, &["ps: exit status: 1"]);
}

#[test]
fn what_a_flag_says_is_never_left_out() {
    let env = Env::with_busybox();
    let run = |options: &[&str]| env.kiste(&[&["run", "--rm"], options, &["busybox", "pwd"]].concat());
    run(&["--label", "a b=c"]).fails(125, &["label 'a b' contains whitespaces"]);
    assert_eq!(run(&["-w", "/x/../y/."]).ok(), "/y");
    let line = "touch /x/f; sleep 60";
    let directory = env.path("data");
    std::fs::create_dir(&directory).unwrap();
    let device = format!("volume-opt=device={}", directory.display());
    let mount = format!("type=volume,dst=/x,volume-opt=type=none,volume-opt=o=bind,{device},volume-label=k=v");
    env.detached(&["--name", "cc", "--mount", &mount, "--expose", "80-82/udp", "--expose", "81"], line);
    kiste_tests::wait_until("the file", std::time::Duration::from_secs(10), || {
        directory.join("f").exists().then_some(())
    });
    assert_eq!(env.ok(&["volume", "ls", "-q", "-f", "label=k=v"]).len(), 64, "an anonymous volume");
    assert_eq!(env.ok(&["ps", "--format", "{{.Ports}}"]), "80-82/udp, 81/tcp");
}
