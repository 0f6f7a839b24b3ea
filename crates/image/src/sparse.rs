//! Sparse files in PAX archives, as GNU tar writes them (its manual, *Storing Sparse Files*): formats 0.0 and 0.1 keep
//! the map in the extended header, 1.0 keeps it before the content. Knows numbers only; the archive is read by `tarread`.

use crate::error::{Error, Result};
use crate::limits;
use crate::pax::decimal;

/// What the keys of this module begin with.
pub(crate) const PREFIX: &[u8] = b"GNU.sparse.";

/// Where the stored pieces of a sparse file belong.
#[derive(Debug)]
pub(crate) struct Map {
    /// Bytes of the file, holes included.
    pub(crate) size: u64,
    /// Offset and length of each piece, in order.
    pub(crate) pieces: Vec<(u64, u64)>,
}

impl Map {
    /// Pieces in order, inside the file, and together as long as what is stored (their sum, in `stored` bytes).
    pub(crate) fn check(&self, stored: u64) -> Result<()> {
        let mut end = 0;
        let mut sum = 0;
        for &(offset, length) in &self.pieces {
            let next = offset.checked_add(length).ok_or_else(bad)?;
            if offset < end || next > self.size {
                return Err(bad());
            }
            (end, sum) = (next, sum + length);
        }
        if sum != stored || self.size > limits::FILE { Err(bad()) } else { Ok(()) }
    }
}

/// What extended headers say of a sparse file.
#[derive(Default, Debug)]
pub(crate) struct Records {
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
    major: Option<u64>,
    minor: Option<u64>,
    /// Offsets and lengths in turn.
    numbers: Vec<u64>,
    has_map: bool,
}

impl Records {
    /// Takes one record; `key` without [`PREFIX`].
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let number = || decimal(value).ok_or_else(bad);
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.real_size = Some(number()?),
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"numblocks" => {
                self.has_map = true;
                check_count(usize::try_from(number()?).unwrap_or(usize::MAX))?;
            }
            b"offset" if self.numbers.len().is_multiple_of(2) => self.numbers.push(number()?),
            b"numbytes" if !self.numbers.len().is_multiple_of(2) => self.numbers.push(number()?),
            b"map" => {
                self.has_map = true;
                let numbers = value.split(|&byte| byte == b',').filter(|number| !number.is_empty());
                self.numbers = numbers.map(|number| decimal(number).ok_or_else(bad)).collect::<Result<_>>()?;
            }
            _ => return Err(bad()),
        }
        check_count(self.numbers.len() / 2)
    }

    /// Whether this is format 1.0.
    pub(crate) fn has_map_in_content(&self) -> bool {
        self.major == Some(1)
    }

    /// The map of formats 0.0 and 0.1; `None` if the file is not sparse.
    pub(crate) fn map(&self) -> Result<Option<Map>> {
        if self.major.is_some_and(|major| major > 1) {
            return Err(Error::untrusted("archive has a sparse file in an unknown format"));
        }
        match (self.has_map, self.real_size) {
            (false, _) => Ok(None),
            (true, Some(size)) => Ok(Some(Map { size, pieces: pairs(&self.numbers) })),
            (true, None) => Err(bad()),
        }
    }
}

/// The decimal lines of format 1.0: how many pieces, then offset and length of each.
#[derive(Default)]
pub(crate) struct Lines {
    numbers: Vec<u64>,
    rest: Vec<u8>,
}

impl Lines {
    /// Whether all lines that the first one announces have come.
    pub(crate) fn complete(&self) -> Result<bool> {
        let Some(&count) = self.numbers.first() else { return Ok(false) };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        check_count(count)?;
        Ok(self.numbers.len() > 2 * count)
    }

    /// Takes one block.
    pub(crate) fn add(&mut self, block: &[u8]) -> Result<()> {
        for &byte in block {
            if byte == b'\n' {
                self.numbers.push(decimal(&self.rest).ok_or_else(bad)?);
                self.rest.clear();
                if self.complete()? {
                    break; // The rest of the block is padding.
                }
            } else {
                self.rest.push(byte);
            }
            if self.rest.len() > 20 {
                return Err(bad());
            }
        }
        Ok(())
    }

    /// Offset and length of each piece.
    pub(crate) fn pieces(&self) -> Vec<(u64, u64)> {
        pairs(self.numbers.get(1..).unwrap_or_default())
    }
}

fn pairs(numbers: &[u64]) -> Vec<(u64, u64)> {
    numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
}

/// Bounds the pieces of one file (CVE-2025-58183).
pub(crate) fn check_count(pieces: usize) -> Result<()> {
    if pieces > limits::SPARSE {
        return Err(Error::untrusted(format!("archive has a sparse file of more than {} pieces", limits::SPARSE)));
    }
    Ok(())
}

pub(crate) fn bad() -> Error {
    Error::untrusted("archive has a sparse file with an impossible map")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(records: &[(&str, &str)]) -> Result<Records> {
        let mut all = Records::default();
        records.iter().try_for_each(|(key, value)| all.add(key.as_bytes(), value.as_bytes()))?;
        Ok(all)
    }

    #[test]
    fn maps_of_three_formats() {
        let old = records(&[
            ("size", "100"),
            ("numblocks", "2"),
            ("offset", "1"),
            ("numbytes", "2"),
            ("offset", "7"),
            ("numbytes", "9"),
        ]);
        let newer = records(&[("realsize", "100"), ("map", "1,2,7,9")]);
        for map in [old.unwrap().map().unwrap().unwrap(), newer.unwrap().map().unwrap().unwrap()] {
            assert_eq!((map.size, map.pieces), (100, vec![(1, 2), (7, 9)]));
        }
        let mut lines = Lines::default();
        lines.add(b"2\n1\n").unwrap();
        assert!(!lines.complete().unwrap());
        lines.add(b"2\n7\n9\n\0\0\0").unwrap();
        assert!(lines.complete().unwrap());
        assert_eq!(lines.pieces(), [(1, 2), (7, 9)]);
    }

    #[test]
    fn impossible_maps() {
        for (size, pieces, stored) in [
            (10, vec![(5, 6)], 6),
            (10, vec![(5, 2), (4, 1)], 3),
            (10, vec![(0, 3)], 4),
            (10, vec![(u64::MAX, 2)], 2),
            (u64::MAX, vec![], 0),
        ] {
            assert!(Map { size, pieces }.check(stored).is_err());
        }
        assert!(records(&[("numblocks", "99999999999")]).is_err());
        assert!(records(&[("offset", "1"), ("offset", "2")]).is_err());
        assert!(records(&[("map", "1,x")]).is_err());
        assert!(Lines::default().add(&[b'1'; 30]).is_err());
        assert!(Lines::default().add(b"x\n").is_err());
    }
}
