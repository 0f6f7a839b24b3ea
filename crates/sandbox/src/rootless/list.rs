//! Who is in the namespaces of a state directory: `namespace`, one process a line, by number and start time. It is read
//! and written under a lock, so that two commands never make two namespaces.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Error;

/// Beyond that size the dead are taken off.
const LONG: usize = 16 << 10;

/// The list, locked.
pub(super) struct List {
    file: File,
    text: String,
}

impl List {
    /// Opens and locks it.
    pub(super) fn lock(state: &Path) -> Result<Self, Error> {
        let path = state.join("namespace");
        let step = |error: std::io::Error| Error::new(format!("lock {}", path.display()), error);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(step)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| step(errno.into()))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(step)?;
        Ok(List { file, text })
    }

    /// Those who live, the latest first: they are the likeliest to.
    pub(super) fn living(&self) -> impl Iterator<Item = OwnedFd> {
        self.text.lines().rev().filter_map(living)
    }

    /// Empties it.
    pub(super) fn clear(&mut self) -> Result<(), Error> {
        self.text.clear();
        self.file.set_len(0).map_err(|error| Error::new("empty the list of processes in the user namespace", error))
    }

    /// Adds the calling process.
    pub(super) fn add_myself(&mut self) -> Result<(), Error> {
        if self.text.len() > LONG {
            self.text =
                self.text.lines().filter(|line| living(line).is_some()).map(|line| format!("{line}\n")).collect();
        }
        let pid = std::process::id();
        self.text += &format!("{pid} {}\n", start_of(pid).unwrap_or(0));
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(self.text.as_bytes()));
        written
            .and_then(|()| self.file.set_len(self.text.len() as u64))
            .map_err(|error| Error::new("note the own process in the user namespace", error))
    }
}

/// The process of a line, if it is still the same one.
fn living(line: &str) -> Option<OwnedFd> {
    let (pid, start) = line.split_once(' ')?;
    let (pid, start): (u32, u64) = (pid.parse().ok()?, start.parse().ok()?);
    let pidfd = pidfd_open(Pid::from_raw(pid as i32)?, PidfdFlags::empty()).ok()?;
    // Only now is the number safe from reuse.
    (start_of(pid) == Some(start)).then_some(pidfd)
}

/// When a process began (field 22 of proc_pid_stat(5)); none for a zombie, which has no namespaces any more.
fn start_of(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lives_is_found_and_others_are_not() {
        let directory = tempfile::tempdir().unwrap();
        List::lock(directory.path()).unwrap().add_myself().unwrap();
        let path = directory.path().join("namespace");
        let mine = fs::read_to_string(&path).unwrap();
        let (pid, start) = mine.trim().split_once(' ').unwrap();
        fs::write(&path, format!("{mine}{pid} {}\n0 0\nx y\n4194304 7\n", start.parse::<u64>().unwrap() + 1)).unwrap();
        assert_eq!(List::lock(directory.path()).unwrap().living().count(), 1);
        fs::write(&path, format!("{pid} 1\n").repeat(4000)).unwrap();
        List::lock(directory.path()).unwrap().add_myself().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), mine);
    }
}
