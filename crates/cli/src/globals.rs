//! The flags before the command (`kiste --root DIR run …`), parsed by hand because every start pays for them.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use engine::Paths;
use lexopt::{Arg, Parser, ValueExt};

use crate::failure::{ENGINE_FAILED, Failure, Result};

/// How much is said on standard error besides the error that ends the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Every step.
    Debug,
    /// The default.
    Info,
    /// Warnings.
    Warn,
    /// Only the error that ends the command.
    Error,
}

/// The global flags.
#[derive(Clone, Debug)]
pub(crate) struct Globals {
    /// `--root` and `--state`.
    pub(crate) paths: Paths,
    /// `--debug`, `--log-level`.
    pub(crate) level: Level,
    /// Directory of the user's `config.json`.
    pub(crate) config: PathBuf,
}

/// What the flags before the command ask for.
pub(crate) enum Start {
    /// Run a command: its words, name first.
    Command(Globals, Vec<OsString>),
    /// `--help`, or nothing at all.
    Help,
    /// `--version`.
    Version,
}

/// Reads the global flags up to the first word that is none.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Start> {
    let mut parser = Parser::from_args(words);
    let mut globals = Globals { paths: default_paths(), level: Level::Info, config: default_config() };
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Long("root") => globals.paths.root = directory(&mut parser)?,
            Arg::Long("state") => globals.paths.state = directory(&mut parser)?,
            Arg::Long("config") => globals.config = parser.value().map_err(bad)?.into(),
            Arg::Short('D') | Arg::Long("debug") => globals.level = Level::Debug,
            Arg::Short('l') | Arg::Long("log-level") => globals.level = level(&mut parser)?,
            Arg::Short('v') | Arg::Long("version") => return Ok(Start::Version),
            Arg::Short('h') | Arg::Long("help") => return Ok(Start::Help),
            Arg::Short('H' | 'c')
            | Arg::Long("host" | "context" | "tls" | "tlscacert" | "tlscert" | "tlskey" | "tlsverify") => {
                return Err(no_daemon(argument));
            }
            Arg::Value(name) => {
                let mut command = vec![name];
                command.extend(parser.raw_args().map_err(bad)?);
                return Ok(Start::Command(globals, command));
            }
            other => return Err(bad(other.unexpected())),
        }
    }
    Ok(Start::Help)
}

fn default_paths() -> Paths {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let user = rustix::process::geteuid();
    let root = variable("KISTE_ROOT").unwrap_or_else(|| match user.is_root() {
        true => "/var/lib/kiste".into(),
        false => data_home(variable("XDG_DATA_HOME")).join("kiste"),
    });
    let state = variable("KISTE_STATE").unwrap_or_else(|| match user.is_root() {
        true => "/run/kiste".into(),
        false => runtime_directory(variable("XDG_RUNTIME_DIR"), user.as_raw()).join("kiste"),
    });
    Paths { root, state }
}

/// Where a user's programs keep data (XDG Base Directory Specification).
fn data_home(given: Option<PathBuf>) -> PathBuf {
    let absolute = given.filter(|path| path.is_absolute());
    absolute.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".local/share"))
}

/// Where a user's programs keep what ends with the session; without a session manager, a place in `/tmp` of which the
/// engine makes sure that it is the user's.
fn runtime_directory(given: Option<PathBuf>, user: u32) -> PathBuf {
    let managed = PathBuf::from(format!("/run/user/{user}"));
    let absolute = given.filter(|path| path.is_absolute());
    absolute.or_else(|| managed.is_dir().then_some(managed)).unwrap_or_else(|| format!("/tmp/kiste-{user}").into())
}

/// `$DOCKER_CONFIG`, else `~/.docker`, where Docker's users have it.
fn default_config() -> PathBuf {
    match env::var_os("DOCKER_CONFIG").filter(|value| !value.is_empty()) {
        Some(directory) => directory.into(),
        None => PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".docker"),
    }
}

/// A directory; absolute, because the monitor does not share our working directory.
fn directory(parser: &mut Parser) -> Result<PathBuf> {
    let path = PathBuf::from(parser.value().map_err(bad)?);
    std::path::absolute(&path)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())).coded(ENGINE_FAILED))
}

fn level(parser: &mut Parser) -> Result<Level> {
    let word = parser.value().and_then(ValueExt::string).map_err(bad)?;
    Ok(match word.as_str() {
        "trace" | "debug" => Level::Debug,
        "info" => Level::Info,
        "warn" | "warning" => Level::Warn,
        "error" | "fatal" | "panic" => Level::Error,
        _ => {
            return Err(Failure::new(format!("unable to parse logging level: {word}"))
                .hinted("use one of debug, info, warn, error, fatal")
                .coded(ENGINE_FAILED));
        }
    })
}

fn no_daemon(argument: Arg<'_>) -> Failure {
    let flag = match argument {
        Arg::Long(name) => format!("--{name}"),
        Arg::Short(letter) => format!("-{letter}"),
        Arg::Value(_) => unreachable!("only flags come here"),
    };
    Failure::new(format!("{flag}: there is no daemon to connect to"))
        .hinted("use --root and --state to choose where the containers are")
        .coded(ENGINE_FAILED)
}

fn bad(error: lexopt::Error) -> Failure {
    let message = match &error {
        lexopt::Error::UnexpectedOption(flag) if flag.starts_with("--") => format!("unknown flag: {flag}"),
        lexopt::Error::UnexpectedOption(flag) => format!("unknown shorthand flag: {flag}"),
        lexopt::Error::MissingValue { option: Some(flag) } => format!("flag needs an argument: {flag}"),
        other => other.to_string(),
    };
    Failure::new(message).coded(ENGINE_FAILED).see("kiste")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Start> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn flags_before_the_command_are_ours_and_the_rest_is_the_commands() {
        let Ok(Start::Command(globals, command)) = parse_words(&["--root=/r", "--state", "/s", "-D", "run", "-D", "x"])
        else {
            panic!("a command expected");
        };
        assert_eq!((globals.paths.root, globals.paths.state), ("/r".into(), "/s".into()));
        assert_eq!(globals.level, Level::Debug);
        assert_eq!(command, ["run", "-D", "x"]);
    }

    #[test]
    fn what_needs_a_daemon_is_refused() {
        for words in [&["-H", "tcp://x", "ps"][..], &["--context=x", "ps"], &["--tlsverify", "ps"]] {
            let failure = parse_words(words).err().unwrap();
            assert_eq!(failure.code, 125);
            assert!(failure.message.ends_with("there is no daemon to connect to"), "{}", failure.message);
        }
    }

    #[test]
    fn unknown_flags_are_named_as_docker_names_them() {
        assert_eq!(parse_words(&["--bogus", "ps"]).err().unwrap().message, "unknown flag: --bogus");
        assert_eq!(parse_words(&["--root"]).err().unwrap().message, "flag needs an argument: --root");
        assert!(parse_words(&["-l", "loud", "ps"]).is_err());
    }
}
