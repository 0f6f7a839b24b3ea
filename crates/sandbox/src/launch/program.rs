//! Finding the program inside the container, executing it, and saying exactly what is missing if that fails.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use linux::exec::{Strings, c_string, execve};
use oci_spec::runtime::Process;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::Error;

/// Where programs are looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with everything that it is executed with, checked and ready.
pub(super) struct Program {
    name: String,
    path: Option<String>,
    args: Strings,
    env: Strings,
}

impl Program {
    /// From the configuration; `home` is used if the environment names none.
    pub(super) fn new(process: &Process, home: Option<&str>) -> Result<Self, Error> {
        let args = process.args().as_deref().unwrap_or_default();
        let Some(name) = args.first().cloned() else {
            return Err(Error::Invalid("process.args: no command specified".into()));
        };
        let mut env = process.env().clone().unwrap_or_default();
        if let Some(malformed) = env.iter().find(|variable| variable.starts_with('=') || variable.is_empty()) {
            return Err(Error::Invalid(format!("invalid environment variable: {malformed:?}")));
        }
        if !env.iter().any(|variable| variable.starts_with("HOME=")) {
            env.push(format!("HOME={}", home.unwrap_or("/")));
        }
        // The last one of a name counts, as in a shell.
        let path = env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).map(str::to_owned);
        let invalid = |error: io::Error| Error::Invalid(error.to_string());
        let (args, env) = (Strings::new(args).map_err(invalid)?, Strings::new(&env).map_err(invalid)?);
        Ok(Self { name, path, args, env })
    }

    /// Becomes the program; returns only with the reason why not.
    pub(super) fn execute(&self) -> Error {
        let path = match self.find() {
            Ok(path) => path,
            Err(error) => return error,
        };
        match c_string(path.as_os_str().as_bytes()) {
            Ok(c_path) => self.explain(&path, execve(&c_path, &self.args, &self.env)),
            Err(error) => Error::Invalid(error.to_string()),
        }
    }

    /// Whether there is something to execute at all; whether it can be executed, only the attempt shows.
    pub(super) fn check(&self) -> Result<(), Error> {
        let path = self.find()?;
        let refused = match rustix::fs::stat(&path) {
            Err(errno) => errno,
            Ok(_) if is_directory(&path) => Errno::ACCESS,
            Ok(_) => may_execute(&path).err().unwrap_or(Errno::PERM),
        };
        match refused {
            Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP => Err(self.explain(&path, refused.into())),
            // All is well, or the seccomp filter does not let us ask.
            _ => Ok(()),
        }
    }

    /// The file to execute: a name with a slash as it is, else the first executable file of that name on PATH.
    fn find(&self) -> Result<PathBuf, Error> {
        if self.name.contains('/') {
            return Ok(PathBuf::from(&self.name));
        }
        let directories = self.path.as_deref().unwrap_or(DEFAULT_PATH).split(':');
        let candidates = directories.map(|directory| Path::new(if directory.is_empty() { "." } else { directory }));
        match candidates.map(|directory| directory.join(&self.name)).find(|path| is_program(path)) {
            Some(path) if !self.name.is_empty() => Ok(path),
            _ => Err(Error::CommandNotFound(format!("exec: {:?}: executable file not found in $PATH", self.name))),
        }
    }

    fn explain(&self, path: &Path, error: io::Error) -> Error {
        let name = &self.name;
        let text = |why: &str| format!("exec: {name:?}: {why}");
        match error.raw_os_error() {
            Some(libc::ENOENT) => Error::CommandNotFound(match missing_part(path) {
                Some(part) => text(&format!("no such file or directory: {part}")),
                None => format!("exec: {name:?}: stat {}: no such file or directory", path.display()),
            }),
            Some(libc::ENOTDIR) => {
                Error::CommandNotFound(format!("exec: {name:?}: stat {}: not a directory", path.display()))
            }
            Some(libc::EACCES) if is_directory(path) => Error::NotExecutable(text("is a directory")),
            Some(libc::EACCES) => Error::NotExecutable(text("permission denied")),
            Some(libc::ENOEXEC) => Error::NotExecutable(text(&format!("exec format error: {}", format_hint(path)))),
            _ => Error::NotExecutable(text(&super::step::describe(&error))),
        }
    }
}

fn is_program(path: &Path) -> bool {
    let regular = rustix::fs::stat(path).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile);
    regular && may_execute(path) != Err(Errno::ACCESS)
}

