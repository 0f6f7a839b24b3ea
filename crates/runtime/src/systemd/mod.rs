//! The systemd driver, for those who ask for it (`--systemd-cgroup`): the service manager makes the cgroup and has charge
//! of it; the container gets into it as into any other. No library: those that there are run threads of their own, or
//! wait for ever for a bus that has gone.

mod annotations;
mod bus;
mod unit;
mod value;

use std::os::fd::AsFd;

use linux::clone::{Child, Clone};
use oci_spec::runtime::{LinuxResources, Spec};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, set_parent_process_death_signal, waitid};
use sandbox::cgroup::Cgroup;

pub(crate) use unit::{Manager, Unit};

use crate::Result;
use crate::error::Step;

/// The unit that the configuration asks for.
pub(crate) fn unit(spec: &Spec, id: &str, of_user: bool) -> Result<Unit> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    Unit::parse(&path.map(|path| path.to_string_lossy()).unwrap_or_default(), id, of_user)
}

/// A cgroup that the manager has made, and what keeps it until the container is in it.
pub(crate) struct Started {
    pub(crate) cgroup: Cgroup,
    /// Below the root of each hierarchy.
    pub(crate) path: String,
    pub(crate) placeholder: Placeholder,
}

/// Starts the unit. The manager takes no scope without a process, and a process of the container there can be none before
/// its cgroup: so another one is first, and goes when the container is there.
pub(crate) fn start(unit: &Unit, spec: &Spec, resources: &LinuxResources) -> Result<Started> {
    let annotations = spec.annotations().clone().unwrap_or_default();
    let own = annotations::properties(&annotations)?;
    let mut manager = Manager::connect(unit)?;
    let placeholder = Placeholder::start()?;
    let path = manager.start(placeholder.0.pid, &own, resources)?;
    match Cgroup::adopt(&path) {
        Ok(cgroup) => Ok(Started { cgroup, path, placeholder }),
        Err(error) => {
            drop(placeholder);
            let _ = manager.stop();
            Err(error).step(|| format!("make the cgroup {path}"))
        }
    }
}

/// A process that does nothing and ends with its owner, or its owner's process.
pub(crate) struct Placeholder(Child);

impl Placeholder {
    fn start() -> Result<Self> {
        let parent = rustix::process::getpid();
        let child = Clone::default().spawn(|| {
            linux::signal::reset();
            let bound = set_parent_process_death_signal(Some(Signal::KILL));
            // The parent may have died before.
            if bound.is_err() || rustix::process::getppid() != Some(parent) {
                return 1;
            }
            loop {
                // No descriptors, no limit of time.
                let _ = rustix::event::poll(&mut [], None);
            }
        });
        child.map(Self).step(|| "start a process for the unit".into())
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.0.pidfd, Signal::KILL);
        let _ = waitid(WaitId::PidFd(self.0.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}
