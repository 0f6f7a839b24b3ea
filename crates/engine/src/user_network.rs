//! The network of an ordinary user's containers: one network namespace for each state directory, in which their bridges,
//! addresses and rules are, as root's are in the host's. `pasta` (package `passt`) connects it with the world outside, as
//! the user. Monitors are members; with the last one that leaves, namespace and `pasta` go.

use std::cell::RefCell;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use linux::clone::Clone;
use linux::namespace::{Kinds, is_rootless, join, unshare};
use linux::process::start_time;
use network::Attachment;
use network::reserve::Reserved;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};
use sandbox::rootless::{List, find};

use crate::{Context, Error, Paths, Result};

/// Where the host's name server is found from inside, wherever it really is.
pub(crate) const RESOLVER: &str = "169.254.1.1";

/// Whether this process is inside.
static INSIDE: AtomicBool = AtomicBool::new(false);

/// Whether the proxy can have its clients' addresses there.
static TRANSPARENT: AtomicBool = AtomicBool::new(false);

/// Whether the proxy can have its clients' addresses.
pub(crate) fn is_transparent() -> bool {
    TRANSPARENT.load(Ordering::Relaxed)
}

/// What belongs to it in the state directory.
struct Place {
    directory: PathBuf,
}

impl Place {
    fn of(paths: &Paths) -> Self {
        Place { directory: paths.state.join("network") }
    }

    /// The namespace, mounted.
    fn namespace(&self) -> PathBuf {
        self.directory.join("namespace")
    }

    /// `pasta`'s number and start time.
    fn pasta(&self) -> PathBuf {
        self.directory.join("pasta")
    }

    fn members(&self) -> Result<List> {
        List::lock(&self.directory.join("members")).map_err(explained)
    }
}

fn explained(error: sandbox::rootless::Error) -> Error {
    Error::internal(error.to_string()).hinted_if(error.hint.as_deref())
}

/// Whether networks can be had; an error that says what is missing.
pub(crate) fn check() -> Result<()> {
    if !is_rootless() {
        return Ok(());
    }
    match missing() {
        None => Ok(()),
        Some(what) => Err(Error::invalid(format!("networks without root: {what}"))
            .hinted("or choose --network none, or --network host for the host's own")),
    }
}

/// What a user lacks for networks, and how to get it.
pub(crate) fn missing() -> Option<String> {
    let tun = rustix::fs::access("/dev/net/tun", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK);
    match () {
        () if find("pasta").is_none() => Some("pasta is missing: apt install passt".to_owned()),
        () if tun.is_err() => Some("/dev/net/tun cannot be opened: chmod 666 /dev/net/tun (modprobe tun)".to_owned()),
        () => None,
    }
}

thread_local! {
    /// Sockets of the host that hold published ports: once inside, no more can be made.
    static HELD: RefCell<Vec<Reserved>> = const { RefCell::new(Vec::new()) };
}

/// Holds the host's ports that are to lead to a container, before this process goes inside. Nothing happens for root of
/// the host, whose ports are held where the networks are.
pub(crate) fn hold_ports(attachment: &Attachment) -> std::result::Result<(), network::Error> {
    if !is_rootless() || INSIDE.load(Ordering::Relaxed) {
        return Ok(());
    }
    let held = network::reserve::all(attachment)?;
    HELD.with_borrow_mut(|all| *all = held);
    Ok(())
}

/// Those sockets, as often as they are wanted: a container that is started again has the same.
pub(crate) fn held_ports() -> Vec<Reserved> {
    let copy = |held: &Reserved| Some(Reserved { port: held.port, socket: held.socket.try_clone().ok()? });
    HELD.with_borrow(|all| all.iter().filter_map(copy).collect())
}

/// Closes them: the container has ended for good.
pub(crate) fn release_ports() {
    HELD.with_borrow_mut(Vec::clear);
}

/// Moves this process into the namespace, for good; makes it first if need be. Nothing happens for root of the host.
///
/// `connected`: it is to be connected with the outside.
pub(crate) fn enter(paths: &Paths, connected: bool) -> Result<()> {
    if !is_rootless() || INSIDE.load(Ordering::Relaxed) {
        return Ok(());
    }
    let place = Place::of(paths);
    crate::make_directory(&place.directory)?;
    let mut members = place.members()?;
    let namespace = match place.open() {
        Some(namespace) => namespace,
        None => place.make()?,
    };
    // A host that leads nowhere has containers that reach each other, and the host by published ports.
    if connected && network::link::routes::has_default()? && !place.pasta_lives() {
        place.start_pasta()?;
    }
    join(namespace.as_fd(), Kinds::NETWORK).step(|| "join the user's network namespace".to_owned())?;
    members.add_myself().map_err(explained)?;
    // Without it containers see the proxy's address instead of their clients'.
    TRANSPARENT.store(network::transparent::prepare().is_ok(), Ordering::Relaxed);
    INSIDE.store(true, Ordering::Relaxed);
    Ok(())
}

