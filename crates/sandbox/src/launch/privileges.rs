//! Giving up privileges: from the container's root with everything to exactly what the configuration grants.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::runtime::{Capability, LinuxCapabilities, PosixRlimitType, Process};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::step::{Step, describe};
use super::users::Identity;
use super::{Error, channel};
use crate::seccomp;

/// The session of the new process: a session of its own and, if wanted and where the kernel has them, a keyring of its
/// own.
pub(super) fn new_session(keyring: bool) -> Result<(), Error> {
    rustix::process::setsid().step(|| "start a session".into())?;
    if !keyring {
        return Ok(());
    }
    match linux::ids::new_session_keyring() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::EDQUOT) => Err(Error::Step(
            "join a session keyring: quota exceeded; raise kernel.keys.root_maxkeys or kernel.keys.maxkeys".into(),
        )),
        other => other.step(|| "join a session keyring".into()),
    }
}

/// Becomes the container's root: all ids 0, no supplementary groups. Right after entering a user namespace.
pub(super) fn become_root() -> Result<(), Error> {
    set_ids(0, 0, &[])
}

fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Error> {
    let highest = groups.iter().copied().max().unwrap_or(0);
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match set_thread_groups(&groups) {
        // Who has one id only may not drop groups, and has no others to take (user_namespaces(7)).
        Err(Errno::PERM) if may_set_no_groups() => {}
        other => other.map_err(|errno| unmapped(errno, "supplementary group", highest))?,
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_res_gid(group, group, group).map_err(|errno| unmapped(errno, "group", gid))?;
    set_thread_res_uid(user, user, user).map_err(|errno| unmapped(errno, "user", uid))
}

fn may_set_no_groups() -> bool {
    std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny"))
}

/// Everything from the container's root to the configured process, in the one order that works. Afterwards the process
/// can still load its filter, if it is given back; the listener of one that was loaded goes over `socket`.
pub(super) fn drop_to<'a>(
    process: &Process,
    identity: &Identity,
    filter: Option<&'a seccomp::Program>,
    socket: &OwnedFd,
) -> Result<Option<&'a seccomp::Program>, Error> {
    let own = rustix::thread::capabilities(None).step(|| "read capabilities".into())?.permitted;
    let (sets, ambient, bounding) = capabilities(process.capabilities().as_ref(), own);
    let no_new_privs = process.no_new_privileges().unwrap_or(false);
    drop_bounding(bounding)?;
    let entered = enter_workdir(process.cwd());
    set_keep_capabilities(true).step(|| "keep capabilities over the change of user".into())?;
    set_ids(identity.uid, identity.gid, &identity.groups)?;
    let umask = process.user().umask().unwrap_or(0o022);
    rustix::process::umask(Mode::from_raw_mode(umask & 0o777));
    // As root of the container is tried first; a directory that only its user may enter (on a network file system, say)
    // is no error.
    if entered.is_err() {
        enter_workdir(process.cwd())?;
    }
    if !no_new_privs {
        // Without no_new_privs only CAP_SYS_ADMIN may load a filter, so it comes before the capabilities go.
        raise_permitted()?;
        load_and_tell(filter, socket)?;
    }
    set_capabilities(None, sets).step(|| "set capabilities".into())?;
    set_ambient(ambient)?;
    set_keep_capabilities(false).step(|| "stop keeping capabilities".into())?;
    if !no_new_privs {
        return Ok(None);
    }
    set_no_new_privs(true).step(|| "set no_new_privs".into())?;
    if filter.is_some_and(seccomp::Program::notifies) {
        load_and_tell(filter, socket)?;
        return Ok(None);
    }
    Ok(filter)
}

/// Loads a filter while somebody can still take its listener. What this process calls from now on may wait for the
/// listener's answer, `write`, which tells of it, excepted.
fn load_and_tell(filter: Option<&seccomp::Program>, socket: &OwnedFd) -> Result<(), Error> {
    let Some(filter) = filter else { return Ok(()) };
    if let Some(listener) = filter.load().step(|| "load the seccomp filter".into())? {
        channel::listener(socket, listener)?;
    }
    Ok(())
}

/// Loads the filter: the very last step before the program.
pub(super) fn load(filter: Option<&seccomp::Program>) -> Result<(), Error> {
    match filter {
        Some(filter) => filter.load().map(drop).step(|| "load the seccomp filter".into()),
        None => Ok(()),
    }
}

/// Makes everything permitted effective again.
fn raise_permitted() -> Result<(), Error> {
    let sets = rustix::thread::capabilities(None).step(|| "read capabilities".into())?;
    let sets = CapabilitySets { effective: sets.permitted, ..sets };
    set_capabilities(None, sets).step(|| "raise capabilities".into())
}

/// Why a process could not take an id: as a rule because its user namespace has none of that number.
fn unmapped(errno: Errno, kind: &str, id: u32) -> Error {
    match errno {
        Errno::INVAL => Error::Step(format!(
            "{kind} id {id} does not exist in the container's user namespace; use a lower id, or --userns=host \
             (for users other than root, `kiste info` says how to get more ids)"
        )),
        _ => Error::Step(format!("set {kind} id {id}: {}", describe(&errno.into()))),
    }
}

