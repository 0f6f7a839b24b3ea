//! Networks that somebody takes apart, firewalls of other programs, commands that are killed half-way, and limits of
//! bandwidth.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use kiste_tests::{Env, finish, neighbour, wait_until, within};

const PATIENCE: Duration = Duration::from_secs(20);

fn host(program: &str, arguments: &[&str]) -> String {
    finish(Command::new(program).args(arguments), None, PATIENCE).ok().to_owned()
}

fn reached(address: &str) -> bool {
    let address: SocketAddr = address.parse().unwrap();
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}

fn bridge(env: &Env) -> String {
    env.ok(&["network", "inspect", "-f", r#"{{index .Options "com.docker.network.bridge.name"}}"#, "bridge"])
}

#[test]
fn what_is_deleted_by_hand_comes_back_by_itself() {
    let env = Env::with_busybox();
    for (name, port) in [("one", "8080:80"), ("two", "8081:80")] {
        env.detached(&["--name", name, "-p", port], "exec sleep 1000");
    }
    let _listeners = ["one", "two"].map(|name| within(env.pid(name), || TcpListener::bind("0.0.0.0:80").unwrap()));
    let both = || (reached("127.0.0.1:8080") && reached("127.0.0.1:8081")).then_some(());
    wait_until("the ports are open", PATIENCE, both);
    host("nft", &["flush", "ruleset"]);
    wait_until("flushed rules come back", PATIENCE, both);
    let table = host("nft", &["list", "tables"]);
    let table = table.split_whitespace().find(|word| word.starts_with("kiste")).unwrap().to_owned();
    host("nft", &["flush", "table", "inet", &table]);
    wait_until("the rules of a table come back", PATIENCE, both);
    host("ip", &["link", "del", &bridge(&env)]);
    wait_until("a deleted bridge comes back", PATIENCE, both);
    // Whoever keeps the watch ends; another one takes it.
    env.ok(&["rm", "-f", "one"]);
    host("nft", &["flush", "ruleset"]);
    wait_until("somebody else watches", PATIENCE, || reached("127.0.0.1:8081").then_some(()));
}

#[test]
fn other_firewalls_that_drop_are_named_with_a_remedy() {
    let env = Env::with_busybox();
    let other = neighbour();
    env.detached(&["--name", "web", "-p", "8080:80"], "exec sleep 1000");
    let _listener = within(env.pid("web"), || TcpListener::bind("0.0.0.0:80").unwrap());
    let from_outside = || other.within(|| reached("192.0.2.1:8080"));
    assert!(from_outside());
    // As Docker leaves it.
    host(
        "nft",
        &["add table ip filter; add chain ip filter DOCKER-USER; \
        add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }; \
        add rule ip filter FORWARD jump DOCKER-USER"],
    );
    assert!(!from_outside());
    let info = env.kiste(&["info"]);
    let text = info.stdout + &info.stderr;
    assert!(text.contains("ip filter of another program drops") && text.contains("-I DOCKER-USER -i kiste+"), "{text}");
    assert!(env.kiste(&["network", "reload"]).stderr.contains("ip filter of another program"));
    for direction in ["iifname", "oifname"] {
        host("nft", &["insert", "rule", "ip", "filter", "DOCKER-USER", direction, "kiste*", "accept"]);
    }
    assert!(from_outside());
    assert!(!env.kiste(&["network", "reload"]).stderr.contains("another program"));
    assert!(host("nft", &["list", "table", "ip", "filter"]).contains("policy drop"), "nothing of others is changed");
}

#[test]
fn killed_while_networks_are_made_and_removed() {
    let env = Env::with_busybox();
    let devices = || host("ip", &["-o", "link"]).lines().filter(|line| line.contains(" kiste-")).count();
    let die = |failpoint: &str, arguments: &[&str]| {
        let output = env.kiste_with_env(arguments, "KISTE_FAILPOINT", failpoint);
        assert_eq!(output.code(), 137, "{failpoint}: {output:?}");
    };
    for failpoint in ["network-recorded", "network-made"] {
        die(failpoint, &["network", "create", "net"]);
        assert_eq!(env.sh(&["--network", "net"], "hostname -i | wc -w"), "1", "after {failpoint}");
        env.ok(&["network", "rm", "net"]);
    }
    for failpoint in ["network-forgotten", "network-unmade"] {
        env.ok(&["network", "create", "--subnet", "10.94.0.0/24", "net"]);
        die(failpoint, &["network", "rm", "net"]);
        env.kiste(&["network", "rm", "net"]).fails(1, &["network net not found"]);
        env.ok(&["network", "create", "--subnet", "10.94.0.0/24", "net"]);
        assert_eq!(devices(), 1, "after {failpoint}");
        env.ok(&["network", "rm", "net"]);
    }
    assert_eq!(devices(), 0);
}

/// Seconds that a transfer takes.
fn transfer(mut from: TcpStream, mut to: TcpStream, size: usize) -> f64 {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || from.write_all(&vec![0; size]).unwrap());
        let mut buffer = vec![0; size];
        to.read_exact(&mut buffer).unwrap();
    });
    begin.elapsed().as_secs_f64()
}

#[test]
fn bandwidth_is_limited_in_both_directions() {
    let env = Env::with_busybox();
    env.ok(&["network", "create", "-o", "kiste.bandwidth.egress=8mbit", "--subnet", "10.95.0.0/24", "slow"]);
    env.detached(&["--name", "sends", "--network", "slow"], "exec sleep 1000");
    let ingress = "name=slow,driver-opt=kiste.bandwidth.ingress=8mbit,driver-opt=kiste.bandwidth.egress=10gbit";
    env.detached(&["--name", "gets", "--network", ingress], "exec sleep 1000");
    for (name, address, sends) in [("sends", "10.95.0.2", true), ("gets", "10.95.0.3", false)] {
        let listener = within(env.pid(name), || TcpListener::bind((address, 80)).unwrap());
        for (limited, size) in [(true, 600_000), (false, 4_000_000)] {
            let client = TcpStream::connect((address, 80)).unwrap();
            let (server, _) = listener.accept().unwrap();
            let (from, to) = if limited == sends { (server, client) } else { (client, server) };
            let took = transfer(from, to, size);
            // A million bytes a second, less what the bucket and the socket's buffers take at once.
            assert!(!limited || took > 0.3, "{name}: {size} bytes in {took} s");
            assert!(limited || took < 3.0, "{name}, other direction: {size} bytes in {took} s");
        }
    }
    let bad = |value: &str| format!("name=slow,driver-opt=kiste.bandwidth.egress={value}");
    env.kiste(&["run", "--rm", "--network", &bad("fast"), "busybox", "true"]).fails(125, &["invalid value"]);
}
