//! Trees of files that COPY and ADD read: a context directory (without what `.dockerignore` leaves out) or an image.
//! Everything is looked up by descriptor inside the tree; links are followed only in the way to a source, never out.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use image::TarKind;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, statat};
use rustix::io::Errno;

use crate::ignore::{Matcher, Parent};
use crate::{Error, Result};

/// Deepest directory that is walked: each level holds a descriptor.
const DEEPEST: usize = 500;
/// Most links that are followed in one path, as the kernel has it.
const MOST_LINKS: usize = 40;

/// A tree.
pub struct Tree {
    root: OwnedFd,
    ignore: Matcher,
    /// Who owns what is in it on the machine that sends it does not matter: everything is root's.
    anonymous: bool,
    /// The time of everything in it, if it is not that of the files.
    time: Option<i64>,
}

/// Something in a tree.
#[derive(Clone, Debug)]
pub struct Found {
    /// Relative to where the walk began; empty: the beginning itself.
    pub path: Vec<u8>,
    /// Relative to the tree's root, all links resolved.
    pub real: Vec<u8>,
    /// What it is.
    pub kind: TarKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of a file.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Device number.
    pub device: (u32, u32),
    /// It has several names.
    pub linked: bool,
    /// Tells this state of a file from others.
    pub stamp: Stamp,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Device of the file system.
    pub device: u64,
    /// Number of the file there.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// When the content was changed, in nanoseconds since 1970.
    pub modified: i64,
    /// When anything of it was changed, in nanoseconds since 1970.
    pub changed: i64,
}

