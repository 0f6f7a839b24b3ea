//! `exec`: one more process in a running container.

use crate::model::ExecConfig;
use crate::{Engine, Result, Session};

impl Engine {
    /// Runs a process in the container and returns when it has been executed. With `detach` nothing is connected and
    /// the session only tells the process's end. Errors: `NotExecutable` and `CommandNotFound` as for `run`.
    pub fn exec(&self, _name: &str, _config: &ExecConfig, _detach: bool) -> Result<Session> {
        todo!()
    }
}
