//! Connecting a container to its networks: the steps in their order, from held ports to open ones. What is done here is
//! undone by the end of the container's network namespace, but for the firewall, which [`disconnect`] tells.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::dns::Sockets;
use crate::error::{Context as _, Result};
use crate::firewall;
use crate::link::attach::{self, Inside};
use crate::model::Attachment;
use crate::reserve::{self, Reserved};

/// A container that is connected, for as long as its monitor serves it.
pub struct Connected {
    /// Sockets that hold its ports.
    pub reserved: Vec<Reserved>,
    /// Its network namespace.
    pub namespace: OwnedFd,
    /// Where its questions for names arrive, if it has a name server.
    pub questions: Option<Sockets>,
    /// Whether the firewall's table has to be made before anything can be published: see [`firewall::install`].
    pub unprotected: bool,
}

/// Connects the process `pid`, which has a network namespace of its own. `state` is where the lock lies.
///
/// `names`: it has a name server.
pub fn connect(attachment: &Attachment, pid: i32, state: &Path, names: bool) -> Result<Connected> {
    // A port that somebody else has is an error before anything is made.
    let reserved = reserve::all(attachment)?;
    let namespace = attach::namespace(pid)?;
    let made = attach::outside(&attachment.endpoints, namespace.as_fd())?;
    let inside = Inside::enter(namespace.as_fd())?;
    attach::inside(&attachment.endpoints)?;
    let questions = names.then(name_server).transpose()?;
    drop(inside);
    let unprotected = if made || !attachment.ports.is_empty() {
        let _lock = lock(state, FlockOperation::LockShared)?;
        !firewall::publish(attachment, made)?
    } else {
        false
    };
    Ok(Connected { reserved, namespace, questions, unprotected })
}

/// How often ports are tried that a dying process may still hold, every two milliseconds.
const CLOSING: usize = 50;

/// Takes over a container that is connected already, for a monitor that follows another one. Ports that meanwhile somebody
/// else holds are led to the container all the same.
pub fn resume(attachment: &Attachment, pid: i32, names: bool) -> Result<Connected> {
    // The descriptors of the monitor that was killed are closed one after another: its lock may go before its ports.
    let mut held = reserve::all(attachment);
    for _ in 0..CLOSING {
        if held.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
        held = reserve::all(attachment);
    }
    let reserved = held.unwrap_or_default();
    let namespace = attach::namespace(pid)?;
    let inside = Inside::enter(namespace.as_fd())?;
    let questions = names.then(name_server).transpose()?;
    drop(inside);
    Ok(Connected { reserved, namespace, questions, unprotected: false })
}

/// The sockets of a name server in the container's namespace, which the caller has entered.
fn name_server() -> Result<Sockets> {
    let step = || "open the name server's sockets".to_owned();
    // The container's first process does that too, a moment later or earlier.
    linux::net::loopback_up().step(|| "bring the loopback device up".to_owned())?;
    let sockets = Sockets::open().step(step)?;
    firewall::redirect_questions(sockets.port().step(step)?)?;
    Ok(sockets)
}

/// Takes the published ports of a container away that has ended. To be called before its records say that they are free.
pub fn disconnect(attachment: &Attachment, state: &Path) -> Result<()> {
    if attachment.ports.is_empty() {
        return Ok(());
    }
    let _lock = lock(state, FlockOperation::LockShared)?;
    firewall::withdraw(attachment)
}

/// Makes the firewall anew from what `read` finds, while nobody publishes or withdraws a port.
pub fn rebuild<E: From<crate::Error>>(
    state: &Path,
    read: impl FnOnce() -> std::result::Result<(String, Vec<crate::Network>, Vec<Attachment>), E>,
) -> std::result::Result<(), E> {
    let _lock = lock(state, FlockOperation::LockExclusive)?;
    let (table, networks, attachments) = read()?;
    Ok(firewall::install(&table, &networks, &attachments)?)
}

fn lock(state: &Path, operation: FlockOperation) -> Result<File> {
    let path = state.join("network.lock");
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.step(|| format!("open {}", path.display()))?;
    let locked = flock(&file, operation).map_err(std::io::Error::from);
    locked.step(|| format!("lock {}", path.display()))?;
    Ok(file)
}
