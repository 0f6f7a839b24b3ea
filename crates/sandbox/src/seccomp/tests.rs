//! Compiled programs against an interpreter of classic BPF: whatever the profile says, the program must decide.

use linux::seccomp::Instruction;
use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;

use super::abi::{Abi, NATIVE, X32_BIT};
use super::filter::{ALLOW, Comparison, Condition, ERRNO, KILL_PROCESS, Rule, Table, Verdict, program};
use super::{Program, compile, compile_for, default_profile, default_profile_all_abis, from_docker_json};

/// What a filter is asked (`struct seccomp_data`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) architecture: u32,
    pub(super) arguments: [u64; 6],
}

impl Call {
    fn native(name: &str, arguments: &[u64]) -> Self {
        let mut call = Call { number: NATIVE.number(name).unwrap(), architecture: NATIVE.audit(), arguments: [0; 6] };
        call.arguments[..arguments.len()].copy_from_slice(arguments);
        call
    }

    fn word(&self, offset: u32) -> u32 {
        let big_endian = self.architecture == Abi::S390x.audit();
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..64 => {
                let half = if big_endian { 4 - offset % 8 } else { offset % 8 };
                (self.arguments[(offset as usize - 16) / 8] >> (8 * half)) as u32
            }
            _ => panic!("load from offset {offset}"),
        }
    }
}

/// Runs a program as the kernel's documentation (`networking/filter.rst`) says; also counts its steps.
pub(super) fn interpret(code: &[Instruction], call: &Call) -> (Verdict, usize) {
    let (mut accumulator, mut at) = (0u32, 0);
    for step in 1.. {
        let Instruction { code: operation, jt, jf, k } = code[at];
        let branch = |holds: bool| usize::from(if holds { jt } else { jf });
        at += 1;
        match operation {
            0x20 => accumulator = call.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(accumulator == k),
            0x25 => at += branch(accumulator > k),
            0x35 => at += branch(accumulator >= k),
            0x06 => return (k, step),
            other => panic!("operation {other:#x}"),
        }
    }
    unreachable!()
}

fn decide(program: &Program, call: &Call) -> Verdict {
    interpret(program.instructions(), call).0
}

/// The meaning of tables, said once more without any cleverness.
fn meaning(native: Abi, tables: &[Table], call: &Call) -> Verdict {
    let x32 = native == Abi::X86_64 && call.architecture == native.audit() && call.number >= X32_BIT;
    let abi = [native].iter().chain(native.foreign()).copied().find(|abi| abi.audit() == call.architecture);
    let abi = if x32 { Some(Abi::X32) } else { abi };
    if x32 && call.number == u32::MAX && !tables.iter().any(|table| table.abi == Abi::X32) {
        return tables.iter().find(|table| table.abi == native).unwrap().default;
    }
    let number = if x32 { call.number & !X32_BIT } else { call.number };
    let Some(table) = tables.iter().find(|table| Some(table.abi) == abi) else {
        return if x32 { MISSING } else { KILL_PROCESS };
    };
    let rules = || table.rules.iter().filter(|rule| rule.number == number);
    let holds = |rule: &&Rule| rule.conditions.iter().all(|condition| condition_holds(table.abi, condition, call));
    let decisive = rules().find(|rule| rule.conditions.is_empty()).or_else(|| rules().find(holds));
    match (decisive, table.newer) {
        (Some(rule), _) => rule.verdict,
        (None, Some((first, verdict))) if number >= first => verdict,
        _ => table.default,
    }
}

fn condition_holds(abi: Abi, condition: &Condition, call: &Call) -> bool {
    let cut = |value: u64| if abi.is_narrow() { value & 0xffff_ffff } else { value };
    let actual = cut(call.arguments[usize::from(condition.argument)]);
    match condition.comparison {
        Comparison::Equal(value) => actual == cut(value),
        Comparison::NotEqual(value) => actual != cut(value),
        Comparison::Less(value) => actual < cut(value),
        Comparison::LessOrEqual(value) => actual <= cut(value),
        Comparison::Greater(value) => actual > cut(value),
        Comparison::GreaterOrEqual(value) => actual >= cut(value),
        Comparison::Masked { mask, value } => actual & mask == cut(value) & mask,
    }
}

