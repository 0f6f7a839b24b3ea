//! An OCI profile made out to rules: names to numbers for each ABI, actions to verdicts, operators to comparisons.

use linux::seccomp::{LOG, NEW_LISTENER, SPEC_ALLOW, WAIT_KILLABLE_RECV};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};

use super::abi::Abi;
use super::filter::{ALLOW, Comparison, Condition, ERRNO, KILL_PROCESS, Rule, Table, Verdict, newest};

/// Largest error number that a system call may fail with (`MAX_ERRNO`); the kernel caps larger ones silently.
const MAX_ERRNO: u32 = 4095;

/// The tables for a machine with this native ABI, and the flags for loading.
pub(super) fn tables(profile: &LinuxSeccomp, native: Abi) -> Result<(Vec<Table>, u32), String> {
    let default = verdict(profile.default_action(), profile.default_errno_ret())?;
    let syscalls = profile.syscalls().as_deref().unwrap_or_default();
    let groups =
        syscalls.iter().enumerate().map(|(index, syscall)| group(index, syscall)).collect::<Result<Vec<_>, _>>()?;
    let tables = abis(profile.architectures().as_deref().unwrap_or_default(), native)
        .into_iter()
        .map(|abi| table(abi, &groups, profile.default_action(), default))
        .collect();
    Ok((tables, flags(profile, syscalls)?))
}

/// The native ABI always, others only if listed; what cannot run on this machine is left out.
fn abis(listed: &[Arch], native: Abi) -> Vec<Abi> {
    let mut abis = vec![native];
    for abi in listed.iter().filter_map(|architecture| Abi::of(*architecture, native)) {
        if !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    abis
}

/// One entry of the profile, made out but for its names.
struct Group<'a> {
    names: &'a [String],
    verdict: Verdict,
    /// Sets of conditions, each of which is enough.
    alternatives: Vec<Vec<Condition>>,
}

fn group(index: usize, syscall: &LinuxSyscall) -> Result<Group<'_>, String> {
    let names = syscall.names();
    let named = |reason: String| match names.as_slice() {
        [] => format!("syscalls[{index}]: {reason}"),
        _ => format!("syscalls[{index}] ({}): {reason}", names.join(", ")),
    };
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(named("names must not be empty".into()));
    }
    let verdict = verdict(syscall.action(), syscall.errno_ret()).map_err(named)?;
    let alternatives = alternatives(syscall).map_err(named)?;
    Ok(Group { names, verdict, alternatives })
}

