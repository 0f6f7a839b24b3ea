//! `cp`: between the host's files and a container's, by the rules of Docker's client (`cli/command/container/cp.go`,
//! moby `pkg/archive/copy.go`): what a destination that exists, or does not, or is a directory, means.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use image::Packer;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::files::paths::{
    asserts_directory, base, clean, has_final_slash, is_current_directory, join, keep_end, rebased, split,
};
use crate::files::unpack::{Target, absolute, unpack};
use crate::verbs::archive::ExtractOptions;
use crate::{Context as _, Engine, Error, Result};

/// How to copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// A source that is a symbolic link stands for what it points to.
    pub follow_link: bool,
    /// Files in the container belong to the user that it runs as, if it names one.
    pub archive: bool,
}

/// One side of a copy, as far as the rules need to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Side {
    path: String,
    exists: bool,
    is_directory: bool,
    /// What the source is to be called in the archive.
    name: Option<String>,
}

/// What is done to the names in an archive: this part of each becomes that.
type Rename = Option<(String, String)>;

impl Engine {
    /// Copies a path of the container's to one of the host's; how many bytes.
    pub fn copy_out(&self, container: &str, source: &str, destination: &str, options: CopyOptions) -> Result<u64> {
        let destination = local(destination)?;
        check_output(&destination)?;
        let mut side = Side { path: source.to_owned(), exists: true, ..Side::default() };
        if options.follow_link
            && let Ok(stat) = self.stat_path(container, source)
            && stat.is_link()
        {
            (side.path, side.name) = rebased(source, stat.link_target);
        }
        let archive = self.archive_path(container, &side.path)?;
        side.is_directory = archive.stat.is_directory();
        let mut name = base(&absolute(&side.path)).to_owned();
        if let Some(wanted) = &side.name {
            name = renamed(&name, &(split(&side.path).1, wanted.clone()));
        }
        let there = destination_side(&destination)?;
        let (directory, rename) = prepared(&side, &there)?;
        let name = rename.map_or_else(|| name.clone(), |rename| renamed(&name, &rename));
        through_pipe(
            |output| archive.write_as(&name, output),
            |input| {
                let root = open_directory(&directory)?;
                let target = Target { root: &root, directory: "", follow: false, keep_kinds: true, owner: None };
                unpack(input, &target)
            },
        )
    }

    /// Writes an archive of a path of the container's.
    pub fn copy_to_stream(
        &self,
        container: &str,
        source: &str,
        output: &mut dyn Write,
        options: CopyOptions,
    ) -> Result<()> {
        let mut source = source.to_owned();
        let stat = if options.follow_link { self.stat_path(container, &source).ok() } else { None };
        if let Some(stat) = stat.filter(super::archive::PathStat::is_link) {
            source = rebased(&source, stat.link_target).0;
        }
        self.archive_path(container, &source)?.write(output)
    }

    /// Copies a path of the host's to one of the container's; how many bytes.
    pub fn copy_in(&self, source: &str, container: &str, destination: &str, options: CopyOptions) -> Result<u64> {
        let source = local(source)?;
        let there = self.inner_destination(container, destination)?;
        let side = source_side(&source, options.follow_link)?;
        let (directory, rename) = prepared(&side, &there)?;
        let options = ExtractOptions { no_overwrite_dir_non_dir: true, copy_uid_gid: options.archive };
        let name = side.name.clone().unwrap_or_else(|| split(&side.path).1);
        let name = rename.map_or_else(|| name.clone(), |rename| renamed(&name, &rename));
        through_pipe(
            |output| pack(&side, &name, output),
            |input| self.extract_path(container, &directory, input, options),
        )
    }

    /// Unpacks an archive into a directory of the container's.
    pub fn copy_from_stream(
        &self,
        input: &mut (dyn Read + Send),
        container: &str,
        destination: &str,
        options: CopyOptions,
    ) -> Result<()> {
        let there = self.inner_destination(container, destination)?;
        if !there.is_directory {
            return Err(Error::invalid(format!("destination \"{container}:{destination}\" must be a directory")));
        }
        let options = ExtractOptions { no_overwrite_dir_non_dir: true, copy_uid_gid: options.archive };
        self.extract_path(container, &there.path, input, options)
    }

