//! `start`: hands a recorded container to a monitor of its own.

use crate::model::{CreateRequest, Created};
use crate::{Engine, Result, Session};

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attach {
    /// Connect standard input.
    pub stdin: bool,
    /// Connect standard output.
    pub stdout: bool,
    /// Connect standard error.
    pub stderr: bool,
}

/// Options of `start`.
#[derive(Clone, Debug, Default)]
pub struct StartOptions {
    /// Attach before the process runs, so that nothing is missed.
    pub attach: Option<Attach>,
    /// Initial rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
}

impl Engine {
    /// Starts a created or exited container; returns once its process has been executed. `NotModified` if it runs.
    pub fn start(&self, _name: &str, _options: &StartOptions) -> Result<Option<Session>> {
        todo!()
    }

    /// `create` and `start` with one transaction. If the start fails the container stays, as with Docker (unless
    /// `--rm`), in state `created` with exit code 126, 127 or 128 and the error in its state.
    pub fn run(&self, _request: &CreateRequest, _options: &StartOptions) -> Result<(Created, Option<Session>)> {
        todo!()
    }

    /// Connects to the streams of a running container.
    pub fn attach(&self, _name: &str, _attach: Attach) -> Result<Session> {
        todo!()
    }
}
