//! Networks as their users see them: addresses, names, who reaches whom, published ports. Several hosts are network
//! namespaces on one machine, with real packets between them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use kiste_tests::{Env, Netns, finish, neighbour, wait_until};

/// Serves its host name and the address of whoever asks, on port 80.
const SERVER: &str = "mkdir -p /w/cgi-bin && printf '#!/bin/sh\\necho; echo $REMOTE_ADDR' > /w/cgi-bin/who && \
    chmod +x /w/cgi-bin/who && hostname > /w/index.html && exec httpd -f -p 80 -h /w";

/// Asks a server; what it answered after the head, or none.
fn get(address: &str, path: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned())
}

/// A shell line that asks a server from inside a container or another host.
fn ask(address: &str, port: u16, path: &str) -> String {
    format!("printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' | timeout 2 busybox nc -w 2 {address} {port} | tail -n 1")
}

/// Starts a server and waits until it serves.
fn serve(env: &Env, name: &str, options: &[&str]) -> String {
    let options = [&["--name", name, "-h", name], options].concat();
    env.detached(&options, SERVER);
    let address = address(env, name);
    if !address.is_empty() {
        wait_until("the server answers", Duration::from_secs(10), || get(&format!("{address}:80"), "/"));
    }
    address
}

fn address(env: &Env, name: &str) -> String {
    env.ok(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name])
}

/// Runs a program of the machine in the test's network namespace.
#[track_caller]
fn host(program: &str, arguments: &[&str]) -> String {
    finish(Command::new(program).args(arguments), None, Duration::from_secs(10)).ok().to_owned()
}

/// What the other host gets from a server.
fn from(other: &Netns, address: &str, port: u16, path: &str) -> String {
    let line = ask(address, port, path);
    finish(&mut other.command("sh", &["-c", &line]), None, Duration::from_secs(20)).stdout.trim().to_owned()
}

