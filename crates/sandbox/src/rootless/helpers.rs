//! The maps of a namespace with more ids than the user's own: written by `newuidmap` and `newgidmap`, which must be
//! called from outside of the namespace, by a short-lived copy of this process.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use linux::clone::{Child, Clone};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::Error;
use super::ids::{Range, Ranges, find};

/// The copy that stays outside.
pub(super) struct Helper {
    child: Child,
    socket: UnixStream,
}

impl Helper {
    /// Starts it; it waits to be told what to do.
    pub(super) fn start() -> io::Result<Self> {
        let (socket, other) = UnixStream::pair()?;
        let parent = std::process::id();
        let child = Clone::default().spawn(|| serve(&socket, other, parent))?;
        Ok(Helper { child, socket })
    }

    /// Has the maps of this process written: 0 is the user, then come all further ids.
    pub(super) fn map(mut self, ranges: &Ranges, user: u32, group: u32) -> Result<(), Error> {
        let order = format!("{}\n{}\n", arguments(user, &ranges.users), arguments(group, &ranges.groups));
        let mut answer = String::new();
        let told = self.socket.write_all(order.as_bytes()).and_then(|()| self.socket.shutdown(Shutdown::Write));
        let heard = told.and_then(|()| self.socket.read_to_string(&mut answer));
        use std::os::fd::AsFd;
        let _ = waitid(WaitId::PidFd(self.child.pidfd.as_fd()), WaitIdOptions::EXITED);
        let hint = "look at /etc/subuid and /etc/subgid; newuidmap and newgidmap must be setuid root or have file capabilities";
        match heard {
            Ok(_) if answer == DONE => Ok(()),
            Ok(_) => Err(Error::new("map subordinate ids", answer.trim()).hinted(hint)),
            Err(error) => Err(Error::new("map subordinate ids", error)),
        }
    }
}

const DONE: &str = "done";

/// What the copy does: reads the arguments of both programs, calls them, says how it went.
fn serve(parents: &UnixStream, mut socket: UnixStream, parent: u32) -> i32 {
    // A copy of the parent's socket would keep it from seeing that the parent has said everything.
    let _ = linux::process::close_range(raw(parents), raw(parents));
    let mut order = String::new();
    if socket.read_to_string(&mut order).is_err() || order.is_empty() {
        return 1;
    }
    let programs = ["newuidmap", "newgidmap"].into_iter().zip(order.lines());
    let failure = programs.map(|(program, arguments)| call(program, parent, arguments)).find_map(Result::err);
    let _ = socket.write_all(failure.as_deref().unwrap_or(DONE).as_bytes());
    i32::from(failure.is_some())
}

fn raw(socket: &UnixStream) -> i32 {
    use std::os::fd::AsRawFd;
    socket.as_raw_fd()
}

fn call(program: &str, pid: u32, arguments: &str) -> Result<(), String> {
    let path = find(program).ok_or_else(|| format!("{program} is missing"))?;
    let mut command = Command::new(path);
    command.arg(pid.to_string()).args(arguments.split(' ')).stdin(Stdio::null()).stdout(Stdio::null());
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {pid} {arguments}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// The map as the programs take it: inside, outside, count for each range, without gaps inside.
fn arguments(own: u32, ranges: &[Range]) -> String {
    let mut words = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
    let mut inside = 1;
    for (first, count) in ranges {
        words.extend([inside, *first, *count].map(|number| number.to_string()));
        inside += count;
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_each_other() {
        assert_eq!(arguments(1000, &[(100_000, 65536), (300_000, 10)]), "0 1000 1 1 100000 65536 65537 300000 10");
    }
}
