//! What a container has changed, read from overlay's upper directory alone: whiteouts, opaque directories and files that
//! were copied up. Each file in it is compared with the one below it; nothing else of the image is looked at.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result, Step};
use crate::limits;
use crate::pack::{Packer, shown};
use crate::tarread::Kind;
use crate::tarwrite::Header;
use crate::unpack::{is_whiteout, opaque_attribute};

/// How a path differs from the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The image has it, in another form.
    Modified,
    /// The image does not have it.
    Added,
    /// Only the image has it.
    Deleted,
}

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Without a leading slash.
    pub path: Vec<u8>,
    /// How.
    pub kind: ChangeKind,
}

/// A container's writable directory over its image.
pub struct Upper<'a> {
    /// Overlay's upper directory.
    pub upper: &'a OwnedFd,
    /// The image's files as one tree.
    pub lower: &'a OwnedFd,
    /// Paths that only exist because something was mounted there: they do not count while they are empty.
    pub places: &'a [&'a str],
}

/// How far files that look the same are trusted to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// Type, mode, owner, size and time (Docker's `diff`).
    ByStatus,
    /// The content too. The root directory itself may be among the changes, as `.`.
    ByContent,
}

impl Upper<'_> {
    /// All changes, a directory before what is in it.
    pub fn changes(&self, same: Same) -> Result<Vec<Change>> {
        let root = |tree: &OwnedFd| {
            let opened = subdirectory(tree, OsStr::new("."))?.ok_or_else(|| Error::untrusted("no root directory"))?;
            let stat = fs::fstat(&opened).step(|| "look at the root directory".into())?;
            Ok::<_, Error>((opened, stat))
        };
        let ((upper, ours), (lower, theirs)) = (root(self.upper)?, root(self.lower)?);
        let mut walk = Walk { places: self.places, same, found: Vec::new() };
        if same == Same::ByContent && !same_status(&ours, &theirs) {
            walk.push(b".".to_vec(), ChangeKind::Modified);
        }
        walk.directory(&Level { upper, lower: Some(lower), path: Vec::new(), depth: 0, hides: false })?;
        Ok(walk.found)
    }

    /// The changes as a layer's archive (OCI image specification, *Changesets*). What an opaque directory hides is
    /// among them name by name.
    pub fn write_layer(&self, changes: &[Change], output: impl Write) -> Result<()> {
        let mut packer = Packer::new(output, &|uid, gid| (uid, gid));
        for change in changes {
            let (parent, name) = split(&change.path);
            if change.kind == ChangeKind::Deleted {
                packer.note(&Header::new([parent, b".wh.", name].concat(), Kind::File))?;
                continue;
            }
            let parent = OsStr::from_bytes(if parent.is_empty() { b"." } else { parent });
            if let Some(directory) = subdirectory(self.upper, parent)? {
                packer.add(&directory, OsStr::from_bytes(name), &change.path)?;
            }
        }
        packer.finish().map(drop)
    }
}

/// Directory with its slash, and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1))
}

/// A directory on the way, and the image's below it.
struct Level {
    upper: OwnedFd,
    lower: Option<OwnedFd>,
    path: Vec<u8>,
    depth: usize,
    /// What the image has here does not show through: the directory is opaque, or in one that is.
    hides: bool,
}

struct Walk<'a> {
    places: &'a [&'a str],
    same: Same,
    found: Vec<Change>,
}

impl Walk<'_> {
    fn directory(&mut self, level: &Level) -> Result<()> {
        check_depth(level.depth, &level.path)?;
        let mut all = names(&level.upper)?;
        if let (true, Some(lower)) = (level.hides, &level.lower) {
            all.extend(names(lower)?);
            all.sort_unstable();
            all.dedup();
        }
        all.iter().try_for_each(|name| self.name(level, name))
    }

    fn name(&mut self, level: &Level, name: &[u8]) -> Result<()> {
        let path = joined(&level.path, name);
        let ours = status(&level.upper, name)?.filter(|stat| !is_whiteout(stat));
        let theirs = level.lower.as_ref().map(|lower| status(lower, name)).transpose()?.flatten();
        match (ours, theirs) {
            (None, None) => {}
            (None, Some(_)) => self.push(path, ChangeKind::Deleted),
            (Some(ours), theirs) if is_directory(&ours) => {
                return self.inside(level, name, path, &ours, theirs.as_ref());
            }
            (Some(ours), None) if self.is_place(&path) && ours.st_size == 0 => {}
            (Some(_), None) => self.push(path, ChangeKind::Added),
            (Some(ours), Some(theirs)) => {
                if !self.is_same(level, name, &ours, &theirs)? {
                    self.push(path, ChangeKind::Modified);
                }
            }
        }
        Ok(())
    }

    /// A directory counts if it is new or of other attributes, or if something in it has changed.
    fn inside(&mut self, level: &Level, name: &[u8], path: Vec<u8>, ours: &Stat, theirs: Option<&Stat>) -> Result<()> {
        let Some(upper) = subdirectory(&level.upper, OsStr::from_bytes(name))? else { return Ok(()) };
        let lower = match &level.lower {
            Some(lower) if theirs.is_some_and(is_directory) => subdirectory(lower, OsStr::from_bytes(name))?,
            _ => None,
        };
        let hides = level.hides || is_opaque(&upper, &path)?;
        let at = self.found.len();
        let level = Level { upper, lower, path, depth: level.depth + 1, hides };
        self.directory(&level)?;
        let changed = self.found.len() > at;
        let counts = match theirs {
            Some(theirs) => changed || !same_status(ours, theirs),
            None => changed || !self.is_made_for_places(&level)?,
        };
        if counts {
            let kind = if theirs.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
            self.found.insert(at, Change { path: level.path, kind });
        }
        Ok(())
    }

    fn push(&mut self, path: Vec<u8>, kind: ChangeKind) {
        self.found.push(Change { path, kind });
    }

    /// Whether it is a place for a mount.
    fn is_place(&self, path: &[u8]) -> bool {
        self.places.iter().any(|place| place.as_bytes() == path)
    }

    /// Whether a new directory, in which nothing counts, is a place for a mount, or was made on the way to one.
    fn is_made_for_places(&self, level: &Level) -> Result<bool> {
        let path = &level.path[..];
        let leads = |place: &&str| place.as_bytes().strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/"));
        Ok(self.is_place(path) || (self.places.iter().any(leads) && !names(&level.upper)?.is_empty()))
    }

    fn is_same(&self, level: &Level, name: &[u8], ours: &Stat, theirs: &Stat) -> Result<bool> {
        let Some(lower) = level.lower.as_ref().filter(|_| same_status(ours, theirs)) else { return Ok(false) };
        let (upper, name) = (&level.upper, OsStr::from_bytes(name));
        Ok(match FileType::from_raw_mode(ours.st_mode) {
            FileType::Symlink => {
                let read = |tree: &OwnedFd| fs::readlinkat(tree, name, Vec::new()).step(|| "read a link".into());
                read(upper)? == read(lower)?
            }
            FileType::RegularFile => {
                let (Some(ours), Some(theirs)) = (file(upper, name)?, file(lower, name)?) else { return Ok(false) };
                capability(&ours) == capability(&theirs)
                    && (self.same == Same::ByStatus
                        || equal(ours, theirs).step(|| format!("read {}", name.display()))?)
            }
            _ => true,
        })
    }
}

