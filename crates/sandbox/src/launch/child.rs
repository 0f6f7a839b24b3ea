//! What happens inside: one linear course from a fresh copy of the caller to the container's program. The order matters
//! throughout; each step says why where it is not plain.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use linux::clone::{Clone, exit};
use linux::namespace::{Kinds, unshare};
use oci_spec::runtime::Hooks;
use rustix::fs::{FileType, OFlags};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::labels::Labels;
use super::mounts::Source;
use super::parent::{OWN_WORK, Plan, has_offset_clocks, later};
use super::place::{self, Covers, Made};
use super::program::Program;
use super::root::Root;
use super::step::Step;
use super::terminal::{self, Terminal};
use super::users::Identity;
use super::{Error, Rootfs, Stdio, channel, init, netdevices, privileges, scheduling, sysctl, users};
use crate::cgroup::Entry;
use crate::hooks::Env;
use crate::seccomp;

/// Body of the child; its result is an exit code that nobody sees but after an error.
pub(super) fn run(plan: &Plan<'_>, parents: &OwnedFd, socket: &OwnedFd) -> i32 {
    protect();
    // The parent's end must not stay open here, or neither side would see the other one die.
    let _ = linux::process::close_range(parents.as_raw_fd(), parents.as_raw_fd());
    guarded(socket, || {
        enter_cgroup(plan.entry.as_ref())?;
        match plan.namespaces.joined(Kinds::USER) {
            Some(_) => join_and_clone(plan, socket),
            None => become_container(plan, socket),
        }
    })
}

/// Runs the steps and reports what fails.
pub(super) fn guarded(socket: &OwnedFd, steps: impl FnOnce() -> Result<(), Error>) -> i32 {
    match steps() {
        Ok(()) => 0,
        Err(error) => {
            channel::fail(socket, &error);
            1
        }
    }
}

/// Nobody who sees this process may look into it: it still holds the caller's memory and descriptors. Signals behave as
/// the program expects.
pub(super) fn protect() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    linux::signal::reset();
}

/// Places itself into every v1 hierarchy: moving oneself singly needs no grace period (0.03 ms each, not 15). On v2 it
/// was born there.
pub(super) fn enter_cgroup(entry: Option<&Entry>) -> Result<(), Error> {
    let Some(Entry::V1(tasks)) = entry else { return Ok(()) };
    for file in tasks {
        rustix::io::write(file, b"0").step(|| "enter the cgroup".into())?;
    }
    Ok(())
}

/// With a user namespace to join: new namespaces must belong to it, so they can only be made once it is joined.
fn join_and_clone(plan: &Plan<'_>, socket: &OwnedFd) -> Result<(), Error> {
    plan.namespaces.join()?;
    privileges::become_root()?;
    let namespaces = plan.namespaces.new.without(later(plan));
    let child = Clone { namespaces, cgroup: None, sibling: true }
        .spawn(|| guarded(socket, || prepare(plan, socket)))
        .step(|| "clone the container's first process".into())?;
    channel::child(socket, &child)
}

fn become_container(plan: &Plan<'_>, socket: &OwnedFd) -> Result<(), Error> {
    if plan.namespaces.new.contains(Kinds::USER) {
        channel::wait_done(socket);
    }
    plan.namespaces.join()?;
    if plan.namespaces.own_user() {
        privileges::become_root()?;
    }
    prepare(plan, socket)
}

/// Everything from fresh namespaces to the program.
fn prepare(plan: &Plan<'_>, socket: &OwnedFd) -> Result<(), Error> {
    let own = plan.namespaces.new.and(OWN_WORK);
    if !own.is_empty() {
        unshare(own).step(|| "make cgroup and IPC namespaces".into())?;
    }
    privileges::new_session(!plan.launch.extras.no_new_keyring)?;
    name_host(plan)?;
    if netdevices::has_some(plan.linux) {
        channel::ask_for_devices(socket)?;
    }
    set_clocks(plan, socket)?;
    let root = build_root(plan, socket)?;
    let terminal = open_terminal(plan, &root)?;
    let identity = match plan.launch.extras.is_runtime {
        true => users::exactly(&root, plan.process.user())?,
        false => users::resolve(&root, plan.launch.user, plan.launch.groups, plan.process.user())?,
    };
    let program = Program::new(plan.process, identity.home.as_deref())?;
    place::make_workdir(&root, plan.process.cwd())?;
    if plan.launch.spec.root().as_ref().and_then(|root| root.readonly()) == Some(true) {
        place::make_root_readonly(&root)?;
    }
    drop(root);
    scheduling::set(plan.process, Some(plan.linux))?;
    take_streams(&plan.launch.stdio, terminal.as_ref(), &identity)?;
    reopen_null()?;
    plan.labels.as_ref().map_or(Ok(()), Labels::apply)?;
    // Before the filter, which may know none of the calls for it.
    close_but_inherited(plan.launch.extras.inherited)?;
    let filter = privileges::drop_to(plan.process, &identity, plan.launch.seccomp, socket)?;
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if plan.launch.extras.gate.is_some() {
        // Who only starts it may come much later: say now what can be said.
        program.check()?;
    }
    privileges::lower_rlimits(plan.process)?;
    channel::ready(socket, identity.uid, identity.gid, terminal.map(|terminal| terminal.master))?;
    match (channel::wait_go_or_leave(socket), &plan.launch.extras.gate) {
        (true, _) => become_program(plan, &program, filter, socket),
        (false, None) => exit(1),
        (false, Some(gate)) => {
            let starter = gate.wait();
            exit(guarded(&starter, || become_program(plan, &program, filter, &starter)))
        }
    }
}

