//! Owners seen through a container's user namespace: what the host calls 2147483648 is the container's root.

use std::fs;

use crate::{Context as _, Result};

/// The user and group ids of a container and what they are here.
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    users: Vec<Range>,
    groups: Vec<Range>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

/// Who owns what nobody in the container can own, for the kernel too.
const NOBODY: u32 = 65534;

impl Ids {
    /// The same inside and outside.
    pub(crate) fn same() -> Self {
        let all = vec![Range { inside: 0, outside: 0, count: u32::MAX }];
        Ids { users: all.clone(), groups: all }
    }

    /// Those of a process.
    pub(crate) fn of_process(pid: i32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).map(|text| ranges(&text)).step(|| format!("read {path}"))
        };
        Ok(Ids { users: read("uid_map")?, groups: read("gid_map")? })
    }

    /// Whether every id is the same inside and outside.
    pub(crate) fn is_same(&self) -> bool {
        let same = |ranges: &[Range]| matches!(ranges, [Range { inside: 0, outside: 0, count: u32::MAX }]);
        same(&self.users) && same(&self.groups)
    }

    /// What the container calls the owners of a file.
    pub(crate) fn inside(&self, user: u32, group: u32) -> (u32, u32) {
        let find = |ranges: &[Range], id: u32| {
            let range = ranges.iter().find(|range| id.checked_sub(range.outside).is_some_and(|at| at < range.count));
            range.map_or(NOBODY, |range| range.inside + (id - range.outside))
        };
        (find(&self.users, user), find(&self.groups, group))
    }

    /// What the host calls these of the container's; ids that it does not have are its root's.
    pub(crate) fn outside(&self, user: u32, group: u32) -> (u32, u32) {
        (outside(&self.users, user), outside(&self.groups, group))
    }
}

fn outside(ranges: &[Range], id: u32) -> u32 {
    let find = |id: u32| {
        let range = ranges.iter().find(|range| id.checked_sub(range.inside).is_some_and(|at| at < range.count))?;
        Some(range.outside + (id - range.inside))
    };
    find(id).or_else(|| find(0)).unwrap_or(id)
}

/// user_namespaces(7): id inside, id outside, count.
fn ranges(text: &str) -> Vec<Range> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<u32>().ok());
        Some(Range { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let map = ranges("         0     100000       1000\n      1000       1000          1\n");
        let ids = Ids { users: map.clone(), groups: map };
        assert_eq!(ids.inside(100_005, 1000), (5, 1000));
        assert_eq!(ids.inside(0, 101_000), (NOBODY, NOBODY));
        assert_eq!(ids.outside(5, 1000), (100_005, 1000));
        assert_eq!(ids.outside(7_000_000, 0), (100_000, 100_000));
        assert!(!ids.is_same() && Ids::same().is_same());
        assert_eq!(Ids::same().outside(7, 8), (7, 8));
    }
}
