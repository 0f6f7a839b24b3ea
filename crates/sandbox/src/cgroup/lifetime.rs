//! What is done with the processes of a cgroup, and its end: freezing, killing, listing, notice of OOM, removal.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, Signal, kill_process};

use super::files::{tree, write};
use super::{Cgroup, Entry, Version, v1, v2};

/// How long freezing may take. Tasks in uninterruptible sleep (a dead NFS server) cannot be frozen.
const FREEZE_PATIENCE: Duration = Duration::from_secs(10);

/// How long a killed process may take to leave its cgroup.
const EXIT_PATIENCE: Duration = Duration::from_secs(5);

impl Cgroup {
    /// Freezes (or thaws) all processes and waits until they are.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        let directory = self.freezer()?;
        match self.version {
            Version::V1 => freeze_v1(directory, frozen),
            Version::V2 => freeze_v2(directory, frozen),
        }
    }

    /// The directory whose files freeze it, for those who freeze by themselves.
    pub fn freezer_directory(&self) -> Option<PathBuf> {
        self.freezer().ok().map(Path::to_path_buf)
    }

    /// Moves the calling process into it, which must be single-threaded.
    pub fn enter(&self) -> io::Result<()> {
        match self.entry()? {
            Entry::V2(_) => write(&self.any_directory()?.join("cgroup.procs"), "0"),
            Entry::V1(tasks) => tasks.iter().try_for_each(|file| Ok(rustix::io::write(file, b"0").map(drop)?)),
        }
    }

    /// Whether all its processes are frozen.
    pub fn is_frozen(&self) -> bool {
        let Ok(directory) = self.freezer() else { return false };
        match self.version {
            Version::V1 => v1::is_frozen(directory, true).unwrap_or(false),
            Version::V2 => v2::is_frozen(directory, true).unwrap_or(false),
        }
    }

    /// Kills every process in it and below; does not wait for their end.
    pub fn kill(&self) -> io::Result<()> {
        if self.version == Version::V2 && v2::kill(&self.directories[0].path)? {
            return Ok(());
        }
        // Frozen first, so that nothing forks away and no number is reused between reading it and killing it.
        // What cannot be frozen is killed all the same.
        let frozen = self.freeze(true);
        let killed = self.processes().map(|processes| processes.into_iter().for_each(kill_one));
        if frozen.is_err() {
            self.kill_until_none()?;
        }
        match self.freezer() {
            Ok(_) => self.freeze(false).and(self.let_die()).and(killed),
            Err(_) => killed,
        }
    }

    /// Lets killed processes end that are frozen, also by cgroups which the container made below: on v1 nothing that is
    /// frozen dies. On v2 it does.
    pub fn let_die(&self) -> io::Result<()> {
        let directory = match (self.version, self.freezer()) {
            (Version::V1, Ok(directory)) => directory,
            _ => return Ok(()),
        };
        for directory in tree(directory)? {
            match write(&directory.join("freezer.state"), "THAWED") {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Without a freezer: again and again, until no fork escapes.
    fn kill_until_none(&self) -> io::Result<()> {
        let deadline = Instant::now() + EXIT_PATIENCE;
        let mut nap = Duration::from_millis(1);
        loop {
            let processes = self.processes()?;
            if processes.is_empty() || Instant::now() > deadline {
                return Ok(());
            }
            processes.into_iter().for_each(kill_one);
            std::thread::sleep(nap);
            nap *= 2;
        }
    }

    /// Every process in it and below, as the host numbers them.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let directory = self.freezer().or_else(|_| self.any_directory())?;
        let mut processes = Vec::new();
        for directory in tree(directory)? {
            match fs::read_to_string(directory.join("cgroup.procs")) {
                Ok(text) => processes.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
                // A threaded cgroup (v2): its domain above lists the processes. Or it has just been removed.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENODEV | libc::ENOENT)) => {}
                Err(error) => return Err(error),
            }
        }
        // Zero stands for processes outside our PID namespace.
        processes.retain(|process| *process > 0);
        processes.sort_unstable();
        processes.dedup();
        Ok(processes)
    }

    /// A descriptor that becomes readable when the kernel runs out of memory for this cgroup (v1) or its memory events
    /// change (v2), for `epoll`; non-blocking. Read it empty, then ask [`Cgroup::oom_kills`]. On v1 it is also
    /// readable once the cgroup has been removed.
    pub fn oom_events(&self) -> io::Result<OwnedFd> {
        match self.version {
            Version::V1 => {
                let memory = self.directory("memory").ok_or_else(|| v1::unsupported("no memory cgroup controller"))?;
                oom_eventfd(memory)
            }
            Version::V2 => watch(&self.directories[0].path.join("memory.events")),
        }
    }

    /// Removes it with everything below; processes still in it are killed first.
    pub fn remove(self) -> io::Result<()> {
        let paths: Vec<&PathBuf> =
            self.directories.iter().map(|directory| &directory.path).chain(&self.unified).collect();
        // Nearly always nothing is left inside, and one call per hierarchy does it.
        let left: Vec<&Path> = paths.into_iter().filter(|path| !gone(path)).map(PathBuf::as_path).collect();
        if left.is_empty() {
            return Ok(());
        }
        match self.processes() {
            Ok(processes) if processes.is_empty() => {}
            // Its freezer is gone, so nothing is in it there; what is left has only other directories.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => self.kill()?,
        }
        left.into_iter().try_for_each(remove_tree)
    }

    fn freezer(&self) -> io::Result<&Path> {
        match self.version {
            Version::V2 => self.any_directory(),
            Version::V1 => {
                self.directory("freezer").ok_or_else(|| v1::unsupported("this host has no `freezer` cgroup controller"))
            }
        }
    }

    fn any_directory(&self) -> io::Result<&Path> {
        let first = self.directories.first().ok_or_else(|| v1::unsupported("this host has no cgroups"))?;
        Ok(&first.path)
    }
}

/// Already removed, or removed now.
fn gone(path: &Path) -> bool {
    fs::remove_dir(path).is_ok() || !path.exists()
}

fn kill_one(process: i32) {
    // Gone meanwhile is what was wanted.
    let _ = Pid::from_raw(process).map(|pid| kill_process(pid, Signal::KILL));
}

/// v1 tells nobody when it is done, so its state is asked for, at growing distances. Writing `FROZEN` again catches
/// processes that were forked meanwhile.
fn freeze_v1(directory: &Path, frozen: bool) -> io::Result<()> {
    let state = if frozen { "FROZEN" } else { "THAWED" };
    let deadline = Instant::now() + FREEZE_PATIENCE;
    let mut nap = Duration::from_micros(100);
    loop {
        write(&directory.join("freezer.state"), state)?;
        if v1::is_frozen(directory, frozen)? {
            return Ok(());
        }
        if Instant::now() > deadline {
            // Half frozen is worse than not.
            let _ = write(&directory.join("freezer.state"), "THAWED");
            return Err(not_frozen(directory));
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(Duration::from_millis(50));
    }
}

fn freeze_v2(directory: &Path, frozen: bool) -> io::Result<()> {
    let events = File::open(directory.join("cgroup.events"))?;
    write(&directory.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
    let deadline = Instant::now() + FREEZE_PATIENCE;
    while !v2::is_frozen(directory, frozen)? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let _ = write(&directory.join("cgroup.freeze"), "0");
            return Err(not_frozen(directory));
        }
        wait_for_change(&events, left)?;
    }
    Ok(())
}

/// The kernel signals changes of `cgroup.events` as priority data of a descriptor that has been read.
fn wait_for_change(events: &File, at_most: Duration) -> io::Result<()> {
    let timeout = rustix::event::Timespec::try_from(at_most.min(Duration::from_millis(100))).unwrap_or_default();
    match poll(&mut [PollFd::new(events, PollFlags::PRI)], Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn not_frozen(directory: &Path) -> io::Error {
    let text = format!(
        "the processes of {} did not freeze within {} s; hint: one of them may wait for a device or a network file system",
        directory.display(),
        FREEZE_PATIENCE.as_secs()
    );
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Registers with the memory controller (kernel documentation, `cgroup-v1/memory.rst`, section 10).
fn oom_eventfd(memory: &Path) -> io::Result<OwnedFd> {
    let notice = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = File::open(memory.join("memory.oom_control"))?;
    let registration = format!("{} {}", notice.as_raw_fd(), control.as_raw_fd());
    write(&memory.join("cgroup.event_control"), &registration)?;
    Ok(notice)
}

fn watch(file: &Path) -> io::Result<OwnedFd> {
    let notice = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&notice, file, inotify::WatchFlags::MODIFY)?;
    Ok(notice)
}

/// Removes children first; waits for killed processes to leave, which takes longest for those with much memory.
fn remove_tree(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + EXIT_PATIENCE;
    let mut nap = Duration::from_micros(200);
    loop {
        for directory in tree(path).unwrap_or_default() {
            let _ = fs::remove_dir(directory);
        }
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline || error.raw_os_error() != Some(libc::EBUSY) => {
                return Err(io::Error::new(error.kind(), format!("remove cgroup {}: {error}", path.display())));
            }
            Err(_) => std::thread::sleep(nap),
        }
        nap = (nap * 2).min(Duration::from_millis(50));
    }
}
