//! All files of a container as one archive (`export`): its writable directory over its image, merged here as overlay does
//! it, so that nothing is mounted and the ids are those on disk, which are the container's own.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use crate::error::Result;
use crate::pack::Packer;
use crate::tarread::Kind;
use crate::unpack::is_whiteout;
use crate::upper::{check_depth, is_directory, is_opaque, joined, names, status, subdirectory};

/// Writes `upper` over `lower` as an archive.
pub fn export(upper: &OwnedFd, lower: &OwnedFd, output: impl Write) -> Result<()> {
    let mut packer = Packer::new(output, &|uid, gid| (uid, gid));
    let here = OsStr::new(".");
    merge(&mut packer, subdirectory(upper, here)?.as_ref(), subdirectory(lower, here)?.as_ref(), b"", 0)?;
    packer.finish().map(drop)
}

fn merge<W: Write>(
    packer: &mut Packer<'_, W>,
    upper: Option<&OwnedFd>,
    lower: Option<&OwnedFd>,
    path: &[u8],
    depth: usize,
) -> Result<()> {
    check_depth(depth, path)?;
    let mut all = upper.map(names).transpose()?.unwrap_or_default();
    all.extend(lower.map(names).transpose()?.unwrap_or_default());
    all.sort_unstable();
    all.dedup();
    for name in all {
        let (name, path) = (OsStr::from_bytes(&name), joined(path, &name));
        let above = upper.map(|upper| status(upper, name.as_bytes())).transpose()?.flatten();
        let (tree, known) = match (&above, upper, lower) {
            (Some(stat), _, _) if is_whiteout(stat) => continue,
            (Some(_), Some(upper), _) => (upper, above.as_ref()),
            (_, _, Some(lower)) => (lower, None),
            _ => continue,
        };
        let kind = match known {
            Some(stat) => packer.add_known(tree, name, &path, stat)?,
            None => packer.add(tree, name, &path)?,
        };
        if kind != Some(Kind::Directory) {
            continue;
        }
        let open = |tree: Option<&OwnedFd>| tree.map(|tree| subdirectory(tree, name)).transpose().map(Option::flatten);
        let inside = if above.as_ref().is_some_and(is_directory) { open(upper)? } else { None };
        let hides = inside.as_ref().map(|directory| is_opaque(directory, &path)).transpose()?.unwrap_or(false);
        let below = if hides { None } else { open(lower)? };
        merge(packer, inside.as_ref(), below.as_ref(), &path, depth + 1)?;
    }
    Ok(())
}
