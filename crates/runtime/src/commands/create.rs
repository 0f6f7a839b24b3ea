//! `create`: makes a container that waits for its start; and the flags that `run` shares.

use std::path::Path;

use lexopt::{Arg, Parser};
use sandbox::rootless;

use super::Call;
use crate::arguments::{bad, number, path, required, switch, take_id, unexpected};
use crate::create::{self, Options};
use crate::error::Step;
use crate::globals::{ENTERED, Globals};
use crate::{Error, Result};

pub(super) const HELP: &str = "\
  -b, --bundle DIR        root of the bundle; the present directory if not given
  -f, --config FILE       another configuration than the bundle's config.json
  --console-socket PATH   socket that gets the master of the terminal
  --pidfd-socket PATH     socket that gets the descriptor of the process
  --pid-file FILE         where to write the number of the process
  --no-pivot              do not use pivot_root
  --no-new-keyring        stay in the caller's session keyring
  --preserve-fds N        descriptors from 3 on that the process inherits
";

pub(super) fn run(mut call: Call<'_>) -> Result<u8> {
    enter(&mut call.globals)?;
    seal(&call.globals)?;
    let mut parser = Parser::from_args(call.words);
    let (mut options, mut id) = (Options::default(), None);
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Value(value) => take_id(&mut id, value, "create")?,
            other => match known(other) {
                Ok(flag) => apply(flag, &mut parser, &mut options)?,
                Err(other) => return Err(unexpected(other)),
            },
        }
    }
    let id = required(id, "create")?;
    let made = create::create(&call.globals, &options, &id, true, false, call.log)
        .map_err(|error| error.during("runtime create failed"))?;
    made.created.leave()?;
    Ok(0)
}

/// Makes an ordinary user root in namespaces of their own.
pub(super) fn enter(globals: &mut Globals) -> Result<()> {
    globals.entered |= !rustix::process::geteuid().is_root();
    rootless::enter(&globals.root).map_err(hinted)
}

/// The error of user namespaces with what to do about it.
pub(super) fn hinted(error: rootless::Error) -> Error {
    let hint = error.hint.as_ref().map_or(String::new(), |hint| format!("; hint: {hint}"));
    Error::new(format!("{error}{hint}"))
}

/// Runs from a descriptor of the binary that no container can write to. Every command that makes processes inside one
/// does this first.
pub(super) fn seal(globals: &Globals) -> Result<()> {
    let variables: &[(&str, &Path)] = if globals.entered { &[(ENTERED, Path::new("1"))] } else { &[] };
    sandbox::run_sealed(false, variables).step(|| "execute a protected copy of the runtime".into())
}

/// A flag of `create` and `run`.
#[derive(Clone, Copy)]
pub(super) enum Flag {
    Bundle,
    Config,
    ConsoleSocket,
    PidfdSocket,
    PidFile,
    NoPivot,
    NoNewKeyring,
    PreserveFds,
}

/// Which one it is; gives back what is none.
pub(super) fn known(argument: Arg<'_>) -> std::result::Result<Flag, Arg<'_>> {
    Ok(match argument {
        Arg::Long("bundle") | Arg::Short('b') => Flag::Bundle,
        Arg::Long("config") | Arg::Short('f') => Flag::Config,
        Arg::Long("console-socket") => Flag::ConsoleSocket,
        Arg::Long("pidfd-socket") => Flag::PidfdSocket,
        Arg::Long("pid-file") => Flag::PidFile,
        Arg::Long("no-pivot") => Flag::NoPivot,
        Arg::Long("no-new-keyring") => Flag::NoNewKeyring,
        Arg::Long("preserve-fds") => Flag::PreserveFds,
        other => return Err(other),
    })
}

/// Takes its value.
pub(super) fn apply(flag: Flag, parser: &mut Parser, options: &mut Options) -> Result<()> {
    match flag {
        Flag::Bundle => options.bundle = path(parser)?,
        Flag::Config => options.config = Some(path(parser)?),
        Flag::ConsoleSocket => options.console_socket = Some(path(parser)?),
        Flag::PidfdSocket => options.pidfd_socket = Some(path(parser)?),
        Flag::PidFile => options.pid_file = Some(path(parser)?),
        Flag::NoPivot => options.no_pivot = switch(parser)?,
        Flag::NoNewKeyring => options.no_new_keyring = switch(parser)?,
        Flag::PreserveFds => options.preserve_fds = preserved(parser)?,
    }
    Ok(())
}

/// A number of descriptors that a process can have.
pub(super) fn preserved(parser: &mut Parser) -> Result<u32> {
    let count: u32 = number(parser, "preserve-fds")?;
    match count {
        0..=0xffff => Ok(count),
        _ => Err(Error::new(format!("--preserve-fds {count}: too many"))),
    }
}
