//! `run`: create and start in one; in the foreground with the process's exit code, or detached.

use std::os::fd::AsFd;

use lexopt::{Arg, Parser};

use super::Call;
use super::create::{apply, enter, known, seal};
use super::start::poststart;
use crate::arguments::{bad, required, switch, take_id, unexpected};
use crate::container::Container;
use crate::create::{self, Made, Options};
use crate::foreground::{self, Signals};
use crate::log::Log;
use crate::notify::Notify;
use crate::{Error, Result};

pub(super) const HELP: &str = "\
  the flags of create, and:
  -d, --detach            do not wait for the end of the process
  --keep                  do not delete the container when it has ended
  --no-subreaper          do not adopt the container's orphans
";

pub(super) fn run(mut call: Call<'_>) -> Result<u8> {
    enter(&mut call.globals)?;
    seal(&call.globals)?;
    let mut parser = Parser::from_args(call.words);
    let (mut options, mut id) = (Options::default(), None);
    let (mut detach, mut keep, mut subreaper) = (false, false, true);
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Value(value) => take_id(&mut id, value, "run")?,
            Arg::Long("detach") | Arg::Short('d') => detach = switch(&mut parser)?,
            Arg::Long("keep") => keep = switch(&mut parser)?,
            Arg::Long("no-subreaper") => subreaper = !switch(&mut parser)?,
            other => match known(other) {
                Ok(flag) => apply(flag, &mut parser, &mut options)?,
                Err(other) => return Err(unexpected(other)),
            },
        }
    }
    let id = required(id, "run")?;
    let signals = if detach { None } else { Some(Signals::catch()?) };
    if subreaper && !detach {
        foreground::become_subreaper()?;
    }
    let made = create::create(&call.globals, &options, &id, false, !detach, call.log);
    let made = made.map_err(|error| error.during("runtime run failed"))?;
    go(made, signals.as_ref(), keep, call.log)
}

/// Starts the container, and stays with it if there are signals to pass on.
fn go(made: Made, signals: Option<&Signals>, keep: bool, log: &Log) -> Result<u8> {
    let Made { container, mut created, spec, notify } = made;
    if signals.is_some() {
        // Before the program can write.
        created.terminal.iter().for_each(foreground::keep_newlines);
    }
    let started = notify.map(Notify::bind).transpose().and_then(|notify| {
        created.start()?;
        poststart(&container, &spec)?;
        notify.map_or(Ok(()), |notify| notify.forward(created.pid, &created.pidfd))
    });
    if let Err(error) = started {
        let _ = linux::pidfd::send_signal(created.pidfd.as_fd(), 9);
        let _ = foreground::reap(&created.pidfd);
        remove(container, log);
        return Err(error.during("runtime run failed"));
    }
    let Some(signals) = signals else { return Ok(0) };
    let code = foreground::stay(signals, created.pid, &created.pidfd, created.terminal.take());
    if !keep {
        remove(container, log);
    }
    code.map_err(|error: Error| error.during("runtime run failed"))
}

fn remove(container: Container, log: &Log) {
    match container.destroy() {
        Ok(warnings) => warnings.iter().for_each(|warning| log.warn(warning)),
        Err(error) => log.warn(&error.text),
    }
}
