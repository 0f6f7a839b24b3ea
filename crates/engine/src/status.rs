//! What is true of a container's present run: `status.json`, written by its monitor alone, and `lock`, held by whoever
//! is responsible for the run: first the command that starts it, then its monitor (the lock is handed over as an open
//! descriptor, so it is never free in between). Deciding what to do about a free lock is left to `reconcile`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::model::{Health, Status};
use crate::{Context, Error, Paths, Result};

/// For hooks, beside `status.json`: the OCI configuration, and where the root file system is while they run.
pub(crate) const CONFIGURATION: &str = "config.json";
pub(crate) const ROOTFS: &str = "rootfs";

/// The volatile truth of one run. Times are nanoseconds since 1970; zero: not yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunStatus {
    /// `created` until the program is executed, then `running`, `paused`, `restarting` or, at the very end, `exited`.
    pub status: Status,
    /// The container's first process as the host numbers it; 0: none now.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`): with `pid` its identity.
    pub pid_start: u64,
    /// The monitor that wrote this.
    pub monitor_pid: i32,
    /// When the program was executed.
    pub started_at: i64,
    /// When the last process ended.
    pub finished_at: i64,
    /// Exit code of the last process: 128 + signal where one killed it.
    pub exit_code: i32,
    /// The kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// Why the start failed.
    pub error: String,
    /// Restarts by policy in this run.
    pub restart_count: u32,
    /// A user asked for the end, so no policy restarts it.
    pub manually_stopped: bool,
    /// Result of the health checks, where one is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Inode numbers of the output pipes, by which an adopting monitor finds them again; 0: none.
    pub pipes: [u64; 2],
}

impl RunStatus {
    /// Whether the process on record still lives (and is not another one with its number).
    pub fn process_alive(&self) -> bool {
        self.pid > 0 && linux::process::start_time(self.pid) == Some(self.pid_start)
    }
}

/// Who looks after a container's run.
#[derive(Clone, Debug, PartialEq)]
pub enum Liveness {
    /// A monitor, or a command that is about to start one.
    Monitored(Option<RunStatus>),
    /// Nobody, but the process lives: it can be adopted.
    Orphaned(RunStatus),
    /// Nobody, and nothing lives.
    Over(Option<RunStatus>),
}

impl Liveness {
    /// The status on record, whoever looks after it.
    pub fn status(&self) -> Option<&RunStatus> {
        match self {
            Liveness::Monitored(status) | Liveness::Over(status) => status.as_ref(),
            Liveness::Orphaned(status) => Some(status),
        }
    }
}

/// Looks at a container's run without changing anything.
pub fn liveness(paths: &Paths, id: &str) -> Liveness {
    let held = is_held(paths, id);
    let status = read(paths, id);
    match status {
        _ if held => Liveness::Monitored(status),
        Some(status) if status.process_alive() => Liveness::Orphaned(status),
        _ => Liveness::Over(status),
    }
}

/// The status on record; none if the container has not run since boot, or the file is damaged.
pub fn read(paths: &Paths, id: &str) -> Option<RunStatus> {
    serde_json::from_slice(&fs::read(paths.container_state(id).join("status.json")).ok()?).ok()
}

/// Replaces the status on record in one step. The state directory lives in memory: nothing is synced.
pub fn write(paths: &Paths, id: &str, status: &RunStatus) -> Result<()> {
    let directory = paths.container_state(id);
    let new = directory.join("status.json.new");
    let json = serde_json::to_vec(status).step(|| format!("encode the status of {id}"))?;
    write_private(&new, &json).step(|| format!("write {}", new.display()))?;
    fs::rename(&new, directory.join("status.json")).step(|| format!("rename {}", new.display()))
}

/// Writes a file that only its owner may read: a plan has the container's environment, secrets included.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}

/// The wait status of a zombie that started at that time; none for everything else.
pub(crate) fn zombie_status(pid: i32, start: u64) -> Option<i32> {
    let fields = stat_fields(pid)?;
    let ours = fields.first()? == "Z" && fields.get(19)?.parse() == Ok(start);
    if ours { fields.get(49)?.parse().ok() } else { None }
}

/// The fields of `/proc/PID/stat` from the third (the state) on, see proc_pid_stat(5).
fn stat_fields(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may itself contain spaces and parentheses.
    Some(stat[stat.rfind(')')? + 1..].split_ascii_whitespace().map(str::to_owned).collect())
}

/// Responsibility for a container's run. Held by one process at a time; gone with its last descriptor.
#[derive(Debug)]
pub struct RunLock(OwnedFd);

