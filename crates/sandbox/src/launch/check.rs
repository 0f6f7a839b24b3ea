//! What a configuration may not say: contradictions between its fields, found before anything is made. Each error is one
//! line that names the field.

use std::path::{Component, Path};

use linux::namespace::Kinds;
use oci_spec::runtime::{Hook, Hooks, Linux, LinuxIdMapping, Process, Spec};

use super::mounts::Mount;
use super::namespaces::Namespaces;
use super::parent::prestart;
use super::step::Step;
use super::{Error, Launch, netdevices, scheduling, sysctl};
use crate::seccomp::{Listener, Program};
use crate::{hooks, resctrl};

/// Everything of the first process and its container.
pub(super) fn configuration(
    launch: &Launch<'_>,
    linux: &Linux,
    process: &Process,
    namespaces: &Namespaces,
    mounts: &[Mount],
) -> Result<(), Error> {
    needs_about(launch, linux)?;
    launch.spec.hooks().as_ref().map_or(Ok(()), check_hooks)?;
    self::process(process)?;
    scheduling::check(process, Some(linux))?;
    listener(
        launch.seccomp,
        launch.extras.about.and_then(|about| Listener::of(linux.seccomp().as_ref(), about)).as_ref(),
    )?;
    linux
        .intel_rdt()
        .as_ref()
        .map_or(Ok(()), resctrl::check)
        .map_err(|text| Error::Invalid(format!("linux.intelRdt: {text}")))?;
    netdevices::check(linux, namespaces)?;
    names(launch.spec, namespaces)?;
    mappings(linux, namespaces)?;
    clocks(linux, namespaces)?;
    paths("linux.maskedPaths", linux.masked_paths().as_deref().unwrap_or_default())?;
    paths("linux.readonlyPaths", linux.readonly_paths().as_deref().unwrap_or_default())?;
    sysctl::check(linux, namespaces)?;
    propagation(mounts, namespaces.own_user())?;
    idmaps(mounts, namespaces.own_user())?;
    empty(&launch.state)
}

/// What holds for every process.
pub(super) fn process(process: &Process) -> Result<(), Error> {
    let limits = process.rlimits().as_deref().unwrap_or_default();
    for (index, limit) in limits.iter().enumerate() {
        let kind = limit.typ();
        if limits[..index].iter().any(|earlier| earlier.typ() == kind) {
            return Err(Error::Invalid(format!("process.rlimits[{index}]: {kind} occurs twice")));
        }
        if limit.soft() > limit.hard() {
            return Err(Error::Invalid(format!(
                "process.rlimits[{index}]: {kind} has a soft limit ({}) above the hard one ({})",
                limit.soft(),
                limit.hard()
            )));
        }
    }
    match process.oom_score_adj() {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(Error::Invalid(format!("process.oomScoreAdj: {score} is not -1000 to 1000")))
        }
        _ => Ok(()),
    }
}

/// A filter that asks somebody needs somebody to ask.
pub(super) fn listener(filter: Option<&Program>, listener: Option<&Listener<'_>>) -> Result<(), Error> {
    match filter.is_some_and(Program::notifies) && listener.is_none() {
        true => Err(Error::Invalid("linux.seccomp: SCMP_ACT_NOTIFY needs a listenerPath".into())),
        false => Ok(()),
    }
}

/// Some fields need to know which container this is.
fn needs_about(launch: &Launch<'_>, linux: &Linux) -> Result<(), Error> {
    let wanted = [("hooks", launch.spec.hooks().is_some()), ("linux.intelRdt", linux.intel_rdt().is_some())];
    match wanted.iter().find(|(_, present)| *present && launch.extras.about.is_none()) {
        None => Ok(()),
        Some((field, _)) => Err(Error::Invalid(format!("{field} in the configuration is not supported"))),
    }
}

/// Refuses malformed hooks before anything is made.
fn check_hooks(hooks: &Hooks) -> Result<(), Error> {
    let lists: [(&str, &Option<Vec<Hook>>); 6] = [
        ("prestart", prestart(hooks)),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    lists.iter().try_for_each(|(kind, list)| hooks::check(kind, list.as_ref())).map_err(Error::Invalid)
}

/// Without a UTS namespace the host itself would be renamed.
fn names(spec: &Spec, namespaces: &Namespaces) -> Result<(), Error> {
    let given = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        if given(name) && !namespaces.separate(Kinds::UTS) {
            return Err(Error::Invalid(format!("{field}: unable to set {field} without a private UTS namespace")));
        }
    }
    Ok(())
}