/// Whether the permissions let us execute a file. The filter may already be loaded, and profiles often do not know the
/// younger call that looks at effective ids: it is used only if the older one, whose ids are the same here, says no.
fn may_execute(path: &Path) -> rustix::io::Result<()> {
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).map_err(|errno| match errno {
                Errno::PERM | Errno::NOSYS => Errno::ACCESS,
                other => other,
            })
        }
        other => other,
    }
}

fn is_directory(path: &Path) -> bool {
    rustix::fs::stat(path).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory)
}

/// The file exists and yet the kernel says it does not: its interpreter or its loader is missing.
fn missing_part(path: &Path) -> Option<String> {
    let (head, file) = head(path)?;
    let (what, part) = match head.strip_prefix(b"#!") {
        Some(line) => ("interpreter", interpreter(line)?),
        None => ("loader", loader(&head, &file)?),
    };
    let part = PathBuf::from(OsStr::from_bytes(&part));
    let hint = match part.to_string_lossy() {
        name if name.ends_with('\r') => " (the script has Windows line ends)",
        _ => "",
    };
    let exists = rustix::fs::stat(&part).is_ok();
    (!exists).then(|| format!("its {what} {:?} does not exist in the container{hint}", part.display()))
}

/// What the file is, when it is nothing that the kernel can execute.
fn format_hint(path: &Path) -> String {
    const MACHINES: [(u16, &str); 10] = [
        (3, "386"),
        (8, "mips"),
        (20, "ppc"),
        (21, "ppc64le"),
        (22, "s390x"),
        (40, "arm"),
        (62, "amd64"),
        (183, "arm64"),
        (243, "riscv64"),
        (258, "loong64"),
    ];
    let Some((head, _)) = head(path) else { return "the file cannot be read".into() };
    if head.is_empty() {
        return "the file is empty".into();
    }
    if !head.starts_with(b"\x7fELF") || head.len() < 20 {
        return "the file is no program for Linux (a script needs a first line such as #!/bin/sh)".into();
    }
    let bytes = [head[18], head[19]];
    let number = if head[5] == 2 { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    let machine = MACHINES.iter().find(|(known, _)| *known == number);
    let machine = machine.map_or(format!("machine {number}"), |(_, name)| (*name).to_owned());
    format!("the program is for {machine}, this machine is {}", host_architecture())
}

/// As images name it.
fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The first page of a regular file, and the file.
fn head(path: &Path) -> Option<(Vec<u8>, File)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd: OwnedFd = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let regular = FileType::from_raw_mode(rustix::fs::fstat(&fd).ok()?.st_mode) == FileType::RegularFile;
    let file = File::from(fd);
    let mut head = Vec::new();
    (&file).take(4096).read_to_end(&mut head).ok().filter(|_| regular)?;
    Some((head, file))
}

/// The program that a script's first line (without `#!`) names.
fn interpreter(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let line = line.trim_ascii_start();
    let name = line.split(|byte| *byte == b' ' || *byte == b'\t').next()?;
    (!name.is_empty()).then(|| name.to_vec())
}

/// The dynamic loader (PT_INTERP) of a 64-bit little-endian ELF file (elf(5)).
fn loader(head: &[u8], file: &File) -> Option<Vec<u8>> {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)? as usize, number(54, 2)? as usize, number(56, 2)? as usize);
    let entry =
        (0..count).map_while(|index| table.checked_add(index * size)).find(|at| number(*at, 4) == Some(PT_INTERP))?;
    let (offset, length) = (number(entry + 8, 8)?, number(entry + 32, 8)?);
    let mut name = vec![0; usize::try_from(length).ok().filter(|length| (1..4096).contains(length))?];
    file.read_exact_at(&mut name, offset).ok()?;
    name.pop();
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters() {
        assert_eq!(interpreter(b" /bin/bash -e\nx").unwrap(), b"/bin/bash");
        assert_eq!(interpreter(b"/bin/sh\r\n").unwrap(), b"/bin/sh\r");
        assert_eq!(interpreter(b"\n"), None);
    }

    #[test]
    fn missing_loader_of_a_real_program() {
        // The test binary itself is static; any dynamic program of the host has a loader that exists.
        let path = Path::new("/bin/ls");
        let (head, file) = head(path).unwrap();
        let loader = loader(&head, &file).unwrap();
        assert!(loader.starts_with(b"/lib"), "{}", String::from_utf8_lossy(&loader));
        assert_eq!(missing_part(path), None);
    }

    #[test]
    fn truncated_elf_is_no_panic() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        for length in 0..64 {
            std::fs::write(&path, &b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..length]).unwrap();
            assert_eq!(missing_part(&path), None);
            format_hint(&path);
        }
        assert!(format_hint(&path).contains("arm64"));
    }
}
