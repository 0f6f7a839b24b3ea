//! Rules to classic BPF. The kernel emulates a filter for every system call number when it is attached, so what costs
//! is the depth of a decision, not the size of the program: numbers are cut into ranges of equal treatment, and a
//! balanced tree finds the range in a handful of comparisons.

use linux::seccomp::Instruction;

use super::abi::{Abi, X32_BIT};

/// What happens to a system call: `SECCOMP_RET_…` with its data.
pub(super) type Verdict = u32;

pub(super) const KILL_PROCESS: Verdict = 0x8000_0000;
pub(super) const ALLOW: Verdict = 0x7fff_0000;
pub(super) const ERRNO: Verdict = 0x0005_0000;

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// Of the bits in the mask, exactly these are set; what else `value` has does not count.
    Masked {
        mask: u64,
        value: u64,
    },
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) argument: u8,
    pub(super) comparison: Comparison,
}

/// A verdict on one system call, if all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) number: u32,
    pub(super) conditions: Vec<Condition>,
    pub(super) verdict: Verdict,
}

/// The rules for one ABI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) abi: Abi,
    /// A rule without conditions decides for its call whatever else there is (as with libseccomp); else the first
    /// rule of a call whose conditions hold.
    pub(super) rules: Vec<Rule>,
    /// Where no rule applies.
    pub(super) default: Verdict,
    /// For calls with a number from here on, instead of the default.
    pub(super) newer: Option<(u32, Verdict)>,
}

/// The newest of some calls: numbers are given in turn, but for ARM's own few calls far above all others
/// (`__ARM_NR_BASE`).
pub(super) fn newest(numbers: impl IntoIterator<Item = u32>) -> Option<u32> {
    numbers.into_iter().filter(|number| *number < 0x000f_0000).max()
}

/// Compiles the tables of all ABIs that are let in, for a machine with this native ABI, which must be among them.
///
/// Calls by another ABI kill the process: there is no number with which to tell such a program anything. `x32` is for x32
/// calls without a table: they share everything but one bit with native ones.
pub(super) fn program(native: Abi, tables: &[Table], x32: Verdict) -> Vec<Instruction> {
    let find = |abi: Abi| tables.iter().find(|table| table.abi == abi);
    let mut code = vec![load(ARCHITECTURE)];
    for abi in native.foreign().iter().filter(|abi| abi.audit() != native.audit()) {
        if let Some(table) = find(*abi) {
            let body = with_number(search(&ranges(table)));
            code.extend(unless(JUMP_EQUAL, abi.audit(), body));
        }
    }
    let mut body = find(native).map(|table| search(&ranges(table))).unwrap_or_default();
    if native == Abi::X86_64 {
        let default = find(native).map_or(KILL_PROCESS, |table| table.default);
        let x32 = find(Abi::X32).map_or(without_x32(x32, default), |table| {
            let mut x32 = vec![Instruction { code: AND, jt: 0, jf: 0, k: !X32_BIT }];
            x32.extend(search(&ranges(table)));
            x32
        });
        // Reads: from the x32 bit on, what was put first.
        let mut both = unless(JUMP_GREATER_OR_EQUAL, X32_BIT, x32);
        both.extend(body);
        body = both;
    }
    code.extend(unless(JUMP_EQUAL, native.audit(), with_number(body)));
    code.push(answer(KILL_PROCESS));
    code
}

/// No call at all, `syscall(-1)`, is none by x32 either.
fn without_x32(x32: Verdict, default: Verdict) -> Vec<Instruction> {
    let mut code = unless(JUMP_EQUAL, u32::MAX, vec![answer(default)]);
    code.push(answer(x32));
    code
}

fn with_number(mut body: Vec<Instruction>) -> Vec<Instruction> {
    body.insert(0, load(NUMBER));
    body
}

/// Numbers from `start` to the next range's start, treated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    start: u32,
    treatment: Treatment,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Treatment {
    /// Decided by the number alone.
    Verdict(Verdict),
    /// Decided by a chain of conditions, ready as code.
    Chain(Vec<Instruction>),
}

