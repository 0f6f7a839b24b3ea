//! Writes tar archives as Docker's tools do: ustar headers, and a PAX header before an entry of which something does not
//! fit there (long or non-ASCII names, large numbers, extended attributes). Times are cut to seconds, as Docker does it.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use tar::EntryType;

use crate::tarread::{Entry, Kind};

const BLOCK: usize = 512;
/// Largest numbers that seven and eleven octal digits hold.
const SEVEN_DIGITS: u64 = 0o7_777_777;
const ELEVEN_DIGITS: u64 = 0o77_777_777_777;
/// Bytes copied at a time.
const PIECE: usize = 256 << 10;

/// What is written before an entry's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Name without a leading slash; directories get their final slash here.
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes of a file's content; 0 for everything else.
    pub size: u64,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Header {
    /// An empty regular file of root's, at the beginning of time.
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind) -> Self {
        let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
        let (link, xattrs) = (Vec::new(), Vec::new());
        Header { path: path.into(), link, kind, size: 0, mode, uid: 0, gid: 0, mtime: 0, device: (0, 0), xattrs }
    }
}

impl From<&Entry> for Header {
    fn from(entry: &Entry) -> Self {
        Header {
            path: entry.path.clone(),
            link: entry.link.clone(),
            kind: entry.kind,
            size: if entry.kind == Kind::File { entry.size } else { 0 },
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime.0,
            device: entry.device,
            xattrs: entry.xattrs.clone(),
        }
    }
}

/// A streaming writer.
pub struct TarWriter<W> {
    output: W,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    /// A new archive.
    pub fn new(output: W) -> Self {
        TarWriter { output, buffer: vec![0; PIECE] }
    }

    /// An entry without content.
    pub fn entry(&mut self, header: &Header) -> io::Result<()> {
        self.head(&Header { size: 0, ..header.clone() })
    }

    /// An entry with content that is in memory.
    pub fn bytes(&mut self, header: &Header, content: &[u8]) -> io::Result<()> {
        self.file(&Header { size: content.len() as u64, ..header.clone() }, content).map(drop)
    }

    /// A file: exactly `header.size` bytes are written. What `content` has more is left out, what it lacks is zeros (a
    /// file may change while it is read); the answer is how many bytes were lacking.
    pub fn file(&mut self, header: &Header, mut content: impl Read) -> io::Result<u64> {
        self.head(header)?;
        let mut left = header.size;
        while left > 0 {
            let wanted = PIECE.min(usize::try_from(left).unwrap_or(PIECE));
            let got = match content.read(&mut self.buffer[..wanted]) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                got => got?,
            };
            self.output.write_all(&self.buffer[..got])?;
            left -= got as u64;
        }
        io::copy(&mut io::repeat(0).take(left + padding(header.size)), &mut self.output)?;
        Ok(left)
    }

    /// A file that nobody changes, otherwise like [`TarWriter::file`]. If the output is a file too, the kernel copies it
    /// (`copy_file_range(2)`, which [`io::copy`] knows to use).
    pub(crate) fn stored(&mut self, header: &Header, content: File) -> io::Result<u64> {
        self.head(header)?;
        let mut content = BufReader::with_capacity(PIECE, content.take(header.size));
        let left = header.size - io::copy(&mut content, &mut self.output)?;
        io::copy(&mut io::repeat(0).take(left + padding(header.size)), &mut self.output)?;
        Ok(left)
    }

    /// The end mark; the stream behind the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        self.output.flush()?;
        Ok(self.output)
    }

    fn head(&mut self, header: &Header) -> io::Result<()> {
        let path = named(header);
        let records = records(header, &path);
        if !records.is_empty() {
            let name = pax_name(&path);
            let mut pax = plain(&Header::new(name.clone(), Kind::File), &name, records.len() as u64);
            pax.set_entry_type(EntryType::XHeader);
            pax.set_cksum();
            self.output.write_all(pax.as_bytes())?;
            self.output.write_all(&records)?;
            let zeros = padding(records.len() as u64) as usize;
            self.output.write_all(&[0; BLOCK][..zeros])?;
        }
        self.output.write_all(plain(header, &path, header.size).as_bytes())
    }
}

/// The name as it stands in the archive.
fn named(header: &Header) -> Vec<u8> {
    let mut path = header.path.clone();
    if header.kind == Kind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    path
}

