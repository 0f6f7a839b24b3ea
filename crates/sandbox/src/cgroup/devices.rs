//! Which devices may be used: OCI's list of rules worked out to a policy, and the policy written to a v1 hierarchy by
//! its differences, so that a running container is never denied everything for a moment.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::files::read;
use super::v1::unsupported;

/// Kind of device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Block,
    Character,
}

/// Which devices an exception is for; `None`: any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Device {
    pub(super) kind: Kind,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
}

/// Bits as the kernel has them in `bpf_cgroup_dev_ctx`.
pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
pub(super) const ALL: u8 = MKNOD | READ | WRITE;

/// What is allowed: everything or nothing, but for the exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) allow: bool,
    pub(super) exceptions: BTreeMap<Device, u8>,
}

impl Policy {
    /// Works the rules out, later ones over earlier ones, beginning with what a new cgroup has: everything allowed.
    ///
    /// The kernel's v1 controller keeps one list of exceptions and cannot except from an exception; such rules are
    /// refused on both versions, because passing them on would silently allow more than was asked for.
    pub(super) fn of(rules: &[LinuxDeviceCgroup]) -> io::Result<Self> {
        let mut policy = Policy { allow: true, exceptions: BTreeMap::new() };
        for rule in rules {
            policy.add(rule).map_err(|reason| {
                let verb = if rule.allow() { "allow" } else { "deny" };
                io::Error::new(io::ErrorKind::InvalidInput, format!("device rule `{verb} {rule}`: {reason}"))
            })?;
        }
        Ok(policy)
    }

    fn add(&mut self, rule: &LinuxDeviceCgroup) -> Result<(), String> {
        let (major, minor) = (number(rule.major())?, number(rule.minor())?);
        let kinds = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => &[Kind::Block, Kind::Character][..],
            LinuxDeviceType::B => &[Kind::Block],
            LinuxDeviceType::C | LinuxDeviceType::U => &[Kind::Character],
            LinuxDeviceType::P => return Err("a pipe is no device".to_owned()),
        };
        let given = rule.access().as_deref().unwrap_or_default();
        let access = match access(given)? {
            0 if kinds.len() == 2 => ALL,
            0 => return Err("no access given; hint: some of `rwm`".to_owned()),
            access => access,
        };
        if kinds.len() == 2 && (access, major, minor) == (ALL, None, None) {
            *self = Policy { allow: rule.allow(), exceptions: BTreeMap::new() };
            return Ok(());
        }
        kinds.iter().try_for_each(|kind| self.except(Device { kind: *kind, major, minor }, access, rule.allow()))
    }

    fn except(&mut self, device: Device, access: u8, allow: bool) -> Result<(), String> {
        if allow != self.allow {
            *self.exceptions.entry(device).or_default() |= access;
            return Ok(());
        }
        // Back to the rule: the same exception goes, or narrower ones; a wider one would have to get a hole.
        let wider = |(other, bits): (&Device, &u8)| *other != device && other.overlaps(&device) && bits & access != 0;
        if self.exceptions.iter().any(|(other, bits)| wider((other, bits)) && !device.covers(other)) {
            return Err("it would make an exception from an earlier, wider rule, which the kernel cannot do".to_owned());
        }
        for (other, bits) in &mut self.exceptions {
            if device.covers(other) {
                *bits &= !access;
            }
        }
        self.exceptions.retain(|_, bits| *bits != 0);
        Ok(())
    }

    /// The policy in force, from `devices.list`. With everything allowed the kernel does not list the exceptions.
    fn parse(list: &str) -> Result<Self, String> {
        if list.trim_start().starts_with('a') {
            return Ok(Policy { allow: true, exceptions: BTreeMap::new() });
        }
        let exceptions = list.lines().map(parse_line).collect::<Result<_, _>>()?;
        Ok(Policy { allow: false, exceptions })
    }
}

impl Device {
    fn covers(&self, other: &Device) -> bool {
        let covers = |ours: Option<u32>, theirs: Option<u32>| ours.is_none() || ours == theirs;
        self.kind == other.kind && covers(self.major, other.major) && covers(self.minor, other.minor)
    }

    fn overlaps(&self, other: &Device) -> bool {
        let overlap = |ours: Option<u32>, theirs: Option<u32>| ours.is_none() || theirs.is_none() || ours == theirs;
        self.kind == other.kind && overlap(self.major, other.major) && overlap(self.minor, other.minor)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let kind = if self.kind == Kind::Block { 'b' } else { 'c' };
        write!(f, "{kind} {}:{}", number(self.major), number(self.minor))
    }
}