/// Cuts all numbers into ranges, the first starting at zero; neighbours that are treated alike are one range.
fn ranges(table: &Table) -> Vec<Range> {
    let mut rules: Vec<&Rule> = table.rules.iter().collect();
    // Stable: rules of one call stay in their order.
    rules.sort_by_key(|rule| rule.number);
    let otherwise = |number: u32| match table.newer {
        Some((first, verdict)) if number >= first => verdict,
        _ => table.default,
    };
    let mut ranges = Ranges(Vec::new());
    let mut next = 0;
    for group in rules.chunk_by(|left, right| left.number == right.number) {
        let number = group[0].number;
        ranges.gap(next, number, table, otherwise);
        ranges.push(number, treatment(table.abi, group, otherwise(number)));
        next = number + 1;
    }
    ranges.gap(next, u32::MAX, table, otherwise);
    ranges.0
}

struct Ranges(Vec<Range>);

impl Ranges {
    fn push(&mut self, start: u32, treatment: Treatment) {
        if self.0.last().is_none_or(|last| last.treatment != treatment) {
            self.0.push(Range { start, treatment });
        }
    }

    /// Fills the numbers without rules from `start` to before `end`.
    fn gap(&mut self, start: u32, end: u32, table: &Table, otherwise: impl Fn(u32) -> Verdict) {
        if start >= end {
            return;
        }
        self.push(start, Treatment::Verdict(otherwise(start)));
        if let Some((first, verdict)) = table.newer.filter(|(first, _)| (start + 1..end).contains(first)) {
            self.push(first, Treatment::Verdict(verdict));
        }
    }
}

fn treatment(abi: Abi, rules: &[&Rule], otherwise: Verdict) -> Treatment {
    if let Some(rule) = rules.iter().find(|rule| rule.conditions.is_empty()) {
        return Treatment::Verdict(rule.verdict);
    }
    let mut chain: Vec<Instruction> = rules.iter().flat_map(|rule| conditional(abi, rule)).collect();
    chain.push(answer(otherwise));
    Treatment::Chain(chain)
}