impl RunLock {
    /// Takes responsibility if nobody has it. Makes the container's state directory where needed.
    pub fn try_take(paths: &Paths, id: &str) -> Result<Option<Self>> {
        loop {
            let file = open_lock(paths, id)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_current(paths, id, &file) => return Ok(Some(RunLock(file))),
                Ok(()) => {}
                // Someone who only looks (`is_held`) holds a shared lock for a moment: that is nobody.
                Err(Errno::WOULDBLOCK) => match flock(&file, FlockOperation::NonBlockingLockShared) {
                    Ok(()) => std::thread::yield_now(),
                    Err(_) => return Ok(None),
                },
                Err(errno) => return Err(lock_error(paths, id, errno.into())),
            }
        }
    }

    /// Takes responsibility, waiting for whoever has it.
    pub fn take(paths: &Paths, id: &str) -> Result<Self> {
        loop {
            let file = open_lock(paths, id)?;
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) if is_current(paths, id, &file) => return Ok(RunLock(file)),
                Ok(()) | Err(Errno::INTR) => {}
                Err(errno) => return Err(lock_error(paths, id, errno.into())),
            }
        }
    }

    /// Whether the run is still its holder's: somebody may have removed the state directory, and then another command has
    /// taken the run for lost.
    pub(crate) fn is_current(&self, paths: &Paths, id: &str) -> bool {
        is_current(paths, id, &self.0)
    }

    /// A lock that another process handed over.
    pub(crate) fn from_handover(descriptor: OwnedFd) -> Self {
        RunLock(descriptor)
    }
}

impl AsFd for RunLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether someone is responsible for the container's run.
pub fn is_held(paths: &Paths, id: &str) -> bool {
    let path = paths.container_state(id).join("lock");
    let Ok(file) = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

fn open_lock(paths: &Paths, id: &str) -> Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let directory = paths.container_state(id);
    let open = || {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join("lock"))
    };
    let file = open().or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        crate::make_directory(&directory).map_err(|error| io::Error::other(error.message))?;
        open()
    });
    file.map(OwnedFd::from).map_err(|error| lock_error(paths, id, error))
}

/// Whether the locked file is still the one at its path: `rm` may have removed it while we waited.
fn is_current(paths: &Paths, id: &str, file: &OwnedFd) -> bool {
    let path = paths.container_state(id).join("lock");
    let (Ok(ours), Ok(theirs)) = (rustix::fs::fstat(file), fs::metadata(path)) else { return false };
    (ours.st_dev, ours.st_ino) == (theirs.dev(), theirs.ino())
}

fn lock_error(paths: &Paths, id: &str, error: io::Error) -> Error {
    Error::internal(format!("lock {}: {error}", paths.container_state(id).join("lock").display()))
        .hinted("the state directory must be writable; see --state")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(directory: &tempfile::TempDir) -> Paths {
        Paths { root: directory.path().join("root"), state: directory.path().join("state") }
    }

    #[test]
    fn only_one_is_responsible() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(&directory);
        assert!(!is_held(&paths, "a"));
        let lock = RunLock::try_take(&paths, "a").unwrap().expect("free");
        assert!(is_held(&paths, "a"));
        assert!(RunLock::try_take(&paths, "a").unwrap().is_none());
        drop(lock);
        assert!(RunLock::try_take(&paths, "a").unwrap().is_some());
    }

    #[test]
    fn a_lock_survives_its_taker_when_handed_over() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(&directory);
        let lock = RunLock::try_take(&paths, "a").unwrap().expect("free");
        let copy = RunLock::from_handover(rustix::io::fcntl_dupfd_cloexec(&lock, 0).unwrap());
        drop(lock);
        assert!(is_held(&paths, "a"));
        drop(copy);
        assert!(!is_held(&paths, "a"));
    }

    #[test]
    fn a_zombie_is_dead_and_has_a_code() {
        let mut child = std::process::Command::new("/bin/sh");
        let mut child = child.args(["-c", "read line; exit 7"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id() as i32;
        let start = linux::process::start_time(pid).unwrap();
        assert_eq!(zombie_status(pid, start), None);
        drop(child.stdin.take());
        let code = std::iter::repeat_with(|| zombie_status(pid, start)).find_map(|code| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            code
        });
        assert_eq!(code.map(linux::pidfd::exit_code), Some(7));
        assert_eq!(linux::process::start_time(pid), None);
        child.wait().unwrap();
    }

    #[test]
    fn own_process_is_alive_and_another_start_time_is_not() {
        let pid = std::process::id() as i32;
        let status = RunStatus { pid, pid_start: linux::process::start_time(pid).unwrap(), ..RunStatus::default() };
        assert!(status.process_alive());
        assert!(!RunStatus { pid_start: 1, ..status }.process_alive());
    }
}
