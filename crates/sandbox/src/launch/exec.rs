//! One more process in a running container: into its cgroup and namespaces, then the same last steps as for the first
//! process. Everything in there, the root file system included, may be hostile by now.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use linux::clone::{Child, Clone};
use linux::namespace::Kinds;
use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};

use super::channel;
use super::child::{close_but_inherited, enter_cgroup, finish, guarded, protect, take_streams};
use super::labels::Labels;
use super::parent::Ready;
use super::parent::{self, PidsOfChildren};
use super::program::Program;
use super::root::Root;
use super::step::Step;
use super::{Created, Error, Exec, Held, Stdio, check, place, privileges, scheduling, terminal, users};
use crate::cgroup::Entry;

/// What the child needs that must be looked up with the host's eyes.
struct Inside {
    entry: Option<Entry>,
    kinds: Kinds,
    labels: Option<Labels>,
}

/// A process that waits for its start.
pub(super) fn prepare(exec: &Exec<'_>) -> Result<Created, Error> {
    make(exec).map_err(|error| match parent::has_ended(exec.target) {
        // Whatever failed on the way, this is why.
        true => Error::NotRunning,
        false => error,
    })
}

fn make(exec: &Exec<'_>) -> Result<Created, Error> {
    check::process(exec.process)?;
    check::listener(exec.seccomp, exec.listener.as_ref())?;
    scheduling::check(exec.process, None)?;
    let inside = Inside {
        entry: exec.cgroup.map(|cgroup| cgroup.entry().step(|| "open the cgroup".into())).transpose()?,
        kinds: namespaces_to_join(exec.target, exec.target_pid)?,
        labels: Labels::of(exec.process)?,
    };
    let (control, childs) = linux::socket::pair().step(|| "make a pair of sockets".into())?;
    let child = clone(exec, &inside, &control, &childs)?;
    drop(childs);
    match serve(exec, &control, &child) {
        Ok(terminal) => Ok(Created { pid: child.pid, pidfd: child.pidfd, terminal, held: Held::default(), control }),
        Err(error) => Err(parent::reap(&child.pidfd, channel::pending(&control).unwrap_or(error))),
    }
}

/// All kinds, but the user namespace only if it is another one: joining one's own is refused.
fn namespaces_to_join(target: BorrowedFd<'_>, pid: i32) -> Result<Kinds, Error> {
    let same = |theirs: &OwnedFd| -> rustix::io::Result<bool> {
        let (theirs, own) = (rustix::fs::fstat(theirs)?, rustix::fs::stat("/proc/self/ns/user")?);
        Ok((theirs.st_dev, theirs.st_ino) == (own.st_dev, own.st_ino))
    };
    let what = || "compare user namespaces".to_owned();
    let theirs = linux::namespace::user_of(target).step(what)?;
    let kinds = if same(&theirs).step(what)? { Kinds::ALL.without(Kinds::USER) } else { Kinds::ALL };
    Ok(if linux::namespace::is_rootless() { kinds.without(shared(pid)) } else { kinds })
}

/// The kinds that the container has in common with us: without rights over the host, nobody may join the host's own.
fn shared(pid: i32) -> Kinds {
    const FILES: [(Kinds, &str); 7] = [
        (Kinds::MOUNT, "mnt"),
        (Kinds::UTS, "uts"),
        (Kinds::IPC, "ipc"),
        (Kinds::PID, "pid"),
        (Kinds::NETWORK, "net"),
        (Kinds::CGROUP, "cgroup"),
        (Kinds::TIME, "time"),
    ];
    let identity = |process: &str, file: &str| {
        rustix::fs::stat(format!("/proc/{process}/ns/{file}")).map(|stat| (stat.st_dev, stat.st_ino)).ok()
    };
    let same = |file: &str| identity(&pid.to_string(), file) == identity("self", file);
    FILES.iter().filter(|(_, file)| same(file)).fold(Kinds::default(), |all, (kind, _)| all | *kind)
}

