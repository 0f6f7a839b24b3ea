//! Id mappings of an ordinary user's configuration: it names the host's ids, but we write the maps from inside a user
//! namespace of our own, in which these have other numbers.

use std::fs;

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Spec};

use crate::error::Step;
use crate::{Error, Result};

/// One line of `/proc/self/uid_map`: ids here, ids outside, how many.
type Range = (u32, u32, u32);

/// Puts our namespace's ids into the configuration in the place of the host's.
pub(crate) fn translate(spec: &mut Spec) -> Result<()> {
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let uids = from_here(linux.uid_mappings().as_deref(), "uidMappings", "/proc/self/uid_map")?;
    let gids = from_here(linux.gid_mappings().as_deref(), "gidMappings", "/proc/self/gid_map")?;
    linux.set_uid_mappings(uids);
    linux.set_gid_mappings(gids);
    Ok(())
}

fn from_here(mappings: Option<&[LinuxIdMapping]>, field: &str, map: &str) -> Result<Option<Vec<LinuxIdMapping>>> {
    let Some(mappings) = mappings else { return Ok(None) };
    let text = fs::read_to_string(map).step(|| format!("read {map}"))?;
    let ranges = ranges(&text);
    let translated = mappings.iter().map(|mapping| {
        let here = find(&ranges, mapping.host_id(), mapping.size());
        let here = here.ok_or_else(|| {
            Error::new(format!(
                "linux.{field}: ids {} to {} are not yours: /etc/subuid and /etc/subgid say which are",
                mapping.host_id(),
                u64::from(mapping.host_id()) + u64::from(mapping.size()).saturating_sub(1)
            ))
        })?;
        let mapping =
            LinuxIdMappingBuilder::default().container_id(mapping.container_id()).host_id(here).size(mapping.size());
        mapping.build().step(|| format!("linux.{field}"))
    });
    translated.collect::<Result<_>>().map(Some)
}

fn ranges(map: &str) -> Vec<Range> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(|field| field.parse::<u32>().ok());
        Some((numbers.next()??, numbers.next()??, numbers.next()??))
    };
    map.lines().filter_map(range).collect()
}

/// What the id `outside` and the `size` - 1 after it begin with here.
fn find(ranges: &[Range], outside: u32, size: u32) -> Option<u32> {
    ranges.iter().find_map(|(here, first, count)| {
        let offset = outside.checked_sub(*first)?;
        (u64::from(offset) + u64::from(size) <= u64::from(*count)).then(|| here + offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_outside_become_ids_here() {
        let ranges = ranges("         0       1000          1\n         1     100000      65536\n");
        assert_eq!(find(&ranges, 1000, 1), Some(0));
        assert_eq!(find(&ranges, 100_000, 65_536), Some(1));
        assert_eq!(find(&ranges, 100_010, 5), Some(11));
        for (outside, size) in [(1000, 2), (0, 1), (165_535, 2), (u32::MAX, u32::MAX)] {
            assert_eq!(find(&ranges, outside, size), None, "{outside} {size}");
        }
    }
}
