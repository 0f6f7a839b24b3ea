//! Receives a client's files (`FileSync/DiffCopy`, fsutil's protocol): it tells what it has, we ask for what differs from
//! last time, and remove what is no longer there. Paths are looked up by descriptor inside the directory, and no link is
//! ever followed.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, chmodat, fchmod, futimens, linkat,
    makedev, mkdirat, mknodat, openat, openat2, readlinkat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::proto::{Packet, Stat};
use super::session::Session;
use super::wire::Sender;

/// Kinds of packets.
pub(super) const STAT: i32 = 0;
pub(super) const REQUEST: i32 = 1;
pub(super) const DATA: i32 = 2;
pub(super) const FINISH: i32 = 3;
pub(super) const FAILURE: i32 = 4;

/// Bits of Go's `os.FileMode`.
pub(super) const DIRECTORY: u32 = 1 << 31;
pub(super) const SYMLINK: u32 = 1 << 27;
pub(super) const DEVICE: u32 = 1 << 26;
pub(super) const PIPE: u32 = 1 << 25;
pub(super) const SOCKET: u32 = 1 << 24;
pub(super) const SETUID: u32 = 1 << 23;
pub(super) const SETGID: u32 = 1 << 22;
pub(super) const CHARACTERS: u32 = 1 << 21;
pub(super) const STICKY: u32 = 1 << 20;

/// Most files of a context.
const MOST: usize = 20_000_000;
/// Longest path.
const LONGEST: usize = 4096;

const METHOD: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// Makes a directory hold what the client has; how many bytes were transferred. Blocks.
pub(crate) fn receive(
    session: &Session,
    metadata: &[(String, String)],
    directory: &Path,
    tell: &mut dyn FnMut(u64),
) -> Result<u64, String> {
    let root = openat(rustix::fs::CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| format!("open {}: {error}", directory.display()))?;
    let runtime = session.runtime.clone();
    let _inside = runtime.enter();
    let (sender, mut packets) = session.channel.call(METHOD, metadata).map_err(|status| status.message)?;
    let mut receiver = Receiver::new(root, requests(&runtime, sender));
    loop {
        let packet = runtime.block_on(packets.next::<Packet>()).map_err(|status| status.message)?;
        let Some(packet) = packet else { break };
        let before = receiver.bytes;
        receiver.take(packet)?;
        if receiver.bytes != before {
            tell(receiver.bytes);
        }
    }
    packets.outcome().map_err(|status| status.message)?;
    if !receiver.finishing {
        return Err("the client stopped sending its files".to_owned());
    }
    Ok(receiver.bytes)
}

/// A way to send packets that never waits: the client may wait for us to read while it does not read itself.
fn requests(runtime: &tokio::runtime::Handle, sender: Sender) -> mpsc::UnboundedSender<Packet> {
    let (requests, mut waiting) = mpsc::unbounded_channel::<Packet>();
    runtime.spawn(async move {
        while let Some(packet) = waiting.recv().await {
            if sender.send(&packet).await.is_err() {
                break;
            }
        }
    });
    requests
}

/// A file that has been asked for.
struct Wanted {
    path: PathBuf,
    stat: Stat,
}

struct Receiver {
    root: OwnedFd,
    /// The directory of the last entry.
    parent: Option<(PathBuf, OwnedFd)>,
    seen: HashSet<PathBuf>,
    /// Directories with their times, which are set when everything is in place.
    directories: Vec<(PathBuf, i64)>,
    wanted: HashMap<u32, Wanted>,
    writing: HashMap<u32, (File, Wanted)>,
    requests: mpsc::UnboundedSender<Packet>,
    count: u32,
    bytes: u64,
    /// The client has told everything that it has.
    listed: bool,
    finishing: bool,
}

impl Receiver {
    fn new(root: OwnedFd, requests: mpsc::UnboundedSender<Packet>) -> Self {
        Receiver {
            root,
            parent: None,
            seen: HashSet::new(),
            directories: Vec::new(),
            wanted: HashMap::new(),
            writing: HashMap::new(),
            requests,
            count: 0,
            bytes: 0,
            listed: false,
            finishing: false,
        }
    }