/// Leaves it; the last one ends `pasta`. The process stays in the namespace, which ends with it.
pub(crate) fn leave(paths: &Paths) {
    if !INSIDE.load(Ordering::Relaxed) {
        return;
    }
    let place = Place::of(paths);
    let Ok(mut members) = place.members() else { return };
    if members.remove_myself().unwrap_or(false) {
        place.end();
    }
}

impl Place {
    /// The namespace, if it is there. A file without a mount is of an earlier user namespace, whose mounts are gone.
    fn open(&self) -> Option<OwnedFd> {
        const NSFS_MAGIC: i64 = 0x6e73_6673;
        let file = rustix::fs::open(self.namespace(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        #[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
        let mounted = rustix::fs::fstatfs(&file).is_ok_and(|system| system.f_type as i64 == NSFS_MAGIC);
        mounted.then_some(file)
    }

    /// Makes a new one, in a copy of this process, and mounts it where the next one finds it.
    fn make(&self) -> Result<OwnedFd> {
        self.end();
        let path = self.namespace();
        fs::write(&path, "").step(|| format!("make {}", path.display()))?;
        let child = Clone::default()
            .spawn(|| match unshare(Kinds::NETWORK).and_then(|()| linux::net::loopback_up()) {
                Ok(()) if mount_bind("/proc/thread-self/ns/net", &path).is_ok() => 0,
                _ => 1,
            })
            .step(|| "make a network namespace".to_owned())?;
        let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
        self.open().ok_or_else(|| Error::internal("make the user's network namespace: it is not there"))
    }

    /// Starts `pasta`; returns when it serves.
    fn start_pasta(&self) -> Result<()> {
        let program =
            find("pasta").ok_or_else(|| check().err().unwrap_or_else(|| Error::internal("pasta is missing")))?;
        let number = self.directory.join("pasta.pid");
        let mut command = Command::new(program);
        // No port of the host leads in and none of the namespace's out but what monitors serve; its gateway is not the
        // host's loopback.
        command.args([
            "--config-net",
            "--quiet",
            "--no-map-gw",
            "-t",
            "none",
            "-u",
            "none",
            "-T",
            "none",
            "-U",
            "none",
        ]);
        command.args(["--dns-forward", RESOLVER]).arg("--pid").arg(&number).arg("--netns").arg(self.namespace());
        let output = command.stdin(Stdio::null()).output().step(|| "start pasta".to_owned())?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let cause = text.lines().filter(|line| !line.contains("syslog")).collect::<Vec<_>>().join("; ");
            return Err(Error::internal(format!("pasta: {cause}"))
                .hinted("the host needs a default route; or choose --network none or host"));
        }
        let pid = fs::read_to_string(&number).unwrap_or_default();
        let start = pid.trim().parse().ok().and_then(start_time).unwrap_or(0);
        let path = self.pasta();
        fs::write(&path, format!("{} {start}\n", pid.trim())).step(|| format!("write {}", path.display()))
    }

    fn pasta_lives(&self) -> bool {
        self.pasta_process().is_some()
    }

    /// The process on record, if it is still the same.
    fn pasta_process(&self) -> Option<OwnedFd> {
        let text = fs::read_to_string(self.pasta()).ok()?;
        let (pid, start) = text.trim().split_once(' ')?;
        let (pid, start): (i32, u64) = (pid.parse().ok()?, start.parse().ok()?);
        let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        (start_time(pid) == Some(start)).then_some(pidfd)
    }

    /// Takes everything down.
    fn end(&self) {
        if let Some(pasta) = self.pasta_process() {
            let _ = pidfd_send_signal(pasta, Signal::TERM);
        }
        let _ = fs::remove_file(self.pasta());
        let _ = unmount(self.namespace(), UnmountFlags::DETACH);
        let _: std::io::Result<()> = fs::remove_file(Path::new(&self.namespace()));
    }
}
