//! Names of containers, as their programs find them, and published ports that the kernel's rules cannot serve.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use kiste_tests::{Env, wait_until};

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    wait_until(what, Duration::from_secs(20), || holds().then_some(()));
}

fn lookup(env: &Env, container: &str, name: &str) -> String {
    env.kiste(&["exec", container, "nslookup", name]).stdout
}

#[test]
fn containers_find_each_other_by_name_alias_and_address() {
    let env = Env::with_busybox();
    env.ok(&["network", "create", "front"]);
    env.ok(&["network", "create", "back"]);
    env.detached(&["--network", "front", "--name", "web", "--network-alias", "www"], "exec sleep 1000");
    env.detached(&["--network", "front", "--name", "client"], "exec sleep 1000");
    env.detached(&["--network", "back", "--name", "hidden"], "exec sleep 1000");
    let address = env.ok(&["inspect", "-f", "{{.NetworkSettings.Networks.front.IPAddress}}", "web"]);
    for name in ["web", "WWW", "web.front", "www.front"] {
        assert!(lookup(&env, "client", name).contains(&format!("Address: {address}")), "{name}");
    }
    assert!(lookup(&env, "client", &address).contains("name = web.front"));
    assert!(!lookup(&env, "client", "hidden").contains("Address: "));
    assert!(env.ok(&["exec", "client", "cat", "/etc/resolv.conf"]).starts_with("nameserver 127.0.0.11\n"));
    // A network that is joined or left counts at once.
    env.ok(&["network", "connect", "--alias", "store", "front", "hidden"]);
    assert!(lookup(&env, "client", "store").contains("Address: "));
    assert!(lookup(&env, "hidden", "web").contains(&address));
    env.ok(&["network", "disconnect", "front", "hidden"]);
    assert!(!lookup(&env, "client", "store").contains("Address: "));
    // So does the end of a container, and its next run.
    env.ok(&["stop", "-t", "0", "web"]);
    assert!(!lookup(&env, "client", "web").contains("Address: "));
    env.ok(&["start", "web"]);
    assert!(lookup(&env, "client", "web").contains("Address: "));
}

#[test]
fn a_new_monitor_answers_too_and_the_container_keeps_its_port() {
    let env = Env::with_busybox();
    env.ok(&["network", "create", "front"]);
    env.detached(&["--network", "front", "--name", "web"], "nc -ll -p 53 -e cat & exec sleep 1000");
    env.detached(&["--network", "front", "--name", "client"], "exec sleep 1000");
    for monitor in env.monitors() {
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(monitor as i32).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    }
    assert_eq!(env.status("client"), "running");
    eventually("the new monitor answers", || lookup(&env, "client", "web").contains("Address: "));
    assert_eq!(
        env.ok(&["exec", "client", "sh", "-c", "echo own | nc -w 3 web 53 & sleep 1; kill $! 2>/dev/null; true"]),
        "own"
    );
}

#[test]
fn several_containers_behind_one_name() {
    let env = Env::with_busybox();
    env.ok(&["network", "create", "front"]);
    for name in ["one", "two"] {
        env.detached(&["--network", "front", "--name", name, "--network-alias", "service"], "exec sleep 1000");
    }
    env.detached(&["--network", "front", "--name", "client"], "exec sleep 1000");
    assert_eq!(lookup(&env, "client", "service").matches("Address: ").count(), 4, "two of each family");
}

#[test]
fn the_host_reaches_a_container_with_ipv4_over_ipv6() {
    let env = Env::with_busybox();
    env.detached(&["-p", "8080:80"], "echo hello > /index.html; exec httpd -f -p 80 -h /");
    for address in ["127.0.0.1", "[::1]"] {
        eventually("the server answers", || {
            get(&format!("{address}:8080")).is_some_and(|answer| answer.ends_with("hello\n"))
        });
    }
}

fn get(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
