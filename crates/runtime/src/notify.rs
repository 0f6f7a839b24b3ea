//! `NOTIFY_SOCKET` (sd_notify(3)): a service manager's socket cannot be shown to a container, whose processes it does not
//! know. The container gets a socket of its own, and `READY=1` is passed on with the number that the manager can see.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, MountBuilder};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

use crate::Result;
use crate::error::Step;
use crate::record::Directory;

/// Directory of the socket, in the state directory and in the container.
const DIRECTORY: &str = "notify";
const NAME: &str = "notify.sock";
const INSIDE: &str = "/run/notify";
/// Longest message, as systemd takes it.
const LIMIT: usize = 4096;

/// Where the container's socket is and the manager's.
pub(crate) struct Notify {
    directory: PathBuf,
    manager: PathBuf,
}

impl Notify {
    /// If the caller has a manager; makes the directory that the container sees.
    pub(crate) fn from_environment(directory: &Directory) -> Result<Option<Self>> {
        let Some(manager) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return Ok(None) };
        let path = directory.path().join(DIRECTORY);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
        .step(|| format!("make {}", path.display()))?;
        Ok(Some(Self { directory: path, manager: manager.into() }))
    }

    /// What shows the socket to the container.
    pub(crate) fn mount(&self) -> Mount {
        let words = ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec();
        let mount = MountBuilder::default().destination(INSIDE).source(&self.directory).typ("bind").options(words);
        mount.build().unwrap_or_default()
    }

    /// What tells the container of it.
    pub(crate) fn variable(&self) -> String {
        format!("NOTIFY_SOCKET={INSIDE}/{NAME}")
    }

    /// Makes the socket. It lives as long as whoever starts the container and waits.
    pub(crate) fn bind(self) -> Result<Bound> {
        let what = || format!("make the notify socket in {}", self.directory.display());
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).step(what)?;
        let held = rustix::fs::open(&self.directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(what)?;
        let short = format!("/proc/self/fd/{}/{NAME}", held.as_raw_fd());
        bind(&socket, &SocketAddrUnix::new(short).step(what)?).step(what)?;
        // The container's users must be able to write, whoever they are on the host; the directory above is closed.
        fs::set_permissions(self.directory.join(NAME), fs::Permissions::from_mode(0o777)).step(what)?;
        Ok(Bound { socket, manager: self.manager })
    }
}

/// The container's socket, open.
pub(crate) struct Bound {
    socket: OwnedFd,
    manager: PathBuf,
}

impl Bound {
    /// Waits until the container says that it is ready, passes that on with `pid` as the main process, and returns; also
    /// returns once `process` has ended.
    pub(crate) fn forward(&self, pid: i32, process: &OwnedFd) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(process, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other.step(|| "wait for the container to be ready".into())?,
            };
            let [message, ended] = [fds[0].revents(), fds[1].revents()];
            if message.contains(PollFlags::IN) && self.pass_on(pid)? || !ended.is_empty() {
                return Ok(());
            }
        }
    }

    /// Whether a message said READY.
    fn pass_on(&self, pid: i32) -> Result<bool> {
        let mut buffer = [0; LIMIT];
        let (_, length) =
            recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT).step(|| "read a notification".into())?;
        let ready = buffer[..length.min(LIMIT)].split(|byte| *byte == b'\n').any(|line| line.starts_with(b"READY="));
        if ready {
            send(&self.manager, format!("READY=1\nMAINPID={pid}\n").as_bytes())?;
        }
        Ok(ready)
    }
}

/// To the manager; `@` begins an abstract address.
fn send(manager: &Path, message: &[u8]) -> Result<()> {
    let what = || format!("notify {}", manager.display());
    let address = match manager.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name),
        None => SocketAddrUnix::new(manager),
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).step(what)?;
    sendto(&socket, message, SendFlags::NOSIGNAL, &address.step(what)?).step(what).map(drop)
}
