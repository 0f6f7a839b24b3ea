//! What every command gets: the engine over the chosen directories, and the say on standard error.

use std::cell::OnceCell;
use std::io::{self, Write};
use std::path::PathBuf;

use engine::Engine;

use crate::failure::{Failure, Result};
use crate::globals::{Globals, Level};
use crate::terminal::Keys;

/// The surroundings of one command.
pub(crate) struct Context {
    /// The engine.
    pub(crate) engine: Engine,
    level: Level,
    config: PathBuf,
    settings: OnceCell<serde_json::Value>,
}

impl Context {
    /// Opens nothing yet.
    pub(crate) fn new(globals: Globals) -> Self {
        Context {
            engine: Engine::new(globals.paths),
            level: globals.level,
            config: globals.config,
            settings: OnceCell::new(),
        }
    }

    /// Who we are to registries: with the user's `config.json`.
    pub(crate) fn access(&self) -> image::Access {
        image::Access { config: Some(self.config.clone()), ..image::Access::default() }
    }

    /// Prints on standard output, all at once; an error of it ends the command quietly when the reader has gone.
    pub(crate) fn print(&self, text: &str) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Standard output, for what comes bit by bit; written line by line.
    pub(crate) fn out(&self) -> io::StdoutLock<'static> {
        io::stdout().lock()
    }

    /// Says on standard error what is no reason to stop.
    pub(crate) fn warn(&self, message: &str) {
        if self.level <= Level::Warn {
            say(&format!("WARNING: {message}\n"));
        }
    }

    /// Says on standard error what only `--debug` wants to know.
    pub(crate) fn debug(&self, message: impl FnOnce() -> String) {
        if self.level <= Level::Debug {
            say(&format!("debug: {}\n", message()));
        }
    }

    /// The detach keys: the flag's, else those of the user's configuration, else `ctrl-p,ctrl-q`.
    pub(crate) fn detach_keys(&self, flag: Option<Keys>) -> Result<Keys> {
        match (flag, self.setting("detachKeys")) {
            (Some(keys), _) => Ok(keys),
            (None, Some(text)) => Keys::parse(text).map_err(Failure::new),
            (None, None) => Ok(Keys::default()),
        }
    }

    /// A string of the user's `config.json` (`detachKeys`, `psFormat`, …), which is read on first use.
    pub(crate) fn setting(&self, key: &str) -> Option<&str> {
        self.settings().get(key)?.as_str()
    }

    /// The user's `config.json`; null where there is none. A damaged file is reported once and then taken as empty.
    pub(crate) fn settings(&self) -> &serde_json::Value {
        self.settings.get_or_init(|| {
            let path = self.config.join("config.json");
            let Ok(text) = std::fs::read(&path) else { return serde_json::Value::Null };
            serde_json::from_slice(&text).unwrap_or_else(|error| {
                self.warn(&format!("read {}: {error}", path.display()));
                serde_json::Value::Null
            })
        })
    }
}

/// Prints a failure: one line, a hint, a pointer to the help.
pub(crate) fn report(failure: &Failure) {
    if failure.message.is_empty() {
        return;
    }
    let mut text = format!("kiste: {}\n", failure.message);
    if let Some(hint) = &failure.hint {
        text += &format!("hint: {hint}\n");
    }
    if let Some(footer) = &failure.footer {
        text += &format!("\n{footer}\n");
    }
    say(&text);
}

/// Writes to standard error in one piece; a closed standard error is nobody's loss.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