    fn take(&mut self, packet: Packet) -> Result<(), String> {
        match packet.kind {
            STAT => match packet.stat {
                Some(stat) if !self.listed => self.entry(stat)?,
                Some(_) => return Err("the client sent a file after the last one".to_owned()),
                None => self.listed = true,
            },
            DATA => self.data(packet.id, &packet.data)?,
            FAILURE => return Err(String::from_utf8_lossy(&packet.data).into_owned()),
            _ => {}
        }
        if self.listed && self.wanted.is_empty() && self.writing.is_empty() && !self.finishing {
            self.finish()?;
        }
        Ok(())
    }

    /// Something that the client has.
    fn entry(&mut self, stat: Stat) -> Result<(), String> {
        let id = self.count;
        self.count += 1;
        let path = inside(&stat.path)?;
        if self.seen.len() >= MOST {
            return Err(format!("the context has more than {MOST} files"));
        }
        let fail = |error: Errno| format!("receive {}: {error}", stat.path);
        let name = path.file_name().unwrap_or_default().to_owned();
        let parent = self.parent(&path).map_err(fail)?;
        let asked = place(&parent, &self.root, &name, &stat).map_err(fail)?;
        if stat.mode & DIRECTORY != 0 {
            self.directories.push((path.clone(), stat.mod_time));
        }
        self.parent = Some((path.parent().unwrap_or(Path::new("")).to_owned(), parent));
        self.seen.insert(path.clone());
        if asked {
            self.wanted.insert(id, Wanted { path, stat });
            // The task that sends may have ended; then the stream tells why.
            drop(self.requests.send(Packet { kind: REQUEST, id, ..Packet::default() }));
        }
        Ok(())
    }

    /// The directory of a path, which the client has told of before.
    fn parent(&mut self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let wanted = path.parent().unwrap_or(Path::new(""));
        match self.parent.take() {
            Some((known, opened)) if known == wanted => Ok(opened),
            _ => open_directory(&self.root, wanted),
        }
    }

    /// A part of a file; an empty one is its end.
    fn data(&mut self, id: u32, data: &[u8]) -> Result<(), String> {
        if let Some(wanted) = self.wanted.remove(&id) {
            let fail = |error: Errno| format!("write {}: {error}", wanted.stat.path);
            let parent = self.parent(&wanted.path).map_err(fail)?;
            let name = wanted.path.file_name().unwrap_or_default();
            let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(openat(&parent, name, flags, Mode::empty()).map_err(fail)?);
            self.writing.insert(id, (file, wanted));
        }
        let Some((file, wanted)) = self.writing.get_mut(&id) else {
            return Err("the client sent a file that nobody asked for".to_owned());
        };
        let fail = |error: &dyn std::fmt::Display| format!("write {}: {error}", wanted.stat.path);
        if !data.is_empty() {
            self.bytes += data.len() as u64;
            return file.write_all(data).map_err(|error| fail(&error));
        }
        // Mode first: as long as the time is not right the file counts as changed.
        fchmod(&*file, permissions(wanted.stat.mode)).map_err(|error| fail(&error))?;
        futimens(&*file, &times(wanted.stat.mod_time)).map_err(|error| fail(&error))?;
        self.writing.remove(&id);
        Ok(())
    }

    /// Removes what the client does not have, and says that we are done.
    fn finish(&mut self) -> Result<(), String> {
        self.parent = None;
        self.sweep(Path::new("")).map_err(|error| format!("remove old files of the context: {error}"))?;
        for (path, time) in self.directories.iter().rev() {
            let fail = |error: Errno| format!("set the time of {}: {error}", path.display());
            let parent = open_directory(&self.root, path.parent().unwrap_or(Path::new(""))).map_err(fail)?;
            let name = path.file_name().unwrap_or_default();
            utimensat(&parent, name, &times(*time), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        }
        self.finishing = true;
        drop(self.requests.send(Packet { kind: FINISH, ..Packet::default() }));
        Ok(())
    }

    fn sweep(&self, path: &Path) -> rustix::io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = open_directory(&self.root, path)?;
        let listing = openat(&opened, ".", flags, Mode::empty())?;
        for entry in Dir::read_from(&listing)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let below = path.join(name);
            if !self.seen.contains(&below) {
                remove(opened.as_fd(), name)?;
            } else if entry.file_type() == FileType::Directory {
                self.sweep(&below)?;
            }
        }
        Ok(())
    }
}

