//! A container that exists: its record together with what the kernel says of its process now.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sandbox::cgroup::Cgroup;
use sandbox::hooks::About;

use crate::error::Step;
use crate::record::{Directory, Record, Store};
use crate::systemd::Manager;
use crate::{Error, Result, bundle};

/// What a container is doing (runtime-spec, runtime.md "State"; `paused` is runc's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// As `state` shows it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container that exists.
pub(crate) struct Container {
    pub(crate) directory: Directory,
    pub(crate) record: Record,
}

impl Container {
    /// The container `id`, which must have a whole record.
    pub(crate) fn open(store: &Store, id: &str) -> Result<Self> {
        let directory = store.open(id)?;
        match directory.record() {
            Some(record) => Ok(Self { directory, record }),
            None => Err(Error::new(format!(
                "container does not exist: {id}: its state is incomplete; `delete --force {id}` removes what is left"
            ))),
        }
    }

    /// What it is doing.
    pub(crate) fn status(&self) -> Status {
        match self.record.pid {
            0 if self.directory.is_being_made() => Status::Creating,
            0 => Status::Stopped,
            _ if !self.is_alive() => Status::Stopped,
            _ if self.directory.has_gate() => Status::Created,
            _ if self.cgroup().is_ok_and(|cgroup| cgroup.is_some_and(|cgroup| cgroup.is_frozen())) => Status::Paused,
            _ => Status::Running,
        }
    }

    /// Whether its first process lives.
    pub(crate) fn is_alive(&self) -> bool {
        self.record.pid > 0 && linux::process::start_time(self.record.pid) == Some(self.record.start_time)
    }

    /// Its first process, if it lives.
    pub(crate) fn process(&self) -> Option<OwnedFd> {
        let pidfd = pidfd_open(Pid::from_raw(self.record.pid)?, PidfdFlags::empty()).ok()?;
        // After the descriptor: the number may have gone to somebody else before.
        self.is_alive().then_some(pidfd)
    }

    /// The same; an error that callers know if it has ended.
    pub(crate) fn running(&self) -> Result<OwnedFd> {
        self.process().ok_or_else(|| Error::new("container not running"))
    }

    /// Its cgroup; `None` if it was made without one.
    pub(crate) fn cgroup(&self) -> std::io::Result<Option<Cgroup>> {
        self.record.cgroup.as_deref().map(Cgroup::open).transpose()
    }

    /// Its cgroup, which the command needs.
    pub(crate) fn required_cgroup(&self) -> Result<Cgroup> {
        let cgroup = self.cgroup().step(|| "open the container's cgroup".into())?;
        cgroup.ok_or_else(|| Error::new("the container has no cgroup of its own"))
    }

    /// Its configuration, as it was when it was made.
    pub(crate) fn spec(&self) -> Result<Spec> {
        bundle::parse(&self.directory.config()?)
    }

    /// What its hooks are told.
    pub(crate) fn about(&self) -> About {
        about(&self.record)
    }

    /// Removes the container, whose process has ended or is killed by this: processes, cgroup, state. Then runs the
    /// hooks that are for afterwards; what fails there comes back as warnings.
    pub(crate) fn destroy(self) -> Result<Vec<String>> {
        if let Some(process) = self.process() {
            let _ = linux::pidfd::send_signal(process.as_fd(), 9);
            if let Ok(Some(cgroup)) = self.cgroup() {
                cgroup.let_die().step(|| "thaw the container".into())?;
            }
            wait_for_end(&process, Duration::from_secs(10))?;
        }
        let spec = self.spec().ok();
        let hooks = spec.as_ref().and_then(|spec| spec.hooks().clone());
        if let Ok(Some(cgroup)) = self.cgroup() {
            cgroup.remove().step(|| "remove the container's cgroup".into())?;
        }
        if let Some(unit) = &self.record.unit {
            Manager::connect(unit)?.stop()?;
        }
        if let Some(rdt) =
            spec.as_ref().and_then(|spec| spec.linux().as_ref()).and_then(|linux| linux.intel_rdt().as_ref())
        {
            sandbox::resctrl::remove(rdt, &self.record.id).step(|| "linux.intelRdt".into())?;
        }
        self.directory.remove()?;
        let poststop = hooks.as_ref().and_then(|hooks| hooks.poststop().as_ref());
        Ok(self.about().run_poststop(poststop))
    }
}

/// What hooks are told.
pub(crate) fn about(record: &Record) -> About {
    About {
        id: record.id.clone(),
        bundle: record.bundle.to_string_lossy().into_owned(),
        annotations: record.annotations.clone(),
    }
}

/// Waits until a process, ours or not, has ended.
pub(crate) fn wait_for_end(process: &OwnedFd, limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).unwrap_or_default();
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(Error::new("container init still running")),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).step(|| "wait for the container's process".into()),
        }
    }
}

/// The name of the user who owns the state directory, as `list` shows it; the number if it has none.
pub(crate) fn owner(directory: &Directory) -> String {
    let uid = rustix::fs::fstat(directory.fd()).map_or(0, |stat| stat.st_uid).to_string();
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
}
