//! Whether a mount's propagation can mean anything: only what the host itself shares passes mounts on (mount_namespaces(7)).

use std::path::{Path, PathBuf};

use crate::{Context as _, Error, Result};

/// An error, with Docker's words, if `source` is on a mount that does not propagate as `wanted` (`rslave`, …) needs.
pub(super) fn check(source: &Path, wanted: &str) -> Result<()> {
    let (needed, name) = match wanted.trim_start_matches('r') {
        "shared" => (&["shared:"][..], "shared mount"),
        "slave" => (&["shared:", "master:"][..], "shared or slave mount"),
        _ => return Ok(()),
    };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").step(|| "read /proc/self/mountinfo".to_owned())?;
    let Some((target, fields)) = mount_of(&mounts, &source.canonicalize().unwrap_or_else(|_| source.to_owned())) else {
        return Ok(());
    };
    if fields.iter().any(|field| needed.iter().any(|prefix| field.starts_with(prefix))) {
        return Ok(());
    }
    let text = format!("path {} is mounted on {} but it is not a {name}", source.display(), target.display());
    Err(Error::invalid(text).hinted(format!("on the host: mount --make-rshared {}", target.display())))
}

/// Where the mount is that a path is on, and its optional fields (proc_pid_mountinfo(5)).
fn mount_of<'a>(mounts: &'a str, path: &Path) -> Option<(PathBuf, Vec<&'a str>)> {
    let parse = |line: &'a str| {
        let mut words = line.split(' ').skip(4);
        let target = PathBuf::from(words.next()?.replace("\\040", " "));
        Some((target, words.skip(1).take_while(|word| *word != "-").collect()))
    };
    // Of several at one place the last is on top.
    let holds = mounts.lines().filter_map(parse).filter(|(target, _): &(PathBuf, Vec<&str>)| path.starts_with(target));
    holds.max_by_key(|(target, _)| target.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                          21 20 0:5 / /a rw - tmpfs tmpfs rw\n\
                          22 21 0:6 / /a/b\\040c rw master:3 propagate_from:2 - tmpfs tmpfs rw\n\
                          23 20 0:7 / /a rw unbindable - tmpfs tmpfs rw\n";

    #[test]
    fn the_deepest_and_topmost_mount_counts() {
        let of = |path: &str| mount_of(MOUNTS, Path::new(path)).unwrap();
        assert_eq!(of("/x/y"), ("/".into(), vec!["shared:1"]));
        assert_eq!(of("/ab"), ("/".into(), vec!["shared:1"]));
        assert_eq!(of("/a/b"), ("/a".into(), vec!["unbindable"]));
        assert_eq!(of("/a/b c/d"), ("/a/b c".into(), vec!["master:3", "propagate_from:2"]));
    }
}
