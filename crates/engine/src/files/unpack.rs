//! Takes an archive apart into a directory tree that somebody else may be changing: a container's, or one of the host's
//! that a container's files are copied to. Every path is resolved by the kernel inside the tree's root, and the last
//! part of a name is never followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use image::{TarEntry, TarKind, TarReader};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat, openat2, statat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;

use super::paths;
use crate::{Context as _, Error, Result, tree};

/// Who owns what is unpacked: takes user and group of an entry.
pub(crate) type Owner<'a> = dyn Fn(u32, u32) -> (u32, u32) + Sync + 'a;

/// Where an archive goes.
pub(crate) struct Target<'a> {
    /// The root that nothing leads out of.
    pub(crate) root: &'a OwnedFd,
    /// The directory below it that the entries are in.
    pub(crate) directory: &'a str,
    /// Whether links on the way are followed (inside the root), as in a container, or an error.
    pub(crate) follow: bool,
    /// A directory does not take the place of something else, nor the other way round.
    pub(crate) keep_kinds: bool,
    /// None: whoever calls.
    pub(crate) owner: Option<&'a Owner<'a>>,
}

/// Longest path and deepest nesting that an archive may have.
const LONGEST: usize = 4096;
const DEEPEST: usize = 256;

/// Unpacks all entries.
pub(crate) fn unpack(archive: &mut dyn Read, target: &Target<'_>) -> Result<()> {
    // An archive that is damaged is a bad request, and no image that is to be fetched again.
    let bad = |error: image::Error| Error { hint: None, ..Error::from(error) };
    let mut tar = TarReader::new(image::inflate(archive).map_err(bad)?).with_open_end();
    let mut unpacker = Unpacker { target, last: None, directories: Vec::new(), buffer: vec![0; 128 << 10] };
    while let Some(entry) = tar.next().map_err(bad)? {
        unpacker.entry(&entry, &mut tar)?;
    }
    unpacker.finish()
}

/// Unpacks an archive, compressed or not, into an empty directory of ours: a build context. Everything belongs to whoever
/// calls, and nothing gets out of the directory.
pub fn unpack_archive(archive: &mut dyn Read, directory: &OwnedFd) -> Result<()> {
    unpack(archive, &Target { root: directory, directory: "", follow: false, keep_kinds: false, owner: None })
}

struct Unpacker<'a> {
    target: &'a Target<'a>,
    /// The directory of the last entry.
    last: Option<(PathBuf, OwnedFd)>,
    /// Directories whose times are set at the end, because making entries changes them.
    directories: Vec<(PathBuf, i64, u32)>,
    buffer: Vec<u8>,
}

