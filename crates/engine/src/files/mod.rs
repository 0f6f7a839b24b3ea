//! A container's files as its processes see them, mounts included: through the root directory of a process that runs, or
//! through mounts made for the purpose if none does. Nothing is ever executed in the container, nor with its root
//! directory: every path is resolved by openat2(2), which keeps it inside.

pub(crate) mod ids;
pub(crate) mod paths;
mod stopped;
pub(crate) mod unpack;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, readlinkat, statat,
};
use rustix::io::Errno;

use crate::status::{self, RunLock};
use crate::table::{self, Container};
use crate::{Context as _, Engine, Error, Result};
use ids::Ids;

/// The files of one container, for as long as this lives. One that does not run cannot be started meanwhile.
pub(crate) struct Files {
    /// Its root directory.
    pub(crate) root: OwnedFd,
    /// What its ids are here.
    pub(crate) ids: Ids,
    _mounts: Option<stopped::Mounts>,
    _lock: Option<RunLock>,
}

/// How long a container may take to start or to end.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);
/// Links followed one after the other.
const LINKS: usize = 40;

impl Engine {
    /// Opens the files of a container.
    pub(crate) fn files(&self, container: &Container) -> Result<Files> {
        let deadline = Instant::now() + SETTLES_WITHIN;
        loop {
            let run = status::read(self.paths(), &container.id);
            if let Some(run) = run.filter(|run| run.pid > 0 && status::is_held(self.paths(), &container.id))
                && let Some(files) = of_process(run.pid, run.pid_start)?
            {
                return Ok(files);
            }
            if let Some(lock) = RunLock::try_take(self.paths(), &container.id)? {
                self.read(|connection| table::find(connection, &container.id))?;
                let mounts = stopped::mount(self, container)?;
                let root = mounts.root()?;
                return Ok(Files { root, ids: Ids::same(), _mounts: Some(mounts), _lock: Some(lock) });
            }
            if Instant::now() > deadline {
                return Err(Error::conflict(format!("container {} is just being started or stopped", container.name)));
            }
            // Starting or ending: a matter of milliseconds.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The files that a process sees; none if it has gone.
fn of_process(pid: i32, start: u64) -> Result<Option<Files>> {
    let path = format!("/proc/{pid}/root");
    let root = match openat(CWD, &path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        root => root.step(|| format!("open {path}"))?,
    };
    let ids = Ids::of_process(pid);
    // Only now is it sure that all this was of the right process.
    match linux::process::start_time(pid) == Some(start) {
        true => Ok(Some(Files { root, ids: ids?, _mounts: None, _lock: None })),
        false => Ok(None),
    }
}

impl Files {
    /// Opens a path, links followed inside the root but for the last part (if `follow`, that too). Windows to the kernel
    /// (`/proc`, `/sys`) count as empty.
    pub(crate) fn open(&self, path: &str, flags: OFlags, follow: bool) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let flags = flags | OFlags::CLOEXEC | if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let rules = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let opened = openat2(&self.root, path, flags, Mode::empty(), rules)?;
        if image::is_window_to_kernel(&opened) { Err(Errno::NOENT) } else { Ok(opened) }
    }

    /// What is at a path, itself and not what it points to; a final `/` or `/.` means the directory.
    pub(crate) fn status(&self, path: &str) -> rustix::io::Result<Stat> {
        let directory = paths::asserts_directory(path);
        let flags = if directory { OFlags::PATH | OFlags::DIRECTORY } else { OFlags::PATH };
        fstat(self.open(path, flags, directory)?)
    }

    /// The directory that a path's last part is in, and that part.
    pub(crate) fn parent(&self, path: &str) -> rustix::io::Result<(OwnedFd, String)> {
        let (directory, name) = paths::split(path);
        Ok((self.open(&directory, OFlags::PATH | OFlags::DIRECTORY, true)?, name))
    }

    /// Where a link leads in the end, or as far as its way exists.
    pub(crate) fn follow(&self, path: &str) -> Result<String> {
        let mut path = unpack::absolute(path);
        for _ in 0..LINKS {
            let Ok((parent, name)) = self.parent(&path) else { return Ok(path) };
            let here = self.path_of(&parent)?;
            let is_link = statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
            if !is_link {
                return Ok(paths::join(&here, &name));
            }
            let link = readlinkat(&parent, &name, Vec::new()).step(|| format!("read the link {path}"))?;
            let link = link.to_string_lossy().into_owned();
            path = if link.starts_with('/') { paths::clean(&link) } else { paths::join(&here, &link) };
        }
        Err(Error::invalid(format!("{path}: too many links")))
    }

    /// The container's name of an open directory.
    fn path_of(&self, directory: &OwnedFd) -> Result<String> {
        let (root, path) = (kernel_path(&self.root)?, kernel_path(directory)?);
        let inside = Path::new(&path).strip_prefix(&root).unwrap_or(Path::new(&path));
        Ok(paths::join("/", &inside.to_string_lossy()))
    }
}

/// The path that the kernel has for a descriptor.
fn kernel_path(descriptor: &OwnedFd) -> Result<String> {
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(descriptor));
    let path = std::fs::read_link(&link).step(|| format!("read {link}"))?;
    Ok(OsStr::to_string_lossy(path.as_os_str()).into_owned())
}
