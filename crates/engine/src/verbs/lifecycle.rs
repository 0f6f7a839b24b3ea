//! The verbs that end, freeze or await a running container, each by way of its monitor.

use crate::{Engine, Result};

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// Not running (returns at once for a container that has ended or never ran).
    #[default]
    NotRunning,
    /// The next time that it ends.
    NextExit,
    /// It is gone.
    Removed,
}

impl Engine {
    /// Sends the stop signal, and SIGKILL after `timeout` seconds (absent: the container's; negative: never).
    /// `NotModified` if it does not run.
    pub fn stop(&self, _name: &str, _signal: Option<&str>, _timeout: Option<i64>) -> Result<()> {
        todo!()
    }

    /// `stop` and `start`.
    pub fn restart(&self, _name: &str, _signal: Option<&str>, _timeout: Option<i64>) -> Result<()> {
        todo!()
    }

    /// Sends a signal (name with or without `SIG`, or number; absent: KILL) to the container's first process.
    pub fn kill(&self, _name: &str, _signal: Option<&str>) -> Result<()> {
        todo!()
    }

    /// Freezes every process of the container.
    pub fn pause(&self, _name: &str) -> Result<()> {
        todo!()
    }

    /// Thaws a paused container.
    pub fn unpause(&self, _name: &str) -> Result<()> {
        todo!()
    }

    /// Waits; the exit code.
    pub fn wait(&self, _name: &str, _condition: WaitCondition) -> Result<i32> {
        todo!()
    }

    /// Sets the size of the container's terminal.
    pub fn resize(&self, _name: &str, _rows: u16, _columns: u16) -> Result<()> {
        todo!()
    }
}