/// Makes the entry unless it is there already; whether its content is needed.
fn place(parent: &OwnedFd, root: &OwnedFd, name: &OsStr, stat: &Stat) -> rustix::io::Result<bool> {
    let found = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Some(found),
        Err(Errno::NOENT) => None,
        Err(error) => return Err(error),
    };
    let is = found.as_ref().map(|found| FileType::from_raw_mode(found.st_mode));
    if stat.mode & DIRECTORY != 0 {
        if is != Some(FileType::Directory) {
            remove(parent.as_fd(), name)?;
            mkdirat(parent, name, Mode::RWXU)?;
        }
        chmodat(parent, name, permissions(stat.mode), AtFlags::empty())?;
        return Ok(false);
    }
    if let Some(found) = &found
        && same(parent, root, name, stat, found)?
    {
        return Ok(false);
    }
    remove(parent.as_fd(), name)?;
    if stat.mode & SYMLINK != 0 {
        symlinkat(stat.linkname.as_str(), parent, name)?;
    } else if stat.mode & SOCKET != 0 {
        return Ok(false);
    } else if stat.mode & (DEVICE | PIPE) != 0 {
        let kind = kind(stat.mode);
        mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, makedev(stat.devmajor as u32, stat.devminor as u32))?;
        chmodat(parent, name, permissions(stat.mode), AtFlags::empty())?;
    } else if !stat.linkname.is_empty() {
        let target = inside(&stat.linkname).map_err(|_| Errno::ACCESS)?;
        let from = open_directory(root, target.parent().unwrap_or(Path::new("")))?;
        linkat(&from, target.file_name().unwrap_or_default(), parent, name, AtFlags::empty())?;
        return Ok(false);
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, permissions(stat.mode))?;
        if stat.size > 0 {
            return Ok(true);
        }
        fchmod(&file, permissions(stat.mode))?;
    }
    utimensat(parent, name, &times(stat.mod_time), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(false)
}

/// Whether what is there is what the client has.
fn same(
    parent: &OwnedFd,
    root: &OwnedFd,
    name: &OsStr,
    stat: &Stat,
    found: &rustix::fs::Stat,
) -> rustix::io::Result<bool> {
    let time = found.st_mtime * 1_000_000_000 + found.st_mtime_nsec as i64;
    if FileType::from_raw_mode(found.st_mode) != kind(stat.mode) {
        return Ok(false);
    }
    if stat.mode & SYMLINK != 0 {
        return Ok(
            time == stat.mod_time && readlinkat(parent, name, Vec::new())?.as_bytes() == stat.linkname.as_bytes()
        );
    }
    if time != stat.mod_time || found.st_mode & 0o7777 != permissions(stat.mode).bits() {
        return Ok(false);
    }
    if stat.mode & (DEVICE | PIPE) != 0 {
        return Ok(found.st_rdev == makedev(stat.devmajor as u32, stat.devminor as u32));
    }
    if !stat.linkname.is_empty() {
        let target = inside(&stat.linkname).map_err(|_| Errno::ACCESS)?;
        let from = open_directory(root, target.parent().unwrap_or(Path::new("")))?;
        let other = statat(&from, target.file_name().unwrap_or_default(), AtFlags::SYMLINK_NOFOLLOW)?;
        return Ok((other.st_dev, other.st_ino) == (found.st_dev, found.st_ino));
    }
    Ok(found.st_size == stat.size)
}

fn kind(mode: u32) -> FileType {
    match mode {
        mode if mode & DIRECTORY != 0 => FileType::Directory,
        mode if mode & SYMLINK != 0 => FileType::Symlink,
        mode if mode & SOCKET != 0 => FileType::Socket,
        mode if mode & PIPE != 0 => FileType::Fifo,
        mode if mode & DEVICE != 0 && mode & CHARACTERS != 0 => FileType::CharacterDevice,
        mode if mode & DEVICE != 0 => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

fn permissions(mode: u32) -> Mode {
    let special = [(SETUID, 0o4000), (SETGID, 0o2000), (STICKY, 0o1000)];
    let special = special.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, bits)| bits).sum::<u32>();
    Mode::from_raw_mode(mode & 0o777 | special)
}

fn times(nanoseconds: i64) -> Timestamps {
    let time =
        Timespec { tv_sec: nanoseconds.div_euclid(1_000_000_000), tv_nsec: nanoseconds.rem_euclid(1_000_000_000) as _ };
    Timestamps { last_access: time, last_modification: time }
}