/// Few different values, so that equality and edges are met often, in both halves.
pub(super) fn value() -> impl Strategy<Value = u64> {
    let half = || prop_oneof![Just(0u64), Just(1), Just(2), Just(0xffff_ffff), Just(0x8000_0000), 0..5u64];
    prop_oneof![4 => (half(), half()).prop_map(|(high, low)| high << 32 | low), 1 => any::<u64>()]
}

fn condition() -> impl Strategy<Value = Condition> {
    let comparison = prop_oneof![
        value().prop_map(Comparison::Equal),
        value().prop_map(Comparison::NotEqual),
        value().prop_map(Comparison::Less),
        value().prop_map(Comparison::LessOrEqual),
        value().prop_map(Comparison::Greater),
        value().prop_map(Comparison::GreaterOrEqual),
        (value(), value()).prop_map(|(mask, value)| Comparison::Masked { mask, value }),
    ];
    (0..6u8, comparison).prop_map(|(argument, comparison)| Condition { argument, comparison })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(ALLOW), Just(ERRNO | 1), Just(ERRNO | 38), Just(KILL_PROCESS)]
}

fn rule() -> impl Strategy<Value = Rule> {
    let conditions = prop_oneof![3 => Just(vec![]), 2 => prop::collection::vec(condition(), 1..=6)];
    (0..600u32, conditions, verdict()).prop_map(|(number, conditions, verdict)| Rule { number, conditions, verdict })
}

fn table(abi: Abi) -> impl Strategy<Value = Table> {
    let newer = prop::option::of((0..700u32, verdict()));
    (prop::collection::vec(rule(), 0..120), verdict(), newer).prop_map(move |(rules, default, newer)| Table {
        abi,
        rules,
        default,
        newer,
    })
}

fn native() -> impl Strategy<Value = Abi> {
    prop::sample::select(vec![Abi::X86_64, Abi::Aarch64, Abi::Riscv64, Abi::Ppc64le, Abi::S390x])
}

fn tables(native: Abi) -> impl Strategy<Value = Vec<Table>> {
    let foreign: Vec<_> = native.foreign().iter().map(|abi| prop::option::of(table(*abi))).collect();
    (table(native), foreign)
        .prop_map(|(native, foreign)| [native].into_iter().chain(foreign.into_iter().flatten()).collect())
}

fn call(native: Abi) -> impl Strategy<Value = Call> {
    let number = prop_oneof![
        8 => 0..720u32,
        1 => (0..720u32).prop_map(|number| number | X32_BIT),
        1 => any::<u32>(),
        1 => Just(u32::MAX),
    ];
    let audits: Vec<u32> = [native].iter().chain(native.foreign()).map(|abi| abi.audit()).chain([0x1234]).collect();
    (number, prop::sample::select(audits), prop::array::uniform6(value()))
        .prop_map(|(number, architecture, arguments)| Call { number, architecture, arguments })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn programs_decide_what_their_tables_mean(
        (native, tables, calls) in native().prop_flat_map(|native| {
            (Just(native), tables(native), prop::collection::vec(call(native), 100))
        })
    ) {
        let code = program(native, &tables, MISSING);
        for call in calls {
            prop_assert_eq!(interpret(&code, &call).0, meaning(native, &tables, &call), "{:?} {:?}", native, call);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn no_text_makes_the_profile_reader_panic(text in "[ -~]{0,200}", capability in "CAP_[A-Z]{0,5}") {
        let _ = from_docker_json(&text, &[&capability]);
    }

    #[test]
    fn no_json_makes_the_profile_reader_or_the_compiler_panic(
        action in prop::sample::select(vec!["SCMP_ACT_ERRNO", "SCMP_ACT_TRAP", "SCMP_ACT_NOTIFY", "SCMP_ACT_LOG"]),
        operator in prop::sample::select(vec!["SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_LT"]),
        index in 0..8u32, value in any::<u64>(), errno in any::<u32>(), name in "[a-z_0-9]{0,12}",
    ) {
        let json = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["{name}", "read"],
            "action": "{action}", "errnoRet": {errno}, "args": [{{"index": {index}, "value": {value}, "op": "{operator}"}}]}}]}}"#);
        if let Ok(profile) = from_docker_json(&json, &[]) {
            let _ = compile(&profile);
        }
    }
}

const PERMISSION: Verdict = ERRNO | libc::EPERM as u32;
const MISSING: Verdict = ERRNO | libc::ENOSYS as u32;

