//! The program's own executable as a descriptor that nothing can be written through. A container that tricks us into
//! executing ourselves inside it (CVE-2019-5736) finds only this behind `/proc/PID/exe`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::launch::set_directory;

/// The running executable, for a process that will make processes in a container: as it is if the container could not
/// write to it, else sealed. `apart`: the host's root has no id in the container's user namespace.
pub fn executable(apart: bool) -> io::Result<OwnedFd> {
    let own = open_own()?;
    if apart && only_root_writes(&own) { Ok(own) } else { sealed_executable() }
}

/// Whether the file belongs to the host's root and nobody else may write to it. With an ACL, the group's bits are its mask.
fn only_root_writes(file: &OwnedFd) -> bool {
    let others = Mode::WGRP | Mode::WOTH;
    let data = rustix::fs::fstat(file);
    !linux::namespace::is_rootless()
        && data.is_ok_and(|data| data.st_uid == 0 && !Mode::from_raw_mode(data.st_mode).intersects(others))
}

fn open_own() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// The running executable behind a read-only overlay, which no privilege in a container can undo, unlike that of a
/// read-only bind mount. Where overlay cannot do it: a sealed copy in memory.
///
/// Measured on the 2-core test machine (Linux 6.18), per call: overlay 0.2 ms, on a busy machine up to 20 ms, because
/// letting go of its two mounts waits for all processors (RCU); copy of a 15 MB binary 6 ms, and its memory. A process
/// that runs from such a descriptor already gets it again for 0.01 ms.
fn sealed_executable() -> io::Result<OwnedFd> {
    let own = open_own()?;
    if is_sealed(&own) {
        return Ok(own);
    }
    // Any second layer will do that has no part in the path. One that is there already has not to be taken down again,
    // which waits for a grace period; where it cannot be one, a layer need not be attached since Linux 6.15.
    let empty = || mount(&fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?);
    overlay(|| open_directory(Path::new("/sys"))).or_else(|_| overlay(empty)).or_else(|_| copy())
}

/// Executes the program again, with the same arguments, from [`sealed_executable`]; nothing if it already runs from
/// there, or if the container could not write to it anyway (`apart` as for [`executable`]). Whoever makes processes inside
/// a container calls this first: they stay copies of the caller until they execute something, which the container can make
/// their own `/proc/self/exe`.
///
/// `environment` is added for the second run.
pub fn run_sealed(apart: bool, environment: &[(&str, &Path)]) -> io::Result<()> {
    let own = open_own()?;
    if is_sealed(&own) {
        return rustix::thread::set_name(c"kiste").map_err(io::Error::from);
    }
    if apart && only_root_writes(&own) {
        return Ok(());
    }
    let sealed = sealed_executable()?;
    let mut arguments = std::env::args_os();
    let mut command = Command::new(format!("/proc/self/fd/{}", sealed.as_raw_fd()));
    command.arg0(arguments.next().unwrap_or_else(|| "kiste".into())).args(arguments).envs(environment.iter().copied());
    Err(command.exec())
}

/// Whether a file is on a read-only overlay or is a sealed memfd.
fn is_sealed(file: &OwnedFd) -> bool {
    const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
    let overlay = rustix::fs::fstatfs(file).is_ok_and(|fs| fs.f_type == OVERLAYFS_SUPER_MAGIC);
    let read_only = || rustix::fs::fstatvfs(file).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
    overlay && read_only() || is_sealed_memory(file)
}

fn is_sealed_memory(file: &OwnedFd) -> bool {
    let opened = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    opened.is_ok_and(|file| rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

/// The executable's directory as a read-only overlay over `second`, because without an upper directory overlay wants two.
fn overlay(second: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let path = std::fs::read_link("/proc/self/exe")?;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL.into()) };
    let (lower, second) = (open_directory(directory)?, second()?);
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in [&lower, &second] {
        set_directory(&fs, "lowerdir+", layer)?;
    }
    let tree = mount(&fs)?;
    Ok(rustix::fs::openat(&tree, Path::new(name), OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn mount(fs: &OwnedFd) -> io::Result<OwnedFd> {
    fsconfig_create(fs)?;
    let flags =
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(fs, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}

fn copy() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match rustix::fs::memfd_create("kiste", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("kiste", flags)?, // before Linux 6.3
        other => other?,
    };
    let mut memory = File::from(memory);
    io::copy(&mut File::open("/proc/self/exe")?, &mut memory)?;
    rustix::fs::fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(memory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `descriptor` as the test binary's own `--list`.
    fn runs(descriptor: &OwnedFd) -> bool {
        let fd = rustix::io::fcntl_dupfd_cloexec(descriptor, 3).unwrap();
        let output = Command::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).arg("--list").output().unwrap();
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("executable::tests")
    }

    fn writable(descriptor: &OwnedFd) -> bool {
        let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        File::options().write(true).open(&path).is_ok_and(|mut file| io::Write::write(&mut file, b"x").is_ok())
    }

    #[test]
    fn overlay_runs_and_cannot_be_written() {
        let empty = || mount(&fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?);
        // The other way is for Linux 6.15 and later.
        let made = [overlay(empty), overlay(|| open_directory(Path::new("/sys")))];
        assert!(made[1].is_ok());
        for descriptor in made.iter().flatten() {
            assert!(is_sealed(descriptor));
            assert!(!writable(descriptor));
            assert!(runs(descriptor));
        }
    }

    #[test]
    fn copy_runs_and_cannot_be_written() {
        let descriptor = copy().unwrap();
        assert!(is_sealed(&descriptor));
        assert!(!is_sealed(&File::open("/proc/self/exe").unwrap().into()));
        assert!(!writable(&descriptor));
        assert!(runs(&descriptor));
    }
}
