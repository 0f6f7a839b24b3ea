//! One run of the container's process: made from the plan by the sandbox, or taken over from a monitor that died.
//! Streams, clients and what follows from the end are served elsewhere.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use network::connect::Connected;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use sandbox::cgroup::Cgroup;
use sandbox::hooks::About;
use sandbox::launch::{self, Launch, Stdio};
use sandbox::seccomp;

use super::network::Connecting;
use super::services::Services;
use crate::plan::{self, Plan};
use crate::status::RunStatus;
use crate::{Context, Error, ErrorKind, Paths, Result, failpoint, status};

/// Code of a process whose end nobody could observe, as with Docker.
const UNKNOWN: i32 = 255;
/// How long the code of a process is looked for that is neither a zombie any more nor known to the kernel.
const REAPED_WITHIN: Duration = Duration::from_millis(100);

/// The monitor's ends of the container's standard streams.
#[derive(Default)]
pub(super) struct Streams {
    /// Standard output (or the terminal) and standard error.
    pub(super) output: [Option<OwnedFd>; 2],
    /// Standard input (or the terminal).
    pub(super) input: Option<OwnedFd>,
    /// Whether they are a terminal.
    pub(super) terminal: bool,
}

/// A process that runs.
pub(super) struct Run {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// Start time of the process, by which it is told from another one with its number.
    pid_start: u64,
    /// Taken over: not our child, so another process reaps it.
    adopted: bool,
    /// What is slow to close: closed with the run.
    _held: launch::Held,
    /// Its network: sockets that hold its ports, and its namespace.
    #[allow(dead_code, reason = "held until the run is over")]
    pub(super) network: Option<Connected>,
    /// What is done for it.
    pub(super) services: Services,
}