/// Descriptors that the program is not to have: all but its streams and those of its caller that it inherits.
pub(super) fn close_but_inherited(inherited: &[i32]) -> Result<(), Error> {
    linux::process::close_on_exec_from(3).step(|| "close descriptors".into())?;
    inherited.iter().try_for_each(|number| {
        linux::process::keep_on_exec(*number).step(|| format!("let the program inherit descriptor {number}"))
    })
}

/// The container has been started.
fn become_program(
    plan: &Plan<'_>,
    program: &Program,
    filter: Option<&seccomp::Program>,
    socket: &OwnedFd,
) -> Result<(), Error> {
    let env = Env::Programs(plan.process.env().as_deref().unwrap_or_default());
    plan.run_hooks("startContainer", Hooks::start_container, "created", own_pid(), env)?;
    if plan.launch.init {
        privileges::load(filter)?;
        init::run(plan.title.as_ref(), || guarded(socket, || Err(program.execute())))?;
    }
    finish(program, filter)
}

/// As the container numbers it.
fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// The last two steps.
pub(super) fn finish(program: &Program, filter: Option<&seccomp::Program>) -> Result<(), Error> {
    privileges::load(filter)?;
    Err(program.execute())
}

/// Names and the loopback device of new namespaces.
fn name_host(plan: &Plan<'_>) -> Result<(), Error> {
    if let Some(name) = plan.launch.spec.hostname() {
        rustix::system::sethostname(name.as_bytes()).step(|| format!("set host name {name:?}"))?;
    }
    if let Some(name) = plan.launch.spec.domainname() {
        rustix::system::setdomainname(name.as_bytes()).step(|| format!("set domain name {name:?}"))?;
    }
    if plan.namespaces.new.contains(Kinds::NETWORK) {
        linux::net::loopback_up().step(|| "bring the loopback device up".into())?;
    }
    Ok(())
}

/// The container's tree of mounts.
fn build_root(plan: &Plan<'_>, socket: &OwnedFd) -> Result<Root, Error> {
    // While the host's tree is visible: what is made from it, and what the kernel allows only then.
    let own_cgroups = plan.namespaces.new.contains(Kinds::CGROUP);
    let own = place::make_own(&plan.mounts, own_cgroups, plan.launch.cgroup)?;
    sysctl::set(plan.linux, place::own_procfs(&plan.mounts, &own))?;
    let mut own = own.into_iter();
    let mut parents = channel::receive_fds(socket, plan.handed_over())?.into_iter();
    let missing = || Error::Step("a prepared mount was not handed over".into());
    let tree = parents.next().ok_or_else(missing)?;
    let covers = Covers::new(parents.next().ok_or_else(missing)?, parents.next().ok_or_else(missing)?);
    place::leave_peers(plan.namespaces.new.contains(Kinds::USER))?;
    // With hooks that run before the old root goes, they find the new one, complete, at its path. Without, it is entered
    // at once: from then on no path can lead to the host.
    let waits = plan.has_hooks_before_pivot();
    if waits {
        place::attach_root(&tree, plan.rootfs_path())?;
    } else {
        enter_root(plan, &tree, false)?;
    }
    let root = Root::new(rustix::io::fcntl_dupfd_cloexec(&tree, 3).step(|| "open the root".into())?);
    for mount in &plan.mounts {
        if mount.source == Source::Remount {
            place::remount(&root, mount)?;
            continue;
        }
        let made = match mount.source.outside() {
            true => parents.next().map(Made::from),
            false => own.next(),
        };
        place::place(&root, mount, &made.ok_or_else(missing)?)?;
    }
    if plan.keeps_dev() {
        place::link_devices(&root)?;
    }
    for (device, node) in plan.single_devices.iter().zip(parents) {
        match plan.rootless {
            true => place::place_node(&root, device, &node)?,
            false => place::place_device(&root, device, &node)?,
        }
    }
    place::finish_devices(&root, &plan.mounts)?;
    hide(plan, covers, &root)?;
    if waits {
        channel::ask_for_hooks(socket)?;
        plan.run_hooks("createContainer", Hooks::create_container, "creating", own_pid(), Env::Empty)?;
        enter_root(plan, &tree, true)?;
    }
    place::propagate(&root, plan.linux.rootfs_propagation().as_deref())?;
    Ok(root)
}