fn number(number: Option<i64>) -> Result<Option<u32>, String> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| format!("invalid device number {number}")),
    }
}

fn access(text: &str) -> Result<u8, String> {
    text.chars().try_fold(0, |bits, letter| match letter {
        'r' => Ok(bits | READ),
        'w' => Ok(bits | WRITE),
        'm' => Ok(bits | MKNOD),
        _ => Err(format!("invalid access {text:?}; hint: some of `rwm`")),
    })
}

/// The bits as letters.
pub(super) fn letters(access: u8) -> String {
    let all = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    all.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect()
}

/// A line as `c 1:3 rwm`.
fn parse_line(line: &str) -> Result<(Device, u8), String> {
    let malformed = || format!("unexpected line {line:?} in devices.list");
    let fields: Vec<&str> = line.split([' ', ':']).collect();
    let [kind, major, minor, bits] = fields[..] else { return Err(malformed()) };
    let number = |field: &str| match field {
        "*" => Ok(None),
        _ => field.parse().map(Some).map_err(|_| malformed()),
    };
    let kind = if kind == "b" { Kind::Block } else { Kind::Character };
    Ok((Device { kind, major: number(major)?, minor: number(minor)? }, access(bits)?))
}

/// Puts the policy of these rules in force in a v1 hierarchy; without one, only "everything" can be had.
pub(super) fn apply_v1(directory: Option<&Path>, rules: &[LinuxDeviceCgroup]) -> io::Result<()> {
    let wanted = Policy::of(rules)?;
    let Some(directory) = directory else {
        return match wanted.allow && wanted.exceptions.is_empty() {
            true => Ok(()),
            false => Err(unsupported("this host has no `devices` cgroup controller to restrict devices with")),
        };
    };
    let list = read(&directory.join("devices.list"))?;
    let current = Policy::parse(&list).map_err(|text| io::Error::new(io::ErrorKind::InvalidData, text))?;
    let mut writer = Writer { directory, allow: None, deny: None };
    transition(&current, &wanted).into_iter().try_for_each(|(allow, line)| writer.write(allow, &line))
}

/// The lines that lead from one policy to the other; `true`: for `devices.allow`, `false`: for `devices.deny`.
fn transition(current: &Policy, wanted: &Policy) -> Vec<(bool, String)> {
    let mut lines = Vec::new();
    let nothing = BTreeMap::new();
    // In allowing mode the kernel hides its exceptions, so they can only be dropped all together.
    let reset = current.allow != wanted.allow || wanted.allow;
    let before = if reset { &nothing } else { &current.exceptions };
    if reset && (current.allow, wanted.allow) != (false, false) {
        lines.push((wanted.allow, "a".to_owned()));
    }
    // What is added comes first: nothing that is allowed before and after is denied in between.
    for (device, bits) in &wanted.exceptions {
        let new = bits & !before.get(device).unwrap_or(&0);
        if new != 0 {
            lines.push((!wanted.allow, format!("{device} {}", letters(new))));
        }
    }
    for (device, bits) in before {
        let old = bits & !wanted.exceptions.get(device).unwrap_or(&0);
        if old != 0 {
            lines.push((wanted.allow, format!("{device} {}", letters(old))));
        }
    }
    lines
}

/// Writes lines through descriptors that are opened at most once each.
struct Writer<'a> {
    directory: &'a Path,
    allow: Option<File>,
    deny: Option<File>,
}

