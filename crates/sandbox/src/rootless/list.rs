//! Who is in namespaces that no process waits to keep: a file with one process a line, by number and start time. It is
//! read and written under a lock, so that two commands never make the namespaces twice.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use linux::process::start_time;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::Error;

/// Beyond that size the dead are taken off.
const LONG: usize = 16 << 10;

/// Such a list, locked.
pub struct List {
    file: File,
    text: String,
}

impl List {
    /// Opens and locks it.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn lock(path: &Path) -> Result<Self, Error> {
        let step = |error: std::io::Error| Error::new(format!("lock {}", path.display()), error);
        let mut file = OpenOptions::new()
            .mode(0o600)
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(step)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| step(errno.into()))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(step)?;
        Ok(List { file, text })
    }

    /// Those who live, the latest first: they are the likeliest to.
    pub fn living(&self) -> impl Iterator<Item = OwnedFd> {
        self.text.lines().rev().filter_map(living)
    }

    /// Empties it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.text.clear();
        self.file.set_len(0).map_err(|error| Error::new("empty the list of processes in a namespace", error))
    }

    /// Takes the calling process off; whether nobody who lives is left.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn remove_myself(&mut self) -> Result<bool, Error> {
        let own = format!("{} ", std::process::id());
        self.text = self.others(|line| !line.starts_with(&own));
        self.write()?;
        Ok(self.text.is_empty())
    }

    /// Adds the calling process.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn add_myself(&mut self) -> Result<(), Error> {
        if self.text.len() > LONG {
            self.text = self.others(|_| true);
        }
        let pid = std::process::id();
        self.text += &format!("{pid} {}\n", start_time(pid as i32).unwrap_or(0));
        self.write()
    }

    /// The lines of those who live and `keep` says so.
    fn others(&self, keep: impl Fn(&str) -> bool) -> String {
        let lines = self.text.lines().filter(|line| keep(line) && living(line).is_some());
        lines.map(|line| format!("{line}\n")).collect()
    }

    fn write(&mut self) -> Result<(), Error> {
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(self.text.as_bytes()));
        written
            .and_then(|()| self.file.set_len(self.text.len() as u64))
            .map_err(|error| Error::new("write the list of processes in a namespace", error))
    }
}

/// The process of a line, if it is still the same one.
fn living(line: &str) -> Option<OwnedFd> {
    let (pid, start) = line.split_once(' ')?;
    let (pid, start): (i32, u64) = (pid.parse().ok()?, start.parse().ok()?);
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Only now is the number safe from reuse.
    (start_time(pid) == Some(start)).then_some(pidfd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn who_lives_is_found_and_others_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("namespace");
        List::lock(&path).unwrap().add_myself().unwrap();
        let mine = fs::read_to_string(&path).unwrap();
        let (pid, start) = mine.trim().split_once(' ').unwrap();
        fs::write(&path, format!("{mine}{pid} {}\n0 0\nx y\n4194304 7\n", start.parse::<u64>().unwrap() + 1)).unwrap();
        assert_eq!(List::lock(&path).unwrap().living().count(), 1);
        fs::write(&path, format!("{pid} 1\n").repeat(4000)).unwrap();
        List::lock(&path).unwrap().add_myself().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), mine);
    }
}
