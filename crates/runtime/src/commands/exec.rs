//! `exec`: one more process in a running container.

use std::os::fd::AsFd;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};
use oci_spec::runtime::{Capability, LinuxCapabilities, Process, Spec};
use sandbox::cgroup::Cgroup;
use sandbox::launch::{self, Created, Exec, Stdio};
use sandbox::rootless;
use sandbox::seccomp::Listener;

use super::Call;
use super::create::{hinted, preserved, seal};
use crate::arguments::{bad, path, required, switch, text, unexpected};
use crate::console::Receiver;
use crate::container::{Container, Status};
use crate::error::Step;
use crate::foreground::{self, Signals};
use crate::inherited::Inherited;
use crate::record::Store;
use crate::{Error, Result, bundle, create, pidfile};

pub(super) const HELP: &str = "\
  -p, --process FILE      the whole process as JSON
  --cwd DIR               working directory
  -e, --env NAME=VALUE    environment variable
  -t, --tty               give it a terminal
  -u, --user UID[:GID]    user
  -g, --additional-gids N supplementary group
  -c, --cap NAME          additional capability
  --no-new-privs          it can gain no privileges
  --process-label LABEL   SELinux label
  --apparmor PROFILE      AppArmor profile
  -d, --detach            do not wait for its end
  --pid-file FILE         where to write its number
  --console-socket PATH   socket that gets the master of the terminal
  --pidfd-socket PATH     socket that gets the descriptor of the process
  --preserve-fds N        descriptors from 3 on that it inherits
  --cgroup PATH           cgroup below the container's
  --ignore-paused         even if the container is paused
";

/// Exit code of an exec that could not run, as runc has it.
const FAILED: u8 = 255;

#[derive(Default)]
struct Options {
    process: Option<PathBuf>,
    cwd: Option<String>,
    env: Vec<String>,
    tty: bool,
    user: Option<String>,
    groups: Vec<u32>,
    capabilities: Vec<String>,
    no_new_privs: Option<bool>,
    label: Option<String>,
    apparmor: Option<String>,
    detach: bool,
    pid_file: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    pidfd_socket: Option<PathBuf>,
    preserve_fds: u32,
    cgroup: Option<String>,
    ignore_paused: bool,
    words: Vec<String>,
}

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let (id, options) = parse(call.words)?;
    let failed = |error: Error| error.during("exec failed").coded(FAILED);
    let container = Container::open(&Store::new(&call.globals.root), &id).map_err(|error| error.coded(FAILED))?;
    if container.is_alive() {
        rootless::enter_that_of(container.record.pid).map_err(hinted).map_err(failed)?;
    }
    seal(&call.globals)?;
    let inherited = Inherited::find(options.preserve_fds);
    execute(&container, &options, &inherited).map_err(failed)
}

fn parse(words: Vec<std::ffi::OsString>) -> Result<(String, Options)> {
    let mut parser = Parser::from_args(words);
    let (mut options, mut id) = (Options::default(), None);
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Long("process") | Arg::Short('p') => options.process = Some(path(&mut parser)?),
            Arg::Long("cwd") => options.cwd = Some(text(&mut parser)?),
            Arg::Long("env") | Arg::Short('e') => options.env.push(text(&mut parser)?),
            Arg::Long("tty") | Arg::Short('t') => options.tty = switch(&mut parser)?,
            Arg::Long("user") | Arg::Short('u') => options.user = Some(text(&mut parser)?),
            Arg::Long("additional-gids") | Arg::Short('g') => {
                options.groups.push(crate::arguments::number(&mut parser, "additional-gids")?);
            }
            Arg::Long("cap") | Arg::Short('c') => options.capabilities.push(text(&mut parser)?),
            Arg::Long("no-new-privs") => options.no_new_privs = Some(switch(&mut parser)?),
            Arg::Long("process-label") => options.label = Some(text(&mut parser)?),
            Arg::Long("apparmor") => options.apparmor = Some(text(&mut parser)?),
            Arg::Long("detach") | Arg::Short('d') => options.detach = switch(&mut parser)?,
            Arg::Long("pid-file") => options.pid_file = Some(path(&mut parser)?),
            Arg::Long("console-socket") => options.console_socket = Some(path(&mut parser)?),
            Arg::Long("pidfd-socket") => options.pidfd_socket = Some(path(&mut parser)?),
            Arg::Long("preserve-fds") => options.preserve_fds = preserved(&mut parser)?,
            Arg::Long("cgroup") => options.cgroup = Some(text(&mut parser)?),
            Arg::Long("ignore-paused") => options.ignore_paused = switch(&mut parser)?,
            Arg::Long("no-subreaper") => drop(switch(&mut parser)?),
            Arg::Value(value) if id.is_none() => {
                id = Some(value.string().map_err(bad)?);
                // What follows the id belongs to the command, unless the whole process is in a file.
                if options.process.is_none() {
                    let words = parser.raw_args().map_err(bad)?;
                    options.words = words.map(|word| word.string().map_err(bad)).collect::<Result<_>>()?;
                }
            }
            other => return Err(unexpected(other)),
        }
    }
    if options.words.first().is_some_and(|word| word == "--") {
        options.words.remove(0);
    }
    Ok((required(id, "exec")?, options))
}