impl Run {
    /// The exit code of the process, which has ended.
    pub(super) fn reap(&self) -> i32 {
        if self.adopted {
            return self.exit_code_of_stranger();
        }
        match waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(ended)) => match (ended.exit_status(), ended.terminating_signal()) {
                (Some(code), _) => code,
                (None, Some(signal)) => 128 + signal,
                (None, None) => UNKNOWN,
            },
            _ => UNKNOWN,
        }
    }

    /// Lets others have its published ports: whoever hears of the end may publish them again at once.
    pub(super) fn release_ports(&mut self) {
        self.services = Services::default();
        if let Some(network) = &mut self.network {
            network.reserved.clear();
        }
        crate::user_network::release_ports();
    }

    /// The exit code of somebody else's child: `/proc/PID/stat` has it until the parent reaps it (last field, readable
    /// for us because we may trace the process), and the pidfd from then on (Linux 6.15).
    fn exit_code_of_stranger(&self) -> i32 {
        let deadline = Instant::now() + REAPED_WITHIN;
        loop {
            let status = match linux::pidfd::exit_status(self.pidfd.as_fd()) {
                Ok(Some(status)) => Some(status),
                _ => status::zombie_status(self.pid, self.pid_start),
            };
            match status {
                Some(status) => return linux::pidfd::exit_code(status),
                None if Instant::now() >= deadline => return UNKNOWN,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

/// Whether the kernel killed something in the container for want of memory.
pub(super) fn was_oom_killed(cgroup: &str) -> bool {
    Cgroup::open(cgroup).is_ok_and(|cgroup| cgroup.oom_kills() > 0)
}

/// Makes and starts the container's process. `status` gets its identity as soon as it has one.
pub(super) fn begin(
    paths: &Paths,
    plan: &Plan,
    console: Option<(u16, u16)>,
    status: &mut RunStatus,
) -> Result<(Run, Streams)> {
    let path = cgroup_path(&plan.spec);
    let cgroup = CgroupGuard::create(&path, &plan.spec)?;
    failpoint::hit("monitor-cgroup-made");
    let terminal = plan.spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
    let (mut streams, far) = if terminal { (Streams { terminal, ..Streams::default() }, None) } else { pipes(plan)? };
    let program = filter(plan)?;
    let empty = empty_directory(paths)?;
    let bundle = bundle(paths, plan)?;
    let root_at = bundle.as_ref().map(|directory| directory.join(status::ROOTFS));
    let bundle = bundle.map(|directory| directory.display().to_string()).unwrap_or_default();
    let about = About { bundle, ..about(plan) };
    let network = Connecting::new(paths, plan);
    let connect = |pid: i32| network.connect(pid);
    let launch = Launch {
        spec: &plan.spec,
        rootfs: rootfs(&plan.rootfs),
        user: &plan.user,
        groups: &plan.groups,
        seccomp: program.as_ref(),
        stdio: stdio(far.as_ref(), console),
        cgroup: cgroup.get(),
        init: plan.init,
        state: empty,
        extras: launch::Extras { about: Some(&about), root_at: root_at.as_deref(), ..launch::Extras::default() },
        beside: plan.network.is_some().then_some(&connect),
    };
    let mut created = launch::create(&launch)
        .map_err(|error| network.failure(&error.to_string()).unwrap_or_else(|| start_error(error)))?;
    failpoint::hit("monitor-created");
    drop(far);
    status.pid = created.pid;
    status.pid_start = linux::process::start_time(created.pid).unwrap_or(0);
    status.pipes = streams.output.each_ref().map(|pipe| pipe.as_ref().map_or(0, inode));
    status::write(paths, &plan.id, status)?;
    failpoint::hit("monitor-status-written");
    created.start().map_err(start_error)?;
    failpoint::hit("monitor-started");
    if let Some(master) = created.terminal {
        let flags = rustix::fs::fcntl_getfl(&master).step(|| "read the terminal's flags".to_owned())?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).step(|| "set the terminal's flags".to_owned())?;
        let writer = rustix::io::fcntl_dupfd_cloexec(&master, 3).step(|| "duplicate the terminal".to_owned())?;
        streams.input = Some(writer);
        streams.output[0] = Some(master);
    }
    cgroup.keep();
    let (connected, services) = network.connected(paths, plan)?;
    Ok((
        Run {
            pid: created.pid,
            pidfd: created.pidfd,
            pid_start: status.pid_start,
            adopted: false,
            _held: created.held,
            network: connected,
            services,
        },
        streams,
    ))
}

/// The directory that hides others in all containers: empty, and nobody may write there. The container's root, which is
/// nobody on the host, must be able to walk there.
fn empty_directory(paths: &Paths) -> Result<PathBuf> {
    let path = paths.state.join("empty");
    match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o555)) {
        Ok(()) | Err(Errno::EXIST) => Ok(path),
        Err(errno) => Err(errno).step(|| format!("make {}", path.display())),
    }
}

/// Takes over a process whose monitor has died: its identity, its end and what is left of its pipes.
pub(super) fn adopt(paths: &Paths, plan: &Plan, status: &RunStatus) -> Result<(Run, Streams)> {
    let gone = || Error::internal(format!("process {} of container {} is gone", status.pid, plan.id));
    let pid = Pid::from_raw(status.pid).ok_or_else(gone)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).step(|| format!("open process {}", status.pid))?;
    // Only now is the number safe from reuse, so only now does the start time prove anything.
    if !status.process_alive() {
        return Err(gone());
    }
    let output = status.pipes.map(|wanted| find_pipe(status.pid, wanted));
    // Without its services a container is better off than without a monitor.
    let (connected, services) = super::network::resume(paths, plan, status.pid).unwrap_or_default();
    let run = Run {
        pid: status.pid,
        pidfd,
        pid_start: status.pid_start,
        adopted: true,
        _held: launch::Held::default(),
        network: connected,
        services,
    };
    Ok((run, Streams { output, input: None, terminal: false }))
}

/// Another read end of one of the process's pipes, if it still has it open.
fn find_pipe(pid: i32, wanted: u64) -> Option<OwnedFd> {
    let wanted_name = format!("pipe:[{wanted}]");
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut candidates = descriptors.flatten().map(|entry| entry.path());
    let path =
        candidates.find(|path| std::fs::read_link(path).is_ok_and(|name| name.as_os_str() == wanted_name.as_str()))?;
    let pipe = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // The process may have closed it and opened something else in its place between the two steps.
    (wanted != 0 && inode(&pipe) == wanted).then_some(pipe)
}

