//! The terminal of a process: a pair from the container's own devpts, its slave as the process's controlling terminal.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::root::Root;
use super::step::Step;
use super::users::Identity;
use super::{Error, place};

/// `DEVPTS_SUPER_MAGIC` (`include/uapi/linux/magic.h`).
const DEVPTS: i64 = 0x1cd1;

/// Master and slave.
pub(super) struct Terminal {
    pub(super) master: OwnedFd,
    pub(super) slave: OwnedFd,
}

/// Opens a pair. The slave comes from the master itself, not by a path, and the master must be on a devpts: what the
/// image or a process inside put at `/dev/pts` may be anything (CVE-2025-52565).
pub(super) fn open(root: &Root, rows: u16, columns: u16) -> Result<Terminal, Error> {
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = root.open(Path::new("/dev/pts/ptmx"), flags).step(|| "open a terminal at /dev/pts/ptmx".into())?;
    let fs = rustix::fs::fstatfs(&master).step(|| "inspect /dev/pts".into())?;
    if fs.f_type != DEVPTS {
        return Err(Error::Step("open a terminal: /dev/pts is no devpts".into()));
    }
    unlockpt(&master).step(|| "unlock the terminal".into())?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).step(|| "open the terminal's slave".into())?;
    if (rows, columns) != (0, 0) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).step(|| "set the terminal's size".into())?;
    }
    Ok(Terminal { master, slave })
}

impl Terminal {
    /// Shows the slave as `/dev/console`, where the container's own `/dev` has a place for it.
    pub(super) fn show_as_console(&self, root: &Root) -> Result<(), Error> {
        let what = || "mount the terminal on /dev/console".to_owned();
        let target = root.make_file(Path::new("/dev/console")).step(what)?;
        let attributes = linux::mount::Attributes::default();
        let tree = linux::mount::clone_tree(&self.slave, Path::new(""), false, &attributes).step(what)?;
        place::attach(tree, target).step(what)
    }

    /// Makes the slave the controlling terminal of the calling session, owned by its user.
    pub(super) fn control(&self, identity: &Identity) -> Result<(), Error> {
        rustix::process::ioctl_tiocsctty(&self.slave).step(|| "take the terminal as controlling terminal".into())?;
        let owner = Some(rustix::fs::Uid::from_raw(identity.uid));
        rustix::fs::fchown(&self.slave, owner, None).step(|| "give the terminal to the user".into())
    }
}
