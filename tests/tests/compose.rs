//! The real `docker compose` against `kiste serve`: projects as their users write them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kiste_tests::{Api, Env, Output, finish, fixtures, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

/// A project in a directory of its own.
struct Project<'a> {
    env: &'a Env,
    api: &'a Api<'a>,
    directory: PathBuf,
}

impl<'a> Project<'a> {
    /// `CGROUP` in the text becomes the world's parent cgroup.
    fn new(env: &'a Env, api: &'a Api<'a>, name: &str, text: &str) -> Self {
        let directory = env.path(name);
        std::fs::create_dir_all(&directory).unwrap();
        let project = Project { env, api, directory };
        project.write("compose.yaml", text);
        project
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.join(name), text.replace("CGROUP", self.env.cgroup())).unwrap();
    }

    fn compose(&self, line: &str) -> Output {
        let mut command = Command::new(fixtures::client("usr/libexec/docker/cli-plugins/docker-compose"));
        self.api.point(&mut command);
        finish(command.args(line.split(' ')).current_dir(&self.directory), None, LIMIT)
    }

    #[track_caller]
    fn ok(&self, line: &str) -> String {
        self.compose(line).ok().to_owned()
    }

    /// The id of a service's first container.
    fn id(&self, service: &str) -> String {
        self.ok(&format!("ps -aq {service}")).lines().next().unwrap_or_default().to_owned()
    }
}

/// A web server that waits for a database and for a job that asks it.
const SHOP: &str = r#"
services:
  web:
    image: busybox
    command: httpd -f -p 80 -h /srv
    volumes: ["pages:/srv:ro"]
    networks: [front, back]
    depends_on: {db: {condition: service_healthy}, fill: {condition: service_completed_successfully}}
    healthcheck: {test: ["CMD", "wget", "-q", "-O", "-", "http://127.0.0.1/page"], interval: 200ms}
    cgroup_parent: CGROUP
  db:
    image: postgres:test
    command: [sh, /db.sh]
    volumes: ["data:/data", "./db.sh:/db.sh:ro"]
    networks: [back]
    healthcheck: {test: [CMD, psql, -h, /tmp, -U, postgres, -c, select 1], interval: 300ms, retries: 300}
    stop_signal: SIGINT
    cgroup_parent: CGROUP
  fill:
    image: postgres:test
    command: [sh, -c, "psql -h db -U postgres -qAt -c 'create table t as select 42 as n' -c 'select n from t' > /srv/page"]
    volumes: ["pages:/srv"]
    networks: [back]
    depends_on: {db: {condition: service_healthy}}
    cgroup_parent: CGROUP
networks: {front: {}, back: {internal: true}}
volumes: {pages: {}, data: {}}
"#;

const DATABASE: &str = "set -e; set -- /usr/lib/postgresql/*/bin; chown postgres /data
[ -d /data/db ] || su postgres -c \"$1/initdb -A trust -D /data/db && echo 'host all all all trust' >> /data/db/pg_hba.conf\"
exec su postgres -c \"exec $1/postgres -D /data/db -k /tmp -c listen_addresses='*' -c fsync=off\"
";

#[test]
fn a_shop_of_three_services_opens_and_closes() {
    let env = Env::with_busybox();
    env.ok(&["load", "-i", fixtures::postgres().to_str().unwrap()]);
    let api = Api::start(&env);
    let shop = Project::new(&env, &api, "shop", SHOP);
    shop.write("db.sh", DATABASE);
    shop.ok("up -d --wait --quiet-pull");
    assert_eq!(shop.ok("exec -T web wget -q -O - http://127.0.0.1/page"), "42");
    assert_eq!(shop.ok("exec -T db psql -h /tmp -U postgres -Atc select"), "");
    let at = |service: &str, what: &str| {
        api.get(&format!("/containers/{}/json", shop.id(service))).json()["State"][what].clone()
    };
    let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
    assert!(text(at("db", "StartedAt")) < text(at("fill", "StartedAt")));
    assert!(text(at("fill", "FinishedAt")) < text(at("web", "StartedAt")));
    shop.ok("up -d --wait --scale web=3");
    assert_eq!(shop.ok("ps -q web").lines().count(), 3);
    assert!(shop.ok("logs --no-color db").contains("database system is ready to accept connections"));
    shop.ok("down");
    assert_eq!(env.ok(&["ps", "-aq"]), "");
    assert_eq!(env.ok(&["network", "ls", "-q", "--filter", "type=custom"]), "");
    // Volumes stay until it is said that they should not.
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "shop_data\nshop_pages");
    shop.ok("down -v");
    assert_eq!(env.ok(&["volume", "ls", "-q"]), "");
}

