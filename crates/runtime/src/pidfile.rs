//! Files with a process's number, complete from the moment they exist.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::error::Step;
use crate::{Error, Result};

/// Writes `pid` to `path`: into a file beside it first, which is then renamed.
pub(crate) fn write(path: &Path, pid: i32) -> Result<()> {
    let what = || format!("write the pid file {}", path.display());
    let Some(name) = path.file_name() else { return Err(Error::new(format!("{}: not a file", what()))) };
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(temporary);
    let written = OpenOptions::new().write(true).create_new(true).open(&temporary).and_then(|mut file| {
        file.write_all(pid.to_string().as_bytes())?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.step(what)
}