/// The container's path in each cgroup hierarchy.
pub(crate) fn cgroup_path(spec: &Spec) -> String {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether processes can outlive the container's first one: it has no pid namespace of its own.
pub(super) fn shares_pids(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    !namespaces
        .is_some_and(|list| list.iter().any(|kind| kind.typ() == LinuxNamespaceType::Pid && kind.path().is_none()))
}

/// A new cgroup that is removed again unless the start succeeds; none where there is none to be had.
struct CgroupGuard(Option<Cgroup>);

impl CgroupGuard {
    fn create(path: &str, spec: &Spec) -> Result<Self> {
        if !sandbox::cgroup::is_available() {
            return Ok(CgroupGuard(None));
        }
        let cgroup = Cgroup::create(path).step(|| format!("create the cgroup {path}"))?;
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        let applied = resources.map_or(Ok(()), |resources| cgroup.apply(resources));
        let guard = CgroupGuard(Some(cgroup));
        applied.step(|| "set the container's limits".to_owned())?;
        Ok(guard)
    }

    fn get(&self) -> Option<&Cgroup> {
        self.0.as_ref()
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CgroupGuard {
    fn drop(&mut self) {
        if let Some(cgroup) = self.0.take() {
            let _ = cgroup.remove();
        }
    }
}

/// The container's ends of its pipes, by standard descriptor number.
type Far = [OwnedFd; 3];

/// Makes the standard streams. The container's output ends are opened for reading too, so that the death of the monitor
/// closes no last reader: the container gets no SIGPIPE, and an adopting monitor finds everything still in the pipe.
fn pipes(plan: &Plan) -> Result<(Streams, Option<Far>)> {
    let owner = container_root(&plan.spec);
    let (near_out, far_out) = output_pipe(owner)?;
    let (near_err, far_err) = output_pipe(owner)?;
    let (far_in, near_in) = if plan.open_stdin { input_pipe(owner)? } else { (null()?, None) };
    let streams = Streams { output: [Some(near_out), Some(near_err)], input: near_in, terminal: false };
    Ok((streams, Some([far_in, far_out, far_err])))
}

fn output_pipe(owner: (Uid, Gid)) -> Result<(OwnedFd, OwnedFd)> {
    let step = || "make an output pipe".to_owned();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).step(step)?;
    let path = format!("/proc/self/fd/{}", write.as_raw_fd());
    let far = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).step(step)?;
    rustix::fs::fchown(&far, Some(owner.0), Some(owner.1)).step(step)?;
    set_nonblocking(&read)?;
    Ok((read, far))
}

fn input_pipe(owner: (Uid, Gid)) -> Result<(OwnedFd, Option<OwnedFd>)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).step(|| "make an input pipe".to_owned())?;
    rustix::fs::fchown(&read, Some(owner.0), Some(owner.1)).step(|| "make an input pipe".to_owned())?;
    set_nonblocking(&write)?;
    Ok((read, Some(write)))
}

fn null() -> Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step(|| "open /dev/null".to_owned())
}

/// Marks one end of a pipe non-blocking; the other end is another open file and stays as it is.
fn set_nonblocking(end: impl AsFd) -> Result<()> {
    rustix::fs::fcntl_setfl(end, OFlags::NONBLOCK).step(|| "make a pipe non-blocking".to_owned())
}

fn inode(descriptor: &OwnedFd) -> u64 {
    rustix::fs::fstat(descriptor).map(|data| data.st_ino).unwrap_or(0)
}