/// The block itself; what does not fit is cut, as the PAX header has it whole.
fn plain(header: &Header, path: &[u8], size: u64) -> tar::Header {
    let mut block = tar::Header::new_ustar();
    block.set_entry_type(match header.kind {
        Kind::File => EntryType::Regular,
        Kind::HardLink => EntryType::Link,
        Kind::Symlink => EntryType::Symlink,
        Kind::Char => EntryType::Char,
        Kind::Block => EntryType::Block,
        Kind::Directory => EntryType::Directory,
        Kind::Fifo => EntryType::Fifo,
    });
    block.set_mode(header.mode & 0o7777);
    block.set_uid(fit(header.uid.into(), SEVEN_DIGITS));
    block.set_gid(fit(header.gid.into(), SEVEN_DIGITS));
    block.set_size(fit(size, ELEVEN_DIGITS));
    block.set_mtime(u64::try_from(header.mtime).map_or(0, |time| fit(time, ELEVEN_DIGITS)));
    let old = block.as_old_mut();
    let (name, link) = (path.len().min(old.name.len()), header.link.len().min(old.linkname.len()));
    old.name[..name].copy_from_slice(&path[..name]);
    old.linkname[..link].copy_from_slice(&header.link[..link]);
    let octal = |number: u32| *format!("{:07o}\0", number & 0o7_777_777).as_bytes().first_chunk().unwrap_or(&[0; 8]);
    if let Some(ustar) = block.as_ustar_mut() {
        (ustar.dev_major, ustar.dev_minor) = (octal(header.device.0), octal(header.device.1));
    }
    block.set_cksum();
    block
}

fn fit(number: u64, most: u64) -> u64 {
    if number > most { 0 } else { number }
}

/// The PAX records of an entry; none as a rule.
fn records(header: &Header, path: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    let fits = |text: &[u8]| text.len() <= 100 && text.is_ascii();
    let mut number = |key: &str, number: u64, most: u64| {
        if number > most {
            record(&mut records, key.as_bytes(), number.to_string().as_bytes());
        }
    };
    number("uid", header.uid.into(), SEVEN_DIGITS);
    number("gid", header.gid.into(), SEVEN_DIGITS);
    number("size", header.size, ELEVEN_DIGITS);
    if u64::try_from(header.mtime).map_or(true, |time| time > ELEVEN_DIGITS) {
        record(&mut records, b"mtime", header.mtime.to_string().as_bytes());
    }
    for (key, text) in [(&b"path"[..], path), (b"linkpath", &header.link)] {
        if !fits(text) {
            record(&mut records, key, text);
        }
    }
    for (name, value) in &header.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    records
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    length = rest + length.to_string().len();
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Go's name for a PAX header: `DIRECTORY/PaxHeaders.0/NAME`.
fn pax_name(path: &[u8]) -> Vec<u8> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let mut name = [&path[..at], b"PaxHeaders.0/", &path[at..]].concat();
    name.retain(u8::is_ascii);
    name.truncate(100);
    name
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tarread::TarReader;

    fn written(headers: &[(Header, Vec<u8>)]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for (header, content) in headers {
            tar.bytes(header, content).unwrap();
        }
        tar.finish().unwrap()
    }

    #[test]
    fn a_short_file_takes_two_blocks() {
        let header = Header { mode: 0o4755, uid: 7, mtime: 1_700_000_000, ..Header::new("a/b", Kind::File) };
        let tar = written(&[(header, b"abc".to_vec())]);
        assert_eq!(tar.len(), 512 + 512 + 1024);
        assert_eq!((&tar[..4], &tar[100..107], &tar[512..516]), (&b"a/b\0"[..], &b"0004755"[..], &b"abc\0"[..]));
    }

    #[test]
    fn a_file_that_shrank_is_filled_up() {
        let mut tar = TarWriter::new(Vec::new());
        let header = Header { size: 600, ..Header::new("a", Kind::File) };
        assert_eq!(tar.file(&header, &b"xy"[..]).unwrap(), 598);
        assert_eq!(tar.finish().unwrap().len(), 512 + 1024 + 1024);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            path in prop::collection::vec(1u8..=255, 1..300).prop_filter("a file", |path| !path.ends_with(b"/")),
            link in prop::collection::vec(1u8..=255, 0..300),
            content in prop::collection::vec(any::<u8>(), 0..2000),
            value in prop::collection::vec(any::<u8>(), 0..200),
            (uid, gid) in (0..u32::MAX, 0..u32::MAX), mtime in -5_000_000_000i64..50_000_000_000_000,
        ) {
            let header = Header {
                link, uid, gid, mtime, size: content.len() as u64, xattrs: vec![(b"user.x".to_vec(), value)],
                ..Header::new(path, Kind::File)
            };
            let tar = written(&[(header.clone(), content.clone()), (Header::new("dir", Kind::Directory), Vec::new())]);
            let mut tar = TarReader::new(&tar[..]);
            let entry = tar.next().unwrap().unwrap();
            prop_assert_eq!(Header::from(&entry), header);
            let mut read = Vec::new();
            (&mut tar).take(entry.size).read_to_end(&mut read).unwrap();
            prop_assert_eq!(read, content);
            prop_assert_eq!(tar.next().unwrap().unwrap().path, b"dir/");
            prop_assert!(tar.next().unwrap().is_none());
        }
    }
}
