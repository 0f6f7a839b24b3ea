//! Files of a container as archives, the three operations on which `cp` stands: what is at a path, an archive of it, and
//! an archive unpacked into a directory (moby `daemon/archive_unix.go`).

use std::ffi::OsStr;
use std::io::{Read, Write};

use image::Packer;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::thread::{capabilities, set_capabilities};
use serde::{Deserialize, Serialize};

use crate::files::Files;
use crate::files::paths::base;
use crate::files::unpack::{Target, absolute, unpack};
use crate::table::Container;
use crate::{Context as _, Engine, Error, Result, clock};

/// What is at a path in a container; the API's `X-Docker-Container-Path-Stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathStat {
    /// Last part of the path.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Go's `os.FileMode`.
    pub mode: u32,
    /// RFC 3339.
    pub mtime: String,
    /// Where a symbolic link leads in the end; empty for everything else.
    pub link_target: String,
}

/// Bits of Go's `os.FileMode`.
const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;
const DEVICE: u32 = 1 << 26;
const NAMED_PIPE: u32 = 1 << 25;
const SOCKET: u32 = 1 << 24;
const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const CHAR_DEVICE: u32 = 1 << 21;
const STICKY: u32 = 1 << 20;

impl PathStat {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode & DIRECTORY != 0
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        self.mode & SYMLINK != 0
    }

    /// Whether it is something that nothing can be copied to: a device, a pipe, a socket.
    pub fn is_special(&self) -> bool {
        self.mode & (DEVICE | NAMED_PIPE | SOCKET) != 0
    }
}

/// How an archive is unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtractOptions {
    /// A directory does not take the place of something else, nor the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything belongs to the user that the container runs as, if it names one.
    pub copy_uid_gid: bool,
}

/// A path in a container that is about to be archived.
pub struct PathArchive {
    /// What is there.
    pub stat: PathStat,
    files: Files,
    path: String,
}

impl Engine {
    /// What is at a path in the container.
    pub fn stat_path(&self, name: &str, path: &str) -> Result<PathStat> {
        let container = self.look_up(name)?;
        let files = self.files(&container)?;
        stat(&files, name, path)
    }

    /// Begins an archive of a path in the container.
    pub fn archive_path(&self, name: &str, path: &str) -> Result<PathArchive> {
        let container = self.look_up(name)?;
        let files = self.files(&container)?;
        let archive = PathArchive { stat: stat(&files, name, path)?, files, path: absolute(path) };
        self.container_event(&container, "archive-path", &[])?;
        Ok(archive)
    }

    /// Unpacks an archive, compressed or not, into a directory of the container. A cut-off archive leaves what came.
    pub fn extract_path(
        &self,
        name: &str,
        path: &str,
        archive: &mut (dyn Read + Send),
        options: ExtractOptions,
    ) -> Result<()> {
        if path.is_empty() {
            return Err(empty());
        }
        let container = self.look_up(name)?;
        let files = self.files(&container)?;
        let directory = files.follow(path)?;
        match files.status(&directory) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {}
            Ok(_) => return Err(Error::invalid("extraction point is not a directory")),
            Err(errno) => return Err(not_found(errno, name, path)),
        }
        check_writable(&container, &directory)?;
        let user = match options.copy_uid_gid {
            true => files.user(&container.config.user)?,
            false => None,
        };
        let owner = |user_id: u32, group_id: u32| {
            let (user_id, group_id) = user.unwrap_or((user_id, group_id));
            files.ids.outside(user_id, group_id)
        };
        let target = Target {
            root: &files.root,
            directory: &directory,
            follow: true,
            keep_kinds: options.no_overwrite_dir_non_dir,
            owner: Some(&owner),
        };
        as_root_of(&files, || unpack(archive, &target))?;
        self.container_event(&container, "extract-to-dir", &[])
    }
}

fn empty() -> Error {
    Error::invalid("bad parameter: pathcannot be empty")
}

fn not_found(errno: Errno, container: &str, path: &str) -> Error {
    match errno {
        Errno::NOENT => Error::not_found(format!("Could not find the file {path} in container {container}")),
        Errno::NOTDIR => Error::invalid(format!("lstat {}: not a directory", absolute(path))),
        errno => Error::internal(format!("lstat {}: {errno}", absolute(path))),
    }
}

fn stat(files: &Files, container: &str, path: &str) -> Result<PathStat> {
    if path.is_empty() {
        return Err(empty());
    }
    let wanted = absolute(path);
    let found = files.status(&wanted).map_err(|errno| not_found(errno, container, path))?;
    let link_target = match FileType::from_raw_mode(found.st_mode) {
        FileType::Symlink => files.follow(&wanted)?,
        _ => String::new(),
    };
    Ok(PathStat {
        name: base(&wanted).to_owned(),
        size: found.st_size,
        mode: go_mode(found.st_mode),
        mtime: clock::rfc3339(found.st_mtime.saturating_mul(1_000_000_000) + found.st_mtime_nsec as i64),
        link_target,
    })
}

fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => DIRECTORY,
        FileType::Symlink => SYMLINK,
        FileType::Fifo => NAMED_PIPE,
        FileType::Socket => SOCKET,
        FileType::BlockDevice => DEVICE,
        FileType::CharacterDevice => DEVICE | CHAR_DEVICE,
        _ => 0,
    };
    let bits = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)];
    bits.iter().filter(|(bit, _)| mode & bit != 0).fold(kind | mode & 0o777, |all, (_, bit)| all | bit)
}

impl PathArchive {
    /// Writes the archive: of a directory with everything in it. An error of `output` ends it.
    pub fn write(&self, output: &mut dyn Write) -> Result<()> {
        self.write_as(base(&self.path), output)
    }

    /// The same under another name.
    pub(crate) fn write_as(&self, name: &str, output: &mut dyn Write) -> Result<()> {
        let name = name.as_bytes();
        let owners = |user: u32, group: u32| self.files.ids.inside(user, group);
        let mut packer = Packer::new(output, &owners);
        let step = |errno: Errno| Error::internal(format!("open {}: {errno}", self.path));
        if self.stat.is_directory() {
            let directory = self.files.open(&self.path, OFlags::RDONLY | OFlags::DIRECTORY, true).map_err(step)?;
            packer.add_tree(&directory, OsStr::new("."), name)?;
        } else {
            let (parent, last) = self.files.parent(&self.path).map_err(step)?;
            packer.add_tree(&parent, OsStr::new(&last), name)?;
        }
        packer.finish()?;
        Ok(())
    }
}

/// Docker's refusals: nothing is written to what the container itself could not write to.
fn check_writable(container: &Container, directory: &str) -> Result<()> {
    let within = |place: &str| {
        let rest = directory.strip_prefix(place.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mount = container.mounts.iter().filter(|mount| within(&mount.point.destination));
    match mount.max_by_key(|mount| mount.point.destination.len()) {
        Some(mount) if !mount.point.rw => Err(Error::invalid("mounted volume is marked read-only")),
        None if container.host.readonly_rootfs => Err(Error::invalid("container rootfs is marked read-only")),
        _ => Ok(()),
    }
}

impl Files {
    /// The ids of `user[:group]`; none for nobody in particular.
    fn user(&self, text: &str) -> Result<Option<(u32, u32)>> {
        if text.is_empty() {
            return Ok(None);
        }
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let unknown = |what: &str| Error::invalid(format!("unable to find {what} in the container's files"));
        let passwd = self.table("/etc/passwd");
        let entry = passwd.iter().find(|fields| fields[0] == user || fields.get(2).is_some_and(|id| id == user));
        let number = |fields: &Vec<String>, at: usize| fields.get(at).and_then(|id| id.parse().ok());
        let uid = user.parse().ok().or_else(|| number(entry?, 2)).ok_or_else(|| unknown(&format!("user {user}")))?;
        let gid = match group {
            "" => entry.and_then(|entry| number(entry, 3)).unwrap_or(0),
            group => {
                let groups = self.table("/etc/group");
                let named = groups.iter().find(|fields| fields[0] == group).and_then(|entry| number(entry, 2));
                group.parse().ok().or(named).ok_or_else(|| unknown(&format!("group {group}")))?
            }
        };
        Ok(Some((uid, gid)))
    }

    /// A file of lines with fields; empty if there is none. At most a MiB of it is read.
    fn table(&self, path: &str) -> Vec<Vec<String>> {
        let mut text = Vec::new();
        let regular = |file: &std::os::fd::OwnedFd| {
            rustix::fs::fstat(file).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
        };
        if let Some(file) = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK, true).ok().filter(regular) {
            // What cannot be read names nobody.
            drop(std::fs::File::from(file).take(1 << 20).read_to_end(&mut text));
        }
        let text = String::from_utf8_lossy(&text);
        text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
    }
}

/// Runs `work` in a thread that makes files as the container's root: others could not be made through its id-mapped
/// mounts. The thread's other powers stay what they are.
fn as_root_of(files: &Files, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    if files.ids.is_same() {
        return work();
    }
    let (user, group) = files.ids.outside(0, 0);
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let step = || "become the container's root".to_owned();
            let capable = capabilities(None).step(step)?;
            let ids = linux::ids::set_fs_ids(user, group).step(step)?;
            set_capabilities(None, capable).step(step)?;
            let done = work();
            drop(ids);
            done
        });
        worker.join().unwrap_or_else(|_| Err(Error::internal("the thread that copies has died")))
    })
}
