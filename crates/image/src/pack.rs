//! Files of a tree that somebody else may be changing, as entries of a tar archive: names looked up by descriptor, links
//! never followed, nothing opened but regular files and directories. Which files, is the caller's business.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result, Step};
use crate::tarread::Kind;
use crate::tarwrite::{Header, TarWriter};
use crate::upper::{check_depth, names};

/// User and group as they are to stand in the archive.
pub type Owners<'a> = dyn Fn(u32, u32) -> (u32, u32) + 'a;

/// An archive that grows file by file.
pub struct Packer<'a, W> {
    tar: TarWriter<W>,
    owners: &'a Owners<'a>,
    /// Files with several names, by device and inode, and the first of the names.
    first: HashMap<(u64, u64), Vec<u8>>,
}

impl<'a, W: Write> Packer<'a, W> {
    /// A new archive.
    pub fn new(output: W, owners: &'a Owners<'a>) -> Self {
        Packer { tar: TarWriter::new(output), owners, first: HashMap::new() }
    }

    /// Adds what has this name in `directory`, itself and not what is below it, as `path`. The answer is what it is;
    /// nothing for what archives do not have (sockets) and for what has gone meanwhile.
    pub fn add(&mut self, directory: impl AsFd, name: &OsStr, path: &[u8]) -> Result<Option<Kind>> {
        match fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self.add_known(directory, name, path, &stat),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).step(|| format!("look at {}", shown(path))),
        }
    }

    /// The same, of which it is known what it is.
    pub fn add_known(&mut self, directory: impl AsFd, name: &OsStr, path: &[u8], stat: &Stat) -> Result<Option<Kind>> {
        let Some(kind) = kind_of(stat) else { return Ok(None) };
        let mut header = self.header(path, kind, stat);
        if kind != Kind::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.first.get(&(stat.st_dev, stat.st_ino)) {
                let link = Header { kind: Kind::HardLink, link: first.clone(), size: 0, ..header };
                return wrote(self.tar.entry(&link), path, Kind::HardLink);
            }
            self.first.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        match kind {
            Kind::File => self.file(directory, name, header),
            Kind::Symlink => {
                let target = fs::readlinkat(&directory, name, Vec::new());
                header.link = target.step(|| format!("read the link {}", shown(path)))?.into_bytes();
                wrote(self.tar.entry(&header), path, kind)
            }
            Kind::Directory => {
                if let Some(opened) = open(&directory, name, OFlags::DIRECTORY, path)? {
                    header.xattrs = attributes(&opened, path)?;
                }
                wrote(self.tar.entry(&header), path, kind)
            }
            _ => wrote(self.tar.entry(&header), path, kind),
        }
    }

    /// The same with everything that is below it, what is mounted there too; but nothing of file systems that are windows
    /// to the kernel (proc, sysfs, cgroup).
    pub fn add_tree(&mut self, directory: impl AsFd, name: &OsStr, path: &[u8]) -> Result<()> {
        self.add_level(directory.as_fd(), name, path, 0)
    }

    fn add_level(&mut self, directory: BorrowedFd<'_>, name: &OsStr, path: &[u8], depth: usize) -> Result<()> {
        check_depth(depth, path)?;
        if self.add(directory, name, path)? != Some(Kind::Directory) {
            return Ok(());
        }
        let inside = open(directory, name, OFlags::DIRECTORY, path)?.filter(|inside| !is_window_to_kernel(inside));
        let Some(inside) = inside else { return Ok(()) };
        let prefix = path.strip_suffix(b"/").unwrap_or(path);
        for name in names(&inside)? {
            self.add_level(inside.as_fd(), OsStr::from_bytes(&name), &[prefix, b"/", &name].concat(), depth + 1)?;
        }
        Ok(())
    }

    /// An entry that no file stands behind.
    pub fn note(&mut self, header: &Header) -> Result<()> {
        self.tar.entry(header).map_err(|error| failed(error, &header.path))
    }

    /// The end mark; the stream behind the archive.
    pub fn finish(self) -> Result<W> {
        self.tar.finish().map_err(|error| failed(error, b"the end mark"))
    }

    fn header(&self, path: &[u8], kind: Kind, stat: &Stat) -> Header {
        let (uid, gid) = (self.owners)(stat.st_uid, stat.st_gid);
        let device = match kind {
            Kind::Char | Kind::Block => (fs::major(stat.st_rdev), fs::minor(stat.st_rdev)),
            _ => (0, 0),
        };
        let (mode, mtime) = (stat.st_mode & 0o7777, stat.st_mtime);
        Header { mode, uid, gid, mtime, device, ..Header::new(path, kind) }
    }

    fn file(&mut self, directory: impl AsFd, name: &OsStr, mut header: Header) -> Result<Option<Kind>> {
        let Some(opened) = open(&directory, name, OFlags::NONBLOCK, &header.path)? else { return Ok(None) };
        let now = fs::fstat(&opened).step(|| format!("look at {}", shown(&header.path)))?;
        if FileType::from_raw_mode(now.st_mode) != FileType::RegularFile {
            return Ok(None); // Replaced since it was looked at.
        }
        header.size = now.st_size as u64;
        header.xattrs = attributes(&opened, &header.path)?;
        let written = self.tar.file(&header, File::from(opened)).map(drop);
        wrote(written, &header.path, Kind::File)
    }
}