/// What a service can have.
const FULL: &str = r#"
services:
  web:
    image: busybox
    command: httpd -f -p 80 -h /srv
    hostname: www-1
    networks: {front: {aliases: [www], ipv4_address: 10.88.1.10}, back: {}}
    ports: ["127.0.0.1:8088:80"]
    volumes: ["./site:/srv:ro", "data:/data"]
    extra_hosts: ["ext:1.2.3.4"]
    secrets: [s1]
    configs: [{source: c1, target: /etc/c1}]
    environment: {A: b}
    labels: {x: y}
    deploy: {resources: {limits: {cpus: "0.5", memory: 64M, pids: 50}}}
    restart: unless-stopped
    init: true
    read_only: true
    tmpfs: [/tmp]
    ulimits: {nofile: {soft: 100, hard: 200}}
    stop_grace_period: 0s
    cgroup_parent: CGROUP
  ask:
    image: busybox
    command: sh -c 'wget -q -O - http://www/index.html && echo asked && sleep 1000'
    networks: [front]
    depends_on: [web]
    stop_grace_period: 0s
    cgroup_parent: CGROUP
  tool:
    image: busybox
    command: echo tool
    profiles: [tools]
    network_mode: none
    cgroup_parent: CGROUP
networks:
  front: {ipam: {config: [{subnet: 10.88.1.0/24}]}}
  back: {internal: true}
volumes: {data: {}}
secrets: {s1: {file: ./s1.txt}}
configs: {c1: {file: ./c1.txt}}
"#;

fn full<'a>(env: &'a Env, api: &'a Api<'a>) -> Project<'a> {
    let project = Project::new(env, api, "full", FULL);
    std::fs::create_dir(project.directory.join("site")).unwrap();
    project.write("site/index.html", "page\n");
    project.write("s1.txt", "secret");
    project.write("c1.txt", "config");
    project
}

#[test]
fn a_service_gets_what_is_written() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let project = full(&env, &api);
    project.ok("up -d");
    let inside = |line: &str| env.ok(&["exec", "full-web-1", "sh", "-c", line]);
    assert_eq!(inside("cat /run/secrets/s1 /etc/c1; hostname; echo $A"), "secretconfigwww-1\nb");
    assert!(inside("cat /etc/hosts").contains("1.2.3.4\text"));
    assert_eq!(inside("ulimit -Sn; ulimit -Hn"), "100\n200");
    assert_eq!(inside("touch /x 2>/dev/null || echo read-only; touch /tmp/x && echo written"), "read-only\nwritten");
    assert!(inside("ip addr").contains("10.88.1.10/24"));
    let document = env.inspect("full-web-1");
    assert_eq!(document["HostConfig"]["Memory"], 64 << 20);
    assert_eq!(document["HostConfig"]["NanoCpus"], 500_000_000);
    assert_eq!(document["HostConfig"]["PidsLimit"], 50);
    assert_eq!(document["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");
    assert_eq!(document["HostConfig"]["Init"], true);
    wait_until("the neighbour has asked by alias", Duration::from_secs(20), || {
        Some(()).filter(|()| project.ok("logs --no-color ask").contains("page\nask-1  | asked"))
    });
    project.ok("down -v");
}

