//! `kiste run`: what a container's process gets (arguments, environment, streams, identity, files) and what stays
//! afterwards.

use kiste_tests::Env;

#[test]
fn output_arguments_and_streams() {
    let env = Env::with_busybox();
    let output =
        env.kiste(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; echo \"$@\"", "sh", "a b", "--rm"]);
    assert_eq!(output.ok(), "out\na b --rm");
    assert_eq!(output.stderr, "err\n");
}

#[test]
fn standard_input_reaches_the_process_and_ends() {
    let env = Env::with_busybox();
    let big = vec![b'x'; 300_000];
    let output = env.kiste_with_input(&["run", "--rm", "-i", "busybox", "wc", "-c"], &big);
    assert_eq!(output.ok().trim(), "300000");
    let output = env.kiste_with_input(&["run", "--rm", "busybox", "wc", "-c"], b"not passed on");
    assert_eq!(output.ok().trim(), "0", "without -i there is nothing to read");
}

#[test]
fn much_output_arrives_whole() {
    let env = Env::with_busybox();
    let output = env.kiste(&["run", "--rm", "busybox", "sh", "-c", "seq 1 200000"]);
    assert_eq!(output.lines().len(), 200_000);
    assert_eq!(output.lines().last(), Some(&"200000"));
}

#[test]
fn environment_comes_from_image_options_files_and_caller() {
    let env = Env::with_busybox();
    let file = env.write("env", "# comment\nFROM_FILE=f=1\nOVER=file\n\nTAKEN\n");
    let arguments = ["run", "--rm", "-e", "A=1 2", "-e", "OVER=option", "-e", "GONE", "--env-file"];
    let arguments = [&arguments[..], &[file.to_str().unwrap(), "busybox", "env"]].concat();
    let output = env.kiste_with_env(&arguments, "TAKEN", "yes");
    let lines = output.ok().lines().collect::<Vec<_>>();
    for expected in ["A=1 2", "FROM_FILE=f=1", "OVER=option", "TAKEN=yes", "HOME=/root"] {
        assert!(lines.contains(&expected), "{expected}: {lines:?}");
    }
    assert!(lines.contains(&"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("HOSTNAME=")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("GONE") || line.starts_with("KISTE")), "{lines:?}");
}

#[test]
fn working_directory_is_made_if_missing() {
    let env = Env::with_busybox();
    assert_eq!(env.sh(&["-w", "/new/deep"], "pwd; stat -c %u:%g /new/deep"), "/new/deep\n0:0");
    assert_eq!(env.sh(&[], "pwd"), "/");
}

#[test]
fn user_by_name_number_and_group() {
    let env = Env::with_busybox();
    assert_eq!(env.sh(&["-u", "app"], "id -u; id -g; id -G; echo $HOME"), "1000\n1000\n1000 29 50\n/home/app");
    assert_eq!(env.sh(&["-u", "1234:staff"], "id -u; id -g; echo $HOME"), "1234\n50\n/");
    assert_eq!(env.sh(&["-u", "app:daemon", "--group-add", "tty", "--group-add", "77"], "id -g; id -G"), "1\n1 5 77");
}

#[test]
fn names_ids_and_host_name() {
    let env = Env::with_busybox();
    assert_eq!(
        env.sh(&["--hostname", "box", "--domainname", "example.org"], "hostname; cat /proc/sys/kernel/domainname"),
        "box\nexample.org"
    );
    let id = env.detached(&["--name", "named"], "hostname; sleep 60");
    assert_eq!(id.len(), 64, "{id}");
    assert!(id.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
    let document = env.inspect("named");
    assert_eq!(document["Id"], id.as_str());
    assert_eq!(document["Name"], "/named");
    assert_eq!(document["Config"]["Hostname"], &id[..12]);
    env.ok(&["rm", "-f", &id[..8]]);
}

#[test]
fn without_rm_the_container_stays_and_with_rm_it_goes() {
    let env = Env::with_busybox();
    env.kiste(&["run", "--name", "kept", "busybox", "sh", "-c", "exit 3"]).fails(3, &[]);
    assert_eq!(env.inspect("kept")["State"]["ExitCode"], 3);
    env.kiste(&["run", "--rm", "--name", "gone", "busybox", "sh", "-c", "exit 3"]).fails(3, &[]);
    env.kiste(&["inspect", "gone"]).fails(1, &["no such object: gone"]);
    assert_eq!(env.ok(&["ps", "-a", "--format", "{{.Names}}"]), "kept");
}

#[test]
fn the_id_file_gets_the_id() {
    let env = Env::with_busybox();
    let file = env.path("cid");
    let id = env.detached(&["--cidfile", file.to_str().unwrap()], "sleep 60");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id);
    env.kiste(&["run", "--cidfile", file.to_str().unwrap(), "busybox", "true"]).fails(125, &["cid"]);
}

#[test]
fn entry_point_and_command() {
    let env = Env::with_busybox();
    assert_eq!(env.ok(&["run", "--rm", "--entrypoint", "echo", "busybox", "-n", "x"]), "x");
    let image = kiste_tests::archive::Image::new(
        "entry:1",
        kiste_tests::archive::busybox().layers,
        serde_json::json!({"Entrypoint": ["echo", "entry"], "Cmd": ["default"], "WorkingDir": "/tmp", "User": "app", "Env": ["PATH=/bin", "X=image"]}),
    );
    env.load(&image.docker());
    assert_eq!(env.ok(&["run", "--rm", "entry:1"]), "entry default");
    assert_eq!(env.ok(&["run", "--rm", "entry:1", "given"]), "entry given");
    let line = "id -un; pwd; echo $X";
    assert_eq!(env.ok(&["run", "--rm", "--entrypoint", "sh", "entry:1", "-c", line]), "app\n/tmp\nimage");
}

#[test]
fn read_only_root_with_a_writable_tmpfs() {
    let env = Env::with_busybox();
    let line =
        "touch /x 2>/dev/null && echo writable; echo y >/scratch/y && cat /scratch/y; grep ' /scratch ' /proc/mounts";
    let output = env.sh(&["--read-only", "--tmpfs", "/scratch:size=1m,mode=700"], line);
    assert!(output.starts_with("y\ntmpfs /scratch tmpfs rw,nosuid,nodev,noexec"), "{output}");
    assert!(output.contains("size=1024k") && output.contains("mode=700"), "{output}");
}

#[test]
fn hosts_resolver_and_shared_memory() {
    let env = Env::with_busybox();
    let hosts = env.sh(&["--add-host", "db:10.1.2.3", "--hostname", "box"], "cat /etc/hosts");
    assert!(hosts.lines().any(|line| line.split_whitespace().eq(["10.1.2.3", "db"])), "{hosts}");
    assert!(hosts.lines().any(|line| line.split_whitespace().eq(["127.0.0.1", "localhost"])), "{hosts}");
    let options = ["--dns", "192.0.2.1", "--dns-search", "example.org", "--dns-option", "ndots:3"];
    let resolver = env.sh(&options, "cat /etc/resolv.conf");
    for line in ["nameserver 192.0.2.1", "search example.org", "options ndots:3"] {
        assert!(resolver.lines().any(|l| l == line), "{line}: {resolver}");
    }
    assert_eq!(env.sh(&["--shm-size", "2m"], "df -k /dev/shm | tail -1 | awk '{print $2}'"), "2048");
}

#[test]
fn resource_limits_and_kernel_parameters() {
    let env = Env::with_busybox();
    assert_eq!(
        env.sh(&["--ulimit", "nofile=123:456", "--ulimit", "core=0"], "ulimit -Sn; ulimit -Hn; ulimit -c"),
        "123\n456\n0"
    );
    assert_eq!(
        env.sh(
            &["--sysctl", "net.ipv4.ip_forward=1", "--sysctl", "kernel.msgmax=9000"],
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"
        ),
        "1\n9000"
    );
    env.kiste(&["run", "--rm", "--sysctl", "kernel.panic=5", "busybox", "true"]).fails(125, &["kernel.panic"]);
}

#[test]
fn an_init_reaps_and_passes_signals() {
    let env = Env::with_busybox();
    assert_ne!(env.sh(&["--init"], "echo $$"), "1");
    let line = "(sleep 0.1 &) ; (sh -c 'sleep 0.1 & exit' ) ; sleep 0.5; ps -o stat,comm | grep -c '^Z'";
    assert_eq!(env.kiste(&["run", "--rm", "--init", "busybox", "sh", "-c", line]).stdout.trim(), "0");
    env.kiste(&["run", "--rm", "--init", "busybox", "sh", "-c", "exit 7"]).fails(7, &[]);
    env.kiste(&["run", "--rm", "--init", "busybox", "sh", "-c", "kill -TERM $$"]).fails(143, &[]);
    env.detached(&["--init", "--name", "ss"], "trap 'exit 9' TERM; while :; do sleep 0.1; done");
    env.ok(&["stop", "ss"]);
    assert_eq!(env.inspect("ss")["State"]["ExitCode"], 9);
}

#[test]
fn a_real_debian_runs() {
    let env = Env::new();
    let archive = std::fs::read(kiste_tests::fixtures::debian()).expect("the archive is readable");
    assert_eq!(env.load(&archive).ok(), "Loaded image: debian:test");
    let output = env.ok(&[
        "run",
        "--rm",
        "debian:test",
        "bash",
        "-c",
        "source /etc/os-release; echo $ID; dpkg -l bash | tail -1 | cut -c1-2; getent passwd games | cut -d: -f1",
    ]);
    assert_eq!(output, "debian\nii\ngames");
}
