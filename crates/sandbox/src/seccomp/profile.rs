//! An OCI profile made out to rules: names to numbers for each ABI, actions to verdicts, operators to comparisons.

use linux::seccomp::{LOG, SPEC_ALLOW, WAIT_KILLABLE_RECV};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};

use super::abi::{Abi, NATIVE};
use super::filter::{Comparison, Condition, ERRNO, Rule, Table, Verdict, newest};

/// Largest error number that a system call may fail with (`MAX_ERRNO`); the kernel caps larger ones silently.
const MAX_ERRNO: u32 = 4095;

/// The tables and the flags for loading.
pub(super) fn tables(profile: &LinuxSeccomp) -> Result<(Vec<Table>, u32), String> {
    let default = verdict(profile.default_action(), profile.default_errno_ret())?;
    let syscalls = profile.syscalls().as_deref().unwrap_or_default();
    let tables = abis(profile.architectures().as_deref().unwrap_or_default())
        .into_iter()
        .map(|abi| table(abi, syscalls, profile.default_action(), default))
        .collect::<Result<_, _>>()?;
    Ok((tables, flags(profile, syscalls)?))
}

/// The native ABI always, others only if listed; what cannot run on this machine is left out.
fn abis(listed: &[Arch]) -> Vec<Abi> {
    let mut abis = vec![NATIVE];
    for abi in listed.iter().filter_map(|architecture| Abi::of(*architecture)) {
        if !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    abis
}

fn table(
    abi: Abi,
    syscalls: &[LinuxSyscall],
    default_action: LinuxSeccompAction,
    default: Verdict,
) -> Result<Table, String> {
    let mut rules = Vec::new();
    for syscall in syscalls {
        let verdict = verdict(syscall.action(), syscall.errno_ret()).map_err(|reason| named(syscall, &reason))?;
        let alternatives = alternatives(syscall).map_err(|reason| named(syscall, &reason))?;
        // Names that this ABI does not have are in every profile that serves several architectures.
        for number in syscall.names().iter().filter_map(|name| abi.number(name)) {
            let rule = |conditions: &Vec<Condition>| Rule { number, conditions: conditions.clone(), verdict };
            rules.extend(alternatives.iter().map(rule));
        }
    }
    let newer = unknown_calls(&rules, default_action, default);
    Ok(Table { abi, rules, default, newer })
}

fn named(syscall: &LinuxSyscall, reason: &str) -> String {
    format!("seccomp rule for {}: {reason}", syscall.names().join(", "))
}

/// Calls that are newer than everything the profile speaks of fail with `ENOSYS`, so that programs fall back to what
/// the profile knows, unless it allows the unknown anyway (runc's rule, `libcontainer/seccomp/patchbpf`).
fn unknown_calls(rules: &[Rule], default_action: LinuxSeccompAction, default: Verdict) -> Option<(u32, Verdict)> {
    use LinuxSeccompAction::{ScmpActAllow, ScmpActLog, ScmpActNotify, ScmpActTrace};
    let newest = newest(rules)?;
    let missing = ERRNO | libc::ENOSYS as u32;
    let passes = matches!(default_action, ScmpActAllow | ScmpActLog | ScmpActNotify | ScmpActTrace);
    (!passes && default != missing).then_some((newest + 1, missing))
}

fn verdict(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Verdict, String> {
    use LinuxSeccompAction::{ScmpActErrno, ScmpActTrace};
    let takes_errno = matches!(action, ScmpActErrno | ScmpActTrace);
    match errno {
        Some(errno) if !takes_errno => Err(format!("{action} takes no errnoRet ({errno})")),
        Some(errno) if errno > MAX_ERRNO => Err(format!("errnoRet {errno} is no error number")),
        _ => Ok(action.as_u32(errno)),
    }
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
    if profile.default_action() == notify || syscalls.iter().any(|syscall| syscall.action() == notify) {
        // Handing the descriptor to a `listenerPath` is not there yet, and without a listener the calls would hang.
        return Err(format!("{notify} is not supported: there is nobody to answer the calls"));
    }
    if flags & WAIT_KILLABLE_RECV != 0 {
        return Err(format!(
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs rules with {notify}, which is not supported"
        ));
    }
    Ok(flags)
}
