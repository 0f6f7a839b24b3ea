//! The caller's half of [`create`](super::create): it makes the child, maps its ids, and prepares with the host's rights
//! what the child moves into place, while the child prepares what only it can.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use linux::clone::{Child, Clone};
use linux::namespace::Kinds;
use linux::process::Title;
use oci_spec::runtime::{Hook, Hooks, Linux, Process};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode};
use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions, pidfd_getfd, pidfd_send_signal, waitid,
};

use super::channel::{self, Report};
use super::devices::{self, Device};
use super::idmap::{self, IdMap};
use super::labels::{self, Labels};
use super::mounts::{self, Mount, Source};
use super::namespaces::Namespaces;
use super::overlay::Writable;
use super::place::Covers;
use super::step::Step;
use super::{Created, Error, Held, Launch, Rootfs, Stdio, binds, check, child, netdevices, overlay};
use crate::cgroup::Entry;
use crate::hooks::Env;
use crate::resctrl;
use crate::seccomp::Listener;

/// The configuration, checked, and everything that both halves work from.
pub(super) struct Plan<'a> {
    pub(super) launch: &'a Launch<'a>,
    pub(super) linux: &'a Linux,
    pub(super) process: &'a Process,
    pub(super) namespaces: Namespaces,
    pub(super) mounts: Vec<Mount>,
    pub(super) devices: Vec<Device>,
    /// Those of `devices` that are not on our `/dev`.
    pub(super) single_devices: Vec<Device>,
    pub(super) entry: Option<Entry>,
    /// Without the host's rights: no id-mapped mounts, and no device nodes but the host's own.
    pub(super) rootless: bool,
    /// Of security modules.
    pub(super) labels: Option<Labels>,
    /// Where the built-in init hides its maker's command line; without it, it just shows.
    pub(super) title: Option<Title>,
}

impl<'a> Plan<'a> {
    fn new(launch: &'a Launch<'a>) -> Result<Self, Error> {
        let missing = |field: &str| Error::Invalid(format!("{field} is missing from the configuration"));
        let linux = launch.spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
        let process = launch.spec.process().as_ref().ok_or_else(|| missing("process"))?;
        let label = labels::mount_option(linux.mount_label().as_ref())?;
        let mounts = mounts::plan(launch.spec.mounts().as_deref().unwrap_or_default(), label.as_deref())?;
        let rootless = crate::rootless::is_rootless();
        let (devices, single_devices) = devices(launch, linux, &mounts, rootless)?;
        let entry = launch.cgroup.map(|cgroup| cgroup.entry().step(|| "open the cgroup".into())).transpose()?;
        let namespaces = Namespaces::new(linux)?;
        check::configuration(launch, linux, process, &namespaces, &mounts)?;
        let labels = Labels::of(process)?;
        let title = launch.init.then(|| Title::find().ok()).flatten();
        Ok(Self { launch, linux, process, namespaces, mounts, devices, single_devices, entry, rootless, labels, title })
    }

    /// How many descriptors the parent hands over: the root, what hides paths, the mounts that it makes, the devices
    /// outside `/dev`.
    pub(super) fn handed_over(&self) -> usize {
        let mounts = self.mounts.iter().filter(|mount| mount.source.outside()).count();
        1 + Covers::COUNT + mounts + self.single_devices.len()
    }

    /// Whether the image's own `/dev` is to be furnished.
    pub(super) fn keeps_dev(&self) -> bool {
        self.launch.extras.about.is_some() && keeps_dev(&self.mounts)
    }

    /// Whether hooks are to run between the mounts and the change of the root.
    pub(super) fn has_hooks_before_pivot(&self) -> bool {
        let some = |hooks: &Option<Vec<Hook>>| hooks.as_ref().is_some_and(|hooks| !hooks.is_empty());
        let hooks = self.launch.spec.hooks().as_ref();
        hooks.is_some_and(|hooks| {
            some(prestart(hooks)) || some(hooks.create_runtime()) || some(hooks.create_container())
        })
    }

    /// Runs one list of hooks, here and now.
    pub(super) fn run_hooks(
        &self,
        kind: &str,
        list: fn(&Hooks) -> &Option<Vec<Hook>>,
        status: &str,
        pid: i32,
        env: Env<'_>,
    ) -> Result<(), Error> {
        let (Some(hooks), Some(about)) = (self.launch.spec.hooks(), self.launch.extras.about) else { return Ok(()) };
        about.run(kind, list(hooks).as_ref(), status, pid, env).map_err(Error::Hook)
    }

