//! `cargo xtask bench network`: starts on a bridge, published ports, throughput and names, beside docker and podman. Servers
//! and clients stand in the containers' network namespaces, so that all engines' containers do the same.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kiste_tests::{Netns, neighbour, within};

use super::engines::{Engine, IMAGE, NAME, World};
use super::report::Table;
use super::{APART, interleaved};
use crate::{Result, process};

/// How often each thing is measured.
struct Effort {
    rounds: usize,
    parallel_rounds: usize,
    at_once: usize,
    /// Seconds of each transfer.
    seconds: &'static str,
    questions: usize,
}

const FULL: Effort = Effort { rounds: 15, parallel_rounds: 3, at_once: 64, seconds: "5", questions: 50_000 };
const QUICK: Effort = Effort { rounds: 5, parallel_rounds: 1, at_once: 64, seconds: "2", questions: 20_000 };

const NETWORK: &str = "kiste-bench-net";
/// The port of iperf3 servers, and where it is published.
const IPERF: (u16, &str) = (5201, "45201:5201");
const HTTP: (u16, &str) = (80, "45080:80");
/// Time between two questions for names: 10,000 a second.
const PACE: Duration = Duration::from_micros(100);

/// Measures everything; `--quick` with less effort.
pub(super) fn run(root: &Path, quick: bool) -> Result {
    let effort = if quick { QUICK } else { FULL };
    let world = World::prepare(root)?;
    let engines: Vec<Engine> = world.engines()?.into_iter().filter(Engine::whole).collect();
    let other = neighbour();
    for engine in &engines {
        drop(engine.quiet(&["network", "rm", NETWORK]));
        engine.quiet(&["network", "create", NETWORK])?;
    }
    let mut table = Table::new(engines.iter().map(|engine| engine.name.clone()).collect());
    starts(&engines, &effort, &mut table)?;
    at_once(&engines, &effort, &mut table)?;
    thousandth_port(&engines[0], engines.len(), &effort, &mut table)?;
    for (name, measure) in KINDS {
        let values = engines.iter().map(|engine| in_two(engine, |pids| measure(pids, &other, &effort)).map(Some));
        table.rates(name.0, values.collect::<Result<_>>()?, name.1);
    }
    names(&engines, &effort, &mut table)?;
    for engine in &engines {
        engine.quiet(&["network", "rm", NETWORK])?;
    }
    print!("{}", table.markdown());
    Ok(())
}

/// What is measured between containers and hosts, in which unit.
type Measure = fn(&[u32; 2], &Netns, &Effort) -> Result<f64>;
const KINDS: [((&str, &str), Measure); 4] = [
    (("TCP between two containers", "Gbit/s"), |pids, _, effort| {
        let _server = iperf_server(pids[0])?;
        let address = within(pids[0], own_address)?;
        iperf(nsenter(pids[1]), &address, IPERF.0, effort)
    }),
    (("TCP, host → published port", "Gbit/s"), |pids, _, effort| {
        let _server = iperf_server(pids[0])?;
        iperf(Command::new("iperf3"), "192.0.2.1", 45201, effort)
    }),
    (("TCP, other host → published port", "Gbit/s"), |pids, other, effort| {
        let _server = iperf_server(pids[0])?;
        iperf(other.command("iperf3", &[]), "192.0.2.1", 45201, effort)
    }),
    (("HTTP requests through a port published on the loopback", "1/s"), |pids, _, effort| {
        serve(pids[0])?;
        let url = format!("http://127.0.0.1:{}/", 45080);
        let mut command = Command::new("wrk");
        let text = process::output(command.args(["-t1", "-c16", &format!("-d{}s", effort.seconds), &url]))?;
        let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
        rate.and_then(|rate| rate.trim().parse().ok()).ok_or_else(|| format!("wrk: {text}"))
    }),
];

fn bridged<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--rm", "--network", NETWORK], more, &[IMAGE, "true"]].concat()
}

fn starts(engines: &[Engine], effort: &Effort, table: &mut Table) -> Result {
    let port = ["-p", "45000:80"];
    for engine in engines {
        engine.run_true()?;
        engine.timed(&bridged(&port))?;
    }
    let none = interleaved(engines, effort.rounds, |engine| {
        std::thread::sleep(APART);
        Ok(vec![engine.run_true()?])
    })?;
    table.times("`run --rm --network none IMAGE true`, 200 ms apart", none);
    let bridge = interleaved(engines, effort.rounds, |engine| {
        std::thread::sleep(APART);
        Ok(vec![engine.timed(&bridged(&port))?])
    })?;
    table.times("the same on a bridge with names and a published port", bridge);
    Ok(())
}

fn at_once(engines: &[Engine], effort: &Effort, table: &mut Table) -> Result {
    let times = interleaved(engines, effort.parallel_rounds, |engine| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let run = |index: usize| {
                let name = format!("{NAME}{index}");
                engine.timed(&["run", "-d", "--network", NETWORK, "--name", &name, IMAGE, "sleep", "100000"])
            };
            let threads: Vec<_> = (0..effort.at_once).map(|index| scope.spawn(move || run(index))).collect();
            let mut ended = threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned()));
            ended.try_for_each(|result| result?.map(drop))
        })?;
        let took = start.elapsed();
        engine.remove_all()?;
        Ok(vec![took])
    })?;
    table.times(&format!("{} × `run -d` on a bridge at once", effort.at_once), times);
    Ok(())
}

