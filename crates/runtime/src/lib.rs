//! The runc-compatible face: `kiste runtime …`, or the binary called `kiste-runtime`, `runc` or `crun`. Parses runc's
//! command line, keeps the state of containers on disk and reports as callers expect it; what a container is made of is
//! the sandbox's.

mod arguments;
mod bundle;
mod commands;
mod console;
mod container;
mod create;
mod criu;
mod error;
mod foreground;
mod globals;
mod inherited;
mod log;
mod mappings;
mod notify;
mod pidfile;
mod record;
mod resources;
mod systemd;
mod tabular;
mod undo;
mod validate;

use std::ffi::OsString;
use std::path::Path;

pub(crate) use error::{Error, Result};

/// Names under which the binary is a runtime by itself.
const NAMES: [&str; 3] = ["kiste-runtime", "runc", "crun"];

/// Whether a binary that was called as `name` is to be a runtime.
pub fn is_runtime(name: &Path) -> bool {
    name.file_name().is_some_and(|name| NAMES.iter().any(|known| name == *known))
}

/// The name that the binary was called by, as far as it is one of a runtime.
pub(crate) fn program_name() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if is_runtime(name.as_ref()) { name } else { "kiste runtime".to_owned() }
}

/// The whole program: `words` are the arguments after the name. Returns the exit code.
pub fn main(words: impl Iterator<Item = OsString>) -> u8 {
    let mut log = log::Log::default();
    let outcome = globals::parse(words, &mut log).and_then(|start| commands::run(start, &log));
    outcome.unwrap_or_else(|error| {
        log.error(&error.text);
        error.code
    })
}