impl Stamp {
    fn of(stat: &Stat) -> Self {
        let time =
            |seconds: i64, nanoseconds: u64| seconds.wrapping_mul(1_000_000_000).wrapping_add(nanoseconds as i64);
        Stamp {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size as u64,
            modified: time(stat.st_mtime, stat.st_mtime_nsec),
            changed: time(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

impl Tree {
    /// A build context on this machine.
    pub fn context(directory: &Path, ignore: Matcher) -> Result<Self> {
        let root = open_directory(CWD, directory.as_os_str().as_bytes())
            .map_err(|error| Error::new(format!("unable to prepare context: open {}: {error}", directory.display())))?;
        Ok(Tree { root, ignore, anonymous: true, time: None })
    }

    /// The files of an image.
    pub fn image(root: OwnedFd) -> Self {
        Tree { root, ignore: Matcher::default(), anonymous: false, time: None }
    }

    /// The same, with this time for everything in it if there is one.
    pub(crate) fn at(self, time: Option<i64>) -> Self {
        Tree { time, ..self }
    }

    /// What a path leads to, links followed inside the tree; none if there is nothing, or it is left out.
    pub fn find(&self, path: &str) -> Result<Option<Found>> {
        Ok(self.look(path)?.filter(|found| self.is_kept(&found.real)))
    }

    /// The same, left out or not.
    fn look(&self, path: &str) -> Result<Option<Found>> {
        let relative = if path.trim_matches('/').is_empty() { "." } else { path.trim_start_matches('/') };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let opened = match openat2(&self.root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(Error::new(format!("open {path}: {error}"))),
        };
        let real = self.real(&opened)?;
        let stat = rustix::fs::fstat(&opened).map_err(|error| Error::new(format!("look at {path}: {error}")))?;
        Ok(self.found(Vec::new(), real, &stat))
    }

    fn is_kept(&self, real: &[u8]) -> bool {
        real.is_empty() || !self.ignore.matches_deep(&String::from_utf8_lossy(real)) || self.holds_kept(real)
    }

    /// Sources of COPY: wildcards in each name of the path (Go's `filepath.Match`); sorted.
    pub fn glob(&self, pattern: &str) -> Result<Vec<Found>> {
        let pattern = crate::ignore::clean(&format!("/{pattern}"));
        if !has_wildcards(&pattern) {
            return Ok(self.find(&unescape(&pattern))?.into_iter().collect());
        }
        let mut paths = vec![String::new()];
        for name in pattern.split('/').filter(|name| !name.is_empty()) {
            let mut next = Vec::new();
            for path in &paths {
                next.extend(self.matching(path, name)?);
            }
            paths = next;
        }
        let mut found = Vec::new();
        for path in &paths {
            found.extend(self.find(path)?);
        }
        Ok(found)
    }

    fn matching(&self, directory: &str, name: &str) -> Result<Vec<String>> {
        if !has_wildcards(name) {
            return Ok(vec![format!("{directory}/{}", unescape(name))]);
        }
        let regex = crate::ignore::name_regex(name)
            .ok_or_else(|| Error::new(format!("pattern {name:?}: syntax error in pattern")))?;
        let Some(start) = self.find(directory)?.filter(|found| found.kind == TarKind::Directory) else {
            return Ok(Vec::new());
        };
        let fd = self.open(&start.real, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let names = names(&fd)?.into_iter().map(|name| String::from_utf8_lossy(&name).into_owned());
        Ok(names.filter(|name| regex.is_match(name)).map(|name| format!("{directory}/{name}")).collect())
    }

    /// Everything from a place down, parents before children, by name; what is left out is not there. Its own first.
    pub fn walk(&self, start: &Found) -> Result<Vec<Found>> {
        let mut all = vec![start.clone()];
        if start.kind == TarKind::Directory {
            let mut parent = Parent::default();
            let text = String::from_utf8_lossy(&start.real).into_owned();
            let ends = text.match_indices('/').map(|(index, _)| index).chain((!text.is_empty()).then_some(text.len()));
            for end in ends {
                parent = self.ignore.matches(&text[..end], &parent).1;
            }
            let fd = self.open(&start.real, OFlags::RDONLY | OFlags::DIRECTORY)?;
            self.walk_into(&fd, start, &parent, 0, &mut all)?;
        }
        Ok(all)
    }

    fn walk_into(
        &self,
        fd: &OwnedFd,
        above: &Found,
        parent: &Parent,
        depth: usize,
        all: &mut Vec<Found>,
    ) -> Result<()> {
        if depth == DEEPEST {
            return Err(Error::new(format!("{}: directories are nested too deeply", show(&above.real))));
        }
        for name in names(fd)? {
            let (path, real) = (join(&above.path, &name), join(&above.real, &name));
            let (left_out, below) = self.ignore.matches(&String::from_utf8_lossy(&real), parent);
            let failed = |error: Errno| Error::new(format!("look at {}: {error}", show(&real)));
            let stat = match statat(fd, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(failed(error)),
            };
            let Some(found) = self.found(path, real.clone(), &stat) else { continue };
            let directory = found.kind == TarKind::Directory;
            if left_out && !(directory && self.holds_kept(&real)) {
                continue;
            }
            // A directory that is only there for what is below it goes again if there is nothing.
            let (index, before) = (all.len(), found.clone());
            all.push(found);
            if directory {
                let inner = open_directory(fd, &name).map_err(failed)?;
                self.walk_into(&inner, &before, &below, depth + 1, all)?;
                if left_out && all.len() == index + 1 {
                    all.pop();
                }
            }
        }
        Ok(())
    }

    fn holds_kept(&self, real: &[u8]) -> bool {
        self.ignore.may_take_back_below(&String::from_utf8_lossy(real))
    }

    /// Opens a file for reading.
    pub fn read(&self, found: &Found) -> Result<File> {
        self.open(&found.real, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK).map(File::from)
    }

    /// An error if a file is not as it was found any more. Images do not change.
    pub(crate) fn check_unchanged(&self, found: &Found, file: &File) -> Result<()> {
        let stat =
            rustix::fs::fstat(file).map_err(|error| Error::new(format!("look at {}: {error}", show(&found.real))))?;
        if self.anonymous && Stamp::of(&stat) != found.stamp {
            return Err(Error::new(format!("{} changed while it was read", show(&found.real))));
        }
        Ok(())
    }

    /// Whether its files are somebody's who may change them.
    pub(crate) fn is_context(&self) -> bool {
        self.anonymous
    }

    /// Extended attributes that go with a file: its capabilities and those of users.
    pub(crate) fn attributes(&self, file: &File) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut names = vec![0; 16 << 10];
        let Ok(length) = rustix::fs::flistxattr(file, &mut names) else { return Vec::new() };
        let kept = |name: &&[u8]| name.starts_with(b"user.") || *name == b"security.capability";
        let names = names[..length].split(|byte| *byte == 0).filter(kept);
        let value = |name: &[u8]| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::fgetxattr(file, name, &mut value).ok()?;
            value.truncate(length);
            Some((name.to_vec(), value))
        };
        names.filter_map(value).collect()
    }

    /// Target of a symbolic link.
    pub fn target(&self, found: &Found) -> Result<Vec<u8>> {
        let link = self.open(&found.real, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = rustix::fs::readlinkat(&link, "", Vec::new());
        target.map(|text| text.into_bytes()).map_err(|error| Error::new(format!("read {}: {error}", show(&found.real))))
    }

    /// A small file's text; none if there is no such file.
    pub fn text(&self, path: &str) -> Result<Option<String>> {
        let bytes = self.bytes(path, 16 << 20)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The beginning of a file, whatever the ignore patterns say; none if there is no such file.
    pub(crate) fn bytes(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        let Some(found) = self.look(path)?.filter(|found| found.kind == TarKind::File) else { return Ok(None) };
        let mut bytes = Vec::new();
        let failed = |error: io::Error| Error::new(format!("read {path}: {error}"));
        self.read(&found)?.take(most).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    /// Looks up a resolved path: no link may be in it any more.
    fn open(&self, real: &[u8], flags: OFlags) -> Result<OwnedFd> {
        let path = if real.is_empty() { b".".as_slice() } else { real };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
            .map_err(|error| Error::new(format!("open {}: {error}", show(real))))
    }

    /// Where a path leads to, links followed inside the tree, also where there is nothing yet.
    pub fn resolve(&self, path: &[u8]) -> Result<Vec<u8>> {
        let (mut rest, mut real, mut links) = (backwards(path), Vec::new(), 0);
        while let Some(name) = rest.pop() {
            match name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    real.truncate(real.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = join(&real, &name);
            let Some(target) = self.link(&next)? else {
                real = next;
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return Err(Error::new(format!("{}: too many links", show(path))));
            }
            if target.starts_with(b"/") {
                real.clear();
            }
            rest.extend(backwards(&target));
        }
        Ok(real)
    }

    /// Target of the link at a resolved path; none: there is no link.
    fn link(&self, real: &[u8]) -> Result<Option<Vec<u8>>> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let failed = |error: Errno| Error::new(format!("look at {}: {error}", show(real)));
        let opened = match openat2(&self.root, real, flags, Mode::empty(), resolve) {
            Ok(opened) => opened,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let stat = rustix::fs::fstat(&opened).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(None);
        }
        rustix::fs::readlinkat(&opened, "", Vec::new()).map(|text| Some(text.into_bytes())).map_err(failed)
    }

    /// Where in the tree a descriptor is.
    fn real(&self, opened: &OwnedFd) -> Result<Vec<u8>> {
        let name = |fd: &OwnedFd| -> Result<Vec<u8>> {
            let link = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            link.map(|path| path.into_os_string().into_vec())
                .map_err(|error| Error::new(format!("find a file: {error}")))
        };
        let (root, path) = (name(&self.root)?, name(opened)?);
        let rest = path.strip_prefix(root.as_slice()).unwrap_or(&path);
        Ok(rest.strip_prefix(b"/").unwrap_or(rest).to_vec())
    }

    fn found(&self, path: Vec<u8>, real: Vec<u8>, stat: &Stat) -> Option<Found> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => TarKind::File,
            FileType::Directory => TarKind::Directory,
            FileType::Symlink => TarKind::Symlink,
            FileType::CharacterDevice => TarKind::Char,
            FileType::BlockDevice => TarKind::Block,
            FileType::Fifo => TarKind::Fifo,
            // A socket means nothing without its process.
            _ => return None,
        };
        let (uid, gid) = if self.anonymous { (0, 0) } else { (stat.st_uid, stat.st_gid) };
        let size = if kind == TarKind::File { stat.st_size as u64 } else { 0 };
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let stamp = Stamp::of(stat);
        let mtime = self.time.unwrap_or(stat.st_mtime);
        let (mode, linked) = (stat.st_mode & 0o7777, stat.st_nlink > 1);
        Some(Found { path, real, kind, mode, uid, gid, size, mtime, device, linked, stamp })
    }
}

/// The names of a path, the last one first.
fn backwards(path: &[u8]) -> Vec<Vec<u8>> {
    path.rsplit(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
}

fn open_directory(at: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The names in a directory, sorted.
fn names(fd: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let failed = |error: Errno| Error::new(format!("list a directory: {error}"));
    let mut names = Vec::new();
    for entry in Dir::read_from(fd).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Two parts of a path.
pub(crate) fn join(above: &[u8], name: &[u8]) -> Vec<u8> {
    if above.is_empty() { name.to_vec() } else { [above, b"/", name].concat() }
}

/// For people.
pub(crate) fn show(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// A pattern without wildcards as the name that it means.
pub(crate) fn unescape(name: &str) -> String {
    let mut letters = name.chars();
    let mut plain = String::with_capacity(name.len());
    while let Some(letter) = letters.next() {
        plain.extend(if letter == '\\' { letters.next() } else { Some(letter) });
    }
    plain
}

/// Whether a name is a pattern.
pub(crate) fn has_wildcards(name: &str) -> bool {
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '*' | '?' | '[' => return true,
            '\\' => drop(letters.next()),
            _ => {}
        }
    }
    false
}
