//! Networks that somebody takes apart while containers run are made whole again: the monitor that keeps the watch starts
//! a copy of itself for that, so that it stays as small as it was.

use linux::clone::{Child, Clone};
use network::Attachment;
use network::watch::Watch;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use std::os::fd::AsFd;

use super::poll::{Poll, Token};
use crate::{Engine, Paths};

/// The monitor's part in the care for networks.
pub(super) struct Care {
    pub(super) watch: Watch,
    paths: Paths,
    repair: Option<Child>,
}

impl Care {
    /// None where it cannot be had: the container is no worse off.
    pub(super) fn begin(paths: &Paths, attachment: &Attachment) -> Option<Self> {
        let watch = Watch::new(&paths.state, &attachment.table).ok()?;
        Some(Care { watch, paths: paths.clone(), repair: None })
    }

    /// Does what is ready and what is due.
    pub(super) fn turn(&mut self, poll: &Poll) {
        self.reap();
        if self.watch.turn() && self.repair.is_none() && self.begin_repair(poll).is_none() {
            self.watch.failed();
        }
    }

    fn begin_repair(&mut self, poll: &Poll) -> Option<()> {
        let engine = Engine::new(self.paths.clone());
        let child = Clone::default().spawn(|| i32::from(engine.reload_networks().is_err())).ok()?;
        // If it cannot be watched, its end is noticed with the next thing that happens.
        drop(poll.watch_input(&child.pidfd, Token::Repair));
        self.repair = Some(child);
        Some(())
    }

    /// Notices the end of a repair.
    fn reap(&mut self) {
        let Some(child) = &self.repair else { return };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        match waitid(WaitId::PidFd(child.pidfd.as_fd()), options) {
            Ok(None) => return,
            Ok(Some(ended)) if ended.exit_status() == Some(0) => {}
            _ => self.watch.failed(),
        }
        self.repair = None;
    }
}