fn execute(container: &Container, options: &Options, inherited: &Inherited) -> Result<u8> {
    match container.status() {
        Status::Stopped => return Err(Error::new("cannot exec in a stopped container")),
        Status::Creating => return Err(Error::new("cannot exec in a container that is still being created")),
        Status::Paused if !options.ignore_paused => {
            return Err(Error::new("cannot exec in a paused container (use --ignore-paused to override)"));
        }
        _ => {}
    }
    let spec = container.spec()?;
    let mut process = process(&spec, options)?;
    add_variables(&mut process, &inherited.variables);
    check_terminal(&process, options)?;
    let console = options.console_socket.as_deref().map(Receiver::connect).transpose()?;
    let receiver = options.pidfd_socket.as_deref().map(Receiver::connect).transpose()?;
    let signals = if options.detach { None } else { Some(Signals::catch()?) };
    let mut created = spawn(container, &spec, &process, options, inherited)?;
    if let Some(console) = console {
        let master = created.terminal.take();
        console.send("/dev/ptmx", master.ok_or_else(|| Error::new("the process has no terminal"))?)?;
    }
    if let Some(receiver) = receiver {
        receiver.send("setns", &created.pidfd)?;
    }
    if let Some(path) = &options.pid_file {
        pidfile::write(path, created.pid)?;
    }
    match signals {
        None => Ok(0),
        Some(signals) => foreground::stay(&signals, created.pid, &created.pidfd, created.terminal.take()),
    }
}

fn check_terminal(process: &Process, options: &Options) -> Result<()> {
    match (process.terminal().unwrap_or(false), options.console_socket.is_some(), options.detach) {
        (true, false, true) => {
            Err(Error::new("cannot allocate tty if runc will detach without setting console socket"))
        }
        (false, true, _) | (_, true, false) => {
            Err(Error::new("cannot use console socket if runc will not detach or allocate tty"))
        }
        _ => Ok(()),
    }
}

fn spawn(
    container: &Container,
    spec: &Spec,
    process: &Process,
    options: &Options,
    inherited: &Inherited,
) -> Result<Created> {
    let target = container.running()?;
    let cgroup = cgroup(container, options.cgroup.as_deref())?;
    let filter = create::filter(spec, container.directory.root())?;
    let stdio: Stdio<'_> = match process.terminal() {
        Some(true) => create::terminal(Some(process)),
        _ => create::own_streams(),
    };
    let about = container.about();
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let exec = Exec {
        target: target.as_fd(),
        target_pid: container.record.pid,
        process,
        linux: spec.linux().as_ref(),
        user: "",
        exact_user: true,
        seccomp: filter.as_ref(),
        stdio,
        cgroup: cgroup.as_ref(),
        inherited: &inherited.descriptors,
        listener: Listener::of(profile, &about),
    };
    Ok(launch::exec(&exec)?)
}

/// The container's cgroup, or one below it: `PATH`, or runc's `CONTROLLER[,CONTROLLER]:PATH` on v1.
fn cgroup(container: &Container, below: Option<&str>) -> Result<Option<Cgroup>> {
    let own = container.cgroup().step(|| "open the container's cgroup".into())?;
    let Some(below) = below.filter(|below| !matches!(*below, "" | "/")) else { return Ok(own) };
    let own = own.ok_or_else(|| Error::new("--cgroup: the container has no cgroup of its own"))?;
    let (controllers, path) = below.rsplit_once(':').unwrap_or(("", below));
    if path.split('/').any(|part| part == "..") {
        return Err(Error::new(format!("--cgroup {below}: `..` components are not allowed")));
    }
    let controllers: Vec<&str> = controllers.split(',').filter(|name| !name.is_empty()).collect();
    own.below(path, &controllers).map(Some).step(|| format!("--cgroup {below}"))
}

/// The process from its file, or the container's own with what the flags change.
fn process(spec: &Spec, options: &Options) -> Result<Process> {
    let own = spec.process().clone().unwrap_or_default();
    let process = match &options.process {
        Some(file) => from_file(file, &own)?,
        None => from_flags(own, options)?,
    };
    bundle::check_process(&process)?;
    Ok(process)
}

