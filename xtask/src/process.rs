//! Running other programs: every failure names the command and its end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::Result;

/// A command with arguments.
pub(crate) fn command<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Runs it with this process's streams; an error if it fails.
pub(crate) fn run(command: &mut Command) -> Result {
    let status = command.status().map_err(|e| format!("{}: {e}", shown(command)))?;
    succeeded(command, status)
}

/// Runs it and returns what it wrote to standard output; an error if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{}: {e}", shown(command)))?;
    succeeded(command, output.status)?;
    String::from_utf8(output.stdout).map_err(|_| format!("{}: output is not UTF-8", shown(command)))
}

/// Runs it, shows its standard error as it comes and gives each line of it to `each`; how it ended.
pub(crate) fn watched(command: &mut Command, mut each: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(|e| format!("{}: {e}", shown(command)))?;
    if let Some(stream) = child.stderr.take() {
        for line in BufReader::new(stream).split(b'\n').map_while(std::result::Result::ok) {
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            each(&line);
        }
    }
    child.wait().map_err(|e| format!("wait for {}: {e}", shown(command)))
}

/// The program's path, if PATH has it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let standard = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(standard).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Names the file or directory that a step failed on.
pub(crate) fn at<T>(step: &str, path: &Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|e| format!("{step} {}: {e}", path.display()))
}

fn succeeded(command: &Command, status: ExitStatus) -> Result {
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", shown(command))) }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
