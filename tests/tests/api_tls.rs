//! The Engine API over TCP with certificates on both sides, and on sockets that systemd opens.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kiste_tests::{Env, Output, finish, fixtures, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

/// A server that is killed when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn openssl(directory: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    finish(command.args(arguments.split(' ')).current_dir(directory), None, LIMIT).ok();
}

/// An authority in `directory`, and what it signed for the server and for a client.
fn certificates(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(directory, &format!("req -x509 {curve} -subj /CN=authority -days 2 -keyout ca-key.pem -out ca.pem"));
    for (name, use_for) in [("server", "serverAuth"), ("client", "clientAuth")] {
        std::fs::write(
            directory.join("extensions"),
            format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={use_for}\n"),
        )
        .unwrap();
        openssl(directory, &format!("req {curve} -subj /CN={name} -keyout {name}-key.pem -out {name}.csr"));
        openssl(
            directory,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile extensions -out {name}.pem"
            ),
        );
    }
    std::fs::copy(directory.join("client.pem"), directory.join("cert.pem")).unwrap();
    std::fs::copy(directory.join("client-key.pem"), directory.join("key.pem")).unwrap();
}

/// The docker command over TLS, with the certificates of a directory.
#[track_caller]
fn docker(env: &Env, port: u16, certificates: &Path, arguments: &[&str], input: Option<&[u8]>) -> Output {
    let mut command = Command::new(fixtures::client("usr/bin/docker"));
    command.env("DOCKER_HOST", format!("tcp://127.0.0.1:{port}")).env("DOCKER_TLS_VERIFY", "1");
    command.env("DOCKER_CERT_PATH", certificates).env("DOCKER_CONFIG", env.path("docker-config"));
    command.args(env.arguments(arguments));
    finish(&mut command, input, LIMIT)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn docker_speaks_tls_and_strangers_are_refused() {
    let env = Env::with_busybox();
    let (own, foreign) = (env.path("certificates"), env.path("foreign"));
    certificates(&own);
    certificates(&foreign);
    let port = free_port();
    let mut command = env.command(&["serve", "-H", &format!("tcp://127.0.0.1:{port}"), "--tlsverify"]);
    for (flag, file) in [("--tlscacert", "ca.pem"), ("--tlscert", "server.pem"), ("--tlskey", "server-key.pem")] {
        command.arg(flag).arg(own.join(file));
    }
    let _server = Server(command.stdin(Stdio::null()).spawn().unwrap());
    wait_until("the server listens", LIMIT, || TcpStream::connect(("127.0.0.1", port)).ok());
    assert_eq!(docker(&env, port, &own, &["run", "--rm", "busybox", "echo", "x"], None).ok(), "x");
    // Input and its end reach through, and the streams stay apart.
    let echoed = docker(
        &env,
        port,
        &own,
        &["run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 3"],
        Some(b"typed"),
    );
    assert_eq!((echoed.code(), echoed.stdout.as_str(), echoed.stderr.as_str()), (3, "typed", "err\n"));
    docker(&env, port, &own, &["run", "-d", "--name", "web", "busybox", "sleep", "1000"], None).ok();
    assert_eq!(docker(&env, port, &own, &["exec", "-i", "web", "cat"], Some(b"typed")).ok(), "typed");
    // A client with another authority's certificate, and one without any.
    std::fs::copy(own.join("ca.pem"), foreign.join("ca.pem")).unwrap();
    let refused = docker(&env, port, &foreign, &["ps"], None);
    assert_ne!(refused.code(), 0, "{refused:#?}");
    std::fs::remove_file(foreign.join("cert.pem")).unwrap();
    std::fs::remove_file(foreign.join("key.pem")).unwrap();
    assert_ne!(docker(&env, port, &foreign, &["ps"], None).code(), 0);
    let plain = finish(
        Command::new(fixtures::client("usr/bin/docker"))
            .env("DOCKER_HOST", format!("tcp://127.0.0.1:{port}"))
            .env("DOCKER_CONFIG", env.path("docker-config"))
            .arg("ps"),
        None,
        LIMIT,
    );
    assert_ne!(plain.code(), 0, "{plain:#?}");
}

#[test]
fn wrong_files_are_named() {
    let env = Env::new();
    let own = env.path("certificates");
    certificates(&own);
    let file = |name: &str| own.join(name).to_str().unwrap().to_owned();
    let serve = |authority: &str, key: &str| {
        env.kiste(&[
            "serve",
            "-H",
            "tcp://127.0.0.1:0",
            "--tlsverify",
            "--tlscacert",
            authority,
            "--tlscert",
            &file("server.pem"),
            "--tlskey",
            key,
        ])
    };
    serve(&file("none.pem"), &file("server-key.pem")).fails(1, &["none.pem"]);
    serve(&file("ca-key.pem"), &file("server-key.pem")).fails(1, &["ca-key.pem", "no certificate"]);
    serve(&file("ca.pem"), &file("ca-key.pem")).fails(1, &["server.pem"]);
    env.kiste(&["serve", "-H", "tcp://127.0.0.1:0", "--tlsverify"]).fails(1, &["--tlsverify needs"]);
}

#[test]
fn systemd_hands_its_sockets_over_and_hears_that_all_is_ready() {
    let env = Env::new();
    let (socket, notify) = (env.path("activated.sock"), env.path("notify.sock"));
    let heard = UnixDatagram::bind(&notify).unwrap();
    heard.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command = Command::new("systemd-socket-activate");
    command.arg("--listen").arg(&socket).args([
        "--fdname",
        "api",
        "-E",
        "NOTIFY_SOCKET",
        "-E",
        "KISTE_ROOT",
        "-E",
        "KISTE_STATE",
    ]);
    env.prepare(&mut command);
    command.env("NOTIFY_SOCKET", &notify).arg(fixtures::kiste()).args(["serve", "-H", "fd://api,read-only"]);
    let _server = Server(command.stdin(Stdio::null()).spawn().unwrap());
    let host = format!("unix://{}", socket.display());
    wait_until("systemd listens", LIMIT, || UnixStream::connect(&socket).ok());
    let docker = |arguments: &[&str]| {
        let mut command = Command::new(fixtures::client("usr/bin/docker"));
        command.env("DOCKER_HOST", &host).env("DOCKER_CONFIG", env.path("docker-config"));
        finish(command.args(arguments), None, LIMIT)
    };
    assert_eq!(docker(&["ps", "-q"]).ok(), "");
    docker(&["volume", "create", "x"]).fails(1, &["not allowed here: this socket is read-only"]);
    let mut message = [0; 64];
    let length = heard.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1");
    env.kiste(&["serve", "-H", "fd://"]).fails(1, &["systemd has handed over no such socket"]);
}
