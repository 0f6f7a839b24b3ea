//! `exec` in the steps of the Engine API: made, started, resized, looked at, each by another request and perhaps another
//! process. So each has a keeper, a process of its own that outlives whoever asked (`monitor/keeper.rs`).

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::exec_record::{self, ExecRecord};
use crate::model::{ExecConfig, Status};
use crate::monitor::protocol::{self, Answer, Request};
use crate::{Engine, Error, ErrorKind, Result, Session};
use crate::{spawn, table};

/// How long a process may take from being asked for to listening for its size.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

impl Engine {
    /// Records what is to be run in a running container; its id.
    pub fn create_exec(&self, name: &str, config: &ExecConfig) -> Result<String> {
        self.bounds().check_exec(config)?;
        let container = self.look_up(name)?;
        if config.cmd.is_empty() {
            return Err(Error::invalid("No exec command specified"));
        }
        if self.running(&container)?.status == Status::Paused {
            let message = format!("Container {} is paused, unpause the container before exec", container.id);
            return Err(Error::conflict(message));
        }
        exec_record::forget_old(self.paths(), &container.id);
        let record = ExecRecord::create(self.paths(), &container.id, config)?;
        let action = format!("exec_create: {}", config.cmd.join(" "));
        self.tell_with(&container, &action, &[("execID", record.id.clone())]);
        Ok(record.id)
    }

    /// Runs it; returns when it has been executed. With `detach` nothing is connected. `console` are rows and columns
    /// of its terminal, if it gets one. Errors: `NotExecutable` and `CommandNotFound` as for `run`.
    pub fn start_exec(&self, id: &str, detach: bool, console: Option<(u16, u16)>) -> Result<Session> {
        let mut record = self.exec_record(id)?;
        let container = self.look_up(&record.container)?;
        if self.running(&container)?.status == Status::Paused {
            let message = format!("Container {} is paused, unpause the container before exec", container.id);
            return Err(Error::conflict(message));
        }
        record.claim(self.paths())?;
        record.detach = detach;
        if let Some((rows, columns)) = console {
            record.config.console_size = [rows.into(), columns.into()];
        }
        record.write(self.paths())?;
        let apart = super::read_plan(self.paths(), &record.container)?.is_apart();
        let socket = spawn::keeper(self.paths(), &record.container, id, apart)?;
        match protocol::answer(&socket)? {
            Some((Answer::Done { streams }, descriptors)) => Ok(Session::of_exec(id, socket, streams, descriptors)),
            Some((Answer::Failed(error), _)) => Err(error),
            _ => Err(Error::internal(format!("the keeper of exec {id} died"))),
        }
    }

    /// Sets the size of its terminal.
    pub fn resize_exec(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let deadline = Instant::now() + LISTENS_WITHIN;
        loop {
            let record = self.exec_record(id)?;
            if record.exit_code.is_some() || !record.is_claimed(self.paths()) {
                return Err(Error::conflict(format!("exec {id} is not running")));
            }
            if let Some(socket) = protocol::connect(&record.directory(self.paths()))? {
                protocol::send(&socket, &Request::Resize { rows, columns }, &[])?;
                return match protocol::answer(&socket)? {
                    Some((Answer::Failed(error), _)) => Err(error),
                    Some(_) => Ok(()),
                    None => Err(Error::conflict(format!("exec {id} is not running"))),
                };
            }
            if Instant::now() > deadline {
                return Err(Error::internal("timeout waiting for exec session ready"));
            }
            // Being started: a matter of milliseconds.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Docker's `ExecInspect` document.
    pub fn inspect_exec(&self, id: &str) -> Result<Value> {
        let record = self.exec_record(id)?;
        let config = &record.config;
        let mut process = json!({
            "tty": config.tty,
            "entrypoint": config.cmd.first(),
            "arguments": config.cmd.get(1..).unwrap_or_default(),
            "privileged": config.privileged,
        });
        if !config.user.is_empty() {
            process["user"] = json!(config.user);
        }
        Ok(json!({
            "ID": record.id,
            "Running": record.is_running(),
            "ExitCode": record.exit_code,
            "ProcessConfig": process,
            "OpenStdin": config.attach_stdin,
            "OpenStderr": config.attach_stderr,
            "OpenStdout": config.attach_stdout,
            "CanRemove": false,
            "ContainerID": record.container,
            "DetachKeys": config.detach_keys,
            "Pid": record.pid,
        }))
    }

    /// What an exec is to run.
    pub fn exec_config(&self, id: &str) -> Result<ExecConfig> {
        Ok(self.exec_record(id)?.config)
    }

    fn exec_record(&self, id: &str) -> Result<ExecRecord> {
        let container = exec_record::container_of(id)?;
        let container = self
            .read(|connection| table::find(connection, container))
            .map_err(|error| if error.kind == ErrorKind::NotFound { exec_record::missing(id) } else { error })?;
        self.check_reach(&container, &container.id)?;
        ExecRecord::find(self.paths(), &container.id, id)
    }
}
