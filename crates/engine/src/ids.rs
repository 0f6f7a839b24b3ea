//! Ranges of ids for user namespaces: which host ids may be used, and which of their ranges is free.

use std::fs;

use crate::spec::userns::RANGE;
use crate::{Error, Result};

/// Where ranges begin when `/etc/subuid` names none: far above what user databases hand out, and below the ids that the
/// kernel reserves.
const BUILT_IN: (u32, u32) = (2_147_483_648, 2_000_000_000);

/// Users whose subordinate ids containers of root may use.
const OWNERS: [&str; 2] = ["kiste", "containers"];

/// The ids that containers may use: first and count. Users and groups share one range, so `/etc/subuid` and
/// `/etc/subgid` must agree where they say something.
fn pool() -> Result<(u32, u32)> {
    let read = |path: &str| OWNERS.iter().find_map(|owner| entry(&fs::read_to_string(path).unwrap_or_default(), owner));
    match (read("/etc/subuid"), read("/etc/subgid")) {
        (None, None) => Ok(BUILT_IN),
        (Some(users), Some(groups)) if users == groups => Ok(users),
        (users, groups) => Err(Error::invalid(format!(
            "the ranges of {} in /etc/subuid ({users:?}) and /etc/subgid ({groups:?}) differ",
            OWNERS.join(" or ")
        ))
        .hinted("give both files the same entry, or use --userns=host")),
    }
}

/// `owner:first:count` of a subordinate id file; entries of fewer than one range are passed over.
fn entry(text: &str, owner: &str) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let named = fields.next()? == owner;
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (named && count >= RANGE && first.checked_add(count).is_some()).then_some((first, count))
    })
}

/// The lowest free range; `used` are the first ids of all ranges in use, sorted.
pub(crate) fn free_base(used: &[u32]) -> Result<u32> {
    lowest_free(pool()?, used)
}

fn lowest_free((first, count): (u32, u32), used: &[u32]) -> Result<u32> {
    let mut base = first;
    let end = first + count;
    for taken in used.iter().copied() {
        if end - base < RANGE || u64::from(taken) >= u64::from(base) + u64::from(RANGE) {
            break;
        }
        base = base.max(taken.saturating_add(RANGE)).min(end);
    }
    if end - base >= RANGE {
        return Ok(base);
    }
    Err(Error::internal(format!("no range of {RANGE} ids is free among {first}…{}", end - 1))
        .hinted("remove containers, give `kiste` a larger range in /etc/subuid and /etc/subgid, or use --userns=host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids() {
        let text = "root:1:2\ncontainers:5:10\nkiste:100000:131072\nkiste:x:y\n";
        assert_eq!(entry(text, "kiste"), Some((100_000, 131_072)));
        assert_eq!(entry(text, "containers"), None, "too few for one range");
        assert_eq!(entry(text, "nobody"), None);
    }

    #[test]
    fn lowest_free_range_is_found_between_used_ones() {
        let pool = (100_000, 3 * RANGE);
        assert_eq!(lowest_free(pool, &[]).unwrap(), 100_000);
        assert_eq!(lowest_free(pool, &[100_000]).unwrap(), 100_000 + RANGE);
        assert_eq!(lowest_free(pool, &[100_000 + RANGE]).unwrap(), 100_000);
        assert_eq!(lowest_free(pool, &[100_000, 100_000 + 2 * RANGE]).unwrap(), 100_000 + RANGE);
        let all = [100_000, 100_000 + RANGE, 100_000 + 2 * RANGE];
        assert!(lowest_free(pool, &all).unwrap_err().message.contains("no range of 65536 ids"));
    }

    #[test]
    fn a_range_that_another_pool_left_is_stepped_over() {
        assert_eq!(lowest_free((100_000, 3 * RANGE), &[99_000]).unwrap(), 99_000 + RANGE);
        assert_eq!(lowest_free((100_000, 3 * RANGE), &[1000]).unwrap(), 100_000);
    }
}