/// A client's path, if it stays inside.
fn inside(path: &str) -> Result<PathBuf, String> {
    let clean = Path::new(path.trim_start_matches('/'));
    let plain = clean.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || clean.as_os_str().is_empty() || path.len() > LONGEST || path.contains('\0') {
        return Err(format!("the client sent an impossible path: {:?}", &path.chars().take(200).collect::<String>()));
    }
    Ok(clean.to_owned())
}

fn open_directory(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(root, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), rules)
}

/// Removes something with all that is below it; no error if it is not there.
fn remove(parent: std::os::fd::BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let inner = OsStr::from_bytes(entry.file_name().to_bytes());
        if inner != "." && inner != ".." {
            remove(directory.as_fd(), inner)?;
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(inside("a/b").unwrap(), Path::new("a/b"));
        assert_eq!(inside("/a").unwrap(), Path::new("a"));
        for path in ["", "/", "..", "a/../../b", "a/\0", &"x/".repeat(4000)] {
            assert!(inside(path).is_err(), "{path}");
        }
    }

    /// What a client tells, and which files it is asked for; an error ends it.
    fn told(directory: &Path, stats: &[Stat]) -> Result<Vec<u32>, String> {
        let root = OwnedFd::from(File::open(directory).unwrap());
        let (requests, mut asked) = mpsc::unbounded_channel();
        let mut receiver = Receiver::new(root, requests);
        let packet = |stat| Packet { kind: STAT, stat, ..Packet::default() };
        for stat in stats {
            receiver.take(packet(Some(stat.clone())))?;
        }
        receiver.take(packet(None))?;
        let mut ids = Vec::new();
        while let Ok(Packet { kind: REQUEST, id, .. }) = asked.try_recv() {
            ids.push(id);
            for data in [b"content".to_vec(), Vec::new()] {
                receiver.take(Packet { kind: DATA, id, data, ..Packet::default() })?;
            }
        }
        assert!(receiver.finishing);
        Ok(ids)
    }

    fn stat(path: &str, mode: u32, linkname: &str) -> Stat {
        let size = if mode & (DIRECTORY | SYMLINK) == 0 { 7 } else { 0 };
        Stat {
            path: path.into(),
            mode,
            size,
            mod_time: 1_500_000_000_000_000_001,
            linkname: linkname.into(),
            ..Stat::default()
        }
    }

    #[test]
    fn only_what_differs_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        let mut all = vec![
            stat("a", 0o644, ""),
            stat("d", DIRECTORY | 0o755, ""),
            stat("d/b", 0o600, ""),
            stat("d/hard", 0o644, "a"),
            stat("l", SYMLINK | 0o777, "/etc"),
            stat("p", PIPE | 0o644, ""),
        ];
        assert_eq!(told(directory.path(), &all).unwrap(), [0, 2]);
        assert_eq!(std::fs::read(at("d/hard")).unwrap(), b"content");
        assert_eq!(std::fs::read_link(at("l")).unwrap(), Path::new("/etc"));
        assert_eq!(told(directory.path(), &all).unwrap(), Vec::<u32>::new());
        all[0].mod_time += 1;
        assert_eq!(told(directory.path(), &all).unwrap(), [0]);
        assert_eq!(std::fs::metadata(at("a")).unwrap().len(), 7);
        // What was a directory is a file now, and the rest has gone.
        assert_eq!(told(directory.path(), &[stat("d", 0o644, "")]).unwrap(), [0]);
        assert!(at("d").is_file() && !at("a").exists() && !at("l").exists());
    }

    #[test]
    fn nothing_leads_out() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let link = stat("l", SYMLINK | 0o777, &outside.path().to_string_lossy());
        for second in
            [stat("l/x", 0o644, ""), stat("../x", 0o644, ""), stat("h", 0o644, "../x"), stat("h", 0o644, "l/x")]
        {
            told(directory.path(), &[link.clone(), second]).unwrap_err();
        }
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn modes_are_go_s() {
        assert_eq!(kind(DIRECTORY | 0o755), FileType::Directory);
        assert_eq!(kind(DEVICE | CHARACTERS), FileType::CharacterDevice);
        assert_eq!(permissions(SETUID | STICKY | 0o755).bits(), 0o5755);
    }
}