/// What the file leaves out is as for the container's own process, so far as it limits what the process may do.
fn from_file(file: &std::path::Path, own: &Process) -> Result<Process> {
    let json = bundle::read(file)?;
    let (mut process, _) = sandbox::config::parse_process(&json).step(|| format!("parse {}", file.display()))?;
    if process.capabilities().is_none() {
        process.set_capabilities(own.capabilities().clone());
    }
    if process.apparmor_profile().as_ref().is_none_or(String::is_empty) {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if process.selinux_label().as_ref().is_none_or(String::is_empty) {
        process.set_selinux_label(own.selinux_label().clone());
    }
    if process.rlimits().as_ref().is_none_or(Vec::is_empty) {
        process.set_rlimits(own.rlimits().clone());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(own.oom_score_adj());
    }
    Ok(process)
}

fn from_flags(mut process: Process, options: &Options) -> Result<Process> {
    process.set_args(Some(options.words.clone()));
    process.set_terminal(Some(options.tty));
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.into());
    }
    if let Some(user) = &options.user {
        let (uid, gid) = user_and_group(user)?;
        let user = process.user_mut();
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    if !options.groups.is_empty() {
        let mut groups = process.user().additional_gids().clone().unwrap_or_default();
        groups.extend(&options.groups);
        process.user_mut().set_additional_gids(Some(groups));
    }
    if let Some(no_new_privs) = options.no_new_privs {
        process.set_no_new_privileges(Some(no_new_privs));
    }
    if let Some(label) = &options.label {
        process.set_selinux_label(Some(label.clone()));
    }
    if let Some(profile) = &options.apparmor {
        process.set_apparmor_profile(Some(profile.clone()));
    }
    add_capabilities(&mut process, &options.capabilities)?;
    add_variables(&mut process, &options.env);
    Ok(process)
}

fn add_variables(process: &mut Process, variables: &[String]) {
    let mut env = process.env().clone().unwrap_or_default();
    for variable in variables {
        let name = variable.split('=').next().unwrap_or_default();
        env.retain(|known| known.split('=').next() != Some(name));
        env.push(variable.clone());
    }
    process.set_env(Some(env));
}

fn add_capabilities(process: &mut Process, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_else(no_capabilities);
    for name in names {
        let one: Capability = serde_json::from_value(serde_json::Value::from(name.as_str()))
            .map_err(|_| Error::new(format!("--cap {name}: unknown capability")))?;
        let with = |set: &Option<std::collections::HashSet<Capability>>| {
            Some(set.iter().flatten().copied().chain([one]).collect())
        };
        sets.set_bounding(with(sets.bounding()));
        sets.set_effective(with(sets.effective()));
        sets.set_permitted(with(sets.permitted()));
    }
    process.set_capabilities(Some(sets));
    Ok(())
}

/// Not the type's default, which has some.
fn no_capabilities() -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    for set in [
        LinuxCapabilities::set_bounding,
        LinuxCapabilities::set_effective,
        LinuxCapabilities::set_permitted,
        LinuxCapabilities::set_inheritable,
        LinuxCapabilities::set_ambient,
    ] {
        set(&mut sets, None);
    }
    sets
}

/// `UID[:GID]`: numbers only, each whole (CVE-2026-30892).
fn user_and_group(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let number = part.parse::<u32>().ok().filter(|number| digits && *number != u32::MAX);
        number.ok_or_else(|| Error::new(format!("--user {text}: want UID[:GID] in numbers")))
    };
    match text.split_once(':') {
        None => Ok((number(text)?, None)),
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_whole_numbers() {
        assert_eq!(user_and_group("1").unwrap(), (1, None));
        assert_eq!(user_and_group("1:2").unwrap(), (1, Some(2)));
        for bad in ["", "1:", ":1", "-1", "+1", "4294967296", "4294967295", "1:2:3", "0x0", "root", " 1"] {
            assert!(user_and_group(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_follows_the_id_is_the_command() {
        let words = ["-e", "A=1", "c", "sh", "-c", "--detach"].map(Into::into).to_vec();
        let (id, options) = parse(words).unwrap();
        assert_eq!((id.as_str(), options.detach), ("c", false));
        assert_eq!(options.words, ["sh", "-c", "--detach"]);
        let words = ["--process", "f", "c", "--detach"].map(Into::into).to_vec();
        assert!(parse(words).unwrap().1.detach);
    }

    #[test]
    fn capabilities_are_added_to_what_is_there() {
        let mut process = Process::default();
        process.set_capabilities(None);
        add_capabilities(&mut process, &["CAP_KILL".to_owned()]).unwrap();
        let sets = process.capabilities().clone().unwrap();
        assert_eq!(sets.effective().as_ref().map(|set| set.len()), Some(1));
        assert_eq!(*sets.ambient(), None);
        assert!(add_capabilities(&mut process, &["CAP_NONE".to_owned()]).is_err());
    }
}