pub(crate) fn check_depth(depth: usize, path: &[u8]) -> Result<()> {
    if depth <= limits::DEPTH {
        return Ok(());
    }
    let start = shown(&path[..path.len().min(60)]).to_string();
    Err(Error::Invalid(format!("directories nested more than {} deep below {start}", limits::DEPTH)))
}

pub(crate) fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

/// Names in a directory, sorted.
pub(crate) fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let step = || "list a directory".to_owned();
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).step(step)? {
        let entry = entry.step(step)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_bytes().to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What has this name; nothing where there is none, or no way there.
pub(crate) fn status(directory: &OwnedFd, name: &[u8]) -> Result<Option<Stat>> {
    match fs::statat(directory, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error).step(|| format!("look at {}", shown(name))),
    }
}

/// Opens a directory of the tree, following no link and leaving no file system; nothing if there is none.
pub(crate) fn subdirectory(directory: &OwnedFd, name: &OsStr) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match fs::openat2(directory, name, flags, Mode::empty(), rules) {
        Ok(opened) => Ok(Some(opened)),
        // Below a `host:` image other file systems are mounted, which do not belong to it.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        Err(error) => Err(error).step(|| format!("open the directory {}", name.display())),
    }
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Whether overlay's mark says that the directory hides the one below. Directories that were moved need the image to be
/// understood; containers never have them, as their overlays are mounted without that.
pub(crate) fn is_opaque(directory: &OwnedFd, path: &[u8]) -> Result<bool> {
    if mark(directory, "trusted.overlay.redirect", path)?.is_some() {
        let text = format!("{} was moved inside overlay (redirect_dir), which cannot be told as a change", shown(path));
        return Err(Error::Invalid(text));
    }
    Ok(mark(directory, opaque_attribute(), path)?.is_some_and(|value| value == b"y"))
}

/// The first byte of one of overlay's notes about a file; empty if it is long.
fn mark(file: &OwnedFd, name: &str, path: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut value = [0; 8];
    match fs::fgetxattr(file, name, &mut value[..]) {
        Ok(length) => Ok(Some(value[..length.min(1)].to_vec())),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(Errno::RANGE) => Ok(Some(Vec::new())),
        Err(error) => Err(error).step(|| format!("read overlay's marks of {}", shown(path))),
    }
}

/// Docker's comparison: type, mode and owner, of what is no directory also device, size and time.
fn same_status(ours: &Stat, theirs: &Stat) -> bool {
    let who = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid);
    let what = |stat: &Stat| {
        let device = matches!(FileType::from_raw_mode(stat.st_mode), FileType::CharacterDevice | FileType::BlockDevice);
        (if device { stat.st_rdev } else { 0 }, stat.st_size, stat.st_mtime, stat.st_mtime_nsec)
    };
    who(ours) == who(theirs) && (is_directory(ours) || what(ours) == what(theirs))
}

fn file(directory: &OwnedFd, name: &OsStr) -> Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match fs::openat(directory, name, flags, Mode::empty()) {
        Ok(opened) => Ok(Some(opened.into())),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
        Err(error) => Err(error).step(|| format!("open {}", name.display())),
    }
}

fn capability(file: &File) -> Option<Vec<u8>> {
    let mut value = vec![0; 64];
    let length = fs::fgetxattr(file, "security.capability", &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn equal(mut ours: File, mut theirs: File) -> io::Result<bool> {
    let (mut a, mut b) = (vec![0; 128 << 10], vec![0; 128 << 10]);
    loop {
        let got = ours.read(&mut a)?;
        if got == 0 {
            return Ok(theirs.read(&mut b[..1])? == 0);
        }
        match theirs.read_exact(&mut b[..got]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            done => done?,
        }
        if a[..got] != b[..got] {
            return Ok(false);
        }
    }
}
