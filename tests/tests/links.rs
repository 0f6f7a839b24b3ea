//! `--link`, as Docker has it: in the default network by environment and hosts file, in others by name.

use kiste_tests::Env;

#[test]
fn links_in_the_default_network() {
    let env = Env::with_busybox();
    env.detached(
        &["--name", "db", "-h", "dbhost", "-e", "C=3", "--expose", "80-82", "--expose", "53/udp"],
        "exec sleep 1000",
    );
    let shown = env.sh(&["--name", "web", "--link", "db:my-db"], "env | grep ^MY_DB | sort; grep my-db /etc/hosts");
    for line in [
        "MY_DB_PORT=tcp://172.17.0.2:80",
        "MY_DB_PORT_80_TCP_START=tcp://172.17.0.2:80",
        "MY_DB_PORT_80_TCP_PORT_END=82",
        "MY_DB_PORT_81_TCP=tcp://172.17.0.2:81",
        "MY_DB_PORT_53_UDP_PROTO=udp",
        "MY_DB_NAME=/web/my-db",
        "MY_DB_ENV_C=3",
        "172.17.0.2\tmy-db dbhost db",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line} in {shown}");
    }
    env.detached(&["--name", "web", "--link", "db:al"], "exec sleep 1000");
    assert_eq!(env.ok(&["inspect", "-f", "{{json .HostConfig.Links}}", "web"]), r#"["/db:/web/al"]"#);
    // The linked container may get another address.
    env.ok(&["stop", "-t", "0", "db"]);
    env.detached(&["--name", "third"], "exec sleep 1000");
    env.ok(&["start", "db"]);
    assert_eq!(env.ok(&["exec", "web", "grep", "-c", "172.17.0.4\tal dbhost db", "/etc/hosts"]), "1");
    env.ok(&["rename", "db", "store"]);
    assert_eq!(env.ok(&["inspect", "-f", "{{json .HostConfig.Links}}", "web"]), r#"["/store:/web/al"]"#);
    env.ok(&["rm", "--link", "web/al"]);
    assert_eq!(env.ok(&["inspect", "-f", "{{json .HostConfig.Links}}", "web"]), "null");
    env.kiste(&["exec", "web", "grep", "172.17.0.4", "/etc/hosts"]).fails(1, &[]);
    env.ok(&["stop", "-t", "0", "store"]);
    let run = |options: &[&str], text: &str| {
        env.kiste(&[&["run", "--rm", "--name", "xx"], options, &["busybox", "true"]].concat()).fails(125, &[text]);
    };
    run(&["--link", "store:al"], "Cannot link to a non running container: /store AS /xx/al");
    run(&["--link", "nosuch"], "could not get container for nosuch: No such container: nosuch");
    run(&["--link", "a:b:c"], "bad format for links: a:b:c");
    run(&["--link", "web", "--network", "host"], "host type networking can't be used with links");
}

#[test]
fn links_in_other_networks_are_names() {
    let env = Env::with_busybox();
    env.ok(&["network", "create", "--subnet", "10.96.0.0/24", "net"]);
    let lookup = |name: &str| env.kiste(&["exec", "web", "nslookup", name]).stdout.contains("Address: 10.96.0.3");
    env.detached(&["--name", "web", "--network", "net", "--link", "db:Store"], "exec sleep 1000");
    let links =
        env.ok(&["inspect", "-f", "{{json .HostConfig.Links}} {{json .NetworkSettings.Networks.net.Links}}", "web"]);
    assert_eq!(links, r#"null ["db:Store"]"#);
    assert!(!lookup("store"), "nobody is called that yet");
    env.detached(&["--name", "db", "-h", "dbhost", "--network", "net"], "exec sleep 1000");
    assert!(lookup("store") && lookup("db") && lookup("dbhost"));
    env.ok(&["rename", "db", "other"]);
    assert!(lookup("other") && !lookup("db"), "names follow");
    let short = env.sh(&["--network", "name=net,link-local-ip=169.254.9.9"], "ip -o addr show eth0");
    assert!(short.contains("inet 169.254.9.9/16"), "{short}");
    env.kiste(&["run", "--rm", "--network", "net", "busybox", "nslookup", "store"]).fails(1, &[]);
}