/// Finds the range of the number in the accumulator by halving.
fn search(ranges: &[Range]) -> Vec<Instruction> {
    if let [only] = ranges {
        return match &only.treatment {
            Treatment::Verdict(verdict) => vec![answer(*verdict)],
            Treatment::Chain(chain) => chain.clone(),
        };
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let mut code = unless(JUMP_GREATER_OR_EQUAL, upper[0].start, search(upper));
    code.extend(search(lower));
    code
}

/// Runs `body`, which ends in answers only, if the comparison holds, and goes on behind it if not. Conditional jumps
/// reach 255 instructions; longer ones go by an unconditional one.
fn unless(jump: u16, k: u32, body: Vec<Instruction>) -> Vec<Instruction> {
    let mut code = match u8::try_from(body.len()) {
        Ok(length) => vec![Instruction { code: jump, jt: 0, jf: length, k }],
        Err(_) => vec![
            Instruction { code: jump, jt: 1, jf: 0, k },
            Instruction { code: JUMP, jt: 0, jf: 0, k: body.len() as u32 },
        ],
    };
    code.extend(body);
    code
}

/// A rule with conditions: goes on behind itself if one fails.
fn conditional(abi: Abi, rule: &Rule) -> Vec<Instruction> {
    let mut code = vec![answer(rule.verdict)];
    for condition in rule.conditions.iter().rev() {
        let mut with = check(abi, condition, code.len());
        with.extend(code);
        code = with;
    }
    code
}

/// Where a jump of a condition leads: the instruction after it, the end of the condition, or behind the whole rule.
#[derive(Clone, Copy)]
enum To {
    Next,
    Holds,
    Fails,
}

/// Compares an argument: in halves, the upper one first, or its lower half alone where it has no more. `rest`: how many
/// instructions of the rule follow, at most six conditions of six instructions and an answer, so that short jumps do.
fn check(abi: Abi, condition: &Condition, rest: usize) -> Vec<Instruction> {
    use To::{Fails, Holds, Next};
    let parts = |value: u64| ((value >> 32) as u32, value as u32);
    let halves = Halves::of(abi, condition.argument);
    let (operation, value, holds, fails) = match condition.comparison {
        Comparison::Equal(value) => return finish(equal(halves, u64::MAX, value, Next, Fails), rest),
        Comparison::Masked { mask, value } => return finish(equal(halves, mask, value, Next, Fails), rest),
        Comparison::NotEqual(value) => return finish(equal(halves, u64::MAX, value, Fails, Holds), rest),
        Comparison::GreaterOrEqual(value) => (JUMP_GREATER_OR_EQUAL, value, Holds, Fails),
        Comparison::Greater(value) => (JUMP_GREATER, value, Holds, Fails),
        Comparison::Less(value) => (JUMP_GREATER_OR_EQUAL, value, Fails, Holds),
        Comparison::LessOrEqual(value) => (JUMP_GREATER, value, Fails, Holds),
    };
    let (high, low) = parts(value);
    let mut code = Vec::with_capacity(5);
    if let Some(upper) = halves.upper {
        code.extend([
            (load(upper), Next, Next),
            (branch(JUMP_GREATER, high), holds, Next),
            (branch(JUMP_EQUAL, high), Next, fails),
        ]);
    }
    code.extend([(load(halves.lower), Next, Next), (branch(operation, low), holds, fails)]);
    finish(code, rest)
}

/// Compares under a mask; `same` and `different`: where equality of the last half and inequality of any lead.
fn equal(halves: Halves, mask: u64, value: u64, same: To, different: To) -> Vec<(Instruction, To, To)> {
    let mut code = Vec::with_capacity(6);
    for (offset, shift, last) in
        halves.upper.map(|upper| (upper, 32, false)).into_iter().chain([(halves.lower, 0, true)])
    {
        let (mask, value) = ((mask >> shift) as u32, (value >> shift) as u32);
        code.push((load(offset), To::Next, To::Next));
        if mask != u32::MAX {
            code.push((Instruction { code: AND, jt: 0, jf: 0, k: mask }, To::Next, To::Next));
        }
        code.push((branch(JUMP_EQUAL, value & mask), if last { same } else { To::Next }, different));
    }
    code
}

/// Puts distances in place of destinations. A condition that holds goes on behind its own last instruction.
fn finish(code: Vec<(Instruction, To, To)>, rest: usize) -> Vec<Instruction> {
    let length = code.len();
    let resolve = |index: usize, to: To| match to {
        To::Next => 0,
        To::Holds => (length - index - 1) as u8,
        To::Fails => (length - index - 1 + rest) as u8,
    };
    let place = |(index, (instruction, holds, fails)): (usize, (Instruction, To, To))| match instruction.code & 7 {
        CLASS_JUMP => Instruction { jt: resolve(index, holds), jf: resolve(index, fails), ..instruction },
        _ => instruction,
    };
    code.into_iter().enumerate().map(place).collect()
}

/// Operations of classic BPF (`linux/bpf_common.h`).
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;
const CLASS_JUMP: u16 = 0x05;

/// Offsets in `struct seccomp_data`, whose arguments are 64 bits each.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Where the halves of an argument are.
#[derive(Clone, Copy)]
struct Halves {
    /// `None` where arguments have 32 bits.
    upper: Option<u32>,
    lower: u32,
}

impl Halves {
    fn of(abi: Abi, argument: u8) -> Self {
        let start = ARGUMENTS + 8 * u32::from(argument);
        let (upper, lower) = if abi.is_big_endian() { (start, start + 4) } else { (start + 4, start) };
        Halves { upper: (!abi.is_narrow()).then_some(upper), lower }
    }
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

fn branch(operation: u16, k: u32) -> Instruction {
    Instruction { code: operation, jt: 0, jf: 0, k }
}

fn answer(verdict: Verdict) -> Instruction {
    Instruction { code: RETURN, jt: 0, jf: 0, k: verdict }
}