/// Enters the working directory, and makes sure that it is one of the container: a descriptor left
/// open to a directory of the host would show it as unreachable (CVE-2024-21626).
fn enter_workdir(path: &Path) -> Result<(), Error> {
    rustix::process::chdir(path).map_err(|errno| {
        let text = format!("chdir to cwd ({:?}) failed: {}", path.display(), describe(&errno.into()));
        match errno {
            Errno::NOENT => Error::CommandNotFound(text),
            Errno::ACCESS | Errno::NOTDIR => Error::NotExecutable(text),
            _ => Error::Step(text),
        }
    })?;
    let real = rustix::process::getcwd(Vec::new()).step(|| "ask for the working directory".into())?;
    match real.to_bytes().first() {
        Some(b'/') => Ok(()),
        _ => Err(Error::Invalid(format!("working directory {} is outside of the container", path.display()))),
    }
}

/// (effective, permitted, inheritable), ambient, bounding: what the configuration says, so far as the process has it to
/// give. What cannot be granted is left out (runtime-spec, config.md "Linux Process"). An ambient capability must be
/// permitted and inheritable.
fn capabilities(
    configured: Option<&LinuxCapabilities>,
    own: CapabilitySet,
) -> (CapabilitySets, CapabilitySet, CapabilitySet) {
    let none = CapabilitySet::empty();
    let Some(configured) = configured else {
        return (CapabilitySets { effective: none, permitted: none, inheritable: none }, none, none);
    };
    let set = |list: &Option<HashSet<Capability>>| list.iter().flatten().map(|c| bit(*c)).fold(none, |a, b| a | b);
    let permitted = set(configured.permitted()) & own;
    let bounding = set(configured.bounding());
    let inheritable = set(configured.inheritable()) & own & bounding;
    let sets = CapabilitySets { effective: set(configured.effective()) & permitted, permitted, inheritable };
    (sets, set(configured.ambient()) & permitted & inheritable, bounding)
}

fn drop_bounding(keep: CapabilitySet) -> Result<(), Error> {
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => return Ok(()), // beyond the last one that the kernel knows
            Err(error) => return Err(error).step(|| format!("drop capability {number} from the bounding set")),
        }
    }
    Ok(())
}

fn set_ambient(ambient: CapabilitySet) -> Result<(), Error> {
    clear_ambient_capability_set().step(|| "clear ambient capabilities".into())?;
    for one in ambient.iter() {
        configure_capability_in_ambient_set(one, true).step(|| format!("raise ambient capability {one:?}"))?;
    }
    Ok(())
}

/// The kernel's bit for a capability (`include/uapi/linux/capability.h`).
fn bit(capability: Capability) -> CapabilitySet {
    use Capability as C;
    let number = match capability {
        C::Chown => 0,
        C::DacOverride => 1,
        C::DacReadSearch => 2,
        C::Fowner => 3,
        C::Fsetid => 4,
        C::Kill => 5,
        C::Setgid => 6,
        C::Setuid => 7,
        C::Setpcap => 8,
        C::LinuxImmutable => 9,
        C::NetBindService => 10,
        C::NetBroadcast => 11,
        C::NetAdmin => 12,
        C::NetRaw => 13,
        C::IpcLock => 14,
        C::IpcOwner => 15,
        C::SysModule => 16,
        C::SysRawio => 17,
        C::SysChroot => 18,
        C::SysPtrace => 19,
        C::SysPacct => 20,
        C::SysAdmin => 21,
        C::SysBoot => 22,
        C::SysNice => 23,
        C::SysResource => 24,
        C::SysTime => 25,
        C::SysTtyConfig => 26,
        C::Mknod => 27,
        C::Lease => 28,
        C::AuditWrite => 29,
        C::AuditControl => 30,
        C::Setfcap => 31,
        C::MacOverride => 32,
        C::MacAdmin => 33,
        C::Syslog => 34,
        C::WakeAlarm => 35,
        C::BlockSuspend => 36,
        C::AuditRead => 37,
        C::Perfmon => 38,
        C::Bpf => 39,
        C::CheckpointRestore => 40,
    };
    CapabilitySet::from_bits_retain(1 << number)
}

/// Child: sets those of its resource limits that it may set without privileges, so late that a low one does not get in
/// the way of the preparations.
pub(super) fn lower_rlimits(process: &Process) -> Result<(), Error> {
    each_rlimit(process, false, setrlimit)
}

/// Parent: sets the others of a waiting child, which takes CAP_SYS_RESOURCE.
pub(super) fn raise_rlimits(pid: i32, process: &Process) -> Result<(), Error> {
    each_rlimit(process, true, |resource, new| prlimit(Pid::from_raw(pid), resource, new).map(drop))
}

/// Parent and child have the same limits, so both see which ones are above.
fn each_rlimit(
    process: &Process,
    above: bool,
    set: impl Fn(Resource, Rlimit) -> rustix::io::Result<()>,
) -> Result<(), Error> {
    for limit in process.rlimits().iter().flatten() {
        let value = |n: u64| (n != u64::MAX).then_some(n);
        let new = Rlimit { current: value(limit.soft()), maximum: value(limit.hard()) };
        let resource = resource(limit.typ());
        let present = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        if (limit.hard() > present) == above {
            set(resource, new).step(|| format!("set limit {} to {}:{}", limit.typ(), limit.soft(), limit.hard()))?;
        }
    }
    Ok(())
}

fn resource(typ: PosixRlimitType) -> Resource {
    match typ {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

/// Sets a child's likelihood to be killed when memory runs out. Where the host does not let us lower it, the present
/// value stays: containers must start without CAP_SYS_RESOURCE too.
pub(super) fn set_oom_score(pid: i32, process: &Process) -> Result<(), Error> {
    let Some(score) = process.oom_score_adj() else { return Ok(()) };
    let path = format!("/proc/{pid}/oom_score_adj");
    match std::fs::write(&path, score.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other.step(|| format!("write {score} to {path}")),
    }
}
