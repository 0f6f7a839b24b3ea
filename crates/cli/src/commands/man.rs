//! `kiste man`: a manual page for every command, made from the same parsers that read the command line.

use std::io;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_mangen::Man;

use crate::commands::{COMMANDS, GROUPS, Verb};
use crate::context::Context;
use crate::failure::{Failure, Result};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(value_name = "DIRECTORY", hide = true)]
    directory: PathBuf,
}

impl Verb for Args {
    const SYNOPSIS: &'static str = "DIRECTORY";
    const ABOUT: &'static str = "Write the manual pages into a directory";
    const NEEDS_ENGINE: bool = false;

    fn run(self, _context: &Context) -> Result<u8> {
        let wrong =
            |error: io::Error| Failure::new(format!("write manual pages to {}: {error}", self.directory.display()));
        write_all(&self.directory).map_err(wrong)?;
        Ok(0)
    }
}

fn write_all(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut all: Vec<(&str, &str)> = COMMANDS.iter().map(|entry| (entry.names[0], entry.about)).collect();
    all.extend(GROUPS.iter().map(|group| (group.name, group.about)));
    write(directory, "kiste", overview("kiste", "run and manage containers", &all))?;
    for entry in COMMANDS {
        write(directory, &format!("kiste-{}", entry.names[0]), entry.command(entry.names[0]))?;
    }
    for group in GROUPS {
        let entries: Vec<(&str, &str)> = group.entries.iter().map(|entry| (entry.names[0], entry.about)).collect();
        let name = format!("kiste-{}", group.name);
        write(directory, &name, overview(group.name, group.about, &entries))?;
        for entry in group.entries {
            let path = format!("{} {}", group.name, entry.names[0]);
            write(directory, &format!("{name}-{}", entry.names[0]), entry.command(&path))?;
        }
    }
    Ok(())
}

/// A page that lists commands.
fn overview(name: &'static str, about: &'static str, commands: &[(&'static str, &'static str)]) -> Command {
    let commands = commands.iter().map(|(name, about)| Command::new(*name).about(*about));
    Command::new(name).about(about).subcommand_required(true).disable_help_subcommand(true).subcommands(commands)
}

/// Writes `NAME.1`.
fn write(directory: &Path, name: &str, command: Command) -> io::Result<()> {
    let command = command.display_name(name.to_owned()).version(env!("CARGO_PKG_VERSION")).disable_version_flag(true);
    let man = Man::new(command).title(name.to_uppercase()).section("1").manual("Kiste").source("kiste");
    let mut page = Vec::new();
    man.render(&mut page)?;
    std::fs::write(directory.join(format!("{name}.1")), page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        write_all(directory.path()).unwrap();
        let page = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert!(page("kiste-run.1").contains("\\-\\-rm"));
        assert!(page("kiste-network-create.1").contains("Create a network"));
        assert!(page("kiste.1").contains("kiste\\-run") || page("kiste.1").contains("run"));
    }
}
