//! Starting processes: the first one of a container ([`create`], then [`Created::start`]) and further ones ([`exec`]).
//! The caller must be single-threaded: the child goes on as a copy of it until it executes the container's program.

mod binds;
mod channel;
mod check;
mod child;
mod copyup;
mod devices;
mod exec;
mod gate;
mod idmap;
mod init;
mod labels;
mod mounts;
mod namespaces;
mod netdevices;
mod options;
mod overlay;
mod parent;
mod place;
mod points;
mod privileges;
mod program;
mod root;
mod scheduling;
mod stage;
mod step;
mod sysctl;
mod terminal;
mod users;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Process, Spec};

pub use gate::{Gate, Starter, knock};
pub use options::{NO_LINKS, SUBPATH};
pub(crate) use overlay::set_directory;
pub use points::make_mount_points;

use crate::hooks::About;
use crate::{cgroup, seccomp};

/// Everything that a container's first process is made from.
pub struct Launch<'a> {
    /// The configuration. `root.path` is ignored in favour of `rootfs`.
    pub spec: &'a Spec,
    /// The root file system.
    pub rootfs: Rootfs,
    /// `user[:group]` by name or number, looked up in the container's own files; empty: `spec.process.user`.
    pub user: &'a str,
    /// Supplementary groups by name or number, looked up likewise.
    pub groups: &'a [String],
    /// The filter to load last, if any.
    pub seccomp: Option<&'a seccomp::Program>,
    /// Standard streams of the process.
    pub stdio: Stdio<'a>,
    /// The cgroup, already made and limited by the caller, who also removes it.
    pub cgroup: Option<&'a cgroup::Cgroup>,
    /// Run the built-in init as PID 1 (reaps, forwards signals), the program as its child.
    pub init: bool,
    /// An empty directory of the host, which is shown read-only in the place of every masked directory.
    pub state: PathBuf,
    /// What the caller does to the new namespaces of the process, given by its number, while the process builds its root;
    /// an error is the end of it.
    pub beside: Option<&'a dyn Fn(i32) -> Result<(), String>>,
    /// What only an OCI runtime's callers ask for.
    pub extras: Extras<'a>,
}

/// What an OCI runtime's callers may ask for in addition; the default is nothing of it.
#[derive(Default)]
pub struct Extras<'a> {
    /// Where the container waits for its start once its maker has [left](Created::leave) it.
    pub gate: Option<Gate>,
    /// What the configuration's hooks, and the listener of its filter, are told. Without it, a configuration with hooks or
    /// such a filter is refused.
    pub about: Option<&'a About>,
    /// An empty directory that the container's root can reach, at which its hooks find its root file system while the
    /// host's is still there; without it, that is where the root file system comes from.
    pub root_at: Option<&'a Path>,
    /// An OCI runtime asks: the numbers of `process.user` are taken as they are, `user` and `groups` notwithstanding, and
    /// service managers are to see the container in the unified hierarchy too.
    pub is_runtime: bool,
    /// The caller's descriptors that the program inherits.
    pub inherited: &'a [i32],
    /// Put the new root over the old one instead of `pivot_root`, which is impossible on an initial ramfs.
    pub no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
}

/// The root file system to be made.
pub enum Rootfs {
    /// Overlay over idmapped layers; see DESIGN "Layers".
    Overlay {
        /// Layer directories, topmost first.
        lower: Vec<PathBuf>,
        /// Writable directory, in the container's own ids.
        upper: PathBuf,
        /// Work directory on the same file system.
        work: PathBuf,
        /// Absolute paths inside that are hidden behind an empty directory.
        hidden: Vec<PathBuf>,
        /// The changes go with the container: they are never synced to disk, and the end of its process does not wait
        /// for its mounts to be taken down.
        volatile: bool,
    },
    /// A directory, bind-mounted (idmapped where the configuration asks).
    Directory(PathBuf),
}

