//! Where an archive goes: standard output, unless that is a terminal, or a file, which appears when it is complete.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// An open receiver.
pub(crate) enum Output {
    /// Standard output.
    Standard(io::Stdout),
    /// A file under a temporary name.
    File(New),
}

/// A file that has its name once it is complete.
pub(crate) struct New {
    pub(crate) file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Output {
    /// Opens it; `what` begins Docker's errors (`failed to save image`).
    pub(crate) fn open(path: Option<&Path>, what: &str) -> Result<Self> {
        let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else {
            let out = io::stdout();
            return match out.is_terminal() {
                true => Err(Failure::new("cowardly refusing to save to a terminal. Use the -o flag or redirect")),
                false => Ok(Output::Standard(out)),
            };
        };
        let bad = |cause: String| Failure::new(format!("{what}: invalid output path: {cause}"));
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !directory.is_dir() {
            return Err(bad(format!("directory {:?} does not exist", directory.display().to_string())));
        }
        let file = path.file_name().ok_or_else(|| bad(format!("{:?} is no file name", path.display().to_string())))?;
        if path.metadata().is_ok_and(|data| !data.is_file()) {
            return Err(bad(format!("{:?} must be a regular file", path.display().to_string())));
        }
        let temporary = directory.join(format!(".{}.{}", file.display(), std::process::id()));
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = opened.map_err(|error| Failure::new(format!("create {}: {error}", temporary.display())))?;
        Ok(Output::File(New { file, temporary, path: path.to_owned() }))
    }

    /// All is written.
    pub(crate) fn finish(self) -> Result<()> {
        match self {
            Output::Standard(mut out) => Ok(out.flush()?),
            Output::File(new) => std::fs::rename(&new.temporary, &new.path)
                .map_err(|error| Failure::new(format!("rename {}: {error}", new.temporary.display()))),
        }
    }
}

/// An archive's outcome: a reader that has gone away is no news to anybody.
pub(crate) fn written<T>(outcome: engine::Result<T>) -> Result<T> {
    outcome.map_err(|error| match error.message.to_lowercase().ends_with(": broken pipe") {
        true => io::Error::from(io::ErrorKind::BrokenPipe).into(),
        false => error.into(),
    })
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::Standard(out) => out.write(bytes),
            Output::File(new) => new.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Output::Standard(out) => out.flush(),
            Output::File(new) => new.file.flush(),
        }
    }
}

impl Drop for New {
    fn drop(&mut self) {
        // Gone already if it was renamed.
        let _ = std::fs::remove_file(&self.temporary);
    }
}