#[test]
fn the_default_profile_blocks_what_it_must() {
    let program = default_profile(&[]);
    let cases: &[(&str, &[u64], Verdict)] = &[
        ("read", &[], ALLOW),
        ("openat2", &[], ALLOW),
        ("mount", &[], PERMISSION),
        ("unshare", &[0x1000_0000], PERMISSION),
        ("setns", &[], PERMISSION),
        ("bpf", &[], PERMISSION),
        ("keyctl", &[], PERMISSION),
        ("add_key", &[], PERMISSION),
        ("userfaultfd", &[], PERMISSION),
        ("io_uring_setup", &[], PERMISSION),
        ("perf_event_open", &[], PERMISSION),
        ("fsopen", &[], PERMISSION),
        ("open_by_handle_at", &[], PERMISSION),
        ("kexec_load", &[], PERMISSION),
        ("clone3", &[], MISSING),
        ("clone", &[0x0001_0f00], ALLOW),
        ("clone", &[0x1000_0000], PERMISSION),
        ("clone", &[0x0002_0000 | 17], PERMISSION),
        // The kernel takes `clone`'s flags as a whole register, of which it uses the lower half.
        ("clone", &[0xffff_ffff_0000_0011], ALLOW),
        ("socket", &[1], ALLOW),
        ("socket", &[38], PERMISSION),
        ("socket", &[40], PERMISSION),
        ("socket", &[41], ALLOW),
        ("personality", &[0], ALLOW),
        ("personality", &[0xffff_ffff], ALLOW),
        // ADDR_NO_RANDOMIZE
        ("personality", &[0x0004_0000], PERMISSION),
    ];
    for (name, arguments, expected) in cases {
        assert_eq!(decide(&program, &Call::native(name, arguments)), *expected, "{name} {arguments:x?}");
    }
}

#[test]
fn capabilities_open_what_belongs_to_them() {
    let cases = [
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_CHROOT", "chroot"),
        ("CAP_SYS_PTRACE", "kcmp"),
        ("CAP_SYS_TIME", "clock_settime"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_BPF", "bpf"),
        ("CAP_SYSLOG", "syslog"),
    ];
    for (capability, name) in cases {
        let call = Call::native(name, &[]);
        assert_ne!(decide(&default_profile(&[]), &call), ALLOW, "{name}");
        assert_eq!(decide(&default_profile(&[capability]), &call), ALLOW, "{name} with {capability}");
    }
    let new_user_namespace = Call::native("clone", &[0x1000_0000]);
    assert_eq!(decide(&default_profile(&["CAP_SYS_ADMIN"]), &new_user_namespace), ALLOW);
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let program = default_profile(&[]);
    for number in [470, 500, 100_000, X32_BIT - 1] {
        assert_eq!(decide(&program, &Call { number, ..Call::native("read", &[]) }), MISSING, "{number}");
    }
}

#[test]
fn other_abis_are_shut_out_unless_asked_for() {
    let (native, all) = (default_profile(&[]), default_profile_all_abis(&[]));
    for abi in NATIVE.foreign().iter().filter(|abi| abi.audit() != NATIVE.audit()) {
        let call = |name| Call { number: abi.number(name).unwrap(), architecture: abi.audit(), arguments: [0; 6] };
        assert_eq!(decide(&native, &call("getpid")), KILL_PROCESS);
        assert_eq!(decide(&all, &call("getpid")), ALLOW);
        assert_eq!(decide(&all, &call("mount")), PERMISSION);
        if abi.number("socketcall").is_some() {
            assert_eq!(decide(&all, &call("socketcall")), PERMISSION);
        }
    }
    if NATIVE == Abi::X86_64 {
        let x32 = Call { number: X32_BIT | 39, ..Call::native("getpid", &[]) };
        assert_eq!((decide(&native, &x32), decide(&all, &x32)), (MISSING, ALLOW));
    }
}

#[test]
fn decisions_are_short_whatever_the_call() {
    let program = default_profile(&[]);
    let deepest = (0..600).map(|number| {
        let call = Call { number, ..Call::native("read", &[]) };
        interpret(program.instructions(), &call).1
    });
    // Architecture and number loaded, two checks, seven halvings, and the longest chain of conditions.
    assert!(deepest.max().unwrap() <= 40);
    let read = interpret(program.instructions(), &Call::native("read", &[])).1;
    assert!(read <= 12, "{read} steps for `read`");
}

#[test]
fn an_unconditional_rule_decides_whatever_the_order() {
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let program = compile(&from_docker_json(json, &[]).unwrap()).unwrap();
    assert_eq!(decide(&program, &Call::native("socket", &[38])), ALLOW);
}

#[test]
fn repeated_arguments_are_alternatives() {
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]}"#;
    let program = compile(&from_docker_json(json, &[]).unwrap()).unwrap();
    let verdicts = [0, 8, 9].map(|value| decide(&program, &Call::native("personality", &[value])));
    assert_eq!(verdicts, [ALLOW, ALLOW, PERMISSION]);
}