    /// Who answers the calls that the filter does not decide.
    fn listener(&self) -> Option<Listener<'_>> {
        Listener::of(self.linux.seccomp().as_ref(), self.launch.extras.about?)
    }

    /// Where the root file system is on the host.
    pub(super) fn rootfs_path(&self) -> &Path {
        let origin = match &self.launch.rootfs {
            Rootfs::Directory(path) => path,
            Rootfs::Overlay { upper, .. } => upper,
        };
        self.launch.extras.root_at.unwrap_or(origin)
    }
}

/// Deprecated since runtime-spec 1.0.2, and still what callers use.
#[allow(deprecated, reason = "callers still use them")]
pub(super) fn prestart(hooks: &Hooks) -> &Option<Vec<Hook>> {
    hooks.prestart()
}

/// The devices on our `/dev` and those that are elsewhere. If `/dev` is somebody else's, what is configured is shown there;
/// if nothing is mounted there, the image's own `/dev` gets the default devices too (runtime-spec, config-linux.md
/// "Default Devices"; the engine always mounts one).
fn devices(
    launch: &Launch<'_>,
    linux: &Linux,
    mounts: &[Mount],
    rootless: bool,
) -> Result<(Vec<Device>, Vec<Device>), Error> {
    let all = devices::plan(linux.devices().as_deref().unwrap_or_default())?;
    match mounts.iter().any(|mount| mount.source == Source::Devices) {
        true if rootless => Ok((Vec::new(), all)),
        true => Ok(all.into_iter().partition(|device| device.path.starts_with("/dev"))),
        false if launch.extras.about.is_some() && keeps_dev(mounts) => Ok((Vec::new(), all)),
        false => Ok((Vec::new(), all.into_iter().filter(|device| !device.is_default()).collect())),
    }
}

/// Whether nothing is mounted on `/dev`.
fn keeps_dev(mounts: &[Mount]) -> bool {
    !mounts.iter().any(|mount| mount.destination == Path::new("/dev"))
}

/// See [`create`](super::create).
pub(super) fn create(launch: &Launch<'_>) -> Result<Created, Error> {
    let plan = Plan::new(launch)?;
    let _umask = Umask::none();
    let (control, childs) = linux::socket::pair().step(|| "make a pair of sockets".into())?;
    let child = clone(&plan, &control, &childs)?;
    drop(childs);
    let mut held = Held::default();
    match finish(&plan, &control, child, &mut held) {
        Ok((child, terminal)) => {
            if matches!(launch.rootfs, Rootfs::Overlay { volatile: true, .. }) {
                // Kernels before 6.11 have no such descriptor: there the end waits.
                held.0.extend(linux::namespace::mounts_of(child.pidfd.as_fd()));
            }
            Ok(Created { pid: child.pid, pidfd: child.pidfd, terminal, held, control })
        }
        Err((child, error)) => Err(reap(&child.pidfd, error)),
    }
}

/// Makes the child. A new pid namespace of its own is part of the call; one to join is entered by children only, so the
/// caller joins it for the moment of the call.
fn clone(plan: &Plan<'_>, control: &OwnedFd, childs: &OwnedFd) -> Result<Child, Error> {
    let namespaces = &plan.namespaces;
    let _pids = namespaces.joined(Kinds::PID).map(PidsOfChildren::join).transpose()?;
    // With a user namespace to join, all new ones must belong to it: the child joins first, then clones again.
    let kinds = match namespaces.joined(Kinds::USER) {
        Some(_) => Kinds::default(),
        None => namespaces.new.without(later(plan)),
    };
    // Beside v1 hierarchies, a service manager looks at the unified one. The engine's monitor is in the right place there
    // itself; an OCI runtime is its caller's.
    let unified = match plan.launch.cgroup.filter(|_| plan.launch.extras.is_runtime) {
        Some(cgroup) => cgroup.unified_entry().step(|| "make the unified cgroup".into())?,
        None => None,
    };
    let cgroup = match &plan.entry {
        Some(Entry::V2(directory)) => Some(directory.as_fd()),
        _ => unified.as_ref().map(AsFd::as_fd),
    };
    Clone { namespaces: kinds, cgroup, sibling: false }
        .spawn(|| child::run(plan, control, childs))
        .step(|| "clone the container's first process".into())
}

