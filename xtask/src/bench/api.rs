//! `cargo xtask bench api`: `kiste serve` beside dockerd (where `DOCKER_HOST` or the usual socket leads to one), the same
//! requests byte for byte: reading a list, whole lives of containers one after the other and 50 at once, and what the
//! server itself takes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::engines::World;
use super::memory::proportional_size;
use super::report::Table;
use crate::Result;

/// Containers in the list.
const CROWD: usize = 100;
/// Lives at once.
const AT_ONCE: usize = 50;
/// Reads and lives in each round.
const BURST: usize = 5;
/// Requests after which memory is looked at again.
const MANY: usize = 10_000;

/// A server under measurement.
struct Server {
    name: &'static str,
    socket: PathBuf,
    /// Its process, if it is ours to look into.
    pid: Option<u32>,
}

/// Ends with the measurement.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures; fewer rounds if `quick`.
pub(super) fn run(root: &Path, quick: bool) -> Result {
    let world = World::prepare(root)?;
    let engines = world.engines()?;
    let kiste = engines.first().ok_or("there is no kiste")?;
    let socket = world.directory().join("api.sock");
    let mut command = Command::new(&kiste.words()[0]);
    command.args(&kiste.words()[1..]).args(["serve", "-H", &format!("unix://{}", socket.display())]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let serving = Serving(child.map_err(|e| format!("kiste serve: {e}"))?);
    let mut servers = vec![Server { name: "kiste", socket, pid: Some(serving.0.id()) }];
    servers[0].wait()?;
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let docker = PathBuf::from(host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock"));
    if engines.iter().any(|engine| engine.name == "docker") {
        servers.push(Server { name: "docker", socket: docker, pid: None });
    }
    let rounds = if quick { 3 } else { 10 };
    let mut table = Table::new(servers.iter().map(|server| server.name.to_owned()).collect());
    let sizes = |servers: &[Server]| servers.iter().map(|server| server.pid.map(proportional_size_of)).collect();
    table.sizes("memory (PSS) of the server that has just begun", sizes(&servers));
    cycles(&servers, rounds, &mut table)?;
    lists(&servers, rounds, &mut table)?;
    for server in servers.iter().filter(|server| server.pid.is_some()) {
        (0..MANY).try_for_each(|_| server.ask("GET", "/containers/json", "", 200).map(drop))?;
    }
    table.sizes("memory (PSS) of the server after 10,000 requests more", sizes(&servers));
    print!("{}", table.markdown());
    Ok(())
}

fn proportional_size_of(pid: u32) -> u64 {
    proportional_size(&pid.to_string())
}

/// Whole lives: create, start, wait, remove.
fn cycles(servers: &[Server], rounds: usize, table: &mut Table) -> Result {
    let mut one = vec![Vec::new(); servers.len()];
    let mut many = vec![Vec::new(); servers.len()];
    for round in 0..rounds {
        for (at, server) in servers.iter().enumerate() {
            for index in 0..BURST {
                one[at].push(server.life(&format!("one-{round}-{index}"))?);
            }
            let start = Instant::now();
            std::thread::scope(|scope| {
                let life = |index: usize| move || server.life(&format!("many-{round}-{index}"));
                let threads: Vec<_> = (0..AT_ONCE).map(|index| scope.spawn(life(index))).collect();
                threads.into_iter().try_for_each(|thread| match thread.join() {
                    Ok(outcome) => outcome.map(drop),
                    Err(_) => Err("a thread panicked".to_owned()),
                })
            })?;
            many[at].push(start.elapsed());
        }
    }
    table.times("create, start, wait, remove", one);
    table.times("50 of these at once", many);
    Ok(())
}

fn lists(servers: &[Server], rounds: usize, table: &mut Table) -> Result {
    let names: Vec<String> = (0..CROWD).map(|index| format!("kiste-bench-list-{index}")).collect();
    for server in servers {
        names.iter().try_for_each(|name| server.begin(name, r#"["sleep","100000"]"#))?;
    }
    let mut times = vec![Vec::new(); servers.len()];
    for _ in 0..rounds {
        for (server, times) in servers.iter().zip(&mut times) {
            for _ in 0..BURST {
                let start = Instant::now();
                server.ask("GET", "/containers/json", "", 200)?;
                times.push(start.elapsed());
            }
        }
    }
    table.times("`GET /containers/json` with 100 running containers", times);
    for server in servers {
        let remove = |name: &String| server.ask("DELETE", &format!("/containers/{name}?force=1"), "", 204).map(drop);
        names.iter().try_for_each(remove)?;
    }
    Ok(())
}

impl Server {
    fn wait(&self) -> Result {
        let start = Instant::now();
        while UnixStream::connect(&self.socket).is_err() {
            if start.elapsed() > Duration::from_secs(10) {
                return Err(format!("{} does not listen", self.name));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn life(&self, name: &str) -> Result<Duration> {
        let name = format!("kiste-bench-{name}");
        let start = Instant::now();
        self.begin(&name, r#"["true"]"#)?;
        self.ask("POST", &format!("/containers/{name}/wait"), "", 200)?;
        self.ask("DELETE", &format!("/containers/{name}"), "", 204)?;
        Ok(start.elapsed())
    }

    fn begin(&self, name: &str, program: &str) -> Result {
        let body = format!(r#"{{"Image":"busybox:latest","Cmd":{program},"HostConfig":{{"NetworkMode":"none"}}}}"#);
        self.ask("POST", &format!("/containers/create?name={name}"), &body, 201)?;
        self.ask("POST", &format!("/containers/{name}/start"), "", 204)?;
        Ok(())
    }

    /// One request over a connection of its own; the answer.
    fn ask(&self, method: &str, path: &str, body: &str, status: u16) -> Result<String> {
        let failed = |e: std::io::Error| format!("{}: {method} {path}: {e}", self.name);
        let mut stream = UnixStream::connect(&self.socket).map_err(failed)?;
        let head = format!("{method} /v1.51{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        let more = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(format!("{head}{more}").as_bytes()).map_err(failed)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(failed)?;
        match answer.split(' ').nth(1) == Some(&status.to_string()) {
            true => Ok(answer),
            false => Err(format!("{}: {method} {path}: {answer}", self.name)),
        }
    }
}