#[test]
fn errors_name_rule_and_reason() {
    let compile_json = |json: &str| compile(&serde_json::from_str::<LinuxSeccomp>(json).unwrap()).unwrap_err();
    let error = compile_json(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
    );
    assert!(error.contains("read") && error.contains("index 6"), "{error}");
    let cases = [
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}"#, "defaultAction"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            "listenerPath",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"}"#, "listenerMetadata"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x", "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"}]}"#,
            "write",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#, "flags"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}"#,
            "syscalls[0]: names",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1}]}"#,
            "errnoRet",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}"#, "errnoRet"),
    ];
    for (json, word) in cases {
        let error = compile_json(json);
        assert!(error.contains(word), "{json}: {error}");
    }
    let error = compile_json(r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#);
    assert!(error.contains("4096"), "{error}");
}

#[test]
fn notifying_profiles_ask_for_a_listener() {
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{"names": ["mknod"], "action": "SCMP_ACT_NOTIFY"}]}"#;
    let program = compile(&serde_json::from_str(json).unwrap()).unwrap();
    assert!(program.notifies());
    assert_eq!(decide(&program, &Call::native("mknod", &[])), 0x7fc0_0000);
    assert!(!default_profile(&[]).notifies());
}

/// A rule that says what the default says must not hide another one, as with runc.
#[test]
fn redundant_rules_are_none() {
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]}"#;
    let program = compile(&serde_json::from_str(json).unwrap()).unwrap();
    assert_eq!(decide(&program, &Call::native("personality", &[8])), PERMISSION);
    assert_eq!(decide(&program, &Call::native("personality", &[0])), ALLOW);
}

/// `socketcall` hides its call's arguments: a condition is not to be got round through it.
#[test]
fn multiplexed_calls_are_covered() {
    let compile_x86 = |rules: &str, default: &str| {
        let json = format!(
            r#"{{"defaultAction": "{default}", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [{rules}]}}"#
        );
        compile_for(Abi::X86_64, &serde_json::from_str(&json).unwrap()).unwrap()
    };
    let socketcall = |call: u64| Call {
        number: Abi::X86.number("socketcall").unwrap(),
        architecture: Abi::X86.audit(),
        arguments: [call, 0, 0, 0, 0, 0],
    };
    let condition = r#", "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_NE"}]"#;
    let rule = |action: &str, condition: &str| format!(r#"{{"names": ["socket"], "action": "{action}"{condition}}}"#);
    let allowed = compile_x86(&rule("SCMP_ACT_ALLOW", ""), "SCMP_ACT_ERRNO");
    assert_eq!([1, 2].map(|call| decide(&allowed, &socketcall(call))), [ALLOW, PERMISSION]);
    let conditional = compile_x86(&rule("SCMP_ACT_ALLOW", condition), "SCMP_ACT_ERRNO");
    assert_eq!(decide(&conditional, &socketcall(1)), PERMISSION);
    let forbidden = compile_x86(&rule("SCMP_ACT_ERRNO", condition), "SCMP_ACT_ALLOW");
    assert_eq!([1, 2].map(|call| decide(&forbidden, &socketcall(call))), [PERMISSION, ALLOW]);
}

#[test]
fn multiplexer_of_s390x_does_not_exist_for_new_calls() {
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#;
    let program = compile_for(Abi::S390x, &serde_json::from_str(json).unwrap()).unwrap();
    let call = |number| Call { number, architecture: Abi::S390x.audit(), arguments: [0; 6] };
    let verdicts = [0, 1, 3, 4].map(|number| decide(&program, &call(number)));
    assert_eq!(verdicts, [MISSING, PERMISSION, ALLOW, MISSING]);
}