fn mappings(linux: &Linux, namespaces: &Namespaces) -> Result<(), Error> {
    for (field, list) in [("uidMappings", linux.uid_mappings()), ("gidMappings", linux.gid_mappings())] {
        let list = list.as_deref().unwrap_or_default();
        if !list.is_empty() && !namespaces.own_user() {
            return Err(Error::Invalid(format!(
                "linux.{field}: user namespace mappings specified, but user namespace isn't enabled in the config"
            )));
        }
        id_ranges(&format!("linux.{field}"), list)?;
    }
    Ok(())
}

/// Ranges as the kernel takes them: not empty, within 32 bits, nowhere twice.
pub(super) fn id_ranges(field: &str, list: &[LinuxIdMapping]) -> Result<(), Error> {
    let invalid = |index: usize, text: &str| Err(Error::Invalid(format!("{field}[{index}]: {text}")));
    let overlap = |a: (u32, u32), b: (u32, u32)| a.0 < b.0 + b.1 && b.0 < a.0 + a.1;
    for (index, range) in list.iter().enumerate() {
        let fits = |first: u32| first.checked_add(range.size()).is_some();
        if range.size() == 0 {
            return invalid(index, "size must not be 0");
        }
        if !fits(range.container_id()) || !fits(range.host_id()) {
            return invalid(index, "the range goes beyond the largest id");
        }
        for earlier in &list[..index] {
            let inside = overlap((range.container_id(), range.size()), (earlier.container_id(), earlier.size()));
            if inside || overlap((range.host_id(), range.size()), (earlier.host_id(), earlier.size())) {
                return invalid(index, "the range overlaps another one");
            }
        }
    }
    Ok(())
}

fn clocks(linux: &Linux, namespaces: &Namespaces) -> Result<(), Error> {
    let offsets = linux.time_offsets().iter().flatten();
    for (clock, offset) in offsets.clone() {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::Invalid(format!(
                "linux.timeOffsets: unknown clock {clock:?}; there are monotonic and boottime"
            )));
        }
        if offset.nanosecs().unwrap_or(0) >= 1_000_000_000 {
            return Err(Error::Invalid(format!("linux.timeOffsets.{clock}.nanosecs: must be below 1000000000")));
        }
    }
    if offsets.count() == 0 || namespaces.new.contains(Kinds::TIME) {
        return Ok(());
    }
    Err(Error::Invalid(match namespaces.joined(Kinds::TIME) {
        Some(_) => "linux.timeOffsets: a time namespace that is joined has its offsets already".into(),
        None => {
            "linux.timeOffsets: time namespace offsets specified, but time namespace isn't enabled in the config".into()
        }
    }))
}

/// Masked and read-only paths are absolute.
fn paths(field: &str, list: &[String]) -> Result<(), Error> {
    for (index, path) in list.iter().enumerate() {
        let path = Path::new(path);
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return Err(Error::Invalid(format!("{field}[{index}]: {:?} must be an absolute path", path.display())));
        }
    }
    Ok(())
}

/// A mount that is shared with the host must not be in the hands of another user namespace.
fn propagation(mounts: &[Mount], own_user: bool) -> Result<(), Error> {
    let shared = |mount: &&Mount| mount.options.propagation == libc::MS_SHARED;
    match mounts.iter().find(shared).filter(|_| own_user) {
        None => Ok(()),
        Some(mount) => Err(Error::Invalid(format!(
            "mount {}: shared propagation would let the container change the host's mounts; use slave, or --userns=host",
            mount.destination.display()
        ))),
    }
}

/// An id map needs to come from somewhere.
fn idmaps(mounts: &[Mount], own_user: bool) -> Result<(), Error> {
    let unmapped = |mount: &&Mount| mount.options.idmap && mount.mappings.is_none();
    match mounts.iter().find(unmapped).filter(|_| !own_user) {
        None => Ok(()),
        Some(mount) => Err(Error::Invalid(format!(
            "mount {}: idmap needs uidMappings and gidMappings, or a user namespace of the container",
            mount.destination.display()
        ))),
    }
}

/// What hides masked directories must not show anything itself.
fn empty(directory: &Path) -> Result<(), Error> {
    let mut entries = std::fs::read_dir(directory)
        .step(|| format!("read {}, which hides masked directories", directory.display()))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => {
            Err(Error::Invalid(format!("{}, which hides masked directories, is not empty", directory.display())))
        }
    }
}