/// New namespaces that are not part of the clone. The child makes them itself: the cgroup namespace once it is in its
/// cgroup, which becomes the namespace's root; the IPC namespace once it is the container's root, which is to own
/// `/dev/mqueue`. A time namespace whose clocks are to be set must not be entered before; without offsets the child is
/// born into it.
pub(super) fn later(plan: &Plan<'_>) -> Kinds {
    match has_offset_clocks(plan) {
        true => OWN_WORK | Kinds::TIME,
        false => OWN_WORK,
    }
}

/// What the child makes at once when it is the container's root.
pub(super) const OWN_WORK: Kinds = Kinds::CGROUP.with(Kinds::IPC);

/// Whether there is a new time namespace with offsets.
pub(super) fn has_offset_clocks(plan: &Plan<'_>) -> bool {
    let offsets = plan.linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty());
    offsets && plan.namespaces.new.contains(Kinds::TIME)
}

/// Sets the clocks of the time namespace that the child has made.
fn set_clocks(plan: &Plan<'_>, control: &OwnedFd, child: &Child) -> Result<(), Error> {
    let Report::Clocks = channel::receive(control)? else { return Err(ended(child)) };
    let path = format!("/proc/{}/timens_offsets", child.pid);
    let offsets = plan.linux.time_offsets().iter().flatten();
    let lines: String = offsets
        .map(|(clock, offset)| format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0)))
        .collect();
    std::fs::write(&path, &lines).step(|| format!("write {:?} to {path}", lines.trim_end()))?;
    channel::done(control)
}

type Finished = Result<(Child, Option<OwnedFd>), (Child, Error)>;

/// The parent's steps beside the child's.
fn finish(plan: &Plan<'_>, control: &OwnedFd, mut child: Child, held: &mut Held) -> Finished {
    if plan.namespaces.joined(Kinds::USER).is_some() {
        match real_child(control) {
            Ok(real) => kill_and_reap(&std::mem::replace(&mut child, real).pidfd),
            Err(error) => return Err((child, error)),
        }
    }
    match serve(plan, control, &child, held) {
        Ok(terminal) => Ok((child, terminal)),
        // The child's own error, if it has sent one, is the cause; ours is then only that it is gone.
        Err(error) => match channel::pending(control) {
            Some(cause) => Err((child, cause)),
            None => Err((child, error)),
        },
    }
}

/// The child that the intermediate process has made.
fn real_child(control: &OwnedFd) -> Result<Child, Error> {
    match channel::receive(control)? {
        Report::Child(pidfd) => {
            let pid = linux::pidfd::pid(pidfd.as_fd()).step(|| "find the container's first process".into())?;
            Ok(Child { pid, pidfd })
        }
        _ => Err(Error::Step("the intermediate process ended early".into())),
    }
}

fn serve(plan: &Plan<'_>, control: &OwnedFd, child: &Child, held: &mut Held) -> Result<Option<OwnedFd>, Error> {
    if plan.namespaces.new.contains(Kinds::USER) {
        idmap::write_maps(child.pid, &plan.namespaces.uid_map, &plan.namespaces.gid_map)?;
        channel::done(control)?;
    }
    let map = match plan.namespaces.own_user() && !plan.rootless {
        true => Some(IdMap { userns: idmap::user_namespace(child)?, root: root_ids(plan, child)? }),
        false => None,
    };
    super::privileges::set_oom_score(child.pid, plan.process)?;
    if let (Some(rdt), Some(about)) = (plan.linux.intel_rdt(), plan.launch.extras.about) {
        resctrl::join(rdt, &about.id, child.pid).map_err(|text| Error::Step(format!("linux.intelRdt: {text}")))?;
    }
    if netdevices::has_some(plan.linux) {
        let Report::Devices = channel::receive(control)? else { return Err(ended(child)) };
        netdevices::give(plan.linux, child)?;
        channel::done(control)?;
    }
    if has_offset_clocks(plan) {
        set_clocks(plan, control, child)?;
    }
    channel::send_fds(control, &prepare(plan, map.as_ref(), held)?)?;
    if let Some(beside) = plan.launch.beside {
        beside(child.pid).map_err(Error::Step)?;
    }
    if plan.has_hooks_before_pivot() {
        let Report::Hooks = channel::receive(control)? else { return Err(ended(child)) };
        plan.run_hooks("prestart", prestart, "creating", child.pid, Env::Callers)?;
        plan.run_hooks("createRuntime", Hooks::create_runtime, "creating", child.pid, Env::Callers)?;
        channel::done(control)?;
    }
    let listener = plan.listener();
    let Ready { uid, gid, terminal } = wait_ready(control, child, child.pid, listener.as_ref())?;
    give_pipes(&plan.launch.stdio, child.pid, uid, gid);
    super::privileges::raise_rlimits(child.pid, plan.process)?;
    Ok(terminal)
}

