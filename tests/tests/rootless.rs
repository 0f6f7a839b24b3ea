//! Containers of an ordinary user: one who has subordinate ids, and one who has a single id.

use std::os::unix::fs::MetadataExt as _;

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use kiste_tests::{Env, neighbour, wait_until, within};

const USER: u32 = 54321;
const SUBORDINATE: u32 = 1_400_000_000;
const NONE: &[&str] = &["--network", "none"];

#[test]
fn root_in_the_container_is_the_user_and_others_are_subordinate() {
    let env = Env::of_user(65536);
    let data = env.path("user/home/data");
    std::fs::create_dir(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(USER), Some(USER)).unwrap();
    let volume = format!("{}:/data", data.display());
    let options = [NONE, &["-v", &volume]].concat();
    let line = "id -u; touch /data/root /data/other && chown 33:44 /data/other && stat -c %u:%g /data/other";
    assert_eq!(env.sh(&options, line), "0\n33:44");
    let owner = |name: &str| std::fs::metadata(data.join(name)).map(|data| (data.uid(), data.gid())).unwrap();
    assert_eq!(owner("root"), (USER, USER));
    assert_eq!(owner("other"), (SUBORDINATE + 32, SUBORDINATE + 43));
    assert_eq!(env.sh(&[NONE, &["--user", "1000:1000"]].concat(), "id -u; id -g"), "1000\n1000");
    let outside = env.sh(NONE, "cat /proc/1/status | grep -E '^(NoNewPrivs|Seccomp):'");
    assert_eq!(outside, "NoNewPrivs:\t1\nSeccomp:\t2");
}

#[test]
fn the_usual_verbs_work() {
    let env = Env::of_user(65536);
    let id = env.detached(&[NONE, &["--name", "web"]].concat(), "echo hello; exec sleep 1000");
    assert_eq!(env.ok(&["ps", "-q", "--no-trunc"]), id);
    assert_eq!(env.ok(&["logs", "web"]), "hello");
    assert_eq!(
        env.ok(&["exec", "-e", "A=1", "web", "sh", "-c", "echo $A; id -u; echo x > /tmp/new; hostname"]),
        format!("1\n0\n{}", &id[..12])
    );
    assert!(env.ok(&["top", "web"]).contains("sleep 1000"));
    // A second container's command joins the same namespaces, or it could not join the first one's.
    assert_eq!(env.sh(&["--network", "container:web", "--pid", "container:web"], "cat /proc/1/comm"), "sleep");
    env.ok(&["restart", "-t", "0", "web"]);
    assert_eq!(env.ok(&["exec", "web", "cat", "/tmp/new"]), "x");
    env.ok(&["kill", "web"]);
    assert_eq!(env.ok(&["wait", "web"]), "137");
    env.ok(&["start", "web"]);
    env.ok(&["stop", "-t", "0", "web"]);
    env.ok(&["rm", "web"]);
    env.ok(&["volume", "create", "store"]);
    env.sh(&[NONE, &["-v", "store:/data"]].concat(), "echo kept > /data/file");
    assert_eq!(
        env.sh(&[NONE, &["-v", "store:/data:ro"]].concat(), "cat /data/file; touch /data/x 2>&1 || true")
            .lines()
            .next(),
        Some("kept")
    );
    env.ok(&["rmi", "busybox"]);
}

#[test]
fn what_needs_the_host_s_root_is_said() {
    let env = Env::of_user(65536);
    let output = env.kiste(&["run", "--rm", "--network", "none", "-m", "64m", "busybox", "true"]);
    output.ok();
    if !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        assert!(output.stderr.contains("Your kernel does not support memory limit capabilities"), "{}", output.stderr);
    }
    let refused = env.kiste(&["run", "--rm", "--userns", "keep-id", "busybox", "true"]);
    assert_eq!(refused.code(), 125);
    assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
    let info = env.ok(&["info", "--format", "{{json .SecurityOptions}}"]);
    assert!(info.contains("name=rootless"), "{info}");
}

#[test]
fn devices_are_the_host_s_and_no_others() {
    let env = Env::of_user(65536);
    let line = "echo x > /dev/null && head -c 3 /dev/zero | wc -c; ls /dev/kmsg 2>&1; mknod /tmp/n c 1 3 2>&1 || true";
    let output = env.sh(NONE, line);
    assert!(
        output.starts_with("3\n") && output.contains("No such file") && output.contains("not permitted"),
        "{output}"
    );
    assert_eq!(env.sh(&[NONE, &["--device", "/dev/zero:/dev/mine"]].concat(), "head -c 2 /dev/mine | wc -c"), "2");
}

#[test]
fn layers_with_deletions_and_owners_are_unpacked() {
    use kiste_tests::archive::{self, Image, Layer};
    let env = Env::of_user(65536);
    let mut layers = archive::busybox().layers;
    let below = Layer::new().file("data/gone", 0o644, b"1").directory("hidden", 0o755).file("hidden/old", 0o644, b"1");
    let above = Layer::new().file("data/.wh.gone", 0o644, b"").file("hidden/.wh..wh..opq", 0o644, b"");
    layers.extend([below.finish(), above.file("hidden/new", 0o644, b"2").finish()]);
    env.load(&Image::new("layered:latest", layers, archive::busybox().config).docker());
    let listing = env.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "layered",
        "sh",
        "-c",
        "ls /data /hidden; rm -r /hidden; mkdir /hidden; ls /hidden",
    ]);
    assert_eq!(listing, "/data:\n\n/hidden:\nnew");
}

