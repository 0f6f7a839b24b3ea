//! A network namespace for each test, so that bridges, firewall rules and published ports never touch the machine's own
//! network nor another test's. A thread that has entered one stays in it; what it starts is born there.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::finish;

/// A network namespace with a loopback device, for as long as this or anything in it lives.
pub struct Netns {
    keeper: Child,
    handle: File,
}

impl Netns {
    /// A new one. The calling thread stays where it is.
    #[allow(clippy::new_without_default, reason = "it touches the machine")]
    pub fn new() -> Self {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo ready && read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Debian's packages util-linux and iproute2 are installed");
        let mut line = String::new();
        let output = keeper.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("the keeper of the namespace answers");
        assert_eq!(line, "ready\n", "a new network namespace");
        let handle = File::open(format!("/proc/{}/ns/net", keeper.id())).expect("the namespace has a handle");
        Netns { keeper, handle }
    }

    /// Moves the calling thread into it, for good.
    pub fn enter(&self) {
        move_into_link_name_space(self.handle.as_fd(), Some(LinkNameSpaceType::Network)).expect("a namespace to join");
    }

    /// What `work` returns that is done in it: sockets that it opens stay there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        within(self.keeper.id(), work)
    }

    /// A command that runs in it.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.keeper.id())).arg(program).args(arguments);
        command
    }

    /// The number of the process by which others name it.
    pub fn pid(&self) -> u32 {
        self.keeper.id()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Some(mut input) = self.keeper.stdin.take() {
            let _ = input.write_all(b"\n");
        }
        let _ = self.keeper.wait();
    }
}

/// Another host, 192.0.2.2 and 2001:db8::2, on a wire with the one of the calling thread, 192.0.2.1 and 2001:db8::1.
pub fn neighbour() -> Netns {
    let other = Netns::new();
    let pid = other.pid().to_string();
    let own = |line: &str| ip(&mut Command::new("ip"), line);
    own(&format!("link add wire0 type veth peer name eth0 netns {pid}"));
    own("addr add 192.0.2.1/24 dev wire0");
    own("-6 addr add 2001:db8::1/64 dev wire0 nodad");
    own("link set wire0 up");
    for line in ["addr add 192.0.2.2/24 dev eth0", "-6 addr add 2001:db8::2/64 dev eth0 nodad", "link set eth0 up"] {
        ip(&mut other.command("ip", &[]), line);
    }
    other
}

fn ip(command: &mut Command, line: &str) {
    finish(command.args(line.split(' ')), None, Duration::from_secs(10)).ok();
}

/// What `work` returns that is done in the network namespace of a process, by a thread that ends with it.
pub fn within<T: Send>(pid: u32, work: impl FnOnce() -> T + Send) -> T {
    let handle = File::open(format!("/proc/{pid}/ns/net")).expect("the namespace has a handle");
    let enter = || move_into_link_name_space(handle.as_fd(), Some(LinkNameSpaceType::Network));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter().expect("a namespace to join");
            work()
        });
        thread.join().expect("the work in another namespace")
    })
}

/// Moves the calling thread into a namespace of its own, unless it is in one: threads that a test starts are born in the
/// test's.
pub(crate) fn isolate() {
    static MACHINE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let present = std::fs::read_link("/proc/thread-self/ns/net").ok();
    if *MACHINE.get_or_init(|| present.clone()) == present {
        // The thread keeps it alive when the keeper goes.
        Netns::new().enter();
    }
}

/// Devices of the calling thread's namespace that belong to containers.
pub(crate) fn devices() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let names = table.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    names.filter(|name| name.starts_with("veth")).map(|name| format!("device {name}")).collect()
}