/// What a child says once everything is in place.
pub(super) struct Ready {
    /// As the container numbers it, like `gid`.
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) terminal: Option<OwnedFd>,
}

/// Waits until everything is in place, and hands the filter's listener, if it has one, to who answers. `first` is the
/// container's first process.
pub(super) fn wait_ready(
    control: &OwnedFd,
    child: &Child,
    first: i32,
    listener: Option<&Listener<'_>>,
) -> Result<Ready, Error> {
    loop {
        match channel::receive(control)? {
            Report::Ready { uid, gid, terminal } => return Ok(Ready { uid, gid, terminal }),
            Report::Listener(number) if let Some(listener) = listener => {
                let filter = pidfd_getfd(&child.pidfd, number, PidfdGetfdFlags::empty())
                    .step(|| "take the seccomp filter's listener".into())?;
                listener.send(child.pid, first, filter.as_fd()).step(|| {
                    format!("linux.seccomp.listenerPath: send the listener to {}", listener.path().display())
                })?;
            }
            _ => return Err(ended(child)),
        }
    }
}

/// Whether the process behind a pidfd has ended.
pub(super) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)], Some(&now)), Ok(1))
}

/// Why a child is gone that has not said why.
pub(super) fn ended(child: &Child) -> Error {
    let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    let how = match status {
        Ok(Some(status)) => match (status.terminating_signal(), status.exit_status()) {
            (Some(9), _) => "killed (is the memory limit too low?)".to_owned(),
            (Some(signal), _) => format!("killed by signal {signal}"),
            (_, code) => format!("exit code {}", code.unwrap_or(-1)),
        },
        _ => "unknown state".to_owned(),
    };
    Error::Step(format!("the container's first process ended before it was ready: {how}"))
}

/// Host ids of the container's root. Of a joined namespace they are read from the child that has joined it.
fn root_ids(plan: &Plan<'_>, child: &Child) -> Result<(u32, u32), Error> {
    if plan.namespaces.joined(Kinds::USER).is_none() {
        return Ok(plan.namespaces.root);
    }
    let first = |file: &str| -> Result<u32, Error> {
        let path = format!("/proc/{}/{file}", child.pid);
        let map = std::fs::read_to_string(&path).step(|| format!("read {path}"))?;
        let ids = map.lines().filter_map(|line| {
            let mut fields = line.split_whitespace();
            (fields.next()? == "0").then(|| fields.next()?.parse().ok())?
        });
        ids.min().ok_or_else(|| Error::Invalid(format!("{path}: root is not mapped")))
    };
    Ok((first("uid_map")?, first("gid_map")?))
}

/// All detached mounts, in the order in which the child expects them.
fn prepare(plan: &Plan<'_>, map: Option<&IdMap>, held: &mut Held) -> Result<Vec<OwnedFd>, Error> {
    let mut fds = vec![root(plan, map, held)?];
    fds.extend(Covers::make(&plan.launch.state)?);
    for mount in plan.mounts.iter().filter(|mount| mount.source.outside()) {
        let own = match &mount.mappings {
            Some((uids, gids)) if !uids.is_empty() => Some(idmap::for_mappings(uids, gids)?),
            _ => None,
        };
        fds.push(make(plan, mount, own.as_ref().or(map))?);
    }
    for device in &plan.single_devices {
        fds.push(if plan.rootless { devices::hosts(device)? } else { devices::single(device, map)? });
    }
    Ok(fds)
}

