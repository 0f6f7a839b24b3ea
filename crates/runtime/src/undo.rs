//! Undoing what has been made of a container when a later step fails.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use oci_spec::runtime::Hooks;
use sandbox::cgroup::Cgroup;
use sandbox::hooks::About;

use crate::container::wait_for_end;
use crate::record::Directory;
use crate::systemd::{Manager, Placeholder, Unit};

/// Undoes what has been made of a container.
pub(crate) struct Undo<'a> {
    pub(crate) directory: Option<&'a Directory>,
    pub(crate) cgroup: Option<String>,
    pub(crate) unit: Option<Unit>,
    pub(crate) placeholder: Option<Placeholder>,
    pub(crate) child: Option<OwnedFd>,
    /// From when on hooks may have run: what they have done, those for afterwards undo.
    pub(crate) hooks: Option<(Hooks, About)>,
}

impl<'a> Undo<'a> {
    /// Nothing but the directory so far.
    pub(crate) fn new(directory: &'a Directory) -> Self {
        Self { directory: Some(directory), cgroup: None, unit: None, placeholder: None, child: None, hooks: None }
    }

    /// All has gone well: what is there stays.
    pub(crate) fn disarm(mut self) {
        (self.directory, self.cgroup, self.unit, self.child, self.hooks) = (None, None, None, None, None);
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            let _ = linux::pidfd::send_signal(child.as_fd(), 9);
            let _ = wait_for_end(&child, Duration::from_secs(10));
        }
        self.placeholder = None;
        if let Some(cgroup) = self.cgroup.take().and_then(|path| Cgroup::open(&path).ok()) {
            let _ = cgroup.remove();
        }
        if let Some(mut manager) = self.unit.take().and_then(|unit| Manager::connect(&unit).ok()) {
            let _ = manager.stop();
        }
        if let Some(directory) = self.directory.take() {
            let _ = directory.remove();
        }
        if let Some((hooks, about)) = self.hooks.take() {
            about.run_poststop(hooks.poststop().as_ref());
        }
    }
}
