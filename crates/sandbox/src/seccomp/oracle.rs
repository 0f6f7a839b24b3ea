//! Decisions of compiled profiles against those of libseccomp for the same profile: random profiles, random calls.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use linux::seccomp::Instruction;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::abi::{Abi, X32_BIT};
use super::compile_for;
use super::filter::{KILL_PROCESS, Verdict};
use super::tests::{Call, interpret, value};

/// libseccomp in a process of its own.
struct Oracle {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/libseccomp.py");
        let mut command = Command::new("python3");
        let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    /// The program, or why there is none.
    fn ask(&mut self, profile: &Value) -> Result<Vec<Instruction>, String> {
        writeln!(self.input, "{profile}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let line = line.trim();
        assert!(!line.is_empty(), "libseccomp has died of {profile}");
        match line.strip_prefix("error ") {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(decode(line)),
        }
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn decode(hex: &str) -> Vec<Instruction> {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let code = bytes.chunks_exact(8).map(|b| Instruction {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    });
    code.collect()
}

/// Calls of all kinds, old and new, multiplexed or not. All ABIs here have all of them: with others, libseccomp 2.5 makes
/// filters that never load the call's number.
const NAMES: [&str; 14] = [
    "read",
    "write",
    "open",
    "openat",
    "socket",
    "semget",
    "clone",
    "personality",
    "mount",
    "getpid",
    "renameat2",
    "clone3",
    "epoll_pwait2",
    "shmdt",
];

/// A profile with one verdict beside the default one: which of several rules for one call decides is then no question.
/// Several ordering comparisons for one call are left out: libseccomp 2.5 merges those of 64 bits wrongly (`< 2^63 + 2^32`
/// and `< 2^32` together do not match 0x180000000).
fn profile() -> impl Strategy<Value = Value> {
    let default =
        prop::sample::select(vec!["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG"]);
    let action = prop::sample::select(vec!["SCMP_ACT_ALLOW", "SCMP_ACT_TRAP", "SCMP_ACT_TRACE", "SCMP_ACT_KILL"]);
    let architectures = prop::sample::subsequence(vec!["SCMP_ARCH_X86", "SCMP_ARCH_X32"], 0..3);
    let names = prop::sample::subsequence(NAMES.to_vec(), 1..8);
    let any = prop_oneof![1 => Just(vec![]), 2 => arguments(&["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"], 1)];
    let equal = prop::collection::vec(arguments(&["EQ", "MASKED_EQ"], 3), 1..4);
    let rules = prop::collection::vec(prop_oneof![any.prop_map(|args| vec![args]), equal], 8);
    (default, action, architectures, names, rules).prop_map(|(default, action, mut architectures, names, rules)| {
        architectures.push("SCMP_ARCH_X86_64");
        let rules = names.iter().zip(&rules).flat_map(|(name, rules)| rules.iter().map(move |args| (name, args)));
        let rules: Vec<Value> =
            rules.map(|(name, args)| json!({"names": [name], "action": action, "args": args})).collect();
        json!({"defaultAction": default, "architectures": architectures, "syscalls": rules})
    })
}

/// Up to three conditions, at most `repeats` for one argument.
fn arguments(operators: &[&str], repeats: usize) -> impl Strategy<Value = Vec<Value>> + use<> {
    let operators: Vec<String> = operators.iter().map(|name| format!("SCMP_CMP_{name}")).collect();
    let argument = (0..3u8, prop::sample::select(operators), value(), value())
        .prop_map(|(index, op, value, two)| json!({"index": index, "op": op, "value": value, "valueTwo": two}));
    prop::collection::vec(argument, 1..4).prop_map(move |mut all| {
        let mut seen = [0; 3];
        all.retain(|argument| {
            let seen = &mut seen[argument["index"].as_u64().unwrap() as usize];
            *seen += 1;
            *seen <= repeats
        });
        all
    })
}

fn runner(cases: u32) -> TestRunner {
    let config = Config { failure_persistence: None, max_shrink_iters: 300, ..Config::with_cases(cases) };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
}

/// The ABI of a call, as the profile's architectures let it in.
fn abi_of(profile: &Value, call: &Call) -> Option<Abi> {
    let listed = |name: &str| profile["architectures"].as_array().unwrap().iter().any(|each| each == name);
    match (call.architecture, call.number >= X32_BIT && call.number != u32::MAX) {
        (audit, true) if audit == Abi::X32.audit() => listed("SCMP_ARCH_X32").then_some(Abi::X32),
        (audit, false) if audit == Abi::X86_64.audit() => Some(Abi::X86_64),
        _ => listed("SCMP_ARCH_X86").then_some(Abi::X86),
    }
}

/// Whether both must agree on this call. Calls newer than the profile are runc's business, not libseccomp's.
fn is_comparable(profile: &Value, call: &Call) -> bool {
    let Some(abi) = abi_of(profile, call) else { return true };
    let rules = profile["syscalls"].as_array().unwrap();
    let names = || rules.iter().flat_map(|rule| rule["names"].as_array().unwrap()).filter_map(Value::as_str);
    let newest = names().filter_map(|name| abi.number(name)).max().unwrap_or(0);
    let no_call = call.number == u32::MAX && call.architecture == Abi::X86_64.audit();
    let x32 = profile["architectures"].to_string().contains("X32");
    call.number & !X32_BIT <= newest || no_call && !x32
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let abi = prop::sample::select(vec![Abi::X86_64, Abi::X86, Abi::X32]);
    let name = prop_oneof![6 => prop::sample::select(NAMES.to_vec()), 1 => Just("socketcall"), 1 => Just("ipc")];
    let other = prop_oneof![8 => 0..300u32, 1 => Just(u32::MAX)];
    let call = (abi, name, other, prop::array::uniform6(value()), 1..7u64);
    let call = call.prop_map(|(abi, name, other, mut arguments, first)| {
        let number = if other == u32::MAX { other } else { abi.number(name).unwrap_or(other) };
        if matches!(name, "socketcall" | "ipc") {
            arguments[0] = first;
        }
        let number = if abi == Abi::X32 { number | X32_BIT } else { number };
        Call { number, architecture: abi.audit(), arguments }
    });
    prop::collection::vec(call, 60)
}

/// libseccomp kills one thread where an ABI is not let in, this compiler the process.
fn same(ours: Verdict, theirs: Verdict, abi: Option<Abi>) -> bool {
    ours == theirs || abi.is_none() && ours == KILL_PROCESS && theirs == 0
}

fn rank(verdict: Verdict) -> i32 {
    (verdict & 0xffff_0000) as i32
}

/// A rule with conditions that allows `socket` is widened by libseccomp to all that `socketcall` can reach, and here to
/// nothing.
fn is_multiplexed(call: &Call) -> bool {
    call.architecture == Abi::X86.audit() && matches!(call.number, 102 | 117)
}

#[test]
fn decisions_are_those_of_libseccomp() {
    let oracle = RefCell::new(Oracle::start());
    let compared = Cell::new(0);
    let strategy = (profile(), calls());
    runner(120)
        .run(&strategy, |(profile, calls)| {
            let Ok(theirs) = oracle.borrow_mut().ask(&profile) else { return Ok(()) };
            let ours = compile_for(Abi::X86_64, &serde_json::from_value(profile.clone()).unwrap()).unwrap();
            for call in calls.iter().filter(|call| is_comparable(&profile, call)) {
                let (ours, theirs) = (interpret(ours.instructions(), call).0, interpret(&theirs, call).0);
                let stricter = is_multiplexed(call) && rank(ours) < rank(theirs);
                let agree = same(ours, theirs, abi_of(&profile, call)) || stricter;
                prop_assert!(agree, "{call:x?}: ours {ours:#x}, libseccomp's {theirs:#x}, of {profile}");
                compared.set(compared.get() + 1);
            }
            Ok(())
        })
        .unwrap();
    assert!(compared.get() > 2000, "only {} calls were compared", compared.get());
}
