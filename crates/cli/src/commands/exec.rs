//! `kiste exec`: runs one more program in a running container.

use std::path::PathBuf;

use engine::model::ExecConfig;

use crate::commands::Verb;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::options::environment::{environment, variable};
use crate::terminal::{self, Keys, Relay, Signals};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string", value_parser = Keys::parse)]
    detach_keys: Option<Keys>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = variable)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    #[arg(required = true, hide = true, value_name = "CONTAINER")]
    container: String,
    #[arg(required = true, hide = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "[OPTIONS] CONTAINER COMMAND [ARG...]";
    const ABOUT: &'static str = "Execute a command in a running container";

    fn run(self, context: &Context) -> Result<u8> {
        let attach_stdin = self.interactive && !self.detach;
        terminal::check_input(self.tty, attach_stdin)?;
        let target = context.engine.exec_target(&self.container).map_err(|error| Failure::of_program(error, 1))?;
        protect(context, &target)?;
        let size = terminal::size().filter(|_| self.tty);
        let config = ExecConfig {
            tty: self.tty,
            attach_stdin,
            attach_stdout: !self.detach,
            attach_stderr: !self.detach,
            privileged: self.privileged,
            user: self.user.unwrap_or_default(),
            working_dir: self.workdir.unwrap_or_default(),
            env: environment(&self.env_file, &self.env).map_err(|failure| failure.coded(1))?,
            cmd: self.command,
            detach_keys: String::new(),
            console_size: size.map_or([0, 0], |(rows, columns)| [rows.into(), columns.into()]),
        };
        let keys = context.detach_keys(self.detach_keys)?;
        let signals = if self.detach { None } else { Some(Signals::catch()?) };
        let session = context.engine.exec(&target, &config, self.detach);
        let session = session.map_err(|error| Failure::of_program(error, 1))?;
        match signals {
            // Docker passes no signals to an exec: a ^C without a terminal ends the client alone.
            Some(signals) => {
                Ok(Relay::new(session, signals, self.tty).detach_keys(keys).sig_proxy(false).until_exit().run()?.code())
            }
            None => Ok(0),
        }
    }
}

/// Runs the command again from where the container cannot write to it, if that is not so already.
fn protect(context: &Context, target: &engine::ExecTarget) -> Result<()> {
    // An ordinary user has become root by now, whose directories are others.
    let paths = context.engine.paths();
    let directories = [("KISTE_ROOT", paths.root.as_path()), ("KISTE_STATE", paths.state.as_path())];
    sandbox::run_sealed(target.is_apart(), &directories)
        .map_err(|error| Failure::new(format!("protect the own executable: {error}")).coded(1))
}