fn table(abi: Abi, groups: &[Group<'_>], default_action: LinuxSeccompAction, default: Verdict) -> Table {
    let mut rules = Vec::new();
    let mut known = Vec::new();
    for group in groups {
        for name in group.names {
            // Names that this ABI does not have are in every profile that serves several architectures.
            known.extend(abi.number(name));
            // A rule that says what the default says is none, as with libseccomp: it must not hide others.
            if group.verdict != default {
                rules.extend(direct(abi, name, group));
                rules.extend(multiplexed(abi, name, group, default));
            }
        }
    }
    let newer = unknown_calls(newest(known), default_action, default);
    if let (Abi::S390x, Some((_, missing))) = (abi, newer) {
        // Numbers too large for the instruction come as this one.
        rules.push(Rule { number: 0, conditions: Vec::new(), verdict: missing });
    }
    Table { abi, rules, default, newer }
}

fn direct(abi: Abi, name: &str, group: &Group<'_>) -> Vec<Rule> {
    let Some(number) = abi.number(name) else { return Vec::new() };
    let rule = |conditions: &Vec<Condition>| Rule { number, conditions: conditions.clone(), verdict: group.verdict };
    group.alternatives.iter().map(rule).collect()
}

/// The same through `socketcall` or `ipc`, as libseccomp does it. What they pass on is out of a filter's reach: a rule
/// with conditions is widened to all such calls where it forbids, and left out where it allows.
fn multiplexed(abi: Abi, name: &str, group: &Group<'_>, default: Verdict) -> Option<Rule> {
    let conditional = group.alternatives.iter().all(|conditions| !conditions.is_empty());
    let (number, call) = abi.multiplexed(name).filter(|_| !conditional || is_stricter(group.verdict, default))?;
    let conditions = vec![Condition { argument: 0, comparison: Comparison::Equal(call.into()) }];
    Some(Rule { number, conditions, verdict: group.verdict })
}

/// The kernel's own order of verdicts (seccomp(2), "Return values").
fn is_stricter(verdict: Verdict, than: Verdict) -> bool {
    let rank = |verdict: Verdict| (verdict & 0xffff_0000) as i32;
    rank(verdict) < rank(than)
}

/// Calls that are newer than everything the profile speaks of fail with `ENOSYS`, so that programs fall back to what
/// the profile knows, unless it allows the unknown anyway (runc's rule, `libcontainer/seccomp/patchbpf`).
fn unknown_calls(newest: Option<u32>, default_action: LinuxSeccompAction, default: Verdict) -> Option<(u32, Verdict)> {
    use LinuxSeccompAction::{ScmpActAllow, ScmpActLog, ScmpActTrace};
    let newest = newest.filter(|newest| *newest > 0)?;
    let missing = ERRNO | libc::ENOSYS as u32;
    let passes = matches!(default_action, ScmpActAllow | ScmpActLog | ScmpActTrace);
    (!passes && default != missing).then_some((newest + 1, missing))
}

fn verdict(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Verdict, String> {
    use LinuxSeccompAction as Action;
    let errno = match (action, errno) {
        (Action::ScmpActErrno | Action::ScmpActTrace, Some(errno)) if errno > MAX_ERRNO => {
            return Err(format!("errnoRet {errno} is no error number"));
        }
        (Action::ScmpActErrno | Action::ScmpActTrace, errno) => errno.unwrap_or(libc::EPERM as u32),
        (_, Some(errno)) => return Err(format!("{action} takes no errnoRet ({errno})")),
        (_, None) => 0,
    };
    Ok(match action {
        Action::ScmpActKillProcess => KILL_PROCESS,
        Action::ScmpActKill | Action::ScmpActKillThread => 0,
        Action::ScmpActTrap => 0x0003_0000,
        Action::ScmpActErrno => ERRNO | errno,
        Action::ScmpActNotify => 0x7fc0_0000,
        Action::ScmpActTrace => 0x7ff0_0000 | errno,
        Action::ScmpActLog => 0x7ffc_0000,
        Action::ScmpActAllow => ALLOW,
    })
}

/// The conditions of a rule: all must hold. But several for one and the same argument are alternatives, because
/// libseccomp takes only one per argument and runc therefore makes a rule of each.
fn alternatives(syscall: &LinuxSyscall) -> Result<Vec<Vec<Condition>>, String> {
    let arguments = syscall.args().as_deref().unwrap_or_default();
    let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let repeated = (1..conditions.len())
        .any(|index| conditions[..index].iter().any(|earlier| earlier.argument == conditions[index].argument));
    match repeated {
        true => Ok(conditions.into_iter().map(|condition| vec![condition]).collect()),
        false => Ok(vec![conditions]),
    }
}

fn condition(argument: &LinuxSeccompArg) -> Result<Condition, String> {
    let index = u8::try_from(argument.index()).ok().filter(|index| *index < 6);
    let index = index.ok_or_else(|| format!("argument index {} is not between 0 and 5", argument.index()))?;
    let value = argument.value();
    let comparison = match argument.op() {
        LinuxSeccompOperator::ScmpCmpEq => Comparison::Equal(value),
        LinuxSeccompOperator::ScmpCmpNe => Comparison::NotEqual(value),
        LinuxSeccompOperator::ScmpCmpLt => Comparison::Less(value),
        LinuxSeccompOperator::ScmpCmpLe => Comparison::LessOrEqual(value),
        LinuxSeccompOperator::ScmpCmpGt => Comparison::Greater(value),
        LinuxSeccompOperator::ScmpCmpGe => Comparison::GreaterOrEqual(value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            Comparison::Masked { mask: value, value: argument.value_two().unwrap_or(0) }
        }
    };
    Ok(Condition { argument: index, comparison })
}

fn flags(profile: &LinuxSeccomp, syscalls: &[LinuxSyscall]) -> Result<u32, String> {
    let flags = match profile.flags() {
        // As runc: without it, older kernels slow every filtered process down (runc #2430).
        None => SPEC_ALLOW,
        Some(given) => given.iter().fold(0, |flags, flag| {
            flags
                | match flag {
                    LinuxSeccompFilterFlag::SeccompFilterFlagLog => LOG,
                    LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
                    LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => WAIT_KILLABLE_RECV,
                    // The only thread loads it.
                    LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
                }
        }),
    };
    let notify = LinuxSeccompAction::ScmpActNotify;
    if profile.default_action() == notify {
        // Nobody could tell the listener's descriptor any more.
        return Err(format!("defaultAction: {notify} cannot be used as default action"));
    }
    let mut notified = syscalls.iter().filter(|syscall| syscall.action() == notify).peekable();
    let notifies = notified.peek().is_some();
    if notified.any(|syscall| syscall.names().iter().any(|name| name == "write")) {
        return Err(format!("{notify} cannot be used for the write syscall"));
    }
    let path = profile.listener_path().as_ref().filter(|path| !path.as_os_str().is_empty());
    if notifies && path.is_none() {
        return Err(format!("listenerPath: must be set when {notify} is used"));
    }
    if path.is_none() && profile.listener_metadata().as_ref().is_some_and(|metadata| !metadata.is_empty()) {
        return Err("listenerMetadata: must not be set without listenerPath".into());
    }
    if flags & WAIT_KILLABLE_RECV != 0 && !notifies {
        return Err(format!("flags: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs rules with {notify}"));
    }
    Ok(if notifies { flags | NEW_LISTENER } else { flags })
}
