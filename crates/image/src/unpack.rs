//! Unpacks one layer archive into a directory that overlayfs can stack. The archive is hostile: every path is resolved
//! by the kernel beneath the layer's own directory (`openat2`), no link is followed out of it, no device is opened, and
//! attributes that would steer overlayfs are dropped. Whiteouts become overlayfs' own (OCI image spec, *Whiteouts*).

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use linux::namespace;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use crate::error::{Error, Result, Step};
use crate::tarread::{Entry, Kind, TarReader, damaged};
use crate::tree::Tree;
use crate::whiteout::Mark;
use crate::{attributes, limits, space};

/// Unpacks the whole archive into `directory`, which must exist and be empty; bytes of its files.
pub(crate) fn unpack(archive: impl Read, directory: &Path) -> Result<u64> {
    unpack_as(archive, directory, false)
}

/// Unpacks an archive that is no layer, perhaps compressed: names that mean something in layers are just names.
pub fn unpack_files(archive: impl Read, directory: &Path) -> Result<u64> {
    unpack_as(crate::inflate(archive)?, directory, true)
}

fn unpack_as(archive: impl Read, directory: &Path, plain: bool) -> Result<u64> {
    let mut unpacker = Unpacker {
        tree: Tree::open(directory)?,
        plain,
        directories: Vec::new(),
        directory_bytes: 0,
        size: 0,
        checked: 0,
        buffer: vec![0; 128 << 10],
    };
    let mut tar = TarReader::new(archive);
    unpacker.check_space()?;
    while let Some(entry) = tar.next()? {
        unpacker.apply(&entry, &mut tar).map_err(|error| at(&entry, error))?;
    }
    unpacker.finish()?;
    // What follows the end mark still belongs to the digest of the archive.
    std::io::copy(&mut tar.into_inner(), &mut std::io::sink()).map_err(damaged)?;
    Ok(unpacker.size)
}

struct Unpacker {
    tree: Tree,
    /// Whiteouts are files like others.
    plain: bool,
    /// Directories whose times are set at the end, because making entries changes them.
    directories: Vec<(PathBuf, (i64, u32))>,
    directory_bytes: usize,
    size: u64,
    checked: u64,
    buffer: Vec<u8>,
}

/// Names the entry in an error.
pub(crate) fn at(entry: &Entry, error: Error) -> Error {
    let name = String::from_utf8_lossy(&entry.path).into_owned();
    let name = if name.len() > 200 { format!("{}…", name.chars().take(200).collect::<String>()) } else { name };
    match error {
        Error::Untrusted(text) => Error::Untrusted(format!("layer entry {name:?}: {text}")),
        Error::Step { step, cause } => Error::Step { step: format!("unpack {name:?}: {step}"), cause },
        other => other,
    }
}

impl Unpacker {
    fn apply(&mut self, entry: &Entry, content: &mut impl Read) -> Result<()> {
        let path = clean(&entry.path)?;
        let Some(name) = path.file_name() else {
            return self.root(entry);
        };
        let parent = self.tree.parent(&path)?;
        if !self.plain
            && let Some(mark) = Mark::of(name.as_bytes())?
        {
            return self.whiteout(&path, &parent, &mark);
        }
        match entry.kind {
            Kind::Directory => self.directory(entry, &path, &parent, name),
            Kind::File => self.file(entry, content, &parent, name),
            Kind::HardLink => self.hard_link(entry, &path, &parent, name),
            Kind::Symlink => self.symlink(entry, &parent, name),
            Kind::Char | Kind::Block | Kind::Fifo => self.node(entry, &parent, name),
        }
    }

