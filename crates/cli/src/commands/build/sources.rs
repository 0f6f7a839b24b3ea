//! Where the input of `kiste build` comes from, as it was typed: the context, the Dockerfile, named contexts, secrets and
//! agents.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;
use std::sync::Arc;

use build::{Agents, Archive, Cancel, LocalAgents, LocalSecrets, Recipe, Secret, Secrets};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use crate::failure::{Failure, Result};

/// Largest Dockerfile on standard input.
const LARGEST: u64 = 16 << 20;

/// The build context that was named. Standard input holds an archive or a Dockerfile alone; see [`recipe`], which must
/// look first.
pub(super) fn context(path: &str) -> Result<build::Context> {
    if path == "-" {
        return Ok(match input()? {
            Input::Archive(archive) => build::Context::Archive(archive),
            Input::Dockerfile(_) => build::Context::Nothing,
        });
    }
    if is_address(path) {
        return Ok(build::Context::Address(path.to_owned()));
    }
    let directory = PathBuf::from(path);
    if !directory.is_dir() {
        return Err(Failure::new(format!("unable to prepare context: path {path:?} not found")));
    }
    Ok(build::Context::Directory(directory))
}

/// Where the Dockerfile is: in the context, elsewhere on this machine, or on standard input.
pub(super) fn recipe(path: &str, file: Option<&str>) -> Result<Recipe> {
    match (path, file) {
        ("-", Some("-")) => {
            Err(Failure::new("invalid argument: can't use stdin for both build context and dockerfile"))
        }
        ("-", file) => match input()? {
            Input::Dockerfile(text) if file.is_none() => Ok(Recipe::Text(text)),
            Input::Dockerfile(_) => {
                Err(Failure::new("standard input is no archive, so it has no files to choose from"))
            }
            Input::Archive(_) => Ok(Recipe::InContext(file.map(str::to_owned))),
        },
        (_, Some("-")) => {
            let mut text = Vec::new();
            io::stdin().take(LARGEST).read_to_end(&mut text)?;
            Ok(Recipe::Text(text))
        }
        (path, Some(file)) if is_address(path) => Ok(Recipe::InContext(Some(file.to_owned()))),
        (_, Some(file)) => {
            // Named from where the command is called, and perhaps outside of the context.
            let file = PathBuf::from(file);
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
            let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = directory.map_or_else(|| PathBuf::from("."), PathBuf::from);
            if !file.exists() {
                let name = name.unwrap_or_default();
                let cause = "no such file or directory";
                return Err(Failure::new(format!("failed to solve: failed to read dockerfile: open {name}: {cause}")));
            }
            Ok(Recipe::In(build::Context::Directory(directory), name))
        }
        (_, None) => Ok(Recipe::InContext(None)),
    }
}

fn is_address(path: &str) -> bool {
    ["http://", "https://", "git://", "ssh://", "git@", "github.com/"].iter().any(|start| path.starts_with(start))
}

enum Input {
    Archive(Archive),
    Dockerfile(Vec<u8>),
}

/// What is on standard input; its beginning is read once.
fn input() -> Result<Input> {
    static FIRST: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let first = match FIRST.get() {
        Some(first) => first.clone(),
        None => {
            let mut first = Vec::new();
            io::stdin().take(512).read_to_end(&mut first)?;
            if !is_archive(&first) {
                io::stdin().take(LARGEST).read_to_end(&mut first)?;
            }
            FIRST.get_or_init(|| first).clone()
        }
    };
    Ok(match is_archive(&first) {
        true => Input::Archive(Archive::new(Cursor::new(first).chain(io::stdin()))),
        false => Input::Dockerfile(first),
    })
}

fn is_archive(start: &[u8]) -> bool {
    let magics: [&[u8]; 4] = [&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    start.get(257..262) == Some(b"ustar") || magics.iter().any(|magic| start.starts_with(magic))
}

/// `name=VALUE`
pub(super) fn named(text: &str) -> Result<(String, build::Context)> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
        .ok_or_else(|| Failure::new(format!("invalid context value: {text}, expected key=value")))?;
    let context = if let Some(image) = value.strip_prefix("docker-image://") {
        build::Context::Image(image.to_owned())
    } else if let Some(layout) = value.strip_prefix("oci-layout://") {
        build::Context::Layout(layout.to_owned())
    } else if let Some(stage) = value.strip_prefix("target:") {
        build::Context::Stage(stage.to_owned())
    } else if is_address(value) {
        build::Context::Address(value.to_owned())
    } else {
        let directory = PathBuf::from(value);
        if !directory.is_dir() {
            return Err(Failure::new(format!("failed to get build context {name}: {value:?} is no directory")));
        }
        build::Context::Directory(directory)
    };
    Ok((name.to_owned(), context))
}

