//! Making a container from a bundle, up to the moment before its program is executed: what `create` and `run` share. One
//! linear course; whatever has been made is undone by a guard if a later step fails.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Process, Spec};
use sandbox::cgroup::Cgroup;
use sandbox::launch::{self, Created, Extras, Gate, Launch, Rootfs, Stdio};
use sandbox::seccomp;

use crate::bundle::Bundle;
use crate::console::Receiver;
use crate::container::{Container, about};
use crate::error::{Step, is_denied};
use crate::globals::{CgroupManager, Globals};
use crate::inherited::Inherited;
use crate::log::Log;
use crate::notify::Notify;
use crate::record::{GATE, Record, Store};
use crate::systemd::Unit;
use crate::undo::Undo;
use crate::{Error, Result, mappings, pidfile, resources, systemd, validate};

/// The flags that `create` and `run` share.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) bundle: PathBuf,
    pub(crate) config: Option<PathBuf>,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    pub(crate) preserve_fds: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bundle: ".".into(),
            config: None,
            console_socket: None,
            pidfd_socket: None,
            pid_file: None,
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: 0,
        }
    }
}

/// A container that is ready to run.
pub(crate) struct Made {
    pub(crate) container: Container,
    pub(crate) created: Created,
    pub(crate) spec: Spec,
    pub(crate) notify: Option<Notify>,
}

/// Makes the container `id`. With a `gate` it can be started by somebody else later. `foreground`: its caller stays, and
/// takes care of its terminal.
pub(crate) fn create(
    globals: &Globals,
    options: &Options,
    id: &str,
    gate: bool,
    foreground: bool,
    log: &Log,
) -> Result<Made> {
    let inherited = Inherited::find(options.preserve_fds);
    let mut bundle = Bundle::load(&options.bundle, options.config.as_deref())?;
    bundle.warnings.iter().for_each(|warning| log.warn(warning));
    validate::check(&bundle.spec)?;
    if globals.entered {
        mappings::translate(&mut bundle.spec)?;
    }
    let process = bundle.spec.process().clone().ok_or_else(|| Error::new("process: missing from the configuration"))?;
    let terminal = process.terminal().unwrap_or(false);
    check_terminal(terminal, options, foreground)?;
    let console = options.console_socket.as_deref().map(Receiver::connect).transpose()?;
    let pidfd_socket = options.pidfd_socket.as_deref().map(Receiver::connect).transpose()?;
    let store = Store::new(&globals.root);
    let directory = store.create(id)?;
    let mut undo = Undo::new(&directory);
    let mut record = record(globals, &bundle, id)?;
    let _lock: File = directory.begin(&record)?;
    directory.keep_config(&bundle.json)?;
    let notify = Notify::from_environment(&directory)?;
    extend(&mut bundle.spec, process, &inherited, notify.as_ref());
    let cgroup = make_cgroup(globals, &bundle.spec, &mut record, &mut undo)?;
    let filter = filter(&bundle.spec, &globals.root)?;
    let gate = gate.then(|| Gate::make(directory.fd(), GATE)).transpose()?;
    let about = about(&record);
    let launch = Launch {
        spec: &bundle.spec,
        rootfs: Rootfs::Directory(bundle.rootfs.clone()),
        user: "",
        groups: &[],
        seccomp: filter.as_ref(),
        stdio: stdio(&bundle.spec),
        cgroup: cgroup.as_ref(),
        init: false,
        state: store.empty()?,
        beside: None,
        extras: Extras {
            gate,
            about: Some(&about),
            root_at: None,
            is_runtime: true,
            inherited: &inherited.descriptors,
            no_pivot: options.no_pivot,
            no_new_keyring: options.no_new_keyring,
        },
    };
    undo.hooks = bundle.spec.hooks().as_ref().map(|hooks| (hooks.clone(), about.clone()));
    let mut created = launch::create(&launch)?;
    undo.child = Some(duplicate(&created.pidfd)?);
    record.pid = created.pid;
    record.start_time = linux::process::start_time(created.pid).unwrap_or(0);
    directory.replace(&record)?;
    if let Some(console) = console {
        let master = created.terminal.take();
        console.send("/dev/ptmx", master.ok_or_else(|| Error::new("the container has no terminal"))?)?;
    }
    if let Some(receiver) = pidfd_socket {
        receiver.send("standard", &created.pidfd)?;
    }
    if let Some(path) = &options.pid_file {
        pidfile::write(path, created.pid)?;
    }
    drop(launch);
    undo.disarm();
    Ok(Made { container: Container { directory, record }, created, spec: bundle.spec, notify })
}

fn check_terminal(terminal: bool, options: &Options, foreground: bool) -> Result<()> {
    match (terminal, &options.console_socket) {
        (true, None) if !foreground => {
            Err(Error::new("cannot allocate tty if runc will detach without setting console socket"))
        }
        (_, Some(_)) if foreground || !terminal => {
            Err(Error::new("cannot use console socket if runc will not detach or allocate tty"))
        }
        _ => Ok(()),
    }
}

