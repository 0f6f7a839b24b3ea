//! The library `testcontainers`, as it comes, against `kiste serve`: what its users' tests do with a web server and with
//! PostgreSQL. It finds its server by the environment, so each test starts the server and then itself once more.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use kiste_tests::{Api, Env, finish, fixtures};
use testcontainers::core::wait::ExitWaitStrategy;
use testcontainers::core::{CmdWaitFor, ExecCommand, Healthcheck, IntoContainerPort as _, WaitFor};
use testcontainers::runners::SyncRunner as _;
use testcontainers::{ContainerRequest, GenericImage, ImageExt as _};

const LIMIT: Duration = Duration::from_secs(60);
/// Parent cgroup of the containers; tells the second run from the first, too.
const CGROUP: &str = "KISTE_TEST_CGROUP";

/// Runs the work in another process, pointed at a server of its own; nothing of it may be left.
fn against_a_server(test: &str, images: &[std::path::PathBuf], work: impl FnOnce()) {
    if std::env::var_os(CGROUP).is_some() {
        return work();
    }
    let env = Env::with_busybox();
    images.iter().for_each(|image| drop(env.ok(&["load", "-i", image.to_str().unwrap()])));
    let api = Api::start(&env);
    let mut again = Command::new(std::env::current_exe().unwrap());
    api.point(again.args(["--exact", test, "--nocapture"]).env(CGROUP, env.cgroup()));
    let output = finish(&mut again, None, LIMIT);
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    // Containers and networks go with the values that stood for them.
    assert_eq!(env.ok(&["ps", "-aq"]), "");
    assert_eq!(env.ok(&["network", "ls", "-q", "--filter", "type=custom"]), "");
}

fn confined(image: GenericImage) -> ContainerRequest<GenericImage> {
    image.with_host_config_modifier(|host| host.cgroup_parent = std::env::var(CGROUP).ok())
}

fn page(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_web_server_is_ready_when_its_log_says_so() {
    against_a_server("a_web_server_is_ready_when_its_log_says_so", &[], || {
        let image = GenericImage::new("busybox", "latest")
            .with_exposed_port(80.tcp())
            .with_wait_for(WaitFor::message_on_stdout("ready"));
        let line = "mkdir -p /srv; echo started >&2; echo ready; exec httpd -f -p 80 -h /srv";
        let web = confined(image)
            .with_cmd(["sh", "-c", line])
            .with_copy_to("/srv/page", b"copied in".to_vec())
            .with_network("shop")
            .with_container_name("web")
            .start()
            .unwrap();
        let port = web.get_host_port_ipv4(80.tcp()).unwrap();
        // The log came before the server.
        web.exec(
            ExecCommand::new(["sh", "-c", "until wget -q -O /dev/null http://127.0.0.1/page; do :; done; echo up"])
                .with_cmd_ready_condition(CmdWaitFor::message_on_stdout("up")),
        )
        .unwrap();
        assert!(page(port).ends_with("copied in"));
        assert_eq!(web.stderr_to_vec().unwrap(), b"started\n");
        let mut done = web
            .exec(
                ExecCommand::new(["sh", "-c", "echo out; echo err >&2; exit 3"])
                    .with_cmd_ready_condition(CmdWaitFor::exit()),
            )
            .unwrap();
        assert_eq!(done.exit_code().unwrap(), Some(3));
        assert_eq!(done.stdout_to_vec().unwrap(), b"out\n");
        assert_eq!(done.stderr_to_vec().unwrap(), b"err\n");
        // A neighbour finds it by name, and its end is waited for.
        let job = GenericImage::new("busybox", "latest")
            .with_wait_for(WaitFor::exit(ExitWaitStrategy::new().with_exit_code(0)));
        let job =
            confined(job).with_cmd(["wget", "-q", "-O", "-", "http://web/page"]).with_network("shop").start().unwrap();
        assert_eq!(job.stdout_to_vec().unwrap(), b"copied in");
        web.stop_with_timeout(Some(0)).unwrap();
        assert_eq!(web.exit_code().unwrap(), Some(137));
        web.start().unwrap();
        assert!(web.is_running().unwrap());
        web.rm().unwrap();
    });
}

#[test]
fn a_database_is_ready_when_it_is_healthy() {
    against_a_server("a_database_is_ready_when_it_is_healthy", &[fixtures::postgres()], || {
        let line = "set -e; set -- /usr/lib/postgresql/*/bin; mkdir /data; chown postgres /data
            su postgres -c \"$1/initdb -A trust -D /data/db\"
            exec su postgres -c \"exec $1/postgres -D /data/db -k /tmp -c fsync=off\"";
        let ask = ["psql", "-h", "/tmp", "-U", "postgres", "-Atc", "select 6 * 7"];
        let image = GenericImage::new("postgres", "test").with_wait_for(WaitFor::healthcheck());
        let check = Healthcheck::cmd(ask).with_interval(Duration::from_millis(200)).with_retries(300);
        let database = confined(image).with_cmd(["sh", "-c", line]).with_health_check(check).start().unwrap();
        let mut answer =
            database.exec(ExecCommand::new(ask).with_cmd_ready_condition(CmdWaitFor::exit_code(0))).unwrap();
        assert_eq!(answer.stdout_to_vec().unwrap(), b"42\n");
        let log = String::from_utf8(database.stderr_to_vec().unwrap()).unwrap();
        assert!(log.contains("ready to accept connections"), "{log}");
    });
}