    /// The archive's `./`: what the container's `/` looks like.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::untrusted("the root is not a directory"));
        }
        let root = self.tree.open_directory(Path::new("."))?;
        set_metadata(&root, entry)?;
        self.remember(PathBuf::from("."), entry.mtime)
    }

    fn directory(&mut self, entry: &Entry, path: &Path, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        let opaque = match self.tree.lookup(parent, name)? {
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => false,
            Some(found) => {
                self.tree.remove(parent, name)?;
                make_directory(parent, name)?;
                is_whiteout(&found)
            }
            None => {
                make_directory(parent, name)?;
                false
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = fs::openat(parent, name, flags, Mode::empty()).step(|| "open the directory".into())?;
        if opaque {
            set_opaque(&directory)?;
        }
        set_metadata(&directory, entry)?;
        self.remember(path.to_owned(), entry.mtime)
    }

    fn file(&mut self, entry: &Entry, content: &mut impl Read, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        self.tree.clear(parent, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR).step(|| "create the file".into())?;
        let mut file = std::fs::File::from(file);
        match &entry.pieces {
            None => self.copy(content, entry.size, |bytes, _| file.write_all(bytes))?,
            Some(pieces) => {
                file.set_len(entry.size).step(|| "set the file's length".into())?;
                for &(offset, length) in pieces {
                    self.copy(content, length, |bytes, at| file.write_all_at(bytes, offset + at))?;
                }
            }
        }
        let file = OwnedFd::from(file);
        set_metadata(&file, entry)?;
        fs::futimens(&file, &times(entry.mtime)).step(|| "set the times".into())
    }

    /// Copies `length` bytes; `write` gets each chunk and its offset.
    fn copy(
        &mut self,
        content: &mut impl Read,
        length: u64,
        mut write: impl FnMut(&[u8], u64) -> std::io::Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < length {
            let wanted = self.buffer.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
            let got = content.read(&mut self.buffer[..wanted]).map_err(damaged)?;
            if got == 0 {
                return Err(Error::untrusted("the archive ends in the middle of the file"));
            }
            write(&self.buffer[..got], done).step(|| "write the file".into())?;
            done += got as u64;
            self.size += got as u64;
            if self.size - self.checked >= space::EVERY {
                self.check_space()?;
            }
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, path: &Path, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        let target = clean(&entry.link)?;
        if target == path {
            return Ok(());
        }
        let missing = || Error::untrusted(format!("hard link to {target:?}, which this layer does not have"));
        let target_name = target.file_name().ok_or_else(missing)?;
        let target_parent = self.tree.existing_parent(&target)?.ok_or_else(missing)?;
        let found = self.tree.lookup(&target_parent, target_name)?.ok_or_else(missing)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory || is_whiteout(&found) {
            return Err(missing());
        }
        self.tree.clear(parent, name)?;
        fs::linkat(&target_parent, target_name, parent, name, AtFlags::empty()).step(|| format!("link to {target:?}"))
    }

    fn symlink(&mut self, entry: &Entry, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        let target = OsStr::from_bytes(attributes::link_target(entry)?);
        self.tree.clear(parent, name)?;
        fs::symlinkat(target, parent, name).step(|| "create the symbolic link".into())?;
        self.size += target.len() as u64;
        set_owner_at(parent, name, entry)?;
        set_times_at(parent, name, entry.mtime)
    }

    /// Device nodes and FIFOs: made, never opened.
    fn node(&mut self, entry: &Entry, parent: &OwnedFd, name: &OsStr) -> Result<()> {
        let kind = match entry.kind {
            Kind::Char if entry.device == (0, 0) => {
                return Err(Error::untrusted("character device 0:0, which overlayfs would take for a deletion"));
            }
            Kind::Char => FileType::CharacterDevice,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        if kind != FileType::Fifo && namespace::is_rootless() {
            // Only root of the host may make devices. Containers get theirs in /dev; Podman leaves these out too.
            return self.tree.clear(parent, name);
        }
        self.tree.clear(parent, name)?;
        let device = if kind == FileType::Fifo { 0 } else { fs::makedev(entry.device.0, entry.device.1) };
        fs::mknodat(parent, name, kind, Mode::empty(), device).step(|| "make the node".into())?;
        set_owner_at(parent, name, entry)?;
        // The name is the node just made, in a directory that nobody else writes to: there is no link to follow.
        fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty()).step(|| "set the mode".into())?;
        set_times_at(parent, name, entry.mtime)
    }

    /// `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` all that they have in the directory. What this layer
    /// itself brings stays visible, wherever it stands in the archive.
    fn whiteout(&mut self, path: &Path, parent: &OwnedFd, mark: &Mark<'_>) -> Result<()> {
        let hidden = match mark {
            Mark::Bookkeeping => return Ok(()),
            Mark::Opaque => return set_opaque(&self.tree.open_directory(path.parent().unwrap_or(Path::new(".")))?),
            Mark::Hidden(name) => OsStr::from_bytes(name),
        };
        match self.tree.lookup(parent, hidden)? {
            None => fs::mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0)
                .step(|| "make the whiteout".into()),
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                set_opaque(&self.tree.open_directory(&path.with_file_name(hidden))?)
            }
            Some(_) => Ok(()),
        }
    }

    fn remember(&mut self, path: PathBuf, mtime: (i64, u32)) -> Result<()> {
        self.directory_bytes += path.as_os_str().len();
        if self.directory_bytes > limits::DIRECTORY_NAMES {
            return Err(Error::untrusted("the layer has too many directories"));
        }
        self.directories.push((path, mtime));
        Ok(())
    }

    /// Sets the directories' times, the deepest first.
    fn finish(&mut self) -> Result<()> {
        for (path, mtime) in std::mem::take(&mut self.directories).into_iter().rev() {
            match path.file_name() {
                None => {
                    fs::futimens(self.tree.open_directory(&path)?, &times(mtime)).step(|| "set the times".into())?
                }
                Some(name) => {
                    // Entries further on may have replaced it, or what is above it by a link to anywhere.
                    if let Ok(Some(parent)) = self.tree.existing_parent(&path)
                        && self.tree.lookup(&parent, name)?.is_some()
                    {
                        set_times_at(&parent, name, mtime)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn check_space(&mut self) -> Result<()> {
        self.checked = self.size;
        space::check(self.tree.root())
    }
}

/// The path within the layer: no `..`, bounded, and a leading slash means the layer's root, as for Docker.
pub(crate) fn clean(name: &[u8]) -> Result<PathBuf> {
    if name.len() >= limits::PATH {
        return Err(Error::untrusted(format!("path of {} bytes", name.len())));
    }
    let mut path = PathBuf::new();
    let mut depth = 0;
    for part in name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            return Err(Error::untrusted("the path leads out of the layer (`..`)"));
        }
        if part.len() > 255 || part.contains(&0) {
            return Err(Error::untrusted("malformed or overlong name"));
        }
        depth += 1;
        path.push(OsStr::from_bytes(part));
    }
    if depth > limits::DEPTH {
        return Err(Error::untrusted(format!("path of {depth} components, more than the {} allowed", limits::DEPTH)));
    }
    Ok(path)
}

/// Owner before mode and attributes: changing it clears the setuid bit and file capabilities.
fn set_metadata(file: &OwnedFd, entry: &Entry) -> Result<()> {
    let (uid, gid) = (fs::Uid::from_raw(entry.uid), fs::Gid::from_raw(entry.gid));
    owned(fs::fchown(file, Some(uid), Some(gid)), entry)?;
    fs::fchmod(file, Mode::from_raw_mode(entry.mode)).step(|| "set the mode".into())?;
    for (name, value) in attributes::kept(entry)? {
        match fs::fsetxattr(file, OsStr::from_bytes(&name), &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(error) => {
                let name = String::from_utf8_lossy(&name);
                return Err(error).step(|| format!("set the extended attribute {name:?}"));
            }
        }
    }
    Ok(())
}

fn set_owner_at(parent: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
    let (uid, gid) = (fs::Uid::from_raw(entry.uid), fs::Gid::from_raw(entry.gid));
    owned(fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW), entry)
}

/// An owner that does not exist in our user namespace: where there is one id only, everything is its.
fn owned(done: rustix::io::Result<()>, entry: &Entry) -> Result<()> {
    match done {
        Err(Errno::INVAL) if namespace::has_one_id() => Ok(()),
        Err(Errno::INVAL) if namespace::is_rootless() => Err(Error::Step {
            step: "set the owner".into(),
            cause: format!(
                "there is no {}:{} among the ids of this user; give them more in /etc/subuid and /etc/subgid",
                entry.uid, entry.gid
            ),
        }),
        other => other.step(|| "set the owner".into()),
    }
}

fn set_times_at(parent: &OwnedFd, name: &OsStr, mtime: (i64, u32)) -> Result<()> {
    fs::utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW).step(|| "set the times".into())
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    Timestamps { last_access: time, last_modification: time }
}

fn make_directory(parent: &OwnedFd, name: &OsStr) -> Result<()> {
    fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)).step(|| "make the directory".into())
}

/// The attribute by which overlayfs knows an opaque directory: root of a user namespace may not write `trusted` ones, and
/// mounts with `userxattr`.
pub(crate) fn opaque_attribute() -> &'static str {
    if namespace::is_rootless() { "user.overlay.opaque" } else { "trusted.overlay.opaque" }
}

pub(crate) fn set_opaque(directory: &OwnedFd) -> Result<()> {
    fs::fsetxattr(directory, opaque_attribute(), b"y", XattrFlags::empty()).step(|| "mark a directory as opaque".into())
}

pub(crate) fn is_whiteout(found: &fs::Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == 0
}
