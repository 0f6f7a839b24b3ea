//! `--on-error=shell`: a failed step is entered, in exactly the state that it left.

use std::io::{self, IsTerminal};
use std::process::Command;
use std::sync::Arc;

use build::OnError;
use engine::Paths;
use engine::model::CreateRequest;

use crate::context::{Context, say};
use crate::failure::{Failure, Result};

/// What `--on-error` asks for.
pub(super) fn on_error(flag: Option<&str>, context: &Context) -> Result<Option<Arc<dyn OnError>>> {
    match flag {
        None => Ok(None),
        Some("shell") if io::stdin().is_terminal() => Ok(Some(Arc::new(Shell(context.engine.paths().clone())))),
        Some("shell") => Err(Failure::new("--on-error=shell needs a terminal")),
        Some(other) => Err(Failure::new(format!("invalid value {other:?} for --on-error: try shell"))),
    }
}

struct Shell(Paths);

impl OnError for Shell {
    /// A container of its own over the step's files, with the step's environment, user, directory and mounts.
    fn failed(&self, container: &CreateRequest, image: &str) {
        say("\nThe step failed; this is a shell in the state that it left. Exit it to end the build.\n");
        let Ok(program) = std::env::current_exe() else { return };
        let mut command = Command::new(program);
        command.arg("--root").arg(&self.0.root).arg("--state").arg(&self.0.state);
        command.args(["run", "--rm", "-it", "--entrypoint", "/bin/sh", "--workdir", &container.config.working_dir]);
        if !container.config.user.is_empty() {
            command.args(["--user", &container.config.user]);
        }
        if !container.host.network_mode.is_empty() {
            command.args(["--network", &container.host.network_mode]);
        }
        for line in &container.config.env {
            command.args(["--env", line]);
        }
        for mount in container.host.mounts.iter().filter(|mount| mount.kind == "bind") {
            let read_only = if mount.read_only { ",readonly" } else { "" };
            command.arg("--mount");
            command.arg(format!("type=bind,source={},target={}{read_only}", mount.source, mount.target));
        }
        if let Err(error) = command.arg(image).status() {
            say(&format!("the shell could not be started: {error}\n"));
        }
    }
}
