//! The device policy as an eBPF program, which is how the unified hierarchy filters devices, and its exchange in one
//! step on a running container.
//!
//! The program, in pseudo code (`access` and `kind` are packed into one word of `struct bpf_cgroup_dev_ctx`):
//!
//! ```text
//! kind = ctx.access_type & 0xffff;  access = ctx.access_type >> 16
//! for each exception:
//!     if kind != exception.kind             goto next
//!     if exception.major, major differs     goto next
//!     if exception.minor, minor differs     goto next
//!     allowing exception: if access & ~exception.access != 0   goto next    // all that is asked for
//!     denying exception:  if access & exception.access == 0    goto next    // any of what is asked for
//!     return !policy.allow
//! next:
//! return policy.allow
//! ```

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use linux::bpf::{attach_device_filter, detach_device_filter, device_filters, load_device_filter};

use super::devices::{ALL, Device, Kind, Policy};

/// Puts the policy in force for this cgroup. An earlier filter gives way in one step, so that there is no moment
/// without any.
pub(super) fn apply(directory: &Path, policy: &Policy) -> io::Result<()> {
    let explain = |step: &str, error: io::Error| {
        let text = format!(
            "{step} the device filter of {}: {error}; hint: this needs root and CONFIG_CGROUP_BPF",
            directory.display()
        );
        io::Error::new(error.kind(), text)
    };
    let cgroup = File::open(directory).map_err(|error| explain("open the cgroup for", error))?;
    let old = device_filters(cgroup.as_fd()).map_err(|error| explain("list", error))?;
    if old.is_empty() && policy.allow && policy.exceptions.is_empty() {
        return Ok(());
    }
    let filter = load_device_filter(&encode(policy)).map_err(|error| explain("load", error))?;
    // All attached filters must allow an access, so several old ones stay in force until the new one is.
    let replaced = if let [only] = &old[..] { Some(only.as_fd()) } else { None };
    attach_device_filter(cgroup.as_fd(), filter.as_fd(), replaced).map_err(|error| explain("attach", error))?;
    if replaced.is_some() {
        return Ok(());
    }
    old.iter()
        .try_for_each(|old| detach_device_filter(cgroup.as_fd(), old.as_fd()))
        .map_err(|error| explain("detach", error))
}

/// Registers: the context comes in 1; the rest is our choice.
const RESULT: u64 = 0;
const CONTEXT: u64 = 1;
const KIND: u64 = 2;
const ACCESS: u64 = 3;
const MAJOR: u64 = 4;
const MINOR: u64 = 5;
const SCRATCH: u64 = 6;

/// Operations of the eBPF instruction set (RFC 9669): class, source and code in one byte.
const LOAD_WORD: u64 = 0x61;
const AND_NUMBER: u64 = 0x54;
const SHIFT_RIGHT: u64 = 0x74;
const MOVE_NUMBER: u64 = 0xb4;
const MOVE_REGISTER: u64 = 0xbc;
const JUMP_EQUAL: u64 = 0x16;
const JUMP_UNEQUAL: u64 = 0x56;
const EXIT: u64 = 0x95;

/// Values of `BPF_DEVCG_DEV_*`.
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;

fn instruction(operation: u64, target: u64, source: u64, offset: u16, number: u32) -> u64 {
    operation | target << 8 | source << 12 | u64::from(offset) << 16 | u64::from(number) << 32
}

