//! Programs that the configuration wants to be run at points of a container's life (runtime-spec, config.md "POSIX-platform
//! Hooks"): how one is run. Who runs which of them, where and when is decided by the callers.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;

/// What is kept of a hook's output for the error, in bytes.
const OUTPUT_LIMIT: u64 = 4096;

/// What hooks are told about their container (runtime-spec, runtime.md "State").
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The container's id.
    pub id: String,
    /// Absolute path of its bundle.
    pub bundle: String,
    /// From the configuration.
    pub annotations: HashMap<String, String>,
}

/// The environment of hooks that bring none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Env<'a> {
    /// The caller's own, as other runtimes do.
    Callers,
    /// None: what runs inside gets nothing from outside, and what runs outside nothing that an image has set.
    Empty,
    /// These, each `NAME=VALUE`: the program's, for what runs right before it in its place, as runc has it.
    Programs(&'a [String]),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    pid: i32,
    bundle: &'a str,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    annotations: &'a HashMap<String, String>,
}

fn is_zero(pid: &i32) -> bool {
    *pid == 0
}

impl About {
    /// The state as JSON; `pid` 0 is left out.
    pub fn state(&self, status: &str, pid: i32) -> Vec<u8> {
        let state = State {
            oci_version: crate::OCI_VERSION,
            id: &self.id,
            status,
            pid,
            bundle: &self.bundle,
            annotations: &self.annotations,
        };
        serde_json::to_vec(&state).unwrap_or_default()
    }

    /// Runs hooks one after the other; the first that fails ends it. `kind` is the configuration's name of the list.
    pub fn run(
        &self,
        kind: &str,
        hooks: Option<&Vec<Hook>>,
        status: &str,
        pid: i32,
        env: Env<'_>,
    ) -> Result<(), String> {
        let Some(hooks) = hooks.filter(|hooks| !hooks.is_empty()) else { return Ok(()) };
        let state = self.state(status, pid);
        for (index, hook) in hooks.iter().enumerate() {
            run(hook, &state, env).map_err(|error| format!("error running {kind} hook #{index}: {error}"))?;
        }
        Ok(())
    }

    /// Runs the hooks for after the end, each of them whatever becomes of the others; what went wrong.
    pub fn run_poststop(&self, hooks: Option<&Vec<Hook>>) -> Vec<String> {
        let Some(hooks) = hooks.filter(|hooks| !hooks.is_empty()) else { return Vec::new() };
        let state = self.state("stopped", 0);
        let failed = |(index, hook)| {
            let error = run(hook, &state, Env::Callers).err()?;
            Some(format!("error running poststop hook #{index}: {error}"))
        };
        hooks.iter().enumerate().filter_map(failed).collect()
    }
}

/// Checks what can be checked before anything is made.
pub(crate) fn check(kind: &str, hooks: Option<&Vec<Hook>>) -> Result<(), String> {
    for (index, hook) in hooks.into_iter().flatten().enumerate() {
        if !hook.path().is_absolute() {
            return Err(format!("hooks.{kind}[{index}].path: {:?} must be an absolute path", hook.path().display()));
        }
        if hook.timeout().is_some_and(|seconds| seconds <= 0) {
            return Err(format!("hooks.{kind}[{index}].timeout: must be greater than zero"));
        }
    }
    Ok(())
}

fn run(hook: &Hook, state: &[u8], env: Env<'_>) -> Result<(), String> {
    let path = hook.path().display();
    let failed = |error: io::Error| format!("{path}: {error}");
    let output = memory("hook-output").map_err(failed)?;
    let mut child = spawn(hook, state, &output, env).map_err(failed)?;
    let outcome = match hook.timeout() {
        None => Ok(()),
        Some(seconds) => wait_at_most(&child, Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
    };
    if outcome.is_err() {
        // The group: what the hook has started is to end with it.
        let _ = rustix::process::kill_process_group(pid(&child), rustix::process::Signal::KILL);
    }
    let status = child.wait().map_err(failed)?;
    match (outcome, status.success()) {
        (Err(late), _) => Err(format!("{path}: {late}")),
        (Ok(()), true) => Ok(()),
        (Ok(()), false) => Err(format!("{path}: {status}{}", said(output))),
    }
}

/// The state comes as a file in memory: whether and when the hook reads it cannot make anybody wait.
fn spawn(hook: &Hook, state: &[u8], output: &File, env: Env<'_>) -> io::Result<Child> {
    let mut input = memory("state")?;
    input.write_all(state)?;
    input.seek(SeekFrom::Start(0))?;
    let mut command = Command::new(hook.path());
    let args = hook.args().as_deref().unwrap_or_default();
    if let Some((name, args)) = args.split_first() {
        command.arg0(name).args(args);
    }
    let variables = match (hook.env().as_deref(), env) {
        (Some(own), _) => Some(own),
        (None, Env::Programs(programs)) => Some(programs),
        (None, Env::Empty) => Some(&[][..]),
        (None, Env::Callers) => None,
    };
    if let Some(variables) = variables {
        command.env_clear().envs(variables.iter().filter_map(|variable| variable.split_once('=')));
    }
    command.stdin(input).stdout(Stdio::from(output.try_clone()?)).stderr(Stdio::from(output.try_clone()?));
    command.process_group(0).spawn()
}

fn memory(name: &str) -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?))
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn wait_at_most(child: &Child, limit: Duration) -> Result<(), String> {
    let pidfd: OwnedFd = pidfd_open(pid(child), PidfdFlags::empty()).map_err(|error| error.to_string())?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(format!("did not end within its timeout of {} s", limit.as_secs())),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// What a failed hook has written, on one line.
fn said(mut output: File) -> String {
    let mut bytes = Vec::new();
    let read = output.seek(SeekFrom::Start(0)).and_then(|_| output.take(OUTPUT_LIMIT).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes);
    match (read, text.trim()) {
        (Err(_), _) | (_, "") => String::new(),
        (_, text) => format!(", output: {}", text.replace('\n', "; ")),
    }
}
