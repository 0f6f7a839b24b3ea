//! `restore`: brings the processes of a container back from disk.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser};
use oci_spec::runtime::Spec;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sandbox::cgroup::Cgroup;
use sandbox::hooks::Env;
use sandbox::launch;

use super::Call;
use super::checkpoint::STREAMS;
use crate::arguments::{bad, path, required, switch, take_id, unexpected};
use crate::bundle::Bundle;
use crate::console::Receiver;
use crate::container::{Container, about};
use crate::create::{self, make_cgroup};
use crate::criu::options::{Command, Options};
use crate::criu::private::Private;
use crate::criu::rpc::{InheritFd, Kind, Notice, Pair, Request};
use crate::criu::{mounts, swrk};
use crate::error::Step;
use crate::foreground::{self, Signals};
use crate::globals::Globals;
use crate::record::{Record, Store};
use crate::undo::Undo;
use crate::{Error, Result, pidfile, validate};

pub(super) const HELP: &str = "\
  --image-path DIR        where the checkpoint is; ./checkpoint if not given
  --work-path DIR         where CRIU's log goes; the image path if not given
  -b, --bundle DIR        root of the bundle; the present directory if not given
  -d, --detach            do not wait for the end of the process
  --pid-file FILE         where to write the number of the process
  --console-socket PATH   socket that gets the master of the terminal
  --no-subreaper          do not adopt the container's orphans
  --manage-cgroups-mode M soft, full, strict or ignore
  --network-lock M        iptables, nftables or skip
  --lsm-profile TYPE:NAME --lsm-mount-context CONTEXT
  --tcp-established --tcp-close --ext-unix-sk --file-locks
  --shell-job --auto-dedup --lazy-pages --empty-ns network --no-pivot
";

#[derive(Default)]
struct Flags {
    criu: Options,
    bundle: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    detach: bool,
    keep_orphans: bool,
}

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let (flags, id) = parse(call.words)?;
    let signals = if flags.detach { None } else { Some(Signals::catch()?) };
    if !flags.keep_orphans && !flags.detach {
        foreground::become_subreaper()?;
    }
    let restored = restore(&call.globals, &flags, &id, call.log)?;
    let Some(signals) = signals else { return Ok(0) };
    let Restored { container, pidfd, terminal } = restored;
    let code = foreground::stay(&signals, container.record.pid, &pidfd, terminal);
    container.destroy()?.iter().for_each(|warning| call.log.warn(warning));
    code
}

fn parse(words: Vec<std::ffi::OsString>) -> Result<(Flags, String)> {
    let mut parser = Parser::from_args(words);
    let (mut flags, mut id) = (Flags::default(), None);
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Value(value) => take_id(&mut id, value, "restore")?,
            Arg::Long("bundle") | Arg::Short('b') => flags.bundle = Some(path(&mut parser)?),
            Arg::Long("detach") | Arg::Short('d') => flags.detach = switch(&mut parser)?,
            Arg::Long("pid-file") => flags.pid_file = Some(path(&mut parser)?),
            Arg::Long("console-socket") => flags.console_socket = Some(path(&mut parser)?),
            Arg::Long("no-subreaper") => flags.keep_orphans = switch(&mut parser)?,
            // CRIU knows one way only to enter the root.
            Arg::Long("no-pivot") => drop(switch(&mut parser)?),
            Arg::Long(name) => {
                let name = name.to_owned();
                if let Some(other) = flags.criu.take(Arg::Long(&name), &mut parser, Command::Restore)? {
                    return Err(unexpected(other));
                }
            }
            other => return Err(unexpected(other)),
        }
    }
    Ok((flags, required(id, "restore")?))
}

/// A container that runs again.
struct Restored {
    container: Container,
    pidfd: OwnedFd,
    terminal: Option<OwnedFd>,
}

