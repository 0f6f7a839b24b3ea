//! The commands, one file each, and the words that choose them.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod restore;
mod run;
mod spec;
mod start;
mod state;
mod update;
mod version;

use std::ffi::OsString;
use std::io::{self, Write};

use crate::error::Step;
use crate::globals::{Globals, Start};
use crate::log::Log;
use crate::{Error, Result};

/// What a command is given.
pub(crate) struct Call<'a> {
    /// The flags before the command.
    pub(crate) globals: Globals,
    /// The words after it.
    pub(crate) words: Vec<OsString>,
    /// Where warnings go.
    pub(crate) log: &'a Log,
}

type Command = fn(Call<'_>) -> Result<u8>;

/// Name, what it does, and how.
const COMMANDS: [(&str, &str, Command); 17] = [
    ("checkpoint", "checkpoint a running container", checkpoint::run),
    ("create", "create a container", create::run),
    ("delete", "delete any resources held by the container", delete::run),
    ("events", "display figures of a container and that it ran out of memory", events::run),
    ("exec", "execute a new process inside the container", exec::run),
    ("features", "show the enabled features", features::run),
    ("kill", "send a signal to the container's init process", kill::run),
    ("list", "list containers", list::run),
    ("pause", "suspend all processes inside the container", pause::pause),
    ("ps", "display the processes running inside a container", ps::run),
    ("restore", "restore a container from a checkpoint", restore::run),
    ("resume", "resume all processes that have been paused", pause::resume),
    ("run", "create and run a container", run::run),
    ("spec", "create a new specification file", spec::run),
    ("start", "execute the user-defined process in a created container", start::run),
    ("state", "output the state of a container", state::run),
    ("update", "update container resource constraints", update::run),
];

/// Runs what the command line asks for; its exit code.
pub(crate) fn run(start: Start, log: &Log) -> Result<u8> {
    match start {
        Start::Version => version::run(),
        Start::Help => help(),
        Start::Command(_, name, _) if name == "help" || name == "h" => help(),
        Start::Command(globals, name, words) => {
            let Some((_, _, command)) = COMMANDS.iter().find(|(known, ..)| *known == name) else {
                return Err(Error::new(format!("No help topic for '{name}'")).coded(3));
            };
            // The short word only in front: further on it may be an argument.
            let long = words.iter().take_while(|word| *word != "--").any(|word| word == "--help");
            if long || words.first().is_some_and(|word| word == "-h") {
                return command_help(&name);
            }
            log.debug(|| format!("{name}: state root {}", globals.root.display()));
            command(Call { globals, words, log })
        }
    }
}

/// Writes to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.step(|| "write to standard output".into()),
    }
}

fn help() -> Result<u8> {
    let mut text = "Usage: kiste runtime [GLOBAL FLAGS] COMMAND [FLAGS] [ARGUMENTS]\n\nAn OCI runtime with runc's command line.\n\nCommands:\n".to_owned();
    COMMANDS.iter().for_each(|(name, does, _)| text.push_str(&format!("  {name:<12}{does}\n")));
    text.push_str(GLOBAL_FLAGS);
    print(&text).map(|()| 0)
}

const GLOBAL_FLAGS: &str = "
Global flags:
  --root DIR              where the containers' state is
  --log FILE              where errors are written
  --log-format FORMAT     text or json
  --log-level LEVEL       error, warning, info or debug
  --debug                 the same as --log-level debug
  --systemd-cgroup        let systemd make the cgroups
  --cgroup-manager NAME   cgroupfs, systemd or disabled
  --rootless WORD         true, false or auto
  --version, --help
";

/// The head in crun's form, which scripts look for, and the command's own flags.
fn command_help(name: &str) -> Result<u8> {
    let (arguments, flags) = match name {
        "checkpoint" => ("CONTAINER", checkpoint::HELP),
        "create" => ("CONTAINER", create::HELP),
        "delete" => ("CONTAINER", delete::HELP),
        "events" => ("CONTAINER", events::HELP),
        "exec" => ("CONTAINER cmd", exec::HELP),
        "kill" => ("CONTAINER [SIGNAL]", kill::HELP),
        "list" => ("", list::HELP),
        "ps" => ("CONTAINER [PS OPTIONS]", ps::HELP),
        "restore" => ("CONTAINER", restore::HELP),
        "run" => ("CONTAINER", run::HELP),
        "spec" => ("", spec::HELP),
        "update" => ("CONTAINER", update::HELP),
        "features" => ("", ""),
        _ => ("CONTAINER", ""),
    };
    let program = crate::program_name();
    print(&format!("Usage: {program} [OPTION...] {name} {arguments}\n\n{flags}")).map(|()| 0)
}
