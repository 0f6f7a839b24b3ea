//! `tmpcopyup`: fills a new `tmpfs` with what the image has at its mount point. Everything by descriptor and without
//! following links, as the image may be hostile; only files, directories, links and FIFOs are taken over.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat,
};
use rustix::io::Errno;

/// Deepest nesting of directories that is followed; each level holds two descriptors.
const DEPTH: usize = 256;

/// Copies what is in directory `from` into directory `to`, with modes and owners; `to`'s own too if `itself`.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd, itself: bool) -> io::Result<()> {
    let [from, to] = [openat(from, ".", DIRECTORY, Mode::empty())?, openat(to, ".", DIRECTORY, Mode::empty())?];
    if itself {
        own(&to, &rustix::fs::fstat(&from)?)?;
    }
    copy_entries(&from, &to, DEPTH)
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn copy_entries(from: &OwnedFd, to: &OwnedFd, depth: usize) -> io::Result<()> {
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &std::ffi::CStr, depth: usize) -> io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
            mkdirat(to, name, Mode::RWXU)?;
            let (from, to) =
                (openat(from, name, DIRECTORY, Mode::empty())?, openat(to, name, DIRECTORY, Mode::empty())?);
            copy_entries(&from, &to, depth)?;
            own(&to, &stat)
        }
        FileType::RegularFile => copy_file(from, to, name, &stat),
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
            let (uid, gid) = owner(&stat);
            Ok(chownat(to, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
        }
        FileType::Fifo => Ok(mknodat(to, name, FileType::Fifo, Mode::from_raw_mode(stat.st_mode & 0o7777), 0)?),
        _ => Ok(()),
    }
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &std::ffi::CStr, stat: &Stat) -> io::Result<()> {
    let source = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let target = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut source = File::from(openat(from, name, source, Mode::empty())?);
    let mut target = File::from(openat(to, name, target, Mode::RUSR | Mode::WUSR)?);
    io::copy(&mut source, &mut target)?;
    own(&target, stat)
}

/// Owner first: changing it takes set-user-id bits away.
fn own(file: impl AsFd, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    fchown(&file, uid, gid)?;
    Ok(fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o7777))?)
}

fn owner(stat: &Stat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}
