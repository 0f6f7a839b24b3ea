//! What of the cgroup tree is in the hands of an ordinary user: on v2 the part that a service manager has handed over to
//! them (cgroup-v2.rst, "Delegation"), nothing on v1.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{Version, layout};
use crate::rootless::is_rootless;

/// Whether cgroups can be made at all: always for root of the host, for others where a part is theirs.
pub fn is_available() -> bool {
    !is_rootless() || own_part().is_some()
}

/// The uppermost cgroup that an ordinary user may make others in: `/user.slice/…/user@1000.service`. Processes may be
/// sorted anywhere below it, because its own `cgroup.procs` is the user's too. None for root, who has all.
pub fn own_part() -> Option<String> {
    if !is_rootless() {
        return None;
    }
    let layout = layout::layout().ok().filter(|layout| layout.version == Version::V2)?;
    let memberships = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = memberships.lines().find_map(|line| line.strip_prefix("0::/"))?;
    uppermost(&layout.hierarchies[0].root, own, |path| access(path, Access::WRITE_OK).is_ok())
}

/// The last of the ancestors, going up, that are all writable.
fn uppermost(root: &Path, own: &str, writable: impl Fn(&Path) -> bool) -> Option<String> {
    let theirs = |directory: &Path| {
        writable(directory)
            && ["cgroup.procs", "cgroup.subtree_control"].iter().all(|file| writable(&directory.join(file)))
    };
    let start = root.join(own);
    let found: PathBuf = start.ancestors().take_while(|path| *path != root && theirs(path)).last()?.to_owned();
    Some(format!("/{}", found.strip_prefix(root).ok()?.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppermost_part_that_is_the_user_s() {
        let root = Path::new("/c");
        let mine = |path: &Path| path.starts_with("/c/user.slice/mine");
        assert_eq!(uppermost(root, "user.slice/mine/app/shell", mine).as_deref(), Some("/user.slice/mine"));
        assert_eq!(uppermost(root, "user.slice/other", mine), None);
        assert_eq!(uppermost(root, "", |_| true), None);
    }
}