fn wrote(result: io::Result<()>, path: &[u8], kind: Kind) -> Result<Option<Kind>> {
    result.map(|()| Some(kind)).map_err(|error| failed(error, path))
}

/// Opens for reading, without following a link; nothing if it has gone, or has become something else.
fn open(directory: impl AsFd, name: &OsStr, flags: OFlags, path: &[u8]) -> Result<Option<OwnedFd>> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match fs::openat(directory, name, flags, Mode::empty()) {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => Ok(None),
        Err(error) => Err(error).step(|| format!("open {}", shown(path))),
    }
}

fn kind_of(stat: &Stat) -> Option<Kind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::Char,
        FileType::BlockDevice => Kind::Block,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket | FileType::Unknown => return None,
    })
}

/// Whether a file is on a file system that shows the kernel's state: reading all of it means nothing, and writing to it
/// changes the machine.
pub fn is_window_to_kernel(file: impl AsFd) -> bool {
    // proc, sysfs, cgroup and cgroup2, debugfs, tracefs, securityfs, bpf, configfs, selinuxfs, efivarfs
    // (linux/magic.h).
    const MAGIC: [u64; 12] = [
        0x9fa0,
        0x6265_6572,
        0x27_e0eb,
        0x6367_7270,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xcafe_4a11,
        0x6265_6570,
        0xf97c_ff8c,
        0xde5e_81e4,
        0x6165_6673,
    ];
    fs::fstatfs(file).is_ok_and(|found| MAGIC.contains(&(found.f_type as u64)))
}

/// File capabilities, access lists and users' attributes; never overlay's own.
fn attributes(file: &OwnedFd, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = Vec::new();
    loop {
        names.resize(names.capacity().max(256), 0);
        match fs::flistxattr(file, &mut names[..]) {
            Ok(length) => break names.truncate(length),
            Err(Errno::RANGE) if names.len() < 1 << 20 => names.reserve(4 * names.len()),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(error) => return Err(error).step(|| format!("list the attributes of {}", shown(path))),
        }
    }
    let kept = |name: &&[u8]| {
        *name == b"security.capability"
            || name.starts_with(b"system.posix_acl_")
            || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
    };
    let mut found = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(kept) {
        let mut value = vec![0; 65_536];
        match fs::fgetxattr(file, OsStr::from_bytes(name), &mut value[..]) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA) => continue,
            Err(error) => return Err(error).step(|| format!("read an attribute of {}", shown(path))),
        }
        found.push((name.to_vec(), value));
    }
    Ok(found)
}

/// A failed write is the receiver's affair: its cause alone is of interest.
fn failed(error: io::Error, path: &[u8]) -> Error {
    Error::Step { step: format!("archive {}", shown(path)), cause: error.to_string() }
}

/// A path for messages.
pub(crate) fn shown(path: &[u8]) -> std::path::Display<'_> {
    Path::new(OsStr::from_bytes(path)).display()
}