/// The container's root as the host numbers it: it owns the pipes, so that `/dev/stdout` can be opened inside.
fn container_root(spec: &Spec) -> (Uid, Gid) {
    let linux = spec.linux().as_ref();
    let host_id = |mappings: Option<&Vec<oci_spec::runtime::LinuxIdMapping>>| {
        let root = mappings.and_then(|list| list.iter().find(|mapping| mapping.container_id() == 0));
        root.map_or(0, |mapping| mapping.host_id())
    };
    let uid = host_id(linux.and_then(|linux| linux.uid_mappings().as_ref()));
    let gid = host_id(linux.and_then(|linux| linux.gid_mappings().as_ref()));
    (Uid::from_raw(uid), Gid::from_raw(gid))
}

fn stdio(far: Option<&Far>, console: Option<(u16, u16)>) -> Stdio<'_> {
    match far {
        Some(far) => Stdio::Fds(far.each_ref().map(|end| -> BorrowedFd<'_> { end.as_fd() })),
        None => {
            let (rows, columns) = console.unwrap_or((0, 0));
            Stdio::Terminal { rows, columns }
        }
    }
}

/// What hooks need: a bundle with the container's configuration (runtime-spec, bundle.md), and in it a place for the root
/// file system. None without hooks.
fn bundle(paths: &Paths, plan: &Plan) -> Result<Option<PathBuf>> {
    if plan.spec.hooks().is_none() {
        return Ok(None);
    }
    let directory = paths.container_state(&plan.id);
    let place = directory.join(status::ROOTFS);
    let mut spec = plan.spec.clone();
    if let Some(root) = spec.root_mut() {
        root.set_path(place.clone());
    }
    let path = directory.join(status::CONFIGURATION);
    let json = serde_json::to_vec(&spec).step(|| "write the configuration for hooks".to_owned())?;
    std::fs::write(&path, json).step(|| format!("write {}", path.display()))?;
    match std::fs::create_dir(&place) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).step(|| format!("make {}", place.display()))
        }
        _ => Ok(Some(directory)),
    }
}

/// What the agent that answers for a seccomp filter is told of the container.
pub(crate) fn about(plan: &Plan) -> About {
    let annotations = plan.spec.annotations().clone().unwrap_or_default();
    About { id: plan.id.clone(), bundle: String::new(), annotations }
}

/// The seccomp filter that the plan asks for.
pub(crate) fn filter(plan: &Plan) -> Result<Option<seccomp::Program>> {
    match plan.seccomp {
        plan::Seccomp::Unconfined => Ok(None),
        plan::Seccomp::Default => {
            let names = effective_capabilities(&plan.spec);
            Ok(Some(seccomp::default_profile(&names.iter().map(String::as_str).collect::<Vec<_>>())))
        }
        plan::Seccomp::Profile => {
            let profile = plan.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
            profile
                .map(seccomp::compile)
                .transpose()
                .map_err(|cause| Error::invalid(format!("compile the seccomp profile: {cause}")))
        }
    }
}

fn effective_capabilities(spec: &Spec) -> Vec<String> {
    let capabilities = spec.process().as_ref().and_then(|process| process.capabilities().as_ref());
    let set = capabilities.and_then(|sets| sets.bounding().as_ref());
    set.into_iter().flatten().map(|capability| format!("CAP_{capability}")).collect()
}

fn rootfs(rootfs: &plan::Rootfs) -> launch::Rootfs {
    match rootfs.clone() {
        plan::Rootfs::Overlay { lower, upper, work, hidden, volatile } => {
            launch::Rootfs::Overlay { lower, upper, work, hidden, volatile }
        }
        plan::Rootfs::Directory(path) => launch::Rootfs::Directory(path),
    }
}

/// The sandbox's error as the engine's.
pub(crate) fn start_error(error: launch::Error) -> Error {
    let kind = match &error {
        launch::Error::CommandNotFound(_) => ErrorKind::CommandNotFound,
        launch::Error::NotExecutable(_) => ErrorKind::NotExecutable,
        launch::Error::Invalid(_) => ErrorKind::Invalid,
        launch::Error::NotRunning => ErrorKind::Conflict,
        launch::Error::Hook(_) | launch::Error::Step(_) => ErrorKind::Internal,
    };
    Error::new(kind, error.to_string())
}
