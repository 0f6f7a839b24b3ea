//! Finds what a test's world left on the machine, by the unique path of its directory and the unique name of its cgroup,
//! and clears it away. It never touches anything else.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Teardown may go on after a command has answered; this is how long it may take. The last thing that a monitor does is
/// to unmount, with which the kernel syncs a whole file system: on a busy machine a matter of many seconds.
const SETTLE: Duration = Duration::from_secs(60);

/// What is still found when the time to settle is over.
pub(crate) fn settled(mut find: impl FnMut() -> Vec<String>) -> Vec<String> {
    let deadline = Instant::now() + crate::process::patient(SETTLE);
    loop {
        let found = find();
        if found.is_empty() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Processes that were started with the directory's path, or whose mount namespace has something of it mounted: the
/// latter also finds whoever keeps a container's namespaces alive. Mounts of our own namespace count as ours.
pub(crate) fn processes(directory: &Path) -> Vec<String> {
    let text = directory.to_string_lossy();
    let mut found = Vec::new();
    for pid in all_processes() {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        if command.contains(&*text) && pid != std::process::id() {
            found.push(format!("process {pid}: {command}"));
        } else if let Some(line) = String::from_utf8_lossy(&read("mountinfo")).lines().find(|l| is_left(l, &text)) {
            found.push(format!("mount seen by process {pid} ({command}): {line}"));
        }
    }
    found
}

/// Whether a mount should be gone by now. Layers stay mounted until their image goes or the machine reboots.
fn is_left(line: &str, directory: &str) -> bool {
    let layers = format!("{directory}/state/layers/");
    line.contains(directory) && !line.split(' ').nth(4).is_some_and(|point| point.starts_with(&layers))
}

/// Processes that were started with the directory's path and this argument.
pub(crate) fn processes_with_argument(directory: &Path, argument: &str) -> Vec<u32> {
    let text = directory.to_string_lossy();
    let matches = |pid: &u32| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |bytes: &[u8], word: &str| String::from_utf8_lossy(bytes).contains(word);
        command.split(|b| *b == 0).any(|word| word == argument.as_bytes())
            && (has(&command, &text) || has(&environment, &text))
    };
    all_processes().into_iter().filter(matches).collect()
}

fn all_processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("proc is mounted");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Directories below the cgroup, in every hierarchy. The cgroup itself may stay: containers share it.
pub(crate) fn cgroups(cgroup: &str) -> Vec<String> {
    let below = |top: PathBuf| entries(&top).into_iter().filter(|path| Path::new(path).is_dir()).collect::<Vec<_>>();
    hierarchies(cgroup).into_iter().flat_map(below).collect()
}

/// Where the cgroup is: below the one hierarchy of version 2, or below each one of version 1.
fn hierarchies(cgroup: &str) -> Vec<PathBuf> {
    let name = cgroup.trim_start_matches('/');
    let top = Path::new("/sys/fs/cgroup");
    let mounts = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(top.to_owned()).chain(mounts).map(|path| path.join(name)).filter(|path| path.is_dir()).collect()
}

/// What a directory has in it.
pub(crate) fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}

/// Ends the processes of this world, removes its cgroups and unmounts what is mounted below its directory.
pub(crate) fn clean(directory: &Path, cgroup: &str) {
    for pid in processes_with_argument(directory, "monitor") {
        kill(pid);
    }
    for top in hierarchies(cgroup) {
        remove_cgroup(&top);
    }
    unmount_below(directory);
}

/// Unmounts what is mounted below a directory.
pub(crate) fn unmount_below(directory: &Path) {
    let text = directory.to_string_lossy();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for point in
        mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)).filter(|point| point.starts_with(&*text))
    {
        let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
    }
}

fn remove_cgroup(directory: &Path) {
    for child in fs::read_dir(directory).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_cgroup(&child.path());
    }
    let deadline = Instant::now() + Duration::from_secs(2);
    while fs::remove_dir(directory).is_err() && directory.exists() && Instant::now() < deadline {
        let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        processes.lines().filter_map(|line| line.parse().ok()).for_each(kill);
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn kill(pid: u32) {
    let descriptor = i32::try_from(pid).ok().and_then(Pid::from_raw).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    if let Some(Ok(descriptor)) = descriptor {
        let _ = pidfd_send_signal(descriptor, Signal::KILL);
    }
}