/// Standard streams.
#[derive(Clone, Copy)]
pub enum Stdio<'a> {
    /// These descriptors become 0, 1 and 2.
    Fds([BorrowedFd<'a>; 3]),
    /// A new terminal of the container's own devpts; its master comes back in [`Created::terminal`].
    Terminal {
        /// Initial rows and columns; zero: the kernel's.
        rows: u16,
        /// Initial columns.
        columns: u16,
    },
}

/// A container that is ready: everything is in place, its program is not executed yet.
pub struct Created {
    /// The first process, as the host numbers it.
    pub pid: i32,
    /// Its descriptor; readable once it has ended.
    pub pidfd: OwnedFd,
    /// Master of its terminal.
    pub terminal: Option<OwnedFd>,
    /// To be kept until nobody waits any more.
    pub held: Held,
    /// The child waits for its start message here; closed without one, it exits.
    control: OwnedFd,
}

/// What the kernel takes its time to take down (it waits for a grace period for each), which belongs where nobody waits
/// for it: detached mounts of the layers, which the container's overlay does not need any more, the overlay, and all mounts
/// of a container whose changes go with it.
#[derive(Default)]
pub struct Held(Vec<OwnedFd>);

/// Why a process did not come to life.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program, its interpreter or its loader does not exist; the text says which.
    #[error("{0}")]
    CommandNotFound(String),
    /// The program cannot be executed (permission, format, a directory); the text says why.
    #[error("{0}")]
    NotExecutable(String),
    /// The configuration is malformed or contradictory; the text names the field.
    #[error("{0}")]
    Invalid(String),
    /// A hook failed: the container's life ends as if it were deleted (runtime-spec, runtime.md "Lifecycle").
    #[error("{0}")]
    Hook(String),
    /// A further process for a container whose first one has ended.
    #[error("the container is not running")]
    NotRunning,
    /// A step failed: the text names step, arguments and cause.
    #[error("{0}")]
    Step(String),
}

/// Makes the container up to, but not including, the execution of its program.
///
/// The steps and their order: [`parent`] for what the caller does, [`child`] for what happens inside, at the same time.
pub fn create(launch: &Launch<'_>) -> Result<Created, Error> {
    parent::create(launch)
}

impl Created {
    /// Lets the program be executed; returns once `execve` has succeeded or failed.
    pub fn start(&mut self) -> Result<(), Error> {
        channel::go(&self.control)
    }

    /// Leaves the container waiting at its [gate](Extras::gate): from now on it does not end with its maker.
    pub fn leave(self) -> Result<OwnedFd, Error> {
        channel::leave(&self.control)?;
        Ok(self.pidfd)
    }
}

/// One more process in a running container.
pub struct Exec<'a> {
    /// First process of the container.
    pub target: BorrowedFd<'a>,
    /// Its number on the host.
    pub target_pid: i32,
    /// What to run.
    pub process: &'a Process,
    /// The container's configuration, of which all its processes share execution domain and memory policy.
    pub linux: Option<&'a Linux>,
    /// `user[:group]` still to be looked up in the container; empty: `process.user`.
    pub user: &'a str,
    /// Take the numbers of `process.user` as they are, `user` notwithstanding: no group is added.
    pub exact_user: bool,
    /// The filter to load last, if any.
    pub seccomp: Option<&'a seccomp::Program>,
    /// Standard streams.
    pub stdio: Stdio<'a>,
    /// The container's cgroup, in which the process starts.
    pub cgroup: Option<&'a cgroup::Cgroup>,
    /// The caller's descriptors that the program inherits.
    pub inherited: &'a [i32],
    /// Who answers the calls that the filter does not decide.
    pub listener: Option<seccomp::Listener<'a>>,
}

/// Runs one more process; returns once its program has been executed.
pub fn exec(exec: &Exec<'_>) -> Result<Created, Error> {
    let mut created = exec::prepare(exec)?;
    match created.start() {
        Ok(()) => Ok(created),
        Err(error) => Err(parent::reap(&created.pidfd, error)),
    }
}
