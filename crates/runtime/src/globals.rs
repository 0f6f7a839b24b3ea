//! The flags before the command: runc's, and those of crun that callers pass to either.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser};
use linux::namespace::is_rootless;

use crate::arguments::{bad, boolean, path, switch, text};
use crate::log::Log;
use crate::{Error, Result};

/// What holds for every command.
#[derive(Clone, Debug)]
pub(crate) struct Globals {
    /// Where the containers' state is.
    pub(crate) root: PathBuf,
    /// Who makes cgroups.
    pub(crate) cgroups: CgroupManager,
    /// Without privileges over the host: what the kernel refuses is left out where that is possible.
    pub(crate) rootless: bool,
    /// We are in namespaces of our own making: ids in configurations are those outside of them.
    pub(crate) entered: bool,
}

/// Tells the protected copy of ourselves (see `seal`) that [`Globals::entered`] holds.
pub(crate) const ENTERED: &str = "KISTE_RUNTIME_ENTERED";

/// Who makes cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CgroupManager {
    /// We, in the file system.
    Cgroupfs,
    /// systemd, over its bus.
    Systemd,
    /// Nobody: the container stays in its caller's cgroup.
    Disabled,
}

/// What the flags before the command ask for.
pub(crate) enum Start {
    /// Run a command: its name and its words.
    Command(Globals, String, Vec<OsString>),
    /// `--help`, or nothing at all.
    Help,
    /// `--version`.
    Version,
}

/// Reads the flags up to the first word that is none. The log is set up on the way, so that what comes later is reported
/// where the caller looks.
pub(crate) fn parse(words: impl Iterator<Item = OsString>, log: &mut Log) -> Result<Start> {
    let mut parser = Parser::from_args(words);
    let (mut root, mut cgroups, mut rootless) = (None, CgroupManager::Cgroupfs, None);
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Long("root") => root = Some(path(&mut parser)?),
            Arg::Long("log") => open_log(log, &text(&mut parser)?)?,
            Arg::Long("log-format") => log.set_json(is_json(&text(&mut parser)?)?),
            Arg::Long("log-level") => set_level(log, &text(&mut parser)?)?,
            Arg::Long("debug") => {
                if switch(&mut parser)? {
                    log.set_debug();
                }
            }
            Arg::Long("systemd-cgroup") => {
                if switch(&mut parser)? {
                    cgroups = CgroupManager::Systemd;
                }
            }
            Arg::Long("cgroup-manager") => cgroups = manager(&text(&mut parser)?)?,
            Arg::Long("rootless") => rootless = rootless_word(&text(&mut parser)?)?,
            Arg::Long("criu") => drop(text(&mut parser)?), // found on PATH, as with runc since 1.1
            Arg::Long("version") | Arg::Short('v' | 'V') => return Ok(Start::Version),
            Arg::Long("help") | Arg::Short('h') => return Ok(Start::Help),
            Arg::Value(name) => {
                let name = name.to_string_lossy().into_owned();
                let words = parser.raw_args().map_err(bad)?.collect();
                let rootless = rootless.unwrap_or_else(is_rootless);
                let root = absolute(root.unwrap_or_else(default_root))?;
                return Ok(Start::Command(
                    Globals { root, cgroups, rootless, entered: std::env::var_os(ENTERED).is_some() },
                    name,
                    words,
                ));
            }
            other => return Err(bad(other.unexpected())),
        }
    }
    Ok(Start::Help)
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|error| Error::new(format!("--root {}: {error}", path.display())))
}

/// crun's `file:` is understood; its other targets are not.
fn open_log(log: &mut Log, target: &str) -> Result<()> {
    match target.split_once(':') {
        _ if target.is_empty() => Ok(()),
        Some(("file", path)) => log.open(path.as_ref()),
        Some((kind @ ("journald" | "syslog"), _)) => {
            Err(Error::new(format!("--log {kind}: not supported; give a file")))
        }
        _ => log.open(target.as_ref()),
    }
}

fn is_json(format: &str) -> Result<bool> {
    match format {
        "json" => Ok(true),
        "text" | "" => Ok(false),
        _ => Err(Error::new(format!("unknown log-format {format:?}"))),
    }
}

fn set_level(log: &mut Log, level: &str) -> Result<()> {
    match level {
        "debug" => log.set_debug(),
        "error" => log.set_quiet(),
        "warning" | "info" => {}
        _ => return Err(Error::new(format!("unknown log-level {level:?}"))),
    }
    Ok(())
}

fn manager(word: &str) -> Result<CgroupManager> {
    match word {
        "cgroupfs" => Ok(CgroupManager::Cgroupfs),
        "systemd" => Ok(CgroupManager::Systemd),
        "disabled" => Ok(CgroupManager::Disabled),
        _ => Err(Error::new(format!("unknown cgroup manager specified {word:?}"))),
    }
}

fn rootless_word(word: &str) -> Result<Option<bool>> {
    if word == "auto" { Ok(None) } else { boolean(word).map(Some) }
}

/// Gone after a reboot, as the containers are.
fn default_root() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|value| !value.is_empty() && is_rootless());
    own.map_or_else(|| PathBuf::from("/run"), PathBuf::from).join("kiste/runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globals(words: &[&str]) -> Result<(Globals, String, Vec<OsString>)> {
        match parse(words.iter().map(OsString::from), &mut Log::default())? {
            Start::Command(globals, name, words) => Ok((globals, name, words)),
            _ => panic!("a command expected"),
        }
    }

    #[test]
    fn flags_before_the_command_are_ours_and_the_rest_is_the_commands() {
        let words =
            ["--root=/r", "--systemd-cgroup", "--log-format", "json", "--rootless=false", "create", "--root", "x"];
        let (globals, name, words) = globals(&words).unwrap();
        assert_eq!((globals.root, globals.cgroups), ("/r".into(), CgroupManager::Systemd));
        assert_eq!((name.as_str(), globals.rootless), ("create", false));
        assert_eq!(words, ["--root", "x"]);
    }

    #[test]
    fn wrong_words_are_named() {
        for words in [
            ["--log-format", "yaml", "list"],
            ["--rootless", "maybe", "list"],
            ["--cgroup-manager", "x", "list"],
            ["--log-level", "loud", "list"],
            ["--bogus", "x", "list"],
        ] {
            assert!(globals(&words).is_err(), "{words:?}");
        }
    }
}