    /// What is at a destination in the container, or where its link leads.
    fn inner_destination(&self, container: &str, destination: &str) -> Result<Side> {
        self.look_up(container)?;
        let mut side = Side { path: destination.to_owned(), ..Side::default() };
        let mut found = self.stat_path(container, destination);
        if let Ok(stat) = &found
            && stat.is_link()
        {
            side.path.clone_from(&stat.link_target);
            found = self.stat_path(container, &side.path);
        }
        // Whatever is wrong with it shows when it is written to; the directory that it is in may exist.
        if let Ok(stat) = found {
            if stat.is_special() {
                return Err(Error::invalid(format!(
                    "destination \"{container}:{destination}\" must be a directory or a regular file"
                )));
            }
            (side.exists, side.is_directory) = (true, stat.is_directory());
        }
        Ok(side)
    }
}

/// An absolute path of the host's, with its final `/` or `/.`.
fn local(path: &str) -> Result<String> {
    if path.starts_with('/') {
        return Ok(keep_end(clean(path), path));
    }
    let here = std::env::current_dir().step(|| "find the current directory".to_owned())?;
    Ok(keep_end(join(&here.to_string_lossy(), path), path))
}

/// Docker's check of where output goes.
fn check_output(path: &str) -> Result<()> {
    let (directory, _) = split(path);
    if !asserts_directory(path) && !Path::new(&directory).exists() {
        return Err(Error::invalid(format!("invalid output path: directory {directory:?} does not exist")));
    }
    match fs::metadata(path) {
        Ok(data) if !data.is_dir() && !data.is_file() => {
            Err(Error::invalid(format!("invalid output path: {path:?} must be a directory or a regular file")))
        }
        _ => Ok(()),
    }
}

fn lstat(path: &str, error: &io::Error) -> Error {
    Error::not_found(format!("lstat {path}: {error}"))
}

/// A source of the host's: links before the last part are followed, the last one only if wanted.
fn source_side(path: &str, follow: bool) -> Result<Side> {
    let (resolved, name) = if follow {
        let resolved = fs::canonicalize(path).map_err(|error| lstat(path, &error))?;
        rebased(path, resolved.to_string_lossy().into_owned())
    } else {
        let (directory, last) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
        let resolved = fs::canonicalize(if directory.is_empty() { "." } else { directory });
        let resolved = resolved.map_err(|error| lstat(path, &error))?.to_string_lossy().into_owned();
        let resolved = format!("{}/{last}", resolved.trim_end_matches('/'));
        let name = (has_final_slash(path) && base(path) != base(&resolved)).then(|| base(path).to_owned());
        (resolved, name)
    };
    let data = fs::symlink_metadata(&resolved).map_err(|error| lstat(path, &error))?;
    Ok(Side { path: resolved, exists: true, is_directory: data.is_dir(), name })
}

/// A destination of the host's: a link stands for what it points to, which need not exist.
fn destination_side(path: &str) -> Result<Side> {
    let mut path = path.to_owned();
    for _ in 0..=10 {
        match fs::symlink_metadata(&path) {
            Ok(data) if data.is_symlink() => {
                let target = fs::read_link(&path).step(|| format!("read the link {path}"))?;
                let target = target.to_string_lossy().into_owned();
                path = if target.starts_with('/') { target } else { join(&split(&path).0, &target) };
            }
            Ok(data) => return Ok(Side { path, exists: true, is_directory: data.is_dir(), name: None }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (parent, _) = split(&path);
                let data = fs::metadata(&parent).map_err(|error| lstat(&parent, &error))?;
                return match data.is_dir() {
                    true => Ok(Side { path, ..Side::default() }),
                    false => Err(Error::invalid("not a directory")),
                };
            }
            Err(error) => return Err(lstat(&path, &error)),
        }
    }
    Err(Error::invalid(format!("too many symlinks in {path}")))
}