impl Writer<'_> {
    fn write(&mut self, allow: bool, line: &str) -> io::Result<()> {
        let (slot, name) = if allow { (&mut self.allow, "devices.allow") } else { (&mut self.deny, "devices.deny") };
        let path = self.directory.join(name);
        let explain = |error: io::Error| {
            let reason = match error.raw_os_error() {
                Some(libc::EPERM) => "; the parent cgroup does not allow this device",
                _ => "",
            };
            io::Error::new(error.kind(), format!("write {line:?} to {}: {error}{reason}", path.display()))
        };
        if slot.is_none() {
            *slot = Some(OpenOptions::new().write(true).open(&path).map_err(explain)?);
        }
        slot.as_mut().map_or(Ok(()), |file| file.write_all(line.as_bytes())).map_err(explain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule(allow: bool, text: &str) -> LinuxDeviceCgroup {
        let mut rule = LinuxDeviceCgroup::default();
        let fields: Vec<&str> = text.split([' ', ':']).collect();
        rule.set_allow(allow);
        rule.set_typ(match fields[0] {
            "a" => None,
            "b" => Some(LinuxDeviceType::B),
            _ => Some(LinuxDeviceType::C),
        });
        rule.set_major(fields.get(1).and_then(|field| field.parse().ok()));
        rule.set_minor(fields.get(2).and_then(|field| field.parse().ok()));
        rule.set_access(Some(fields.last().filter(|_| fields.len() > 1).unwrap_or(&"rwm").to_string()));
        rule
    }

    fn policy(rules: &[(bool, &str)]) -> io::Result<Policy> {
        Policy::of(&rules.iter().map(|(allow, text)| rule(*allow, text)).collect::<Vec<_>>())
    }

    #[test]
    fn rules_work_out_to_a_policy() {
        let policy = policy(&[(false, "a"), (true, "c 1:3 r"), (true, "c 1:3 w"), (true, "b *:* m")]).unwrap();
        let lines: Vec<String> = policy.exceptions.iter().map(|(d, bits)| format!("{d} {}", letters(*bits))).collect();
        assert_eq!((policy.allow, lines), (false, vec!["b *:* m".to_owned(), "c 1:3 rw".to_owned()]));
    }

    #[test]
    fn exceptions_from_exceptions_are_refused() {
        let error = policy(&[(false, "a"), (true, "c 1:* rwm"), (false, "c 1:3 w")]).unwrap_err().to_string();
        assert!(error.contains("deny c 1:3 w"), "{error}");
        // Taking back the whole of a narrower one is fine.
        let taken_back = policy(&[(false, "a"), (true, "c 1:3 rw"), (false, "c 1:* w")]).unwrap();
        assert_eq!(taken_back.exceptions.values().copied().collect::<Vec<_>>(), [READ]);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["c 1:3 rx", "c 1:-7 r", "c 1:99999999999 r"] {
            assert!(policy(&[(true, text)]).is_err(), "{text}");
        }
    }

    #[test]
    fn transitions_add_before_they_take_away() {
        let before = policy(&[(false, "a"), (true, "c 1:3 rwm"), (true, "c 1:5 rwm")]).unwrap();
        let after = policy(&[(false, "a"), (true, "c 1:3 rw"), (true, "c 1:8 r")]).unwrap();
        let lines = transition(&before, &after);
        let expected = [(true, "c 1:8 r"), (false, "c 1:3 m"), (false, "c 1:5 rwm")];
        assert_eq!(lines, expected.map(|(allow, line)| (allow, line.to_owned())));
        assert_eq!(transition(&after, &after), []);
    }

    fn denying_policy() -> impl Strategy<Value = Policy> {
        let number = || prop::option::of(0..3u32);
        let kind = prop_oneof![Just(Kind::Block), Just(Kind::Character)];
        let device = (kind, number(), number()).prop_map(|(kind, major, minor)| Device { kind, major, minor });
        let exceptions = prop::collection::btree_map(device, 1..=ALL, 0..6);
        exceptions.prop_map(|exceptions| Policy { allow: false, exceptions })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        /// Plays the kernel's part: its list only knows whole entries and their bits.
        #[test]
        fn transitions_end_at_the_wanted_policy_and_keep_what_both_have(before in denying_policy(), wanted in denying_policy()) {
            let mut list = before.exceptions.clone();
            for (allow, line) in transition(&before, &wanted) {
                let (device, bits) = parse_line(&line).unwrap();
                let entry = list.entry(device).or_default();
                *entry = if allow { *entry | bits } else { *entry & !bits };
                for (device, bits) in &before.exceptions {
                    let kept = bits & wanted.exceptions.get(device).unwrap_or(&0);
                    prop_assert_eq!(kept & !list.get(device).unwrap_or(&0), 0, "denied for a moment: {}", device);
                }
            }
            list.retain(|_, bits| *bits != 0);
            prop_assert_eq!(list, wanted.exceptions);
        }

        #[test]
        fn the_kernels_list_is_read_back(policy in denying_policy()) {
            let line = |(device, bits): (&Device, &u8)| format!("{device} {}\n", letters(*bits));
            prop_assert_eq!(Policy::parse(&policy.exceptions.iter().map(line).collect::<String>()).unwrap(), policy);
        }
    }
}
