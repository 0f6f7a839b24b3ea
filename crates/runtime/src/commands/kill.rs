//! `kill`: sends a signal to a container's first process, or to all of its processes.

use std::os::fd::AsFd;

use lexopt::{Arg, Parser, ValueExt};
use oci_spec::runtime::LinuxNamespaceType;

use super::Call;
use crate::arguments::{bad, required, switch, unexpected};
use crate::container::Container;
use crate::error::Step;
use crate::record::Store;
use crate::{Error, Result};

pub(super) const HELP: &str = "\
  -a, --all               to all processes of the container
  -r, --regex             to all containers whose id the regular expression matches
";

const TERM: i32 = 15;
const KILL: i32 = 9;

pub(super) fn run(call: Call<'_>) -> Result<u8> {
    let mut parser = Parser::from_args(call.words);
    let (mut all, mut regex, mut words) = (false, false, Vec::new());
    while let Some(argument) = parser.next().map_err(bad)? {
        match argument {
            Arg::Long("all") | Arg::Short('a') => all = switch(&mut parser)?,
            Arg::Long("regex") | Arg::Short('r') => regex = switch(&mut parser)?,
            Arg::Value(word) if words.len() < 2 => words.push(word.string().map_err(bad)?),
            other => return Err(unexpected(other)),
        }
    }
    let mut words = words.into_iter();
    let id = required(words.next(), "kill")?;
    let signal = match words.next() {
        None => TERM,
        // It asks whether the process is there.
        Some(word) if word == "0" => 0,
        Some(word) => linux::signal::number(&word).ok_or_else(|| Error::new(format!("unknown signal {word:?}")))?,
    };
    let store = Store::new(&call.globals.root);
    let ids = if regex { store.matching(&id)? } else { vec![id] };
    ids.iter().try_for_each(|id| send(&Container::open(&store, id)?, signal, all))?;
    Ok(0)
}

fn send(container: &Container, signal: i32, all: bool) -> Result<()> {
    // Without a pid namespace of its own nothing ends with the first process.
    let all = all || signal == KILL && !has_own_pids(container);
    if all {
        return send_all(container, signal);
    }
    let process = container.running()?;
    match linux::pidfd::send_signal(process.as_fd(), signal) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Err(Error::new("container not running"));
        }
        other => other.step(|| format!("send signal {signal}"))?,
    }
    match container.cgroup().step(|| "open the container's cgroup".into())? {
        Some(cgroup) if signal == KILL => cgroup.let_die().step(|| "thaw the container".into()),
        _ => Ok(()),
    }
}

fn send_all(container: &Container, signal: i32) -> Result<()> {
    let Some(cgroup) = container.cgroup().step(|| "open the container's cgroup".into())? else {
        let process = container.running()?;
        return linux::pidfd::send_signal(process.as_fd(), signal).step(|| format!("send signal {signal}"));
    };
    if signal == KILL {
        return cgroup.kill().step(|| "kill the container's processes".into());
    }
    for process in cgroup.processes().step(|| "list the container's processes".into())? {
        // One that has ended meanwhile needs no signal.
        let _ = linux::signal::send(process, signal);
    }
    Ok(())
}

fn has_own_pids(container: &Container) -> bool {
    let Ok(spec) = container.spec() else { return false };
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|own| own.typ() == LinuxNamespaceType::Pid && own.path().is_none())
}