/// The directory in which the archive is unpacked, and what its entries must be called there.
fn prepared(source: &Side, there: &Side) -> Result<(String, Rename)> {
    if there.exists && there.is_directory {
        return Ok((there.path.clone(), None));
    }
    if there.exists && source.is_directory {
        return Err(Error::invalid("cannot copy directory"));
    }
    if !there.exists && !source.is_directory && asserts_directory(&there.path) {
        return Err(Error::not_found("no such directory"));
    }
    let (directory, name) = split(&there.path);
    let old = source.name.clone().unwrap_or_else(|| split(&source.path).1);
    Ok((directory, Some((old, name))))
}

/// What a name in the archive becomes.
fn renamed(name: &str, (old, new): &(String, String)) -> String {
    match old.as_str() {
        "/" => format!("{new}{name}"),
        old => name.replacen(old, new, 1),
    }
}

/// An archive of a path of the host's, under the given name.
fn pack(source: &Side, name: &str, output: &mut dyn Write) -> Result<()> {
    let (directory, last) = split(&source.path);
    let root = open_directory(&directory)?;
    let mut packer = Packer::new(output, &|user, group| (user, group));
    // A final slash makes a link mean its directory.
    if has_final_slash(&source.path) || is_current_directory(&source.path) {
        packer.add_tree(&open_directory(&source.path)?, ".".as_ref(), name.as_bytes())?;
    } else {
        packer.add_tree(&root, last.as_ref(), name.as_bytes())?;
    }
    packer.finish()?;
    Ok(())
}

fn open_directory(path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).step(|| format!("open {path}"))
}

/// Runs both ends of a pipe. If one fails the other one does too: the cause is what the writer says, unless it only
/// noticed that nobody reads.
fn through_pipe(
    write: impl FnOnce(&mut dyn Write) -> Result<()> + Send,
    read: impl FnOnce(&mut Counted) -> Result<()>,
) -> Result<u64> {
    let (reader, writer) = io::pipe().step(|| "make a pipe".to_owned())?;
    std::thread::scope(|scope| {
        let written = scope.spawn(move || {
            let mut writer = io::BufWriter::with_capacity(64 << 10, writer);
            write(&mut writer)?;
            writer.flush().step(|| "write to a pipe".to_owned())
        });
        let mut input = Counted { reader, count: 0 };
        let done = read(&mut input).map(|()| input.count);
        drop(input);
        let written = written.join().unwrap_or_else(|_| Err(Error::internal("the thread that archives has died")));
        match (done, written) {
            (Err(error), Err(cause))
                if cause.message.ends_with("broken pipe") || cause.message.ends_with("Broken pipe") =>
            {
                Err(error)
            }
            (_, Err(cause)) => Err(cause),
            (done, Ok(())) => done,
        }
    })
}

/// Counts what passes.
struct Counted {
    reader: io::PipeReader,
    count: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.count += got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(path: &str, exists: bool, is_directory: bool) -> Side {
        Side { path: path.to_owned(), exists, is_directory, name: None }
    }

    #[test]
    fn what_a_destination_means() {
        let file = side("/s/f", true, false);
        let directory = side("/s/d", true, true);
        let rename = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
        for (source, there, expected) in [
            (&file, side("/t", true, true), Ok(("/t", None))),
            (&file, side("/t/x", false, false), Ok(("/t", rename("f", "x")))),
            (&file, side("/t/x", true, false), Ok(("/t", rename("f", "x")))),
            (&file, side("/t/x/", false, false), Err("no such directory")),
            (&directory, side("/t/x/", false, false), Ok(("/t", rename("d", "x")))),
            (&directory, side("/t/x", true, false), Err("cannot copy directory")),
            (&side("/s/d/.", true, true), side("/t/x", false, false), Ok(("/t", rename(".", "x")))),
        ] {
            let found = prepared(source, &there).map_err(|error| error.message);
            let expected = expected.map(|(path, name)| (path.to_owned(), name)).map_err(str::to_owned);
            assert_eq!(found, expected, "{source:?} to {there:?}");
        }
        assert_eq!(renamed("/", &("/".to_owned(), "x".to_owned())), "x/");
        assert_eq!(renamed(".", &(".".to_owned(), "x".to_owned())), "x");
    }
}