fn root(plan: &Plan<'_>, map: Option<&IdMap>, held: &mut Held) -> Result<OwnedFd, Error> {
    match &plan.launch.rootfs {
        Rootfs::Overlay { lower, upper, work, volatile, .. } => {
            let writable = Writable { upper, work, volatile: *volatile, rootless: plan.rootless };
            let made = overlay::overlay(lower, &writable, &plan.launch.state, map, held)?;
            // The kernel syncs the whole file system of `upper` when the last one lets go of the overlay: on a busy machine
            // half a minute's work, for which the end of a process must not wait. But a file system that was mounted for
            // `upper` alone must go with the container, because the next start mounts it again.
            if !upper.parent().is_some_and(linux::mount::is_mount_point) {
                held.0.push(made.try_clone().step(|| "duplicate a descriptor".into())?);
            }
            Ok(made)
        }
        Rootfs::Directory(path) => {
            let receives = matches!(plan.linux.rootfs_propagation().as_deref(), Some("slave" | "rslave"));
            // A bundle's files belong to the ids that they have: who wants a mapping makes it before the runtime is called.
            overlay::directory(path, receives, map.filter(|_| !plan.launch.extras.is_runtime))
        }
    }
}

fn make(plan: &Plan<'_>, mount: &Mount, map: Option<&IdMap>) -> Result<OwnedFd, Error> {
    match &mount.source {
        Source::Devices => {
            devices::tree(mount, &plan.devices, map, matches!(plan.launch.stdio, Stdio::Terminal { .. }))
        }
        Source::Bind(path) => binds::bind(path, mount, map),
        Source::Device { kind, device } => binds::device(kind, device, mount, &plan.launch.state, map),
        Source::Inside(_) | Source::Cgroup | Source::Remount => Err(Error::Invalid("not made outside".into())),
    }
}

/// Lets the program's user open its own standard streams again through `/dev/stdout` and the like. Only pipes: they are
/// ours alone. A pipe that cannot be given away is still usable.
pub(super) fn give_pipes(stdio: &Stdio<'_>, pid: i32, uid: u32, gid: u32) {
    let Stdio::Fds(fds) = stdio else { return };
    let (Some(uid), Some(gid)) = (host_id(pid, "uid_map", uid), host_id(pid, "gid_map", gid)) else { return };
    for fd in fds {
        let Ok(stat) = rustix::fs::fstat(fd) else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo && (stat.st_uid, stat.st_gid) != (uid, gid) {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            let _ = rustix::fs::fchown(fd, Some(uid), Some(gid));
        }
    }
}

/// What a container's id is on the host.
fn host_id(pid: i32, file: &str, id: u32) -> Option<u32> {
    let map = std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    map.lines().find_map(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let [inside, outside, size] = numbers[..] else { return None };
        id.checked_sub(inside).filter(|offset| *offset < size).map(|offset| outside + offset)
    })
}

/// After a failure: no process remains.
pub(super) fn reap(pidfd: &OwnedFd, error: Error) -> Error {
    kill_and_reap(pidfd);
    error
}

/// Kills and reaps a child; nothing happens if somebody else did.
pub(super) fn kill_and_reap(pidfd: &OwnedFd) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
}

/// The caller's umask, off while files are made with explicit modes.
struct Umask(Mode);

impl Umask {
    fn none() -> Self {
        Self(rustix::process::umask(Mode::empty()))
    }
}

impl Drop for Umask {
    fn drop(&mut self) {
        rustix::process::umask(self.0);
    }
}

/// The pid namespace that the caller's children are born into; the caller's own again when dropped.
pub(super) struct PidsOfChildren {
    own: OwnedFd,
}

impl PidsOfChildren {
    /// By a descriptor of the namespace, or a pidfd of a process in it.
    pub(super) fn join(target: &OwnedFd) -> Result<Self, Error> {
        Self::join_fd(target.as_fd())
    }

    /// Likewise, borrowed.
    pub(super) fn join_fd(target: BorrowedFd<'_>) -> Result<Self, Error> {
        let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
            .step(|| "open own pidfd".into())?;
        linux::namespace::join(target, Kinds::PID).step(|| "join the pid namespace".into())?;
        Ok(Self { own })
    }
}

impl Drop for PidsOfChildren {
    fn drop(&mut self) {
        // Back to the namespace that the caller itself is in; the kernel refuses that to nobody with CAP_SYS_ADMIN.
        let _ = linux::namespace::join(self.own.as_fd(), Kinds::PID);
    }
}