/// The cost of a published port does not depend on how many others there are. Measured for Kiste only: peers start up to
/// two processes for each.
fn thousandth_port(kiste: &Engine, columns: usize, effort: &Effort, table: &mut Table) -> Result {
    let row = |times: Vec<Duration>| {
        let mut row = vec![Vec::new(); columns];
        row[0] = times;
        row
    };
    let measure = || -> Result<Vec<Duration>> {
        (0..effort.rounds * 2).map(|_| kiste.timed(&bridged(&["-p", "45000:80"]))).collect()
    };
    table.times("a start with the first published port, back to back", row(measure()?));
    let name = format!("{NAME}many");
    let many = ["-p", "20000-20998:20000-20998", "--name", &name];
    kiste.timed(&[&["run", "-d", "--network", NETWORK], &many[..], &[IMAGE, "sleep", "100000"]].concat())?;
    table.times("a start with the 1,000th", row(measure()?));
    kiste.remove_all()
}

/// Measures with two containers that run, one of which publishes ports.
fn in_two<T>(engine: &Engine, measure: impl FnOnce(&[u32; 2]) -> Result<T>) -> Result<T> {
    let names = [0, 1].map(|index| format!("{NAME}{index}"));
    let start = |name: &str, ports: &[&str]| {
        let idle = [IMAGE, "sleep", "100000"];
        engine.quiet(&[&["run", "-d", "--network", NETWORK, "--name", name], ports, &idle].concat())
    };
    start(&names[0], &["-p", IPERF.1, "-p", HTTP.1])?;
    start(&names[1], &[])?;
    let pid = |name: &str| -> Result<u32> {
        let pid = engine.quiet(&["inspect", "-f", "{{.State.Pid}}", name])?;
        pid.trim().parse().map_err(|_| format!("pid of {name}: {pid:?}"))
    };
    let measured = measure(&[pid(&names[0])?, pid(&names[1])?]);
    engine.remove_all()?;
    measured
}

/// The address of the present namespace that leads out.
fn own_address() -> Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("192.0.2.1:9").map(|()| socket));
    let address = socket.and_then(|socket| socket.local_addr()).map_err(|e| format!("own address: {e}"))?;
    Ok(address.ip().to_string())
}

/// A server that ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nsenter(pid: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.args([&format!("--net=/proc/{pid}/ns/net"), "iperf3"]);
    command
}

fn iperf_server(pid: u32) -> Result<Server> {
    let mut command = nsenter(pid);
    command.arg("-s").stdin(Stdio::null()).stdout(Stdio::null());
    let server = Server(command.spawn().map_err(|e| format!("iperf3: {e}"))?);
    let listens = || within(pid, || TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], IPERF.0))).is_ok());
    let deadline = Instant::now() + Duration::from_secs(5);
    while !listens() {
        if Instant::now() > deadline {
            return Err("iperf3 does not listen".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(server)
}

/// Billions of bits a second.
fn iperf(mut command: Command, address: &str, port: u16, effort: &Effort) -> Result<f64> {
    let text = process::output(command.args(["-c", address, "-p", &port.to_string(), "-t", effort.seconds, "-J"]))?;
    let report: serde_json::Value = serde_json::from_str(&text).map_err(|e| format!("iperf3: {e}: {text}"))?;
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64();
    rate.map(|rate| rate / 1e9).ok_or_else(|| format!("iperf3: {text}"))
}

/// Answers requests in a container for as long as it lives, with a thread for each connection.
fn serve(pid: u32) -> Result {
    let listener = within(pid, || TcpListener::bind(("0.0.0.0", HTTP.0))).map_err(|e| format!("listen: {e}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream) {
    let mut request = [0; 4096];
    while stream.read(&mut request).is_ok_and(|length| length > 0) {
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n").is_err() {
            return;
        }
    }
}

/// Questions for the other container's name, 10,000 a second, to the server in `/etc/resolv.conf`.
fn names(engines: &[Engine], effort: &Effort, table: &mut Table) -> Result {
    let mut medians = Vec::new();
    let mut slowest = Vec::new();
    for engine in engines {
        let mut times = in_two(engine, |pids| {
            let server = name_server(pids[1])?;
            let question = question(&format!("{NAME}0"));
            within(pids[1], || ask(&server, &question, effort.questions))
        })?;
        times.sort_unstable();
        let at = |part: usize| vec![times[times.len() * part / 100]];
        medians.push(at(50));
        slowest.push(at(99));
    }
    table.times("answer to a question for a name, 10,000 a second: median", medians);
    table.times("the 99th of 100", slowest);
    Ok(())
}

fn name_server(pid: u32) -> Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/root/etc/resolv.conf")).map_err(|e| e.to_string())?;
    let server = text.lines().find_map(|line| line.strip_prefix("nameserver "));
    server.map(|server| format!("{server}:53")).ok_or_else(|| format!("no name server in {text:?}"))
}

/// A question for an IPv4 address (RFC 1035).
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8];
    message.extend(name.as_bytes());
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn ask(server: &str, question: &[u8], count: usize) -> Result<Vec<Duration>> {
    let io = |e: std::io::Error| format!("ask {server}: {e}");
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(io)?;
    socket.connect(server).and_then(|()| socket.set_read_timeout(Some(Duration::from_secs(5)))).map_err(io)?;
    let mut times = Vec::with_capacity(count);
    let mut next = Instant::now();
    for _ in 0..count {
        while Instant::now() < next {
            std::hint::spin_loop();
        }
        let start = Instant::now();
        socket.send(question).and_then(|_| socket.recv(&mut [0; 512])).map_err(io)?;
        times.push(start.elapsed());
        next = (next + PACE).max(Instant::now() - PACE * 10);
    }
    Ok(times)
}