#[test]
fn the_default_network_is_a_bridge() {
    let env = Env::with_busybox();
    env.detached(&["--name", "web", "-h", "web.example"], "sleep 60");
    let settings = &env.inspect("web")["NetworkSettings"];
    let endpoint = &settings["Networks"]["bridge"];
    for document in [settings, endpoint] {
        assert_eq!(document["IPAddress"], "172.17.0.2");
        assert_eq!((&document["IPPrefixLen"], &document["Gateway"]), (&16.into(), &"172.17.0.1".into()));
        assert_eq!(document["MacAddress"], "02:42:ac:11:00:02");
    }
    assert_eq!(endpoint["NetworkID"].as_str().map(str::len), Some(64));
    assert_eq!(env.ok(&["exec", "web", "sh", "-c", "ip route | grep default"]), "default via 172.17.0.1 dev eth0 ");
    assert_eq!(env.ok(&["exec", "web", "grep", "172.17", "/etc/hosts"]), "172.17.0.2\tweb.example web");
    env.ok(&["stop", "-t", "0", "web"]);
    assert_eq!(env.inspect("web")["NetworkSettings"]["IPAddress"], "");
    assert_eq!(env.sh(&[], "hostname -i"), "172.17.0.2", "the lowest free address");
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let env = Env::with_busybox();
    let other = neighbour();
    serve(&env, "web", &["-p", "8080:80"]);
    assert_eq!(env.ok(&["port", "web"]), "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080");
    assert_eq!(env.ok(&["ps", "--format", "{{.Ports}}"]), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
    for address in ["127.0.0.1:8080", "192.0.2.1:8080", "172.17.0.1:8080", "172.17.0.2:80"] {
        assert_eq!(get(address, "/").as_deref(), Some("web"), "{address}");
    }
    assert_eq!(from(&other, "192.0.2.1", 8080, "/cgi-bin/who"), "[::ffff:192.0.2.2]", "the client's own address");
    assert_eq!(env.sh(&[], &ask("192.0.2.1", 8080, "/")), "web", "from its own bridge, by way of the host");
    assert_eq!(env.ok(&["exec", "web", "sh", "-c", &ask("172.17.0.1", 8080, "/")]), "web", "from itself");
    env.ok(&["rm", "-f", "web"]);
    assert_eq!(get("127.0.0.1:8080", "/"), None);
    TcpListener::bind("0.0.0.0:8080").expect("the port is free again");
}

#[test]
fn what_is_not_published_is_not_reached_from_outside() {
    let env = Env::with_busybox();
    let other = neighbour();
    serve(&env, "web", &["-p", "127.0.0.1:8080:80"]);
    // A neighbour that knows the way to the bridge, and one that sends loopback addresses over the wire.
    for route in ["172.17.0.0/16", "127.0.0.0/8"] {
        let arguments = ["route", "replace", route, "via", "192.0.2.1"];
        finish(&mut other.command("ip", &arguments), None, Duration::from_secs(5)).ok();
    }
    let permit =
        "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip route del local 127.0.0.0/8 dev lo table local";
    finish(&mut other.command("sh", &["-c", permit]), None, Duration::from_secs(5));
    assert_eq!(get("127.0.0.1:8080", "/").as_deref(), Some("web"));
    assert_eq!(get("192.0.2.1:8080", "/"), None, "bound to the loopback only");
    for (address, port) in [("172.17.0.2", 80), ("192.0.2.1", 8080), ("127.0.0.1", 8080)] {
        assert_eq!(from(&other, address, port, "/"), "", "{address}:{port}");
    }
    assert_eq!(env.sh(&[], &ask("127.0.0.1", 8080, "/")), "");
    let out = format!(
        "ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via 172.17.0.1; {}",
        ask("127.0.0.1", 8080, "/")
    );
    assert_eq!(env.sh(&["--cap-add", "NET_ADMIN"], &out), "", "the host's loopback is not a container's business");
}

#[test]
fn containers_reach_the_outside_under_the_host_s_address() {
    let env = Env::with_busybox();
    let other = neighbour();
    let script = "printf 'x' | busybox nc -l -p 9000 >/dev/null & busybox nc -l -p 9001 -e sh -c 'echo $NCAT_REMOTE_ADDR' & wait";
    let mut server = other.command("sh", &["-c", script]).spawn().unwrap();
    let seen = wait_until("the outside answers", Duration::from_secs(10), || {
        Some(env.sh(&[], "busybox nc -w 2 192.0.2.2 9000 </dev/null")).filter(|text| text == "x")
    });
    assert_eq!(seen, "x");
    let _ = server.kill();
    let _ = server.wait();
}

#[test]
fn a_port_that_is_taken_is_an_error_at_once() {
    let env = Env::with_busybox();
    env.detached(&["--name", "web", "-p", "8080:80"], "sleep 60");
    let taken = env.kiste(&["run", "--name", "second", "-p", "127.0.0.1:8080:80", "busybox", "true"]);
    taken.fails(125, &["failed to set up container networking: driver failed programming external connectivity on endpoint second (",
        "Bind for 127.0.0.1:8080 failed: port is already allocated", "container web has it"]);
    assert_eq!(env.status("second"), "created", "as with Docker it stays");
    env.kiste(&["start", "second"]).fails(1, &["port is already allocated"]);
    env.ok(&["rm", "-f", "web"]);
    env.ok(&["start", "second"]);
    env.ok(&["rm", "-f", "second"]);

    let _listener = TcpListener::bind("0.0.0.0:8081").unwrap();
    let taken = env.kiste(&["run", "--rm", "-p", "8081:80", "busybox", "true"]);
    taken.fails(125, &["failed to bind host port 0.0.0.0:8081:172.17.0.2:80/tcp: address already in use", "(process"]);
    assert_eq!(env.ok(&["ps", "-aq"]), "");
    env.kiste(&["run", "--rm", "-p", "198.51.100.7:80:80", "busybox", "true"])
        .fails(125, &["cannot assign requested address"]);
}

#[test]
fn ports_in_ranges_and_of_the_engine_s_choice() {
    let env = Env::with_busybox();
    env.detached(&["--name", "range", "-p", "9000-9002:7000-7002/udp", "-p", "8000-8010:80"], "sleep 60");
    env.detached(&["--name", "next", "-p", "8000-8010:80"], "sleep 60");
    assert_eq!(env.ok(&["port", "range", "7001/udp"]), "0.0.0.0:9001\n[::]:9001");
    assert_eq!(
        (env.ok(&["port", "range", "80"]), env.ok(&["port", "next", "80"])),
        ("0.0.0.0:8000\n[::]:8000".into(), "0.0.0.0:8001\n[::]:8001".into())
    );
    env.detached(&["--name", "any", "-P", "--expose", "81", "--expose", "53/udp", "-p", "80"], "sleep 60");
    let ports = env.inspect("any")["NetworkSettings"]["Ports"].clone();
    for port in ["80/tcp", "81/tcp", "53/udp"] {
        let number = |index: usize| ports[port][index]["HostPort"].as_str().unwrap().parse::<u16>().unwrap();
        assert!(number(0) >= 1024 && number(0) == number(1), "{ports}");
    }
}

#[test]
fn networks_of_users_are_apart() {
    let env = Env::with_busybox();
    let id = env.ok(&["network", "create", "front"]);
    env.ok(&[
        "network",
        "create",
        "--subnet",
        "10.77.0.0/24",
        "--ip-range",
        "10.77.0.128/25",
        "--gateway",
        "10.77.0.9",
        "--aux-address",
        "router=10.77.0.128",
        "--label",
        "tier=back",
        "back",
    ]);
    assert_eq!(id.len(), 64);
    assert_eq!(
        env.ok(&["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}"]),
        "back bridge local\nbridge bridge local\nfront bridge local\nhost host local\nnone null local"
    );
    let front = serve(&env, "aa", &["--network", "front"]);
    let back = serve(&env, "bb", &["--network", "back"]);
    assert!(front.starts_with("172.18.0."), "{front}");
    assert_eq!(back, "10.77.0.129", "behind the reserved one of the range");
    assert_eq!(env.sh(&["--network", "back"], &ask("10.77.0.129", 80, "/")), "bb");
    assert_eq!(env.sh(&["--network", "front"], &ask("10.77.0.129", 80, "/")), "", "another network");
    env.ok(&["network", "connect", "--ip", "10.77.0.5", "--alias", "x", "back", "aa"]);
    assert_eq!(env.ok(&["exec", "aa", "sh", "-c", &ask("10.77.0.129", 80, "/")]), "bb", "connected while running");
    assert_eq!(env.inspect("aa")["NetworkSettings"]["Networks"]["back"]["IPAddress"], "10.77.0.5");
    assert_eq!(env.ok(&["exec", "aa", "grep", "-c", "10.77.0.5", "/etc/hosts"]), "1");
    env.ok(&["network", "disconnect", "back", "aa"]);
    env.kiste(&["exec", "aa", "ip", "link", "show", "eth1"]).fails(2, &["find device"]);
    env.kiste(&["network", "rm", "back"]).fails(1, &["has active endpoints (name:\"bb\" id:\""]);
    env.ok(&["rm", "-f", "aa", "bb"]);
    env.ok(&["network", "rm", "front", "back"]);
    assert!(!host("ip", &["-o", "link"]).contains(&id[..9]), "the bridge is gone");
}

#[test]
fn inspect_shows_a_network_as_docker_does() {
    let env = Env::with_busybox();
    env.ok(&[
        "network",
        "create",
        "--subnet",
        "10.78.0.0/24",
        "--label",
        "a=b",
        "-o",
        "com.docker.network.driver.mtu=1400",
        "net",
    ]);
    let id = env
        .detached(&["--name", "one", "--network", "name=net,ip=10.78.0.7,mac-address=02:00:00:00:00:07"], "sleep 60");
    let document = |format: &str| env.ok(&["network", "inspect", "-f", format, "net"]);
    assert_eq!(document("{{json .IPAM.Config}}"), r#"[{"Subnet":"10.78.0.0/24","Gateway":"10.78.0.1"}]"#);
    assert_eq!(
        document("{{.Driver}} {{.Scope}} {{.EnableIPv4}} {{.EnableIPv6}} {{.Internal}} {{.Labels.a}}"),
        "bridge local true false false b"
    );
    let member = document(&format!(
        "{{{{with index .Containers {id:?}}}}}{{{{.Name}}}} {{{{.IPv4Address}}}} {{{{.MacAddress}}}}{{{{end}}}}"
    ));
    assert_eq!(member, "one 10.78.0.7/24 02:00:00:00:00:07");
    assert_eq!(env.ok(&["exec", "one", "cat", "/sys/class/net/eth0/mtu"]), "1400");
}

#[test]
fn internal_and_isolated_networks() {
    let env = Env::with_busybox();
    let _other = neighbour();
    env.ok(&["network", "create", "--internal", "--subnet", "10.79.1.0/24", "inside"]);
    env.ok(&[
        "network",
        "create",
        "-o",
        "com.docker.network.bridge.enable_icc=false",
        "--subnet",
        "10.79.2.0/24",
        "apart",
    ]);
    serve(&env, "in", &["--network", "inside"]);
    serve(&env, "lone", &["--network", "apart", "-p", "8088:80"]);
    assert_eq!(env.sh(&["--network", "inside"], &ask("10.79.1.2", 80, "/")), "in");
    assert_eq!(env.sh(&["--network", "inside"], "ip route | grep -c default || true"), "0");
    let detour = format!("ip route add default via 10.79.1.1; {}", ask("192.0.2.1", 8088, "/"));
    assert_eq!(env.sh(&["--network", "inside", "--cap-add", "NET_ADMIN"], &detour), "");
    assert_eq!(env.sh(&["--network", "apart"], &ask("10.79.2.2", 80, "/")), "", "containers are kept apart");
    assert_eq!(env.sh(&["--network", "apart"], &ask("192.0.2.1", 8088, "/")), "lone", "what is published is for all");
}

#[test]
fn both_families() {
    let env = Env::with_busybox();
    let other = neighbour();
    env.ok(&["network", "create", "--ipv6", "dual"]);
    let subnet = env.ok(&["network", "inspect", "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}", "dual"]);
    assert!(subnet.contains("fd") && subnet.contains("::/64"), "{subnet}");
    env.detached(
        &["--name", "six", "-h", "six", "--network", "dual", "-p", "8086:80"],
        &SERVER.replace("-p 80", "-p [::]:80"),
    );
    let inside = env.ok(&["inspect", "-f", "{{.NetworkSettings.Networks.dual.GlobalIPv6Address}}", "six"]);
    wait_until("the server answers", Duration::from_secs(10), || get(&format!("[{inside}]:80"), "/"));
    assert_eq!(
        from(&other, "2001:db8::1", 8086, "/cgi-bin/who").replace("[", "").replace("]", ""),
        "2001:db8::2",
        "its own address"
    );
    assert_eq!(from(&other, "192.0.2.1", 8086, "/"), "six");
    assert_eq!(env.sh(&["--network", "dual"], &ask(&inside, 80, "/")), "six");
    env.ok(&["network", "create", "--ipv4=false", "--ipv6", "--subnet", "fd00:77::/64", "only6"]);
    assert_eq!(
        env.sh(&["--network", "name=only6,ip6=fd00:77::99"], "ip -o addr show eth0 | grep -c 'inet6 fd00:77::99/64'"),
        "1"
    );
}

#[test]
fn several_networks_one_default_route() {
    let env = Env::with_busybox();
    for (name, net) in [("a", "10.80.1"), ("b", "10.80.2")] {
        env.ok(&["network", "create", "--subnet", &format!("{net}.0/24"), name]);
    }
    let routes =
        |options: &[&str]| env.sh(options, "ip route | grep default | cut -d' ' -f3; echo $(ls /sys/class/net)");
    assert_eq!(routes(&["--network", "a", "--network", "b"]), "10.80.1.1\neth0 eth1 lo");
    assert_eq!(routes(&["--network", "a", "--network", "name=b,gw-priority=1"]), "10.80.2.1\neth0 eth1 lo");
    let named = ["--network", "name=a,driver-opt=com.docker.network.endpoint.ifname=wan0"];
    assert_eq!(env.sh(&named, "echo $(ls /sys/class/net)"), "lo wan0");
}

#[test]
fn rules_and_devices_that_were_removed_come_back() {
    let env = Env::with_busybox();
    serve(&env, "web", &["-p", "8080:80"]);
    host("nft", &["flush", "ruleset"]);
    env.ok(&["network", "reload"]);
    assert_eq!(get("127.0.0.1:8080", "/").as_deref(), Some("web"), "after a flush");
    let bridge =
        env.ok(&["network", "inspect", "-f", r#"{{index .Options "com.docker.network.bridge.name"}}"#, "bridge"]);
    host("ip", &["link", "del", &bridge]);
    env.ok(&["network", "reload"]);
    wait_until("the server answers", Duration::from_secs(5), || get("127.0.0.1:8080", "/"));
    env.ok(&["exec", "web", "true"]);
    host("nft", &["flush", "ruleset"]);
    serve(&env, "second", &["-p", "8081:80"]);
    for port in [8080, 8081] {
        assert!(get(&format!("127.0.0.1:{port}"), "/").is_some(), "a start repairs what it finds missing: {port}");
    }
}

#[test]
fn nothing_is_lost_when_monitors_die() {
    let env = Env::with_busybox();
    serve(&env, "web", &["-p", "8080:80"]);
    let kill = |pid: u32| host("kill", &["-9", &pid.to_string()]);
    env.monitors().into_iter().for_each(|pid| drop(kill(pid)));
    env.ok(&["ps"]);
    assert_eq!(get("127.0.0.1:8080", "/").as_deref(), Some("web"), "adopted");
    TcpListener::bind("0.0.0.0:8080").expect_err("the port is held again");
    let pid = env.pid("web");
    env.monitors().into_iter().for_each(|pid| drop(kill(pid)));
    kill(pid);
    wait_until("its end is noticed", Duration::from_secs(5), || {
        env.kiste(&["ps", "-a"]).stdout.contains("Exited").then_some(())
    });
    env.detached(&["-p", "8080:80"], "sleep 60");
}

#[test]
fn addresses_run_out_and_are_given_back() {
    let env = Env::with_busybox();
    env.ok(&["network", "create", "--subnet", "10.81.0.0/30", "tiny"]);
    env.detached(&["--name", "only", "--network", "tiny"], "sleep 60");
    env.kiste(&["run", "--rm", "--network", "tiny", "busybox", "true"])
        .fails(125, &["no available IPv4 addresses", "larger --subnet"]);
    env.ok(&["stop", "-t", "0", "only"]);
    assert_eq!(env.sh(&["--network", "tiny"], "hostname -i"), "10.81.0.2");
    env.ok(&["start", "only"]);
}

#[test]
fn many_at_once_get_an_address_each() {
    let env = Env::with_busybox();
    let mut children: Vec<_> = (0..12)
        .map(|number| {
            let port = format!("{}:80", 8100 + number);
            env.command(&["run", "-d", "-p", &port, "busybox", "sleep", "60"])
                .stdout(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let containers = env.ok(&["network", "inspect", "-f", "{{range .Containers}}{{.IPv4Address}} {{end}}", "bridge"]);
    let mut addresses: Vec<&str> = containers.split_whitespace().collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 12, "{containers}");
}

#[test]
fn malformed_networks_are_refused() {
    let env = Env::with_busybox();
    host("ip", &["route", "add", "blackhole", "10.99.0.0/16"]);
    host("ip", &["link", "set", "lo", "up"]);
    host("ip", &["addr", "add", "10.98.0.1/16", "dev", "lo"]);
    host("ip", &["route", "add", "10.97.0.0/16", "dev", "lo"]);
    env.ok(&["network", "create", "--subnet", "10.82.0.0/24", "good"]);
    let fails = |arguments: &[&str], text: &str| {
        env.kiste(&[&["network", "create"], arguments].concat()).fails(1, &[text]);
    };
    fails(&["good"], "network with name good already exists");
    fails(&["--subnet", "10.82.0.128/25", "x"], "Pool overlaps with other one on this address space");
    fails(&["--subnet", "10.97.3.0/24", "x"], "the host has a route to 10.97.0.0/16");
    fails(&["--subnet", "10.83.0.1/24", "x"], "it should be 10.83.0.0/24");
    fails(&["--subnet", "10.83.0.0/33", "x"], "invalid");
    fails(&["--subnet", "10.83.0.0/24", "--gateway", "10.84.0.1", "x"], "no matching subnet for gateway 10.84.0.1");
    fails(&["--subnet", "10.83.0.0/32", "x"], "has no room");
    fails(&["--subnet", "224.0.0.0/24", "x"], "is no range for containers");
    fails(&["-d", "nosuch", "x"], "plugin \"nosuch\" not found");
    fails(&["-d", "host", "x"], "only one instance of \"host\" network is allowed");
    fails(&["-o", "bogus=1", "x"], "unknown option bogus");
    fails(&["../x"], "invalid network name");
    fails(&["--ipv4=false", "x"], "IPv4 or IPv6 must be enabled");
    env.kiste(&["network", "rm", "bridge"]).fails(1, &["bridge is a pre-defined network and cannot be removed"]);
    env.kiste(&["network", "rm", "nosuch"]).fails(1, &["network nosuch not found"]);
    let run = |options: &[&str], text: &str| {
        env.kiste(&[&["run", "--rm"], options, &["busybox", "true"]].concat()).fails(125, &[text]);
    };
    run(&["--network", "nosuch"], "network nosuch not found");
    run(&["--ip", "172.17.0.9"], "user specified IP address is supported on user defined networks only");
    run(&["--network-alias", "x"], "network-scoped alias is supported only for containers in user defined networks");
    run(
        &["--network", "good", "--ip", "10.90.0.1"],
        "no configured subnet or ip-range contain the IP address 10.90.0.1",
    );
    run(&["--network", "good", "--ip", "10.82.0.1"], "Address already in use");
    run(&["--network", "good", "--mac-address", "01:00:00:00:00:01"], "invalid MAC address");
    run(&["--network", "name=good,driver-opt=com.docker.network.bogus=1"], "unknown option com.docker.network.bogus");
    run(&["--network", "host", "--network", "good"], "cannot attach both user-defined and non-user-defined");
    assert_eq!(env.ok(&["network", "ls", "-q"]).lines().count(), 4, "nothing is left of the refused ones");
    assert_eq!(env.ok(&["ps", "-aq"]), "");
}

#[test]
fn devices_on_top_of_the_host_s() {
    let env = Env::with_busybox();
    let other = neighbour();
    env.ok(&[
        "network",
        "create",
        "-d",
        "macvlan",
        "--subnet",
        "192.0.2.0/24",
        "--gateway",
        "192.0.2.254",
        "-o",
        "parent=wire0",
        "lan",
    ]);
    env.detached(&["--name", "mac", "-h", "mac", "--network", "lan", "--ip", "192.0.2.77"], SERVER);
    let answer = || Some(from(&other, "192.0.2.77", 80, "/")).filter(|text| text == "mac");
    wait_until("the neighbour reaches it", Duration::from_secs(10), answer);
    assert_eq!(env.ok(&["exec", "mac", "sh", "-c", "ip route | grep default"]), "default via 192.0.2.254 dev eth0 ");
    env.kiste(&["network", "create", "-d", "ipvlan", "-o", "parent=wire0", "--subnet", "10.85.0.0/24", "x"])
        .fails(1, &["network lan is already using parent interface wire0"]);
}