#[test]
fn replaced_directories_are_told() {
    let env = Env::of_user(65536);
    env.ok(&[
        "run",
        "--name",
        "cc",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "rm -r /home /etc; mkdir /etc; echo 1 >/etc/new",
    ]);
    assert_eq!(env.ok(&["diff", "cc"]), "C /etc\nD /etc/group\nA /etc/new\nD /etc/passwd\nD /home");
    let listed = env.kiste(&["cp", "cc:/etc", "-"]);
    assert!(listed.stdout.contains("etc/new") && !listed.stdout.contains("etc/passwd"), "what is hidden stays so");
}

#[test]
fn with_one_id_everything_is_the_user_s() {
    let env = Env::of_user(0);
    assert_eq!(env.sh(NONE, "id -u; cat /proc/self/uid_map | wc -l; touch /new; stat -c %u /new"), "0\n1\n0");
    let refused = env.kiste(&["run", "--rm", "--network", "none", "--user", "1000", "busybox", "true"]);
    assert_eq!(refused.code(), 125, "{}", refused.stderr);
    assert!(refused.stderr.contains("does not exist in the container's user namespace"), "{}", refused.stderr);
    let info = env.kiste(&["info"]);
    assert!((info.stdout + &info.stderr).contains("usermod --add-subuids"));
    env.detached(&[NONE, &["--name", "web"]].concat(), "exec sleep 1000");
    assert_eq!(env.ok(&["exec", "web", "id", "-u"]), "0");
}

#[test]
fn many_commands_at_once_share_one_namespace() {
    let env = Env::of_user(65536);
    std::thread::scope(|scope| {
        for number in 0..8 {
            let env = &env;
            scope.spawn(move || env.detached(&[NONE, &["--name", &format!("c{number}")]].concat(), "exec sleep 1000"));
        }
    });
    // Joining needs the same user namespace for all.
    for number in 0..8 {
        let other = format!("container:c{}", (number + 1) % 8);
        assert_eq!(env.sh(&["--pid", &other, "--network", "none"], "cat /proc/1/comm"), "sleep");
    }
}

#[test]
fn networks_names_and_published_ports() {
    let env = Env::of_user(65536);
    let other = neighbour();
    env.ok(&["network", "create", "--subnet", "10.97.0.0/24", "net"]);
    env.detached(&["--name", "web", "--network", "net", "-p", "8080:80", "-p", "5300:53/udp"], "exec sleep 1000");
    assert_eq!(env.sh(&["--network", "net"], "nslookup web | grep -c 'Address: 10.97.0.2'"), "1");
    assert_eq!(env.ok(&["port", "web", "80"]), "0.0.0.0:8080\n[::]:8080");
    let listener = within(env.pid("web"), || TcpListener::bind("0.0.0.0:80").unwrap());
    let connect = |address: &str| {
        let address: SocketAddr = address.parse().unwrap();
        TcpStream::connect_timeout(&address, Duration::from_secs(5))
    };
    wait_until("the host reaches it", Duration::from_secs(10), || connect("127.0.0.1:8080").ok());
    listener.accept().unwrap();
    let _client = other.within(|| connect("192.0.2.1:8080")).unwrap();
    let (_, from) = listener.accept().unwrap();
    assert_eq!(from.ip().to_string(), "192.0.2.2", "the client's own address");
    let server = within(env.pid("web"), || UdpSocket::bind("0.0.0.0:53").unwrap());
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let client = other.within(|| UdpSocket::bind("192.0.2.2:0").unwrap());
    client.send_to(b"ping", "192.0.2.1:5300").unwrap();
    let (_, from) = server.recv_from(&mut [0; 16]).unwrap();
    assert_eq!(from.ip().to_string(), "192.0.2.2");
    env.kiste(&["run", "--rm", "-p", "8080:80", "busybox", "true"]).fails(125, &["port is already allocated"]);
    assert!(
        !std::process::Command::new("ip")
            .args(["-o", "link"])
            .output()
            .unwrap()
            .stdout
            .windows(6)
            .any(|w| w == b" kiste")
    );
    env.ok(&["rm", "-f", "web"]);
    TcpListener::bind("0.0.0.0:8080").expect("the port is free again");
}

#[test]
fn without_pasta_the_way_out_is_said() {
    let env = Env::of_user(65536);
    env.write("user/no-pasta", "");
    env.kiste(&["run", "--rm", "busybox", "true"])
        .fails(125, &["networks without root: pasta is missing: apt install passt", "--network none"]);
    env.sh(NONE, "true");
    let info = env.kiste(&["info"]);
    assert!((info.stdout + &info.stderr).contains("pasta is missing: apt install passt"));
}
