//! `kiste completion`: the completion script of a shell, made from the same parsers that read the command line.

use std::io::Write as _;

use clap::{Arg, Command};
use clap_complete::{Shell, generate};

use crate::commands::{COMMANDS, Entry, GROUPS, Verb};
use crate::context::Context;
use crate::failure::{Failure, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "SHELL", hide = true)]
    shell: String,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "bash|zsh|fish";
    const ABOUT: &'static str = "Print the completion script for a shell";
    const NEEDS_ENGINE: bool = false;

    fn run(self, context: &Context) -> Result<u8> {
        context.out().write_all(&script(shell(&self.shell)?))?;
        Ok(0)
    }
}

fn shell(name: &str) -> Result<Shell> {
    match name {
        "bash" => Ok(Shell::Bash),
        "zsh" => Ok(Shell::Zsh),
        "fish" => Ok(Shell::Fish),
        other => {
            Err(Failure::new(format!("unknown shell {other:?}")).hinted("there are scripts for bash, zsh and fish"))
        }
    }
}

fn script(shell: Shell) -> Vec<u8> {
    let groups = GROUPS.iter().map(|group| {
        let entries =
            group.entries.iter().map(|entry| subcommand(entry, &format!("{} {}", group.name, entry.names[0])));
        Command::new(group.name).about(group.about).subcommands(entries)
    });
    let text = |name: &'static str| Arg::new(name).long(name).value_name("string");
    let mut kiste = Command::new("kiste")
        .args([text("root"), text("state"), text("config"), text("log-level").short('l')])
        .arg(Arg::new("debug").long("debug").short('D').action(clap::ArgAction::SetTrue))
        .subcommands(COMMANDS.iter().map(|entry| subcommand(entry, entry.names[0])))
        .subcommands(groups);
    let mut script = Vec::new();
    generate(shell, &mut kiste, "kiste", &mut script);
    script
}

fn subcommand(entry: &Entry, path: &str) -> Command {
    entry.command(path).visible_aliases(entry.names[1..].iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_know_commands_and_flags() {
        for name in ["bash", "zsh", "fish"] {
            let script = String::from_utf8(script(shell(name).unwrap())).unwrap();
            for word in ["container", "no-trunc", "volume", "explain"] {
                assert!(script.contains(word), "{name}: {word}");
            }
        }
        assert!(shell("tcsh").is_err());
    }
}
