//! Tells the faces of the binary apart, finds the command, parses its words and runs it. Only the chosen command's
//! parser is ever built: a parser for all of them would cost more than the rest of the start.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::ArgMatches;
use engine::Paths;

use crate::commands::{Entry, find};
use crate::context::{Context, report};
use crate::failure::{ENGINE_FAILED, Failure, Result};
use crate::globals::{self, Start};
use crate::{help, usage};

/// The whole program; its exit code.
pub(crate) fn main() -> u8 {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    if runtime::is_runtime(name.as_ref()) {
        return runtime::main(words);
    }
    let words: Vec<OsString> = words.collect();
    let outcome = match words.first().and_then(|word| word.to_str()) {
        Some("monitor") => monitor(&words[1..]),
        Some("runtime") => return runtime::main(words.into_iter().skip(1)),
        _ => command_line(words),
    };
    outcome.unwrap_or_else(|failure| {
        report(&failure);
        failure.code
    })
}

/// `kiste monitor --root DIR --state DIR ID [EXEC]`: the internal face, started by the engine and never by hand.
fn monitor(words: &[OsString]) -> Result<u8> {
    match words {
        [root_flag, root, state_flag, state, id, exec @ ..]
            if root_flag == "--root" && state_flag == "--state" && exec.len() < 2 =>
        {
            let paths = Paths { root: PathBuf::from(root), state: PathBuf::from(state) };
            let id = id.to_string_lossy();
            Ok(match exec.first() {
                Some(exec) => engine::monitor::keep_exec(&paths, &id, &exec.to_string_lossy()),
                None => engine::monitor::main(&paths, &id),
            } as u8)
        }
        _ => Err(Failure::new("the monitor is started by the engine only").coded(ENGINE_FAILED)),
    }
}

fn command_line(words: Vec<OsString>) -> Result<u8> {
    match globals::parse(words.into_iter())? {
        Start::Help => help::print_all(),
        Start::Version => help::print_version(),
        Start::Command(globals, words) => {
            let Some((path, entry, rest)) = find(&words)? else { return help::print(&words) };
            let matches = match parse(&path, entry, rest)? {
                Parsed::Matches(matches) => matches,
                Parsed::Help(text) => return help::page(&text),
            };
            enter(&globals, entry)?;
            let context = Context::new(globals);
            run(&context, &path, entry, &matches)
        }
    }
}

/// Makes an ordinary user root in namespaces of their own, before anything else is done.
fn enter(globals: &globals::Globals, entry: &Entry) -> Result<()> {
    if rustix::process::geteuid().is_root() || !entry.needs_engine {
        return Ok(());
    }
    let failure = |error: engine::rootless::Error| {
        let hint = error.hint.clone();
        let failure = Failure::new(error.to_string()).coded(ENGINE_FAILED);
        hint.into_iter().fold(failure, Failure::hinted)
    };
    engine::rootless::enter(&globals.paths.state).map_err(failure)
}

fn run(context: &Context, path: &str, entry: &Entry, matches: &ArgMatches) -> Result<u8> {
    context.debug(|| {
        let paths = context.engine.paths();
        format!("{path}: root {}, state {}", paths.root.display(), paths.state.display())
    });
    let begin = std::time::Instant::now();
    let outcome = (entry.run)(matches, context);
    context.engine.leave_networks();
    context.engine.notices().iter().for_each(|notice| context.warn(notice));
    context.debug(|| format!("{path}: {:.1} ms", begin.elapsed().as_secs_f64() * 1000.0));
    outcome
}

enum Parsed {
    Matches(ArgMatches),
    Help(String),
}

fn parse(path: &str, entry: &Entry, words: &[OsString]) -> Result<Parsed> {
    let mut command = entry.command(path);
    match command.try_get_matches_from_mut(words) {
        Ok(matches) => Ok(Parsed::Matches(matches)),
        Err(error) if error.kind() == clap::error::ErrorKind::DisplayHelp => Ok(Parsed::Help(entry.page(path))),
        Err(error) => Err(usage::failure(path, &command, &error)),
    }
}