fn encode(policy: &Policy) -> Vec<u64> {
    let mut program = vec![
        instruction(LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(AND_NUMBER, KIND, 0, 0, 0xffff),
        instruction(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for (device, access) in &policy.exceptions {
        program.extend(encode_exception(device, *access, !policy.allow));
    }
    program.extend(answer(policy.allow));
    program
}

fn encode_exception(device: &Device, access: u8, allow: bool) -> Vec<u64> {
    let kind = if device.kind == Kind::Block { BLOCK } else { CHARACTER };
    let mut body = vec![(JUMP_UNEQUAL, KIND, kind)];
    body.extend(device.major.map(|major| (JUMP_UNEQUAL, MAJOR, major)));
    body.extend(device.minor.map(|minor| (JUMP_UNEQUAL, MINOR, minor)));
    let checks_access = !(allow && access == ALL);
    // What is left of the request after masking decides: nothing may be left over, or nothing was hit.
    let (mask, jump) = if allow { (ALL & !access, JUMP_UNEQUAL) } else { (access, JUMP_EQUAL) };
    let length = body.len() + if checks_access { 3 } else { 0 } + 2;
    let mut program = Vec::with_capacity(length);
    for (operation, register, number) in body {
        let to_next = (length - program.len() - 1) as u16;
        program.push(instruction(operation, register, 0, to_next, number));
    }
    if checks_access {
        program.push(instruction(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
        program.push(instruction(AND_NUMBER, SCRATCH, 0, 0, u32::from(mask)));
        let to_next = (length - program.len() - 1) as u16;
        program.push(instruction(jump, SCRATCH, 0, to_next, 0));
    }
    program.extend(answer(allow));
    program
}

fn answer(allow: bool) -> [u64; 2] {
    [instruction(MOVE_NUMBER, RESULT, 0, 0, u32::from(allow)), instruction(EXIT, 0, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::devices::{MKNOD, READ, WRITE};
    use super::*;

    /// Runs a program as RFC 9669 says, on a context of access type, major and minor number.
    fn interpret(program: &[u64], context: [u32; 3]) -> u64 {
        let mut registers = [0u32; 10];
        let mut at = 0;
        loop {
            let word = program[at];
            let (target, source) = ((word >> 8 & 0xf) as usize, (word >> 12 & 0xf) as usize);
            let (offset, number) = ((word >> 16) as u16, (word >> 32) as u32);
            at += 1;
            match word & 0xff {
                LOAD_WORD => registers[target] = context[usize::from(offset) / 4],
                AND_NUMBER => registers[target] &= number,
                SHIFT_RIGHT => registers[target] >>= number,
                MOVE_NUMBER => registers[target] = number,
                MOVE_REGISTER => registers[target] = registers[source],
                JUMP_EQUAL if registers[target] == number => at += usize::from(offset),
                JUMP_UNEQUAL if registers[target] != number => at += usize::from(offset),
                JUMP_EQUAL | JUMP_UNEQUAL => {}
                EXIT => return registers[0].into(),
                other => panic!("operation {other:#x}"),
            }
        }
    }

    /// The policy as the kernel's v1 controller applies it: an allowing exception must grant all that is asked for, a
    /// denying one is hit by any of it.
    fn allows(policy: &Policy, kind: Kind, major: u32, minor: u32, access: u8) -> bool {
        let hit = policy.exceptions.iter().any(|(device, bits)| {
            device.kind == kind
                && device.major.is_none_or(|each| each == major)
                && device.minor.is_none_or(|each| each == minor)
                && if policy.allow { bits & access != 0 } else { access & !bits == 0 }
        });
        hit != policy.allow
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![Just(Kind::Block), Just(Kind::Character)]
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let number = || prop::option::of(prop_oneof![0..3u32, Just(u32::MAX)]);
        let device = (kind(), number(), number()).prop_map(|(kind, major, minor)| Device { kind, major, minor });
        let exceptions = prop::collection::btree_map(device, 1..=ALL, 0..8);
        (any::<bool>(), exceptions).prop_map(|(allow, exceptions)| Policy { allow, exceptions })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn programs_decide_what_their_policies_mean(policy in policy()) {
            let program = encode(&policy);
            for (kind, number) in [(Kind::Block, BLOCK), (Kind::Character, CHARACTER)] {
                for (major, minor) in [(0, 0), (0, 1), (1, 0), (2, 2), (u32::MAX, 1), (1, u32::MAX)] {
                    for access in [MKNOD, READ, WRITE, READ | WRITE, ALL] {
                        let decision = interpret(&program, [number | u32::from(access) << 16, major, minor]);
                        prop_assert_eq!(decision == 1, allows(&policy, kind, major, minor, access));
                    }
                }
            }
        }
    }

    #[test]
    fn the_kernels_verifier_takes_the_programs() {
        let device = |major| Device { kind: Kind::Character, major, minor: Some(1) };
        let exceptions = [(device(None), READ), (device(Some(u32::MAX)), ALL), (device(Some(1)), MKNOD | WRITE)];
        for allow in [false, true] {
            load_device_filter(&encode(&Policy { allow, exceptions: exceptions.into() })).unwrap();
        }
    }
}