fn enter_root(plan: &Plan<'_>, tree: &OwnedFd, attached: bool) -> Result<(), Error> {
    let no_pivot = plan.launch.extras.no_pivot;
    if no_pivot {
        place::hide_hosts_views(attached.then(|| plan.rootfs_path()))?;
    }
    place::enter_root(tree, attached, no_pivot)
}

fn hide(plan: &Plan<'_>, covers: Covers, root: &Root) -> Result<(), Error> {
    let hidden = match &plan.launch.rootfs {
        Rootfs::Overlay { hidden, .. } => hidden.as_slice(),
        Rootfs::Directory(_) => &[],
    };
    let masked = plan.linux.masked_paths().as_deref().unwrap_or_default();
    covers.hide(root, place::hidden(hidden).chain(place::paths(masked)))?;
    place::make_readonly(root, plan.linux.readonly_paths().as_deref().unwrap_or_default())
}

/// The program enters the new time namespace by being executed (Linux 6.3), once its clocks are set: by the parent,
/// because the file that does it belongs to the host's root as long as nobody may look into this process.
fn set_clocks(plan: &Plan<'_>, socket: &OwnedFd) -> Result<(), Error> {
    if !has_offset_clocks(plan) {
        return Ok(());
    }
    unshare(Kinds::TIME).step(|| "make a time namespace".into())?;
    channel::ask_for_clocks(socket)
}

fn open_terminal(plan: &Plan<'_>, root: &Root) -> Result<Option<Terminal>, Error> {
    let Stdio::Terminal { rows, columns } = plan.launch.stdio else { return Ok(None) };
    let terminal = terminal::open(root, rows, columns)?;
    terminal.show_as_console(root)?;
    Ok(Some(terminal))
}

/// Streams that are the host's null device become the container's own: a security module may refuse the host's, and a
/// checkpoint cannot save what lies on no mount of the container's.
fn reopen_null() -> Result<(), Error> {
    let is_null = |fd: BorrowedFd<'_>| {
        rustix::fs::fstat(fd).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
                && stat.st_rdev == rustix::fs::makedev(1, 3)
        })
    };
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    if !streams.into_iter().any(is_null) {
        return Ok(());
    }
    // Whatever an image may have put there instead is left alone.
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(own) = Root::of_process().and_then(|root| Ok(root.open_unlinked(Path::new("/dev/null"), flags)?)) else {
        return Ok(());
    };
    if !is_null(own.as_fd()) {
        return Ok(());
    }
    let replaced = || -> rustix::io::Result<()> {
        if is_null(streams[0]) {
            rustix::stdio::dup2_stdin(&own)?;
        }
        if is_null(streams[1]) {
            rustix::stdio::dup2_stdout(&own)?;
        }
        if is_null(streams[2]) {
            rustix::stdio::dup2_stderr(&own)?;
        }
        Ok(())
    };
    replaced().step(|| "set the standard streams".into())
}

/// Standard streams: the caller's descriptors or the terminal.
pub(super) fn take_streams(stdio: &Stdio<'_>, terminal: Option<&Terminal>, identity: &Identity) -> Result<(), Error> {
    let streams = match (stdio, terminal) {
        (Stdio::Fds(fds), _) => *fds,
        (_, Some(terminal)) => {
            terminal.control(identity)?;
            [terminal.slave.as_fd(); 3]
        }
        _ => exit(1),
    };
    // Above 2 first: the caller's descriptors may be 0, 1 or 2 themselves, in any order.
    let mut high = Vec::new();
    for fd in streams {
        high.push(rustix::io::fcntl_dupfd_cloexec(fd, 3).step(|| "duplicate a standard stream".into())?);
    }
    rustix::stdio::dup2_stdin(&high[0])
        .and_then(|()| rustix::stdio::dup2_stdout(&high[1]))
        .and_then(|()| rustix::stdio::dup2_stderr(&high[2]))
        .step(|| "set the standard streams".into())
}
