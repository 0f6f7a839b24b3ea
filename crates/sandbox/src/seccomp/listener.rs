//! Handing the listener of a filter with `SCMP_ACT_NOTIFY` to the agent that answers: the *container process state* of
//! the runtime specification (config-linux.md, "Seccomp") over a fresh connection.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use oci_spec::runtime::LinuxSeccomp;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::Serialize;
use serde_json::Value;

use crate::OCI_VERSION;
use crate::hooks::About;

/// How long an agent may take to take the descriptor.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who answers, and what it is told.
#[derive(Clone, Copy, Debug)]
pub struct Listener<'a> {
    path: &'a Path,
    metadata: Option<&'a str>,
    about: &'a About,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'a str,
    fds: [&'static str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a str>,
    state: Value,
}

impl<'a> Listener<'a> {
    /// The listener that a profile names, if it does.
    pub fn of(profile: Option<&'a LinuxSeccomp>, about: &'a About) -> Option<Self> {
        let profile = profile?;
        let path = profile.listener_path().as_deref().filter(|path| !path.as_os_str().is_empty())?;
        Some(Self { path, metadata: profile.listener_metadata().as_deref(), about })
    }

    /// Sends the descriptor of the filter that process `pid` has loaded; `first` is the container's first process.
    pub(crate) fn send(&self, pid: i32, first: i32, listener: BorrowedFd<'_>) -> io::Result<()> {
        let status = if pid == first { "creating" } else { "running" };
        let state = serde_json::from_slice(&self.about.state(status, first))?;
        let state = State { oci_version: OCI_VERSION, fds: ["seccompFd"], pid, metadata: self.metadata, state };
        let text = serde_json::to_vec(&state)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Connecting counts as sending: an agent that does not listen must not hold up the start for ever.
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        connect(&socket, &SocketAddrUnix::new(self.path)?)?;
        // In one message, because agents ask for one.
        linux::socket::send(&socket, &text, &[listener])
    }

    /// Where the agent is.
    pub(crate) fn path(&self) -> &Path {
        self.path
    }
}