/// The first record of a container.
pub(crate) fn record(globals: &Globals, bundle: &Bundle, id: &str) -> Result<Record> {
    let (cgroup, unit) = match globals.cgroups {
        CgroupManager::Disabled => (None, None),
        CgroupManager::Cgroupfs => (Some(resources::cgroup_path(&bundle.spec, id)?), None),
        // Where its cgroup is the manager says, later.
        CgroupManager::Systemd => (None, Some(systemd::unit(&bundle.spec, id, globals.rootless)?)),
    };
    Ok(Record {
        id: id.to_owned(),
        pid: 0,
        start_time: 0,
        bundle: bundle.path.clone(),
        rootfs: bundle.rootfs.clone(),
        created: jiff::Timestamp::now().to_string(),
        cgroup,
        unit,
        annotations: bundle.spec.annotations().clone().unwrap_or_default(),
    })
}

/// What comes from the caller's environment into the configuration.
fn extend(spec: &mut Spec, mut process: Process, inherited: &Inherited, notify: Option<&Notify>) {
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(inherited.variables.iter().cloned());
    if let Some(notify) = notify {
        env.push(notify.variable());
        let mut mounts = spec.mounts().clone().unwrap_or_default();
        mounts.push(notify.mount());
        spec.set_mounts(Some(mounts));
    }
    process.set_env(Some(env));
    spec.set_process(Some(process));
}

/// The cgroup with its limits. Without privileges a container may have none, unless limits or a place were asked for.
pub(crate) fn make_cgroup(
    globals: &Globals,
    spec: &Spec,
    record: &mut Record,
    undo: &mut Undo<'_>,
) -> Result<Option<Cgroup>> {
    let resources = resources::resources(spec);
    if let Some(unit) = record.unit.clone() {
        let cgroup = start_unit(&unit, spec, &resources, record, undo)?;
        give_away(&cgroup, spec, globals)?;
        return Ok(Some(cgroup));
    }
    let Some(path) = record.cgroup.clone() else { return Ok(None) };
    let cgroup = match Cgroup::create(&path) {
        Err(error) if globals.rootless && is_denied(&error) => {
            record.cgroup = None;
            undo.directory.map_or(Ok(()), |directory| directory.replace(record))?;
            return Ok(None);
        }
        other => other.step(|| format!("make the cgroup {path}"))?,
    };
    undo.cgroup = Some(path);
    if cgroup.is_frozen() {
        // Below one that is: whoever enters it waits for ever.
        return Err(Error::new("linux.cgroupsPath: container's cgroup unexpectedly frozen"));
    }
    match cgroup.apply(&resources) {
        Err(error) if globals.rootless && is_denied(&error) => {}
        other => other.step(|| "linux.resources".into())?,
    }
    give_away(&cgroup, spec, globals)?;
    Ok(Some(cgroup))
}

fn give_away(cgroup: &Cgroup, spec: &Spec, globals: &Globals) -> Result<()> {
    let Some(owner) = resources::cgroup_owner(spec).filter(|owner| *owner != 0) else { return Ok(()) };
    match cgroup.give_to(owner) {
        Err(error) if globals.rootless && is_denied(&error) => Ok(()),
        other => other.step(|| format!("give the cgroup to user {owner}")),
    }
}

/// The cgroup of a unit that the service manager starts. The limits are set here too, in the kernel's own words: the
/// manager has no words for some.
fn start_unit(
    unit: &Unit,
    spec: &Spec,
    resources: &LinuxResources,
    record: &mut Record,
    undo: &mut Undo<'_>,
) -> Result<Cgroup> {
    let systemd::Started { cgroup, path, placeholder } = systemd::start(unit, spec, resources)?;
    undo.placeholder = Some(placeholder);
    undo.cgroup = Some(path.clone());
    undo.unit = Some(unit.clone());
    record.cgroup = Some(path);
    undo.directory.map_or(Ok(()), |directory| directory.replace(record))?;
    cgroup.apply(resources).step(|| "linux.resources".into())?;
    Ok(cgroup)
}

/// Below the state root, and not a possible id: compiled filters.
const FILTERS: &str = "@seccomp";

/// The filter of the configuration.
pub(crate) fn filter(spec: &Spec, root: &Path) -> Result<Option<seccomp::Program>> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let compile = |profile| seccomp::compile_cached(profile, &root.join(FILTERS));
    profile.map(compile).transpose().step(|| "linux.seccomp".into())
}

/// A terminal if the process wants one, else our own streams.
fn stdio(spec: &Spec) -> Stdio<'static> {
    let process = spec.process().as_ref();
    match process.and_then(|process| process.terminal()) {
        Some(true) => terminal(process),
        _ => own_streams(),
    }
}

/// A terminal of the size that the process asks for.
pub(crate) fn terminal(process: Option<&Process>) -> Stdio<'static> {
    let size = process.and_then(Process::console_size);
    let clamp = |size: u64| u16::try_from(size).unwrap_or(u16::MAX);
    let (rows, columns) = size.map_or((0, 0), |size| (clamp(size.height()), clamp(size.width())));
    Stdio::Terminal { rows, columns }
}

/// The streams that the runtime itself was given.
pub(crate) fn own_streams() -> Stdio<'static> {
    Stdio::Fds([rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()])
}

fn duplicate(descriptor: &OwnedFd) -> Result<OwnedFd> {
    descriptor.as_fd().try_clone_to_owned().step(|| "duplicate a descriptor".into())
}
