//! Runs one container from a job file, by hand or for the tests: `sandbox-try JOB.json`. A process of its own, because
//! the sandbox wants a single-threaded caller. The exit code is the container's; 125 and a line on standard error mean
//! that it could not be made, 126 and 127 that its program could not be executed.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use oci_spec::runtime::{Process, Spec};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use sandbox::cgroup::Cgroup;
use sandbox::hooks::About;
use sandbox::launch::{Created, Error, Exec, Extras, Launch, Rootfs, Stdio, create, exec};
use sandbox::seccomp::{self, Listener};
use serde::Deserialize;

/// What to run.
#[derive(Deserialize)]
struct Job {
    spec: Spec,
    #[serde(default)]
    user: String,
    #[serde(default)]
    groups: Vec<String>,
    /// Layers, topmost first; none: `spec.root.path` is the root.
    #[serde(default)]
    lower: Vec<PathBuf>,
    #[serde(default)]
    upper: PathBuf,
    #[serde(default)]
    work: PathBuf,
    #[serde(default)]
    hidden: Vec<PathBuf>,
    /// Empty directory.
    empty: PathBuf,
    /// Path of the cgroup to make.
    cgroup: Option<String>,
    #[serde(default)]
    default_seccomp: bool,
    #[serde(default)]
    init: bool,
    /// Give it a terminal; what comes out of it goes to standard output.
    #[serde(default)]
    terminal: bool,
    /// Processes to run in the container while its program runs; their exit codes go to standard error.
    #[serde(default)]
    exec: Vec<Process>,
    /// Users of these, in the same order.
    #[serde(default)]
    exec_users: Vec<String>,
    /// Where to write the first process's number once it runs.
    pid_file: Option<PathBuf>,
    /// Kill the program after that.
    #[serde(default)]
    kill: bool,
    /// Run the whole that many times and print medians of how long it takes.
    #[serde(default)]
    repeat: usize,
}