/// An errno with the step it stopped at; the path is added by the caller.
type Stopped = (&'static str, Errno);

fn at(step: &'static str) -> impl Fn(Errno) -> Stopped {
    move |errno| (step, errno)
}

impl Unpacker<'_> {
    fn entry(&mut self, entry: &TarEntry, content: &mut impl Read) -> Result<()> {
        let path = self.inside(&entry.path)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else { return Ok(()) };
        let shown = path.display().to_string();
        let fail = |(step, errno): Stopped| Error::internal(format!("{step} {shown}: {errno}"));
        let parent = self.parent(&path).map_err(fail)?;
        if self.make_room(&parent, &name, entry, &shown)? {
            return self.directory(&parent, &name, entry, &path, true).map_err(fail);
        }
        match entry.kind {
            TarKind::Directory => self.directory(&parent, &name, entry, &path, false).map_err(fail),
            TarKind::File => {
                let file = self.create(&parent, &name).map_err(fail)?;
                self.fill(entry, content, &file).step(|| format!("write {shown}"))?;
                self.attributes(&OwnedFd::from(file), entry).map_err(fail)
            }
            TarKind::HardLink => self.link(&parent, &name, entry).map_err(fail),
            _ => self.special(&parent, &name, entry).map_err(fail),
        }
    }

    /// The path below the root that an entry's name means; an error if it leads out of the directory.
    fn inside(&self, name: &[u8]) -> Result<PathBuf> {
        let shown = || String::from_utf8_lossy(&name[..name.len().min(200)]).into_owned();
        let mut path = PathBuf::from(self.target.directory.trim_start_matches('/'));
        let mut depth = 0;
        for part in name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            match part {
                b".." if depth == 0 => {
                    return Err(Error::invalid(format!("{:?} is outside of the destination", shown())));
                }
                b".." => {
                    depth -= 1;
                    path.pop();
                }
                part => {
                    depth += 1;
                    path.push(OsStr::from_bytes(part));
                }
            }
        }
        if name.len() > LONGEST || depth > DEEPEST || name.contains(&0) {
            return Err(Error::invalid(format!("the archive has an impossible name: {:?}", shown())));
        }
        Ok(if depth == 0 { PathBuf::new() } else { path })
    }

    /// The directory that a path is in; what is missing is made.
    fn parent(&mut self, path: &Path) -> Result<OwnedFd, Stopped> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some((last, opened)) = &self.last
            && last == parent
        {
            return opened
                .try_clone()
                .map_err(|error| ("open the directory of", Errno::from_io_error(&error).unwrap_or(Errno::IO)));
        }
        let opened = match self.resolve(parent) {
            Err(Errno::NOENT) => self.make(parent),
            Ok(opened) if image::is_window_to_kernel(&opened) => Err(Errno::ACCESS),
            opened => opened,
        };
        let opened = opened.map_err(at("open the directory of"))?;
        let copy = rustix::io::fcntl_dupfd_cloexec(&opened, 3).map_err(at("open the directory of"))?;
        self.last = Some((parent.to_owned(), copy));
        Ok(opened)
    }

    fn resolve(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        resolve(self.target.root, path, self.target.follow)
    }

    /// Makes a directory and its parents.
    fn make(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        match self.resolve(path) {
            Err(Errno::NOENT) => {}
            found => return found,
        }
        let name = path.file_name().ok_or(Errno::NOENT)?;
        let parent = self.make(path.parent().unwrap_or(Path::new("")))?;
        mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
        if let Some(owner) = self.target.owner {
            let (user, group) = owner(0, 0);
            own(&parent, name, user, group)?;
        }
        self.resolve(path)
    }

    /// Takes away what an entry replaces; whether a directory stays to become the entry's.
    fn make_room(&mut self, parent: &OwnedFd, name: &OsStr, entry: &TarEntry, shown: &str) -> Result<bool> {
        let step = || format!("replace {shown}");
        let found = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            found => found.step(step)?,
        };
        let (is, becomes) =
            (FileType::from_raw_mode(found.st_mode) == FileType::Directory, entry.kind == TarKind::Directory);
        let shown = format!("{:?}", format!("/{shown}"));
        let directory = || format!("{:?}", self.target.directory);
        match (is, becomes) {
            (true, true) => return Ok(true),
            (true, false) if self.target.keep_kinds => {
                Err(Error::invalid(format!("cannot overwrite directory {shown} with non-directory {}", directory())))
            }
            (false, true) if self.target.keep_kinds => {
                Err(Error::invalid(format!("cannot overwrite non-directory {shown} with directory {}", directory())))
            }
            (true, false) => {
                self.last = None;
                tree::remove_at(parent.as_fd(), name).step(step)
            }
            (false, _) => unlinkat(parent, name, AtFlags::empty()).step(step),
        }?;
        Ok(false)
    }

    fn directory(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        entry: &TarEntry,
        path: &Path,
        exists: bool,
    ) -> Result<(), Stopped> {
        if !exists {
            mkdirat(parent, name, Mode::from_raw_mode(0o700)).map_err(at("make the directory"))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(parent, name, flags, Mode::empty()).map_err(at("open the directory"))?;
        self.attributes(&opened, entry)?;
        self.directories.push((path.to_owned(), entry.mtime.0, entry.mtime.1));
        Ok(())
    }

    fn create(&self, parent: &OwnedFd, name: &OsStr) -> Result<File, Stopped> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map(File::from).map_err(at("create"))
    }

    /// Writes a file's content; the holes of a sparse one stay holes.
    fn fill(&mut self, entry: &TarEntry, content: &mut impl Read, file: &File) -> std::io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let whole = [(0, entry.size)];
        let pieces = entry.pieces().unwrap_or(&whole);
        if entry.pieces().is_some() {
            file.set_len(entry.size)?;
        }
        for (mut offset, length) in pieces.iter().copied() {
            let end = offset + length;
            while offset < end {
                let wanted = self.buffer.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
                let got = content.read(&mut self.buffer[..wanted])?;
                if got == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                file.write_all_at(&self.buffer[..got], offset)?;
                offset += got as u64;
            }
        }
        Ok(())
    }

    /// Owner first: changing it clears set-id bits and file capabilities.
    fn attributes(&self, file: &OwnedFd, entry: &TarEntry) -> Result<(), Stopped> {
        if let Some(owner) = self.target.owner {
            let (user, group) = owner(entry.uid, entry.gid);
            fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group))).map_err(at("set the owner of"))?;
        }
        fchmod(file, Mode::from_raw_mode(entry.mode & 0o7777)).map_err(at("set the mode of"))?;
        for (name, value) in &entry.xattrs {
            let wanted =
                name == b"security.capability" || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
            match fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
                _ if !wanted => {}
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(errno) => return Err(("set an extended attribute of", errno)),
            }
        }
        futimens(file, &times(entry.mtime.0, entry.mtime.1)).map_err(at("set the times of"))
    }

    /// Another name of something that the archive (or the destination) has already.
    fn link(&self, parent: &OwnedFd, name: &OsStr, entry: &TarEntry) -> Result<(), Stopped> {
        let target = self.inside(&entry.link).map_err(|_| ("link to something outside:", Errno::ACCESS))?;
        let from = self.resolve(target.parent().unwrap_or(Path::new(""))).map_err(at("find the target of the link"))?;
        let target = target.file_name().ok_or(("find the target of the link", Errno::NOENT))?;
        linkat(&from, target, parent, name, AtFlags::empty()).map_err(at("make the link"))
    }

    fn special(&self, parent: &OwnedFd, name: &OsStr, entry: &TarEntry) -> Result<(), Stopped> {
        let device = makedev(entry.device.0, entry.device.1);
        let node = |kind: FileType, device: u64| mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device);
        match entry.kind {
            TarKind::Symlink => symlinkat(OsStr::from_bytes(&entry.link), parent, name),
            TarKind::Fifo => node(FileType::Fifo, 0),
            TarKind::Char => node(FileType::CharacterDevice, device),
            _ => node(FileType::BlockDevice, device),
        }
        .map_err(at("make"))?;
        if let Some(owner) = self.target.owner {
            let (user, group) = owner(entry.uid, entry.gid);
            own(parent, name, user, group).map_err(at("set the owner of"))?;
        }
        if entry.kind != TarKind::Symlink {
            // AT_SYMLINK_NOFOLLOW needs fchmodat2; whoever swaps the node for a link can only reach what is inside.
            match chmodat(parent, name, Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOSYS | Errno::OPNOTSUPP) | Ok(()) => {}
                Err(errno) => return Err(("set the mode of", errno)),
            }
        }
        utimensat(parent, name, &times(entry.mtime.0, entry.mtime.1), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(at("set the times of"))
    }

    /// Sets the directories' times, the last ones first.
    fn finish(self) -> Result<()> {
        for (path, seconds, nanoseconds) in self.directories.iter().rev() {
            let Some(name) = path.file_name() else { continue };
            let Ok(parent) = self.resolve(path.parent().unwrap_or(Path::new(""))) else { continue };
            match utimensat(&parent, name, &times(*seconds, *nanoseconds), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(Error::internal(format!("set the times of {}: {errno}", path.display()))),
            }
        }
        Ok(())
    }
}

/// Opens a directory below `root`, for finding names in it.
pub(crate) fn resolve(root: &OwnedFd, path: &Path, follow: bool) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let rules = match follow {
        true => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        false => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    };
    openat2(root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), rules)
}

fn own(parent: &OwnedFd, name: &OsStr, user: u32, group: u32) -> rustix::io::Result<()> {
    chownat(parent, name, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(seconds: i64, nanoseconds: u32) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// A container's path as one below its root.
pub(crate) fn absolute(path: &str) -> String {
    paths::keep_end(paths::join("/", path), path)
}