/// `id=ID[,src=FILE|,env=NAME]`; without both a variable called like the id, or a file.
pub(super) fn secrets(texts: &[String]) -> Result<Arc<dyn Secrets>> {
    let mut all = BTreeMap::new();
    for text in texts {
        let (id, secret) = secret(text)?;
        all.insert(id, secret);
    }
    Ok(Arc::new(LocalSecrets(all)))
}

fn secret(text: &str) -> Result<(String, Secret)> {
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => file = Some(PathBuf::from(value)),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", value @ ("file" | "env"))) => kind = Some(value),
            Some(("type", value)) => return Err(Failure::new(format!("unsupported secret type {value:?}"))),
            _ => return Err(Failure::new(format!("unexpected key in secret {text:?}"))),
        }
    }
    let id = id.ok_or_else(|| Failure::new(format!("secret {text:?} has no id")))?;
    if kind == Some("env") && variable.is_none() {
        variable = Some(file.take().map_or_else(|| id.clone(), |file| file.to_string_lossy().into_owned()));
    }
    if let Some(name) = variable {
        let value = std::env::var_os(&name);
        let value = value.ok_or_else(|| Failure::new(format!("secret {id}: the variable {name} is not set")))?;
        return Ok((id, Secret::Bytes(value.into_encoded_bytes())));
    }
    if file.is_none()
        && let Some(value) = std::env::var_os(&id).filter(|_| kind != Some("file"))
    {
        return Ok((id, Secret::Bytes(value.into_encoded_bytes())));
    }
    let file = file.unwrap_or_else(|| PathBuf::from(&id));
    if !file.is_file() {
        return Err(Failure::new(format!("failed to stat {}: no such file", file.display())));
    }
    Ok((id, Secret::File(fs::canonicalize(&file).unwrap_or(file))))
}

/// `default`, `ID` or `ID=SOCKET`.
pub(super) fn agents(texts: &[String]) -> Result<Arc<dyn Agents>> {
    let mut all = BTreeMap::new();
    for text in texts {
        let (id, socket) = match text.split_once('=') {
            Some((id, socket)) => (id, Some(PathBuf::from(socket))),
            None => (text.as_str(), std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from)),
        };
        let missing = || Failure::new("invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set");
        all.insert(id.to_owned(), socket.ok_or_else(missing)?);
    }
    Ok(Arc::new(LocalAgents(all)))
}

/// From now on an interrupt stops the build, which cleans up.
pub(super) fn stop_on_signals(cancel: &Cancel) -> Result<()> {
    let caught = [Signal::INT, Signal::TERM, Signal::HUP].map(Signal::as_raw);
    let signals = linux::signalfd(&caught).map_err(|error| Failure::new(format!("signalfd: {error}")))?;
    let cancel = cancel.clone();
    std::thread::spawn(move || {
        loop {
            let waited = poll(&mut [PollFd::new(&signals, PollFlags::IN)], None);
            match waited.map_err(io::Error::from).and_then(|_| signals.read()) {
                Ok(Some(_)) => cancel.cancel(),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_say_where_they_are() {
        assert!(secret("src=x").is_err());
        assert!(secret("id=a,what=b").is_err());
        assert!(secret("id=a,env=KISTE_NO_SUCH_VARIABLE").is_err());
        assert_eq!(secret("id=a,src=/etc/passwd").unwrap(), ("a".into(), Secret::File("/etc/passwd".into())));
        assert!(matches!(secret("id=a,env=PATH").unwrap().1, Secret::Bytes(_)));
        assert!(matches!(secret("id=PATH").unwrap().1, Secret::Bytes(_)));
    }

    #[test]
    fn contexts_by_their_form() {
        assert!(matches!(named("a=docker-image://b").unwrap().1, build::Context::Image(_)));
        assert!(matches!(named("a=oci-layout:///b:c").unwrap().1, build::Context::Layout(_)));
        assert!(matches!(named("a=target:b").unwrap().1, build::Context::Stage(_)));
        assert!(matches!(named("a=https://b/c.git").unwrap().1, build::Context::Address(_)));
        assert!(matches!(named("a=/").unwrap().1, build::Context::Directory(_)));
        assert!(named("a=/no/such/place").is_err() && named("a").is_err());
    }
}