/// The child is born in the container's pid namespace, where its processes can see it at once: so it must be closed to
/// them from its first instruction, which it inherits from the caller.
fn clone(exec: &Exec<'_>, inside: &Inside, control: &OwnedFd, childs: &OwnedFd) -> Result<Child, Error> {
    let _closed = Undumpable::new();
    let _pids = PidsOfChildren::join_fd(exec.target)?;
    let cgroup = match &inside.entry {
        Some(Entry::V2(directory)) => Some(directory.as_fd()),
        _ => None,
    };
    Clone { cgroup, ..Clone::default() }
        .spawn(|| run(exec, inside, control, childs))
        .step(|| "clone a process into the container".into())
}

fn serve(exec: &Exec<'_>, control: &OwnedFd, child: &Child) -> Result<Option<OwnedFd>, Error> {
    privileges::set_oom_score(child.pid, exec.process)?;
    let Ready { uid, gid, terminal } = parent::wait_ready(control, child, exec.target_pid, exec.listener.as_ref())?;
    parent::give_pipes(&exec.stdio, child.pid, uid, gid);
    privileges::raise_rlimits(child.pid, exec.process)?;
    Ok(terminal)
}

/// Body of the child.
fn run(exec: &Exec<'_>, inside: &Inside, parents: &OwnedFd, socket: &OwnedFd) -> i32 {
    let (entry, kinds) = (inside.entry.as_ref(), inside.kinds);
    protect();
    let _ = linux::process::close_range(parents.as_raw_fd(), parents.as_raw_fd());
    guarded(socket, || {
        scheduling::initial_cpus(exec.process)?;
        enter_cgroup(entry)?;
        scheduling::final_cpus(exec.process)?;
        linux::namespace::join(exec.target, kinds).step(|| "join the container's namespaces".into())?;
        if kinds.contains(Kinds::USER) {
            privileges::become_root()?;
        }
        become_process(exec, inside.labels.as_ref(), socket)
    })
}

fn become_process(exec: &Exec<'_>, labels: Option<&Labels>, socket: &OwnedFd) -> Result<(), Error> {
    privileges::new_session(true)?;
    let root = Root::of_process().step(|| "open the container's root".into())?;
    let terminal = match exec.stdio {
        Stdio::Terminal { rows, columns } => Some(terminal::open(&root, rows, columns)?),
        Stdio::Fds(_) => None,
    };
    let identity = match exec.exact_user {
        true => users::exactly(&root, exec.process.user())?,
        false => users::resolve(&root, exec.user, &[], exec.process.user())?,
    };
    let program = Program::new(exec.process, identity.home.as_deref())?;
    place::check_workdir(exec.process.cwd())?;
    drop(root);
    scheduling::set(exec.process, exec.linux)?;
    take_streams(&exec.stdio, terminal.as_ref(), &identity)?;
    labels.map_or(Ok(()), Labels::apply)?;
    // Before the filter, which may know none of the calls for it.
    close_but_inherited(exec.inherited)?;
    let filter = privileges::drop_to(exec.process, &identity, exec.seccomp, socket)?;
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    privileges::lower_rlimits(exec.process)?;
    channel::ready(socket, identity.uid, identity.gid, terminal.map(|terminal| terminal.master))?;
    channel::wait_go(socket);
    finish(&program, filter)
}

/// The caller closed to ptrace and `/proc` while the guard lives; copies made meanwhile stay so until they execute.
struct Undumpable(Option<DumpableBehavior>);

impl Undumpable {
    fn new() -> Self {
        let before = dumpable_behavior().ok();
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        Self(before)
    }
}

impl Drop for Undumpable {
    fn drop(&mut self) {
        // The value 2 ("readable by root") can be read but not set; 0 is then closest.
        if let Some(before @ DumpableBehavior::Dumpable) = self.0 {
            let _ = set_dumpable_behavior(before);
        }
    }
}
