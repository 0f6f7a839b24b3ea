//! The commands: one file each, and here the table of their names. A command file has the flags as a clap-derived
//! struct `Args` and implements [`Verb`] for it; this module alone knows under which words it is reached.

mod attach;
mod boot;
mod build;
mod builder;
mod check;
mod commit;
mod completion;
mod cp;
mod create;
mod df;
mod diff;
mod document;
#[cfg(test)]
mod documented;
mod events;
mod exec;
mod explain;
mod export;
mod filters;
mod history;
mod image_prune;
mod images;
mod images_tree;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod login;
mod logs;
mod man;
mod manifest;
mod network;
mod pause;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod rename;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod serve;
mod start;
mod stats;
mod stop;
mod system_prune;
mod table;
mod tag;
#[cfg(test)]
mod tests;
mod top;
mod unpause;
mod update;
mod version;
mod volume;
mod wait;

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command, builder::ValueParser};

use crate::context::{Context, report};
use crate::failure::{Failure, Result};
use crate::help;

pub(crate) use table::{COMMANDS, GROUPS};

/// A command: its flags are the struct's fields, what it does is `run`.
pub(crate) trait Verb: clap::Args {
    /// What follows the name in the usage line: `[OPTIONS] IMAGE [COMMAND] [ARG...]`.
    const SYNOPSIS: &'static str;
    /// One line for the help, without a final full stop.
    const ABOUT: &'static str;
    /// Whether it works on containers and images.
    const NEEDS_ENGINE: bool = true;
    /// Does it; the exit code.
    fn run(self, context: &Context) -> Result<u8>;
}

/// One line of the table: names (the first is the real one) and the command behind them.
pub(crate) struct Entry {
    /// Names, the customary one first.
    pub(crate) names: &'static [&'static str],
    /// One line for the help.
    pub(crate) about: &'static str,
    synopsis: &'static str,
    arguments: fn(Command) -> Command,
    /// Whether it works on containers and images; completions and the like need no rights.
    pub(crate) needs_engine: bool,
    /// Runs the command with parsed flags.
    pub(crate) run: fn(&ArgMatches, &Context) -> Result<u8>,
}

/// A management command: `kiste container …`.
pub(crate) struct Group {
    /// Its word.
    pub(crate) name: &'static str,
    /// One line for the help.
    pub(crate) about: &'static str,
    /// Its commands.
    pub(crate) entries: &'static [Entry],
}

impl Entry {
    const fn of<V: Verb>(names: &'static [&'static str]) -> Self {
        Entry {
            names,
            about: V::ABOUT,
            synopsis: V::SYNOPSIS,
            arguments: V::augment_args,
            needs_engine: V::NEEDS_ENGINE,
            run: parse_and_run::<V>,
        }
    }

    /// The command's parser; `path` is what the user typed: `run`, `container run`.
    pub(crate) fn command(&self, path: &str) -> Command {
        self.as_declared(path).mut_args(like_docker)
    }

    /// The command's help.
    pub(crate) fn page(&self, path: &str) -> String {
        // Without what `like_docker` adds, which would show at every switch that it may have a value.
        self.as_declared(path).render_help().to_string()
    }

    fn as_declared(&self, path: &str) -> Command {
        let usage = format!("kiste {path} {}", self.synopsis);
        let command = (self.arguments)(Command::new(self.names[0]).no_binary_name(true))
            .about(self.about)
            .long_about(None)
            .override_usage(usage.trim_end().to_owned())
            .help_template("Usage:  {usage}\n\n{about}\n\n{all-args}{after-help}")
            .args_override_self(true)
            .disable_help_flag(true);
        let taken = command.get_arguments().any(|arg| arg.get_short() == Some('h'));
        let help = Arg::new("help").long("help").action(ArgAction::Help).help("Print this page").hide(true);
        command.arg(if taken { help } else { help.short('h') })
    }
}

fn parse_and_run<V: Verb>(matches: &ArgMatches, context: &Context) -> Result<u8> {
    // The parser was built from the same struct: a mismatch is impossible, but it is an error, not a panic.
    let args = V::from_arg_matches(matches).map_err(|error| Failure::new(error.to_string()))?;
    args.run(context)
}

/// Gives a flag the habits of Docker's parser: `--rm=false` works, and a value may begin with a hyphen.
fn like_docker(arg: Arg) -> Arg {
    if arg.is_positional() {
        return arg;
    }
    let arg = match (arg.get_action(), arg.get_default_values()) {
        (ArgAction::SetTrue, []) => arg.default_value("false"),
        _ => arg,
    };
    match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .value_parser(ValueParser::from(boolean))
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("bool"),
        ArgAction::Set | ArgAction::Append => arg.allow_hyphen_values(true),
        _ => arg,
    }
}

/// The words that Go's `strconv.ParseBool` takes.
fn boolean(word: &str) -> Result<bool, String> {
    match word {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {word:?}: invalid syntax")),
    }
}

/// What was found for the words typed: the name as typed, the command, and its own words. `None`: help is wanted.
type Found<'a> = Option<(String, &'static Entry, &'a [OsString])>;

/// Finds the command for `words`.
pub(crate) fn find(words: &[OsString]) -> Result<Found<'_>> {
    let Some(first) = words.first().and_then(|word| word.to_str()) else { return Err(help::unknown(words, "kiste")) };
    if let Some(entry) = named(COMMANDS, first) {
        return Ok(Some((first.to_owned(), entry, &words[1..])));
    }
    let Some(group) = GROUPS.iter().find(|group| group.name == first) else {
        return if first == "help" { Ok(None) } else { Err(help::unknown(&words[..1], "kiste")) };
    };
    match words.get(1).and_then(|word| word.to_str()) {
        None | Some("--help" | "-h" | "help") => Ok(None),
        Some(second) => {
            let unknown = || help::unknown(&words[..2], &format!("kiste {first}"));
            let entry = named(group.entries, second).ok_or_else(unknown)?;
            Ok(Some((format!("{first} {second}"), entry, &words[2..])))
        }
    }
}

fn named(entries: &'static [Entry], name: &str) -> Option<&'static Entry> {
    entries.iter().find(|entry| entry.names.contains(&name))
}

/// Does something to each of several objects and prints the name of each that it was done to. Nothing to do (already
/// stopped) counts as done.
fn each(context: &Context, names: &[String], mut work: impl FnMut(&str) -> engine::Result<()>) -> Result<u8> {
    for_each(names, |name| match work(name) {
        Err(error) if error.kind != engine::ErrorKind::NotModified => Err(error.into()),
        _ => context.print(&format!("{name}\n")),
    })
}

/// Does something to each of several objects. An error is reported and does not keep the others from it; then the exit
/// code is 1.
fn for_each(names: &[String], mut work: impl FnMut(&str) -> Result<()>) -> Result<u8> {
    let mut code = 0;
    for name in names {
        if let Err(failure) = work(name) {
            report(&failure);
            code = failure.code;
        }
    }
    Ok(code)
}

/// A yes-or-no field of `Config` in what `inspect` says about a container.
fn is_on(container: &serde_json::Value, field: &str) -> bool {
    container["Config"][field].as_bool().unwrap_or_default()
}