#[test]
fn every_command_of_compose_does_its_work() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let project = full(&env, &api);
    project.ok("up -d");
    assert_eq!(project.ok("config --services").lines().count(), 2);
    assert!(project.ok("ls").contains("running(2)"));
    assert_eq!(project.ok("ps --services").lines().count(), 2);
    assert!(project.ok("images").contains("busybox"));
    assert!(project.ok("top web").contains("httpd"));
    assert_eq!(project.ok("exec -T web echo x"), "x");
    assert_eq!(project.compose("exec -T web false").code(), 1);
    assert_eq!(project.ok("run --rm -T ask echo y"), "y");
    assert_eq!(project.ok("run --rm -T tool"), "tool");
    assert_eq!(project.ok("--profile tools config --services").lines().count(), 3);
    assert_eq!(project.ok("port web 80"), "127.0.0.1:8088");
    for (line, state) in [
        ("pause web", "paused"),
        ("unpause web", "running"),
        ("stop web", "exited"),
        ("start web", "running"),
        ("restart -t 0 web", "running"),
        ("kill web", "exited"),
    ] {
        project.ok(line);
        assert_eq!(env.status("full-web-1"), state, "{line}");
    }
    project.ok("start web");
    project.ok("cp web:/etc/c1 copied");
    assert_eq!(std::fs::read_to_string(project.directory.join("copied")).unwrap(), "config");
    project.ok("cp c1.txt web:/data/c1");
    assert_eq!(project.ok("exec -T web cat /data/c1"), "config");
    // It takes the end of the stream for an error, with Docker too.
    let events = project.compose("events --json --since 1h --until 0s").stdout;
    assert!(events.contains("\"action\":\"pause\"") && events.contains("\"service\":\"web\""), "{events}");
    assert_eq!(wait_and_kill(&project, "ask"), 137);
    // There is nothing left to wait for then, with Docker too.
    assert_eq!(project.compose("wait ask").code(), 1);
    assert!(project.ok("stats --no-stream").contains("full-web-1"));
    assert!(project.ok("volumes").contains("full_data"));
    project.ok("rm -fsv ask");
    assert_eq!(project.ok("ps -aq ask"), "");
    project.ok("down -v");
}

/// What `compose wait` ends with when a service is killed meanwhile.
fn wait_and_kill(project: &Project<'_>, service: &str) -> i32 {
    let waits = project.env.state().join("containers").join(project.id(service)).join("news");
    let waiting = || project.compose(&format!("wait {service}"));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(waiting);
        wait_until("the server waits", Duration::from_secs(20), || waits.exists().then_some(()));
        project.ok(&format!("kill {service}"));
        waiting.join().unwrap().code()
    })
}

#[test]
fn only_what_has_changed_is_made_anew() {
    let env = Env::with_busybox();
    let api = Api::start(&env);
    let service =
        |command: &str| format!("{{image: busybox, command: {command}, stop_grace_period: 0s, cgroup_parent: CGROUP}}");
    let text = |a: &str, more: &str| format!("services:\n  a: {}\n  b: {}\n{more}", service(a), service("sleep 100"));
    let project = Project::new(&env, &api, "p", &text("sleep 100", &format!("  c: {}\n", service("sleep 100"))));
    project.ok("up -d");
    let (a, b) = (project.id("a"), project.id("b"));
    project.ok("up -d");
    assert_eq!((project.id("a"), project.id("b")), (a.clone(), b.clone()));
    project.write("compose.yaml", &text("sleep 200", ""));
    project.ok("up -d");
    assert_ne!(project.id("a"), a);
    assert_eq!(project.id("b"), b);
    assert_eq!(env.status("p-c-1"), "running");
    project.ok("up -d --remove-orphans");
    assert_eq!(env.ok(&["ps", "-q", "--filter", "name=p-c-1"]), "");
    project.ok("up -d --force-recreate");
    assert_ne!(project.id("b"), b);
    project.ok("down");
}
