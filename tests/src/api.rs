//! `kiste serve` over a world of its own, and its clients: the real docker command, and requests made byte by byte.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::process::{Output, finish, wait_until};
use crate::{Env, fixtures};

/// Longest that a client may take.
const LIMIT: Duration = Duration::from_secs(90);

/// A server; it is killed when dropped, as any server may be at any time.
pub struct Api<'e> {
    env: &'e Env,
    server: Child,
    socket: PathBuf,
    limited: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// `200` and so on.
    pub status: u16,
    /// Name (in lower case) and value.
    pub headers: Vec<(String, String)>,
    /// What followed, without the marks of its parts.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {} {}", self.status, self.text()))
    }

    /// A header's value; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

impl<'e> Api<'e> {
    /// Starts a server and waits until it answers.
    pub fn start(env: &'e Env) -> Self {
        Api::start_with(env, &[])
    }

    /// The same with more flags.
    pub fn start_with(env: &'e Env, flags: &[&str]) -> Self {
        Api::start_at(env, "docker.sock", "", flags)
    }

    /// A server beside others, whose socket has a name of its own and with `,confined` and the like limits: there
    /// containers get no parent cgroup, which they may not choose.
    pub fn start_at(env: &'e Env, name: &str, limits: &str, flags: &[&str]) -> Self {
        let socket = env.path(name);
        let mut command = env.command(&["serve", "-H", &format!("unix://{}{limits}", socket.display())]);
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::null());
        let server = command.spawn().expect("the server starts");
        let api = Api { env, server, socket, limited: !limits.is_empty() };
        wait_until("the server listens", Duration::from_secs(20), || api.connect_if_possible());
        api
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Kills the server and starts another one.
    pub fn restart(&mut self) {
        self.kill();
        let again = Api::start(self.env);
        let old = std::mem::replace(self, again);
        drop(old);
    }

    fn kill(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    fn connect_if_possible(&self) -> Option<UnixStream> {
        UnixStream::connect(&self.socket).ok()
    }

    /// A connection.
    pub fn connect(&self) -> UnixStream {
        let stream = self.connect_if_possible().expect("the server listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout can be set");
        stream
    }

    /// The docker command against this server; containers get the world's parent cgroup.
    pub fn docker_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(fixtures::client("usr/bin/docker"));
        match self.limited {
            true => command.args(arguments),
            false => command.args(self.env.arguments(arguments)),
        };
        self.point(&mut command);
        command
    }

    /// Points a Docker client at this server.
    pub fn point(&self, command: &mut Command) {
        command.env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", self.env.path("docker-config"));
        command.env_remove("DOCKER_CONTEXT");
    }

    /// `unix://…`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Runs the docker command.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> Output {
        finish(&mut self.docker_command(arguments), None, LIMIT)
    }

    /// Runs the docker command with standard input.
    #[track_caller]
    pub fn docker_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        finish(&mut self.docker_command(arguments), Some(input), LIMIT)
    }

    /// Runs the docker command; panics unless it succeeds; its output without the final newline.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        self.docker(arguments).ok().to_owned()
    }

    /// A request without a body.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// `POST` with a JSON body.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, &[("Content-Type", "application/json")], body.to_string().as_bytes())
    }

    /// Any request; the whole answer.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        let raw = self.exchange(&[head.as_bytes(), body].concat());
        parse(&raw).unwrap_or_else(|| panic!("{method} {path}: no answer: {:?}", String::from_utf8_lossy(&raw)))
    }

    /// Sends these bytes, no more, and reads what comes until the server closes.
    pub fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // The server may refuse before it has read everything.
        let _ = stream.write_all(bytes);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        all
    }
}

impl Drop for Api<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Takes an answer apart.
pub fn parse(raw: &[u8]) -> Option<Answer> {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { unchunk(&raw[end + 4..]) } else { raw[end + 4..].to_vec() };
    Some(Answer { status, headers, body })
}

fn unchunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(&String::from_utf8_lossy(&raw[..end]), 16).unwrap_or(0);
        let Some(part) = raw.get(end + 2..end + 2 + length).filter(|part| !part.is_empty()) else { break };
        body.extend_from_slice(part);
        raw = raw.get(end + 4 + length..).unwrap_or_default();
    }
    body
}