fn restore(globals: &Globals, flags: &Flags, id: &str, log: &crate::log::Log) -> Result<Restored> {
    let bundle = Bundle::load(flags.bundle.as_deref().unwrap_or(Path::new(".")), None)?;
    bundle.warnings.iter().for_each(|warning| log.warn(warning));
    validate::check(&bundle.spec)?;
    let console = flags.console_socket.as_deref().map(Receiver::connect).transpose()?;
    let store = Store::new(&globals.root);
    let directory = store.create(id)?;
    let mut undo = Undo::new(&directory);
    let mut record = create::record(globals, &bundle, id)?;
    let _lock = directory.begin(&record)?;
    directory.keep_config(&bundle.json)?;
    let cgroup = make_cgroup(globals, &bundle.spec, &mut record, &mut undo)?;
    undo.hooks = bundle.spec.hooks().as_ref().map(|hooks| (hooks.clone(), about(&record)));
    let place = directory.path().join("criu-root");
    fs::create_dir(&place).step(|| format!("make {}", place.display()))?;
    launch::make_mount_points(&bundle.rootfs, &bundle.spec)?;
    let mounts = Private::enter(&bundle.rootfs, &place).step(|| "make mounts for the restore".into())?;
    let wanted = Wanted { spec: &bundle.spec, record: &record, cgroup: cgroup.as_ref(), root: &place, mounts: &mounts };
    let (pid, terminal) = wanted.ask(flags, &store.empty()?)?;
    drop(mounts);
    let pidfd = Pid::from_raw(pid).ok_or_else(|| Error::new("criu named no process"))?;
    let pidfd = pidfd_open(pidfd, PidfdFlags::empty()).step(|| "find the restored process".into())?;
    undo.child = Some(pidfd.try_clone().step(|| "duplicate a descriptor".into())?);
    record.pid = pid;
    record.start_time = linux::process::start_time(pid).unwrap_or(0);
    directory.replace(&record)?;
    fs::remove_dir(&place).step(|| format!("remove {}", place.display()))?;
    if let Some(path) = &flags.pid_file {
        pidfile::write(path, pid)?;
    }
    let terminal = match (console, terminal) {
        (Some(console), Some(master)) => console.send("/dev/ptmx", master).map(|()| None)?,
        (_, terminal) => terminal,
    };
    undo.disarm();
    Ok(Restored { container: Container { directory, record }, pidfd, terminal })
}

/// What CRIU is to restore, and where.
struct Wanted<'a> {
    spec: &'a Spec,
    record: &'a Record,
    cgroup: Option<&'a Cgroup>,
    /// Where the root file system is shown: CRIU wants a mount point that nothing covers.
    root: &'a Path,
    mounts: &'a Private,
}

impl Wanted<'_> {
    /// The restored process and the master of its terminal.
    fn ask(&self, flags: &Flags, empty: &Path) -> Result<(i32, Option<OwnedFd>)> {
        let (mut options, directories) = flags.criu.request(Command::Restore)?;
        options.root = Some(self.root.to_string_lossy().into_owned());
        options.rst_sibling = Some(true);
        options.evasive_devices = Some(true);
        let shown = self.cgroup.map(Cgroup::directories).unwrap_or_default();
        options.ext_mnt = mounts::behind(self.spec, &shown, empty)?;
        if let Some(path) = &self.record.cgroup {
            let root = |(name, _): &(String, PathBuf)| Pair { key: name.clone(), value: path.clone() };
            options.cg_root = shown.iter().map(root).collect();
        }
        options.inherit_fd = streams(&flags.criu)?;
        let namespaces = mounts::join_namespaces(self.spec, &mut options)?;
        let request = Request { kind: Kind::Restore.into(), options: Some(options), ..Request::default() };
        let (mut pid, mut terminal) = (0, None);
        let mut notice = |notice: &Notice, mut fds: Vec<OwnedFd>| -> Result<()> {
            match notice.script.as_deref() {
                Some("setup-namespaces") => self.hooks(notice.pid.unwrap_or(0))?,
                Some("post-restore") => pid = notice.pid.unwrap_or(0),
                Some("orphan-pts-master") => terminal = fds.pop(),
                _ => {}
            }
            Ok(())
        };
        let keep: Vec<i32> =
            directories.numbers().into_iter().chain(namespaces.iter().map(AsRawFd::as_raw_fd)).collect();
        let answer = swrk::ask(&request, &keep, || self.cgroup.map_or(Ok(()), Cgroup::enter), &mut notice);
        answer.map_err(|error| directories.explain(error))?;
        Ok((pid, terminal))
    }

    /// The hooks that a start would run with the namespaces there.
    fn hooks(&self, pid: i32) -> Result<()> {
        let hooks = self.spec.hooks().as_ref();
        let about = about(self.record);
        #[allow(deprecated, reason = "callers still use them")]
        let prestart = hooks.and_then(|hooks| hooks.prestart().as_ref());
        let create = hooks.and_then(|hooks| hooks.create_runtime().as_ref());
        let run = || {
            about.run("prestart", prestart, "creating", pid, Env::Callers)?;
            about.run("createRuntime", create, "creating", pid, Env::Callers)
        };
        self.mounts.outside(run).step(|| "leave the mounts of the restore".into())?.map_err(Error::new)
    }
}

/// Our own streams in the place of the pipes that the container had as its own.
fn streams(options: &Options) -> Result<Vec<InheritFd>> {
    let file = options.images().join(STREAMS);
    let json = crate::bundle::read(&file)?;
    let links: Vec<String> = serde_json::from_slice(&json).step(|| format!("parse {}", file.display()))?;
    let pipes = (0..3).zip(links).filter(|(_, link)| link.starts_with("pipe:"));
    Ok(pipes.map(|(fd, key)| InheritFd { key, fd }).collect())
}
