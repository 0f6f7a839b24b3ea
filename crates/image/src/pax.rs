//! PAX extended headers of tar archives: `LENGTH KEY=VALUE\n` records. Values may be binary (extended attributes), so
//! only the length says where a record ends.

use crate::error::{Error, Result};
use crate::sparse;

/// What the records say that we heed.
#[derive(Default, Debug)]
pub(crate) struct Records {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<(i64, u32)>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: sparse::Records,
}

impl Records {
    fn forget(&mut self, key: &[u8]) {
        match key {
            b"path" => self.path = None,
            b"linkpath" => self.link = None,
            b"size" => self.size = None,
            b"uid" => self.uid = None,
            b"gid" => self.gid = None,
            _ => self.mtime = None,
        }
    }
}

const XATTR: &[u8] = b"SCHILY.xattr.";

/// Parses one extended header.
pub(crate) fn parse(mut bytes: &[u8]) -> Result<Records> {
    let mut records = Records::default();
    while !bytes.is_empty() {
        let (key, value, rest) = split(bytes).ok_or_else(|| Error::untrusted("archive has a malformed PAX header"))?;
        bytes = rest;
        match key {
            // Nothing as a value takes the record away: the header's own field holds (pax(1), and Go's archive/tar).
            b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"mtime" if value.is_empty() => records.forget(key),
            b"path" => records.path = Some(value.to_vec()),
            b"linkpath" => records.link = Some(value.to_vec()),
            b"size" => records.size = Some(number(key, value)?),
            b"uid" => records.uid = Some(number(key, value)?),
            b"gid" => records.gid = Some(number(key, value)?),
            b"mtime" => records.mtime = time(value),
            _ if key.starts_with(sparse::PREFIX) => records.sparse.add(&key[sparse::PREFIX.len()..], value)?,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    records.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
    }
    Ok(records)
}

/// Key, value and the rest after the first record.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(21).position(|&byte| byte == b' ')?;
    let length: usize = decimal(&bytes[..space])?.try_into().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    (equals > 0).then_some((&record[..equals], &record[equals + 1..], &bytes[length..]))
}

pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn number(key: &[u8], value: &[u8]) -> Result<u64> {
    decimal(value).ok_or_else(|| {
        let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
        Error::untrusted(format!("archive has a PAX header with {key}={value:?}"))
    })
}

/// `[-]SECONDS[.FRACTION]`; nonsense counts as absent.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = decimal(digits.as_bytes())?.try_into().ok()?;
    match (text.starts_with('-'), nanos) {
        (true, 1..) => Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos)),
        _ => Some((seconds, nanos)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_with_binary_values() {
        let records = parse(b"12 path=a/b\n23 SCHILY.xattr.u.x=\n\0\n20 mtime=-1.5000000\n").unwrap();
        assert_eq!(records.path.unwrap(), b"a/b");
        assert_eq!(records.xattrs, [(b"u.x".to_vec(), b"\n\0".to_vec())]);
        assert_eq!(records.mtime, Some((-2, 500_000_000)));
    }

    #[test]
    fn the_last_record_counts_and_an_empty_one_takes_away() {
        let records = parse(b"9 path=a\n9 path=b\n8 uid=7\n7 uid=\n8 size=\n").unwrap();
        assert_eq!((records.path.as_deref(), records.uid, records.size), (Some(&b"b"[..]), None, None));
    }

    #[test]
    fn malformed_records() {
        for bad in [&b"5"[..], b"5 a=", b"99 a=b\n", b"0 a=b\n", b"7 a=b\n", b"-6 a=b\n", b"7 =abc\n", b"13 size=-12\n"]
        {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
