//! An agent of ssh for one step: a socket of the step's own, with the owner and the mode that it asks for, behind which
//! the real agent answers. It is gone when the step has ended.

use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A socket that leads to an agent as long as this lives.
pub(crate) struct Forwarded {
    path: PathBuf,
    over: Arc<AtomicBool>,
}

impl Forwarded {
    /// Makes the socket and serves it.
    pub(crate) fn new(path: &Path, agent: PathBuf, mode: u32, owner: (u32, u32)) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        chown(path, Some(owner.0), Some(owner.1))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                if let (Ok(client), Ok(server)) = (client, UnixStream::connect(&agent)) {
                    join(client, server);
                }
            }
        });
        Ok(Forwarded { path: path.to_owned(), over })
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the thread up.
        let _ = UnixStream::connect(&self.path);
    }
}

fn join(client: UnixStream, server: UnixStream) {
    let pass = |mut from: UnixStream, mut to: UnixStream| {
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        })
    };
    if let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) {
        pass(from_client, server);
        pass(from_server, client);
    }
}