fn main() {
    let path = std::env::args().nth(1).unwrap_or_default();
    let job = std::fs::read(&path).map_err(|e| e.to_string());
    let job = job.and_then(|json| serde_json::from_slice::<Job>(&json).map_err(|e| e.to_string()));
    let job = match job {
        Ok(job) => job,
        Err(error) => quit(125, &format!("{path}: {error}")),
    };
    let mut times: [Vec<Duration>; 3] = Default::default();
    let mut code = 0;
    for _ in 0..job.repeat.max(1) {
        code = match run(&job, &mut times) {
            Ok(code) => code,
            Err(error @ Error::CommandNotFound(_)) => quit(127, &error.to_string()),
            Err(error @ Error::NotExecutable(_)) => quit(126, &error.to_string()),
            Err(error) => quit(125, &error.to_string()),
        };
    }
    if job.repeat > 0 {
        for (what, times) in ["made and started", "ended", "in all, with its cgroup"].iter().zip(&mut times) {
            times.sort();
            let [median, p90] = [times.len() / 2, times.len() * 9 / 10].map(|index| times[index]);
            say(&format!("{what}: median {median:?}, 90% {p90:?}"));
        }
    }
    std::process::exit(code);
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn quit(code: i32, text: &str) -> ! {
    say(text);
    std::process::exit(code)
}

fn run(job: &Job, times: &mut [Vec<Duration>; 3]) -> Result<i32, Error> {
    let start = Instant::now();
    let step = |error: io::Error| Error::Step(error.to_string());
    let cgroup = job.cgroup.as_deref().map(Cgroup::create).transpose().map_err(step)?;
    let result = run_in(job, cgroup.as_ref(), times);
    if let Some(cgroup) = cgroup {
        cgroup.remove().map_err(step)?;
    }
    times[2].push(start.elapsed());
    result
}

fn run_in(job: &Job, cgroup: Option<&Cgroup>, times: &mut [Vec<Duration>; 3]) -> Result<i32, Error> {
    let start = Instant::now();
    let process = job.spec.process().as_ref().ok_or_else(|| Error::Invalid("no process".into()))?;
    let rootfs = match job.lower.is_empty() {
        true => Rootfs::Directory(job.spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default()),
        false => Rootfs::Overlay {
            lower: job.lower.clone(),
            upper: job.upper.clone(),
            work: job.work.clone(),
            hidden: job.hidden.clone(),
            volatile: false,
        },
    };
    let profile = job.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let filter = match (job.default_seccomp, profile) {
        (true, _) => Some(default_filter(process)),
        (false, profile) => profile.map(seccomp::compile).transpose().map_err(Error::Invalid)?,
    };
    let about = About { id: "try".into(), bundle: "/bundle".into(), ..About::default() };
    let streams = [io::stdin().as_fd().try_clone_to_owned(), io::stdout().as_fd().try_clone_to_owned()];
    let [stdin, stdout] = streams.map(|fd| fd.map_err(|e| Error::Step(e.to_string())));
    let (stdin, stdout) = (stdin?, stdout?);
    let fds = Stdio::Fds([stdin.as_fd(), stdout.as_fd(), rustix::stdio::stderr()]);
    let mut created = create(&Launch {
        spec: &job.spec,
        rootfs,
        user: &job.user,
        groups: &job.groups,
        seccomp: filter.as_ref(),
        stdio: if job.terminal { Stdio::Terminal { rows: 24, columns: 80 } } else { fds },
        cgroup,
        init: job.init,
        state: job.empty.clone(),
        extras: Extras { about: Some(&about), ..Extras::default() },
        beside: None,
    })?;
    if let Err(error) = created.start() {
        wait(&created.pidfd);
        return Err(error);
    }
    times[0].push(start.elapsed());
    if let Some(path) = &job.pid_file {
        std::fs::write(path, created.pid.to_string()).map_err(|error| Error::Step(error.to_string()))?;
    }
    let executed = job.exec.iter().enumerate().try_for_each(|(index, process)| {
        let user = job.exec_users.get(index).map_or("", String::as_str);
        execute(&created, &job.spec, process, user, filter.as_ref(), fds, cgroup)
    });
    if job.kill || executed.is_err() {
        let _ = pidfd_send_signal(&created.pidfd, Signal::KILL);
    }
    if let Some(master) = created.terminal.take() {
        copy(master);
    }
    let code = wait(&created.pidfd);
    times[1].push(start.elapsed());
    executed.map(|()| code)
}

fn default_filter(process: &Process) -> seccomp::Program {
    let names: Vec<String> = process
        .capabilities()
        .as_ref()
        .and_then(|sets| sets.effective().clone())
        .iter()
        .flatten()
        .filter_map(|capability| Some(serde_json::to_value(capability).ok()?.as_str()?.to_owned()))
        .collect();
    seccomp::default_profile(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

#[allow(clippy::too_many_arguments, reason = "as many as there are")]
fn execute(
    container: &Created,
    spec: &Spec,
    process: &Process,
    user: &str,
    seccomp: Option<&seccomp::Program>,
    fds: Stdio<'_>,
    cgroup: Option<&Cgroup>,
) -> Result<(), Error> {
    let terminal = process.terminal().unwrap_or(false);
    let stdio = if terminal { Stdio::Terminal { rows: 24, columns: 80 } } else { fds };
    let (target, target_pid) = (container.pidfd.as_fd(), container.pid);
    let about = About { id: "try".into(), bundle: "/bundle".into(), ..About::default() };
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let started = Instant::now();
    let mut created = exec(&Exec {
        target,
        target_pid,
        process,
        linux: spec.linux().as_ref(),
        user,
        seccomp,
        stdio,
        cgroup,
        inherited: &[],
        exact_user: false,
        listener: Listener::of(profile, &about),
    })?;
    if rustix::fs::stat("/proc/self/ns/pid").map(|s| s.st_ino).ok()
        != rustix::fs::stat("/proc/self/ns/pid_for_children").map(|s| s.st_ino).ok()
    {
        return Err(Error::Step("exec left the caller's children in the container".into()));
    }
    if let Some(master) = created.terminal.take() {
        copy(master);
    }
    let code = wait(&created.pidfd);
    say(&format!("exec {code} in {:?}", started.elapsed()));
    Ok(())
}

fn copy(master: OwnedFd) {
    // EIO marks the end: the last process closed the slave.
    let _ = io::copy(&mut std::fs::File::from(master), &mut io::stdout());
}

fn wait(pidfd: &OwnedFd) -> i32 {
    match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
        Ok(Some(status)) => match status.terminating_signal() {
            Some(signal) => 128 + signal,
            None => status.exit_status().unwrap_or(255),
        },
        _ => 255,
    }
}
