//! Which ids beside their own a user may use: `/etc/subuid` and `/etc/subgid` (subuid(5)), and the programs that turn
//! the permission into a map.

use std::fs;
use std::path::{Path, PathBuf};

/// A range of ids: first and count.
pub(super) type Range = (u32, u32);

/// The ids of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ranges {
    /// Of users.
    pub(super) users: Vec<Range>,
    /// Of groups.
    pub(super) groups: Vec<Range>,
}

/// Programs that write maps (package `uidmap`).
const PROGRAMS: [&str; 2] = ["newuidmap", "newgidmap"];

impl Ranges {
    /// The ranges of a user, if there are some and the programs that map them.
    pub(super) fn of(user: u32) -> Option<Self> {
        PROGRAMS.iter().all(|program| find(program).is_some()).then(|| Self::granted(user))?
    }

    fn granted(user: u32) -> Option<Self> {
        let name = user_name(&fs::read_to_string("/etc/passwd").unwrap_or_default(), user);
        let read = |path: &str| parse(&fs::read_to_string(path).unwrap_or_default(), user, name.as_deref());
        let ranges = Ranges { users: read("/etc/subuid"), groups: read("/etc/subgid") };
        (!ranges.users.is_empty() && !ranges.groups.is_empty()).then_some(ranges)
    }
}

/// What a user lacks for more than one id, and how to get it; empty: nothing.
pub fn needs(user: u32) -> Vec<String> {
    let mut missing = Vec::new();
    if let Some(program) = PROGRAMS.iter().find(|program| find(program).is_none()) {
        missing.push(format!("{program} is missing: apt install uidmap (Fedora: shadow-utils)"));
    }
    if Ranges::granted(user).is_none() {
        let name = user_name(&fs::read_to_string("/etc/passwd").unwrap_or_default(), user);
        let name = name.unwrap_or_else(|| user.to_string());
        missing.push(format!(
            "no ids in /etc/subuid and /etc/subgid: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
        ));
    }
    missing
}

/// A program on the search path, or where distributions put it.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/bin", "/bin", "/usr/sbin"].map(PathBuf::from));
    places.filter(|place| place.is_absolute()).map(|place| place.join(program)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// All ranges of a user, by name or number.
fn parse(text: &str, user: u32, name: Option<&str>) -> Vec<Range> {
    let number = user.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let usable = count > 0 && first.checked_add(count).is_some();
        (usable && (owner == number || Some(owner) == name)).then_some((first, count))
    };
    text.lines().filter_map(range).collect()
}

/// The name of a user in passwd(5).
fn user_name(passwd: &str, user: u32) -> Option<String> {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(user))?;
    Some(line[0].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_by_name_and_by_number() {
        let text = "other:1:2\nme:100000:65536\n1000:300000:10\nme:x:1\nme:7:0\nme:4294967295:2\n";
        assert_eq!(parse(text, 1000, Some("me")), [(100_000, 65536), (300_000, 10)]);
        assert_eq!(parse(text, 1000, None), [(300_000, 10)]);
        assert_eq!(parse(text, 5, Some("nobody")), []);
        assert_eq!(user_name("root:x:0:0::/:/bin/sh\nme:x:1000:5::/:/bin/sh\n", 1000).as_deref(), Some("me"));
    }
}
