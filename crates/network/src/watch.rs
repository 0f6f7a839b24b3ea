//! The watch over what networks consist of: bridges and rules that somebody else deletes. One process for each state
//! directory keeps it, whichever has the lock; the others sleep until that one ends. What is missing is made anew by the
//! caller.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use linux::netlink::{Family, Message, Socket, attribute, text};
use linux::process::start_time;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::firewall;
use crate::poll::{self, Poll};

/// Who deletes one thing deletes more, or puts it back: all of it is looked at together.
const SETTLE: Duration = Duration::from_millis(200);
/// How long the one that has just taken the watch may need to say so.
const TAKEOVER: Duration = Duration::from_millis(100);
/// When what failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Where a message has the low byte of its type.
const KIND: u32 = if cfg!(target_endian = "little") { 4 } else { 5 };
/// Deleted tables, chains, rules and sets (`enum nf_tables_msg_types`); a started container makes none of these.
const DELETED: [u8; 4] = [2, 5, 8, 11];
/// `NFNLGRP_NFTABLES` and `RTNLGRP_LINK` as bits.
const RULES: u32 = 1 << 6;
const LINKS: u32 = 1;

/// What a descriptor is for.
#[derive(Clone, Copy, Debug)]
enum Token {
    Rules,
    Links,
    Keeper,
}

impl poll::Token for Token {
    fn encode(self) -> u64 {
        self as u64
    }

    fn decode(data: u64) -> Self {
        match data {
            0 => Token::Rules,
            1 => Token::Links,
            _ => Token::Keeper,
        }
    }
}

/// This process's part in it.
enum Role {
    /// It watches, for as long as it holds the lock.
    Keeper { _lock: File, rules: Socket, links: Socket },
    /// Another process does, which this descriptor stands for.
    Heir { _keeper: OwnedFd },
    /// Unclear until the deadline.
    Between,
    /// It has just begun.
    New,
}

/// The watch, as one process sees it: one descriptor, one deadline, one function that does what is to be done.
pub struct Watch {
    poll: Poll<Token>,
    path: PathBuf,
    table: String,
    role: Role,
    /// When to look what is missing, or for the keeper.
    due: Option<Instant>,
    /// A bridge is gone for sure.
    certain: bool,
}

impl Watch {
    /// Takes the watch, if nobody has it. `state` is where the lock lies, `table` the firewall's.
    ///
    /// # Errors
    /// If there is no descriptor to be had.
    pub fn new(state: &Path, table: &str) -> std::io::Result<Self> {
        let (path, table) = (state.join("network.watch"), table.to_owned());
        let mut watch = Watch { poll: Poll::new()?, path, table, role: Role::New, due: None, certain: false };
        watch.find_role();
        Ok(watch)
    }

    /// When [`Watch::turn`] must be called even if nothing is ready.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Does what is ready and what is due; true: something is missing and has to be made anew.
    pub fn turn(&mut self) -> bool {
        for token in self.poll.ready() {
            match token {
                Token::Rules => self.rules_deleted(),
                Token::Links => self.links_deleted(),
                Token::Keeper => self.find_role(),
            }
        }
        if self.due.is_none_or(|due| due > Instant::now()) {
            return false;
        }
        self.due = None;
        match self.role {
            Role::Keeper { .. } => {
                std::mem::take(&mut self.certain) || !firewall::is_whole(&self.table).unwrap_or(true)
            }
            _ => {
                self.find_role();
                false
            }
        }
    }

    /// What was to be made anew could not be: it is tried again later.
    pub fn failed(&mut self) {
        (self.certain, self.due) = (true, Some(Instant::now() + AGAIN));
    }

    fn rules_deleted(&mut self) {
        if let Role::Keeper { rules, .. } = &self.role {
            // What was deleted is found out when all of it is.
            drop(rules.heard());
            self.due = Some(Instant::now() + SETTLE);
        }
    }

    fn links_deleted(&mut self) {
        let Role::Keeper { links, .. } = &self.role else { return };
        let gone = match links.heard() {
            Ok(Some(messages)) => messages.iter().any(is_bridge),
            _ => true,
        };
        if gone {
            (self.certain, self.due) = (true, Some(Instant::now() + SETTLE));
        }
    }

    /// Takes the lock, or finds out who has it.
    fn find_role(&mut self) {
        let follows = !matches!(self.role, Role::New);
        self.role = match self.take().or_else(|| self.keeper()) {
            Some(role @ Role::Keeper { .. }) if follows => {
                // What was deleted while nobody watched.
                self.due = Some(Instant::now() + SETTLE);
                role
            }
            Some(role) => role,
            None => {
                self.due = Some(Instant::now() + TAKEOVER);
                Role::Between
            }
        };
    }

    fn take(&self) -> Option<Role> {
        let mut options = OpenOptions::new();
        let mut lock = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path).ok()?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        let rules = Socket::listen(Family::Netfilter, RULES).ok()?;
        let links = Socket::listen(Family::Route, LINKS).ok()?;
        linux::net::accept_only(&rules, KIND, &DELETED).ok()?;
        linux::net::accept_only(&links, KIND, &[libc::RTM_DELLINK as u8]).ok()?;
        self.poll.watch(&rules, Token::Rules, true, false).ok()?;
        self.poll.watch(&links, Token::Links, true, false).ok()?;
        let own = i32::try_from(std::process::id()).ok()?;
        lock.set_len(0).and_then(|()| lock.rewind()).ok()?;
        write!(lock, "{own} {}", start_time(own)?).ok()?;
        Some(Role::Keeper { _lock: lock, rules, links })
    }

    /// The process that has the lock, if it has said so by now.
    fn keeper(&self) -> Option<Role> {
        let mut text = String::new();
        File::open(&self.path).and_then(|mut file| file.read_to_string(&mut text)).ok()?;
        let (pid, start) = text.split_once(' ')?;
        let (pid, start): (i32, u64) = (pid.parse().ok()?, start.parse().ok()?);
        let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        if start_time(pid) != Some(start) {
            return None;
        }
        self.poll.watch(&process, Token::Keeper, true, false).ok()?;
        Some(Role::Heir { _keeper: process })
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

/// Whether the device of a message was a bridge: pairs of containers that end are deleted all the time.
fn is_bridge(message: &Message) -> bool {
    let info = message.body.get(16..).and_then(|attributes| attribute(attributes, libc::IFLA_LINKINFO));
    info.and_then(|info| attribute(info, libc::IFLA_INFO_KIND)).map(text).as_deref() == Some("bridge")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_watches_and_another_follows() {
        let directory = tempfile::tempdir().unwrap();
        let first = Watch::new(directory.path(), "kiste-watch-test").unwrap();
        let mut second = Watch::new(directory.path(), "kiste-watch-test").unwrap();
        assert!(matches!(first.role, Role::Keeper { .. }) && matches!(second.role, Role::Heir { .. }));
        drop(first);
        second.find_role();
        assert!(matches!(second.role, Role::Keeper { .. }));
    }
}
