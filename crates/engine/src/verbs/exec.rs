//! `exec`: one more process in a running container, as a child of the calling process, which must be single-threaded.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{SystemTime, UNIX_EPOCH};

use oci_spec::runtime::Process;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sandbox::cgroup::Cgroup;
use sandbox::launch::{self, Stdio};
use sandbox::seccomp::Listener;
use serde::de::DeserializeOwned;

use crate::model::{ExecConfig, HostConfig, Status};
use crate::monitor::run;
use crate::plan::Plan;
use crate::session::{ExecEnd, Session};
use crate::spec::caps;
use crate::status::RunStatus;
use crate::{Context, Engine, Error, Paths, Result, events};

/// A running container that is about to get one more process.
pub struct ExecTarget {
    plan: Plan,
    status: RunStatus,
}

impl ExecTarget {
    /// Whether the host's root has no id there, so that the container cannot write to the host's programs.
    pub fn is_apart(&self) -> bool {
        self.plan.is_apart()
    }
}

impl Engine {
    /// Finds the container for [`Engine::exec`].
    pub fn exec_target(&self, name: &str) -> Result<ExecTarget> {
        let container = self.look_up(name)?;
        let status = self.running(&container)?;
        if status.status == Status::Paused {
            let message = format!("Container {} is paused, unpause the container before exec", container.name);
            return Err(Error::conflict(message));
        }
        Ok(ExecTarget { plan: read_plan(self.paths(), &container.id)?, status })
    }

    /// Runs a process in the container and returns when it has been executed. With `detach` nothing is connected and
    /// the session only tells the process's end. The caller runs from an executable that the container cannot write to.
    /// Errors: `NotExecutable` and `CommandNotFound` as for `run`.
    pub fn exec(&self, target: &ExecTarget, config: &ExecConfig, detach: bool) -> Result<Session> {
        self.bounds().check_exec(config)?;
        if config.cmd.is_empty() {
            return Err(Error::invalid("No exec command specified"));
        }
        let ExecTarget { plan, status } = target;
        let exec_id = exec_id();
        let tell = |action: &str, more: &[(&str, String)]| {
            let mut attributes = vec![("execID", exec_id.clone())];
            attributes.extend_from_slice(more);
            events::container_event(&plan.id, &plan.name, &plan.image, &plan.labels, action, &attributes)
        };
        let line = config.cmd.join(" ");
        drop(events::append(self.paths(), &tell(&format!("exec_create: {line}"), &[])));
        let (created, streams) = spawn(plan, status, config, detach)?;
        drop(events::append(self.paths(), &tell(&format!("exec_start: {line}"), &[])));
        let end = ExecEnd { paths: self.paths().clone(), event: tell("exec_die", &[]) };
        Session::of_process(created.pidfd, created.terminal, streams, end)
    }
}

/// The caller's ends of a process's streams.
#[derive(Default)]
pub(crate) struct ExecEnds {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// Runs a process in the container of a running monitor's plan.
pub(crate) fn spawn(
    plan: &Plan,
    status: &RunStatus,
    config: &ExecConfig,
    detach: bool,
) -> Result<(launch::Created, ExecEnds)> {
    if config.tty && !detach {
        let (rows, columns) = (config.console_size[0] as u16, config.console_size[1] as u16);
        return Ok((execute(plan, status, config, Stdio::Terminal { rows, columns })?, ExecEnds::default()));
    }
    let attach = |wanted: bool| wanted && !detach;
    let (far_in, stdin) = connect(attach(config.attach_stdin), false)?;
    let (far_out, stdout) = connect(attach(config.attach_stdout), true)?;
    let (far_err, stderr) = connect(attach(config.attach_stderr), true)?;
    let created = execute(plan, status, config, Stdio::Fds([far_in.as_fd(), far_out.as_fd(), far_err.as_fd()]))?;
    Ok((created, ExecEnds { stdin, stdout, stderr }))
}

/// Executes the process in the container.
pub(crate) fn execute(
    plan: &Plan,
    status: &RunStatus,
    config: &ExecConfig,
    stdio: Stdio<'_>,
) -> Result<launch::Created> {
    let gone = || Error::conflict(format!("container {} is not running", plan.id));
    let pid = Pid::from_raw(status.pid).ok_or_else(gone)?;
    let target = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
    if !status.process_alive() {
        return Err(gone());
    }
    let path = run::cgroup_path(&plan.spec);
    let available = sandbox::cgroup::is_available();
    let cgroup = available.then(|| Cgroup::open(&path)).transpose().step(|| format!("open the cgroup {path}"))?;
    let process = process(plan, config)?;
    let filter = if config.privileged { None } else { run::filter(plan)? };
    let about = run::about(plan);
    let profile = plan.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let exec = launch::Exec {
        target: target.as_fd(),
        target_pid: status.pid,
        process: &process,
        linux: plan.spec.linux().as_ref(),
        user: if config.user.is_empty() { &plan.user } else { &config.user },
        seccomp: filter.as_ref(),
        stdio,
        cgroup: cgroup.as_ref(),
        inherited: &[],
        exact_user: false,
        listener: Listener::of(profile, &about),
    };
    launch::exec(&exec).map_err(|error| match error {
        launch::Error::NotRunning => gone(),
        other => run::start_error(other),
    })
}

/// A pipe (the container's end first) or, where the stream is not wanted, the null device.
fn connect(wanted: bool, is_output: bool) -> Result<(OwnedFd, Option<OwnedFd>)> {
    if !wanted {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        return Ok((null.step(|| "open /dev/null".to_owned())?, None));
    }
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).step(|| "make a pipe".to_owned())?;
    Ok(if is_output { (write, Some(read)) } else { (read, Some(write)) })
}

/// The container's own process with what the request changes.
fn process(plan: &Plan, config: &ExecConfig) -> Result<Process> {
    let mut process = plan.spec.process().clone().unwrap_or_default();
    process.set_args(Some(config.cmd.clone()));
    process.set_terminal(Some(config.tty));
    if !config.working_dir.is_empty() {
        process.set_cwd(config.working_dir.clone().into());
    }
    let mut env = process.env().clone().unwrap_or_default();
    if config.tty {
        set_variable(&mut env, "TERM=xterm");
    }
    config.env.iter().for_each(|line| set_variable(&mut env, line));
    process.set_env(Some(env));
    if config.privileged {
        let privileged = HostConfig { privileged: true, ..HostConfig::default() };
        process.set_capabilities(Some(caps::sets(&caps::effective(&privileged)?)));
    }
    Ok(process)
}

/// Sets `NAME=value`, or removes `NAME`.
fn set_variable(env: &mut Vec<String>, line: &str) {
    let name = line.split('=').next().unwrap_or(line);
    env.retain(|old| old.split('=').next() != Some(name));
    if line.contains('=') {
        env.push(line.to_owned());
    }
}

/// The plan of the present run.
pub(crate) fn read_plan(paths: &Paths, id: &str) -> Result<Plan> {
    read_from_plan(paths, id)
}

/// As much of the plan as a type takes: most of the work is in its OCI configuration.
pub(crate) fn read_from_plan<T: DeserializeOwned>(paths: &Paths, id: &str) -> Result<T> {
    let path = paths.container_state(id).join("plan.json");
    let json = fs::read(&path).step(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&json).step(|| format!("read {}", path.display()))
}

/// A name for the process in events: unique on this machine, never looked up.
fn exec_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{now:032x}{:032x}", std::process::id())
}
