//! RPM's database in its SQLite form: a table of binary package headers (rpm's `Header` format).

use std::io::Write;

use records::rusqlite::{Connection, OpenFlags};

use super::packages::Package;
use crate::{Error, Result};

/// Tags of the header that are of interest (rpmtag.h).
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const LICENSE: u32 = 1014;
const ARCHITECTURE: u32 = 1022;

/// The packages of a database's bytes.
pub(super) fn packages(bytes: &[u8], distribution: &str) -> Result<Vec<Package>> {
    let failed = |error: &dyn std::fmt::Display| Error::new(format!("read the RPM database: {error}"));
    let mut file = tempfile::NamedTempFile::new().map_err(|error| failed(&error))?;
    file.write_all(bytes).map_err(|error| failed(&error))?;
    let connection = Connection::open_with_flags(file.path(), OpenFlags::SQLITE_OPEN_READ_ONLY);
    let connection = connection.map_err(|error| failed(&error))?;
    // What is no such database has no packages.
    let Ok(mut query) = connection.prepare("SELECT blob FROM Packages") else { return Ok(Vec::new()) };
    let Ok(rows) = query.query_map([], |row| row.get::<_, Vec<u8>>(0)) else { return Ok(Vec::new()) };
    Ok(rows.flatten().filter_map(|header| package(&header, distribution)).collect())
}

fn package(header: &[u8], distribution: &str) -> Option<Package> {
    let text = |tag: u32| string(header, tag).unwrap_or_default();
    let name = text(NAME);
    let epoch = number(header, EPOCH).map_or(String::new(), |epoch| format!("{epoch}:"));
    let version = format!("{epoch}{}-{}", text(VERSION), text(RELEASE));
    let (architecture, license, namespace) = (text(ARCHITECTURE), text(LICENSE), distribution.to_owned());
    let named = !name.is_empty() && name != "gpg-pubkey";
    named.then_some(Package { kind: "rpm", namespace, name, version, architecture, license })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// The data of a tag, to the end of the header. Entries are tag, type, offset and count, each four bytes.
fn data(header: &[u8], tag: u32) -> Option<&[u8]> {
    let count = usize::try_from(word(header, 0)?).ok().filter(|count| *count < 1 << 16)?;
    let entry = (0..count).map(|index| 8 + index * 16).find(|at| word(header, *at) == Some(tag))?;
    let offset = usize::try_from(word(header, entry + 8)?).ok()?;
    header.get((8 + count * 16).checked_add(offset)?..)
}

fn string(header: &[u8], tag: u32) -> Option<String> {
    let data = data(header, tag)?;
    let end = data.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&data[..end]).into_owned())
}

fn number(header: &[u8], tag: u32) -> Option<u32> {
    word(data(header, tag)?, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(entries: &[(u32, &[u8])]) -> Vec<u8> {
        let (mut index, mut store) = (Vec::new(), Vec::new());
        for (tag, bytes) in entries {
            for word in [*tag, 6, store.len() as u32, 1] {
                index.extend_from_slice(&word.to_be_bytes());
            }
            store.extend_from_slice(bytes);
        }
        let head = [entries.len() as u32, store.len() as u32].map(u32::to_be_bytes).concat();
        [head, index, store].concat()
    }

    #[test]
    fn headers_are_read_and_damaged_ones_are_nothing() {
        let whole = header(&[(NAME, b"bash\0"), (VERSION, b"5.2\0"), (RELEASE, b"1.fc40\0"), (EPOCH, &[0, 0, 0, 2])]);
        let found = package(&whole, "fedora").unwrap();
        assert_eq!((found.name.as_str(), found.version.as_str()), ("bash", "2:5.2-1.fc40"));
        (0..whole.len()).for_each(|length| drop(package(&whole[..length], "")));
        assert!(package(&[0xff; 64], "").is_none());
        assert!(packages(b"no database", "").unwrap().is_empty());
    }
}
