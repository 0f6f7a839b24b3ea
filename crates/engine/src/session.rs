//! A live connection to a process in a container: its streams as plain descriptors and a control channel. `run`,
//! `start -a` and `attach` get one from the container's monitor, `exec` one for a process of its own. Copying bytes
//! between the streams and a terminal or an HTTP connection is the face's business.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::Result;

/// Streams and control of one process.
pub struct Session {
    /// Write end of standard input, if it is connected. Closing it is the end of input (not with a terminal).
    pub stdin: Option<OwnedFd>,
    /// Read end of standard output; with a terminal all output comes here.
    pub stdout: Option<OwnedFd>,
    /// Read end of standard error; none with a terminal.
    pub stderr: Option<OwnedFd>,
}

impl Session {
    /// Becomes readable when the process has ended and [`Session::wait`] will not block.
    pub fn ended(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// Waits for the process and, with `--rm`, until the container is gone; its exit code (128 + signal).
    pub fn wait(&mut self) -> Result<i32> {
        todo!()
    }

    /// Sets the size of the process's terminal.
    pub fn resize(&self, _rows: u16, _columns: u16) -> Result<()> {
        todo!()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, _signal: i32) -> Result<()> {
        todo!()
    }
}
