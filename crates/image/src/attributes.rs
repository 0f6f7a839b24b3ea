//! Which extended attributes and link targets of an archive a layer keeps, whatever form it is stored in.

use crate::error::{Error, Result};
use crate::limits;
use crate::tarread::Entry;

/// Full names and values.
pub(crate) type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

const CAPABILITY: &[u8] = b"security.capability";
const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// Longest value and longest name (with its namespace) that the kernel takes (`XATTR_SIZE_MAX`, `XATTR_NAME_MAX`).
const VALUE: usize = 65_535;
const NAME: usize = 255;
/// Bytes of all attributes of one file: what an EROFS inode can hold.
const ALL: usize = 192 << 10;

/// The attributes of an entry that are kept, each once, checked as the kernel would when they are set.
pub(crate) fn kept(entry: &Entry) -> Result<Attributes> {
    let mut kept = Attributes::new();
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
        check(name, value)?;
        kept.retain(|(other, _)| other != name);
        kept.push((name.clone(), value.clone()));
    }
    if kept.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>() > ALL {
        return Err(Error::untrusted(format!("extended attributes of more than {} KiB", ALL >> 10)));
    }
    Ok(kept)
}

/// Attributes that an image may bring. `trusted.overlay.*` and `user.overlay.*` would redirect lookups to other files.
fn is_kept(name: &[u8]) -> bool {
    [CAPABILITY, ACL_ACCESS, ACL_DEFAULT].contains(&name)
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

fn check(name: &[u8], value: &[u8]) -> Result<()> {
    let bad = || Error::untrusted(format!("extended attribute {:?} is malformed", String::from_utf8_lossy(name)));
    let good = match name {
        CAPABILITY => is_capability(value),
        ACL_ACCESS | ACL_DEFAULT => is_acl(value),
        _ => name.len() > b"user.".len() && !name.contains(&0),
    };
    if good && name.len() <= NAME && value.len() <= VALUE { Ok(()) } else { Err(bad()) }
}

/// `struct vfs_cap_data` of revision 1, 2 or 3 (`linux/capability.h`).
fn is_capability(value: &[u8]) -> bool {
    let revision = value.get(3).copied().unwrap_or(0);
    matches!((revision, value.len()), (1, 12) | (2, 20) | (3, 24))
}

/// `struct posix_acl_xattr_header` and entries in the order that the kernel's `posix_acl_valid` wants.
fn is_acl(value: &[u8]) -> bool {
    let Some(entries) = value.strip_prefix(&[2, 0, 0, 0]) else { return false };
    let (entries, rest) = entries.as_chunks::<8>();
    let tags: Vec<u8> = entries.iter().map(|entry| entry[0]).collect();
    let sane = |entry: &[u8; 8]| entry[1] == 0 && entry[3] == 0 && entry[2] <= 7;
    // Owner, named users, group, named groups, mask, others.
    let ordered = tags.is_sorted() && tags.iter().all(|tag| matches!(tag, 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x20));
    let count = |tag: u8| tags.iter().filter(|&&other| other == tag).count();
    let named = count(0x02) + count(0x08) > 0;
    let once = count(0x01) == 1 && count(0x04) == 1 && count(0x20) == 1;
    let masked = count(0x10) == 1 || (count(0x10) == 0 && !named);
    rest.is_empty() && entries.iter().all(sane) && (entries.is_empty() || (ordered && once && masked))
}

/// Permissions and attributes as a file system has them after both were set: an access list rules the permissions, and
/// one that says no more than they do is not kept (kernel, `posix_acl_update_mode`).
pub(crate) fn settled(mode: u32, mut attributes: Attributes) -> (u16, Attributes) {
    let Some(index) = attributes.iter().position(|(name, _)| name == ACL_ACCESS) else {
        return (mode as u16, attributes);
    };
    let (entries, _) = attributes[index].1.get(4..).unwrap_or_default().as_chunks::<8>();
    let of = |tag: u8| entries.iter().find(|entry| entry[0] == tag).map(|entry| u16::from(entry[2]));
    let (owner, group, others, mask) = (of(0x01), of(0x04), of(0x20), of(0x10));
    let special = mode as u16 & 0o7000;
    let settled = match (owner, group, others) {
        (Some(owner), Some(group), Some(others)) => special | owner << 6 | mask.unwrap_or(group) << 3 | others,
        _ => mode as u16,
    };
    if mask.is_none() {
        attributes.remove(index);
    }
    (settled, attributes)
}

/// The target of a symbolic link.
pub(crate) fn link_target(entry: &Entry) -> Result<&[u8]> {
    if entry.link.is_empty() || entry.link.len() >= limits::PATH || entry.link.contains(&0) {
        return Err(Error::untrusted("symbolic link with an empty, overlong or malformed target"));
    }
    Ok(&entry.link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_control_lists() {
        let entry = |tag: u8, permissions: u8| [tag, 0, permissions, 0, 255, 255, 255, 255];
        let list = |entries: &[[u8; 8]]| [&[2, 0, 0, 0][..], entries.as_flattened()].concat();
        let basic = [entry(1, 7), entry(4, 5), entry(0x20, 5)];
        assert!(is_acl(&list(&basic)) && is_acl(&list(&[])));
        assert!(is_acl(&list(&[entry(1, 7), entry(2, 6), entry(4, 5), entry(0x10, 7), entry(0x20, 5)])));
        assert!(!is_acl(&list(&[entry(1, 7), entry(2, 6), entry(4, 5), entry(0x20, 5)])), "no mask");
        assert!(!is_acl(&list(&[entry(4, 7), entry(1, 5), entry(0x20, 5)])), "order");
        assert!(!is_acl(&list(&[entry(1, 9), entry(4, 5), entry(0x20, 5)])), "permissions");
        assert!(!is_acl(&list(&basic)[..20]) && !is_acl(b"") && !is_acl(b"\x01\0\0\0"));
    }

    #[test]
    fn capabilities() {
        let value = |revision: u8, length: usize| [&[0, 0, 0, revision][..], &vec![0; length - 4]].concat();
        assert!(is_capability(&value(2, 20)) && is_capability(&value(3, 24)));
        assert!(!is_capability(&value(2, 24)) && !is_capability(b"x") && !is_capability(b""));
    }
}
