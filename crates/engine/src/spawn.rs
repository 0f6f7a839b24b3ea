//! Starts the processes that outlive a command: monitors, and the keepers of the Engine API's execs. Both are this program
//! again, under its internal face.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::monitor::protocol::{self, Request};
use crate::status::RunLock;
use crate::{Context, Paths, Result, failpoint};

/// A monitor that waits to be told what to do. Dropped, it ends.
pub(crate) struct Monitor(OwnedFd);

impl Monitor {
    /// Starts a monitor. `apart`: the host's root has no id in its container.
    pub(crate) fn spawn(paths: &Paths, id: &str, apart: bool) -> Result<Self> {
        let near = own(paths, &[id], apart).step(|| "start the container's monitor".to_owned())?;
        failpoint::hit("start-monitor-spawned");
        Ok(Monitor(near))
    }

    /// Hands it the run lock and says what it is for; the socket on which its first answer will come.
    pub(crate) fn begin(self, lock: &RunLock, begin: &Request) -> Result<OwnedFd> {
        protocol::send(&self.0, begin, &[lock.as_fd()])?;
        failpoint::hit("start-handed-over");
        Ok(self.0)
    }
}

/// Starts the keeper of an exec; its socket, on which its answers will come.
pub(crate) fn keeper(paths: &Paths, id: &str, exec: &str, apart: bool) -> Result<OwnedFd> {
    own(paths, &[id, exec], apart).step(|| format!("start the keeper of exec {exec}"))
}

/// Runs `kiste monitor WORDS`; our end of the socket that is its standard input.
fn own(paths: &Paths, words: &[&str], apart: bool) -> Result<OwnedFd> {
    let (near, far) = protocol::pair()?;
    let executable = sandbox::executable(apart).step(|| "protect the own executable".to_owned())?;
    let child = Command::new(format!("/proc/self/fd/{}", executable.as_raw_fd()))
        .arg0("kiste")
        .arg("monitor")
        .arg("--root")
        .arg(&paths.root)
        .arg("--state")
        .arg(&paths.state)
        .args(words)
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"KISTE_")))
        .stdin(Stdio::from(far))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .step(|| "execute the own executable".to_owned())?;
    reap_later(child);
    Ok(near)
}

/// Monitors are our children as long as we live: those that have ended are reaped when the next one starts.
fn reap_later(child: Child) {
    static MONITORS: Mutex<Vec<Child>> = Mutex::new(Vec::new());
    let mut monitors = MONITORS.lock().unwrap_or_else(PoisonError::into_inner);
    monitors.retain_mut(|monitor| matches!(monitor.try_wait(), Ok(None)));
    monitors.push(child);
}
