//! Reads tar archives as untrusted input: ustar, GNU (long names, old sparse files, base-256 numbers) and PAX. One parser,
//! so that no two parts of the program can disagree about where an entry ends (CVE-2025-62518). Header fields are decoded
//! by the `tar` crate; its entry reader is not used because it reads extended headers of any size into memory.

use std::fs::File;
use std::io::{self, BufReader, Read};

use tar::{EntryType, Header};

use crate::error::{Error, Result};
use crate::{limits, pax, sparse};

const BLOCK: u64 = 512;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry's header; its content is read from the [`TarReader`].
#[derive(Clone, Debug)]
pub struct Entry {
    /// Name, as it stands there: hostile.
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes of the file, holes of sparse files included.
    pub size: u64,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Major and minor number.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Offset and length of each stored piece of a sparse file; the pieces are stored one after the other.
    pub(crate) pieces: Option<Vec<(u64, u64)>>,
    /// Where in the archive the stored content begins.
    pub(crate) at: u64,
}

impl Entry {
    /// Offset and length of each stored piece of a sparse file, which are stored one after the other; none of others.
    pub fn pieces(&self) -> Option<&[(u64, u64)]> {
        self.pieces.as_deref()
    }
}

/// A streaming reader. `read` yields the present entry's stored bytes.
pub struct TarReader<R> {
    input: R,
    left: u64,
    padding: u64,
    count: u64,
    /// Bytes of the archive that were read.
    position: u64,
    open_end: bool,
    /// How to pass over bytes; answers how many there were.
    pass: fn(&mut R, u64) -> io::Result<u64>,
}

/// What extension headers said about the next entry.
#[derive(Default)]
struct Extensions {
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: pax::Records,
}

impl<R: Read> TarReader<R> {
    /// A reader of this archive.
    pub fn new(input: R) -> Self {
        let pass = |input: &mut R, bytes| io::copy(&mut input.take(bytes), &mut io::sink());
        TarReader { input, left: 0, padding: 0, count: 0, position: 0, open_end: false, pass }
    }

    /// The last entry may lack the bytes that fill its block, as in the contexts that the docker command sends.
    pub fn with_open_end(self) -> Self {
        TarReader { open_end: true, ..self }
    }

    /// The stream behind the archive.
    pub(crate) fn into_inner(self) -> R {
        self.input
    }

    /// The next entry, skipping what is left of the present one.
    #[expect(clippy::should_implement_trait, reason = "an entry is only good until the next call")]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let left = std::mem::take(&mut self.left);
        self.skip(left)?;
        let padding = std::mem::take(&mut self.padding);
        if self.open_end {
            let found = (self.pass)(&mut self.input, padding).map_err(damaged)?;
            self.position += found;
            if found < padding {
                return Ok(None);
            }
        } else {
            self.skip(padding)?;
        }
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            self.count += 1;
            if self.count > limits::ENTRIES {
                return Err(Error::untrusted(format!("archive has more than {} entries", limits::ENTRIES)));
            }
            match header.entry_type() {
                EntryType::GNULongName => extensions.long_path = Some(self.long_name(&header)?),
                EntryType::GNULongLink => extensions.long_link = Some(self.long_name(&header)?),
                EntryType::XHeader => extensions.pax = pax::parse(&self.extension(&header)?)?,
                EntryType::XGlobalHeader => drop(self.extension(&header)?),
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    /// The next header block; `None` at the end: a zero block, or a clean end of the stream.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut block = [0u8; BLOCK as usize];
        match read_full(&mut self.input, &mut block).map_err(damaged)? {
            0 => return Ok(None),
            512 => self.position += BLOCK,
            _ => return Err(Error::untrusted("archive ends in the middle of a header")),
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if !is_header(&block) {
            return Err(Error::untrusted("not a tar archive, or a damaged one: wrong header checksum"));
        }
        Ok(Some(Header::from_byte_slice(&block).clone()))
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry> {
        let Extensions { long_path, long_link, pax } = extensions;
        let kind = kind_of(header)?;
        let stored = match (pax.size, kind) {
            // Only files have content; some writers put a directory's or a link's size into the header.
            (_, kind) if kind != Kind::File => 0,
            (Some(size), _) => size,
            (None, _) => number(&header.as_old().size, header.entry_size()).map_err(damaged)?,
        };
        if stored > limits::FILE {
            return Err(Error::untrusted(format!("archive has an entry of {stored} bytes")));
        }
        self.left = stored;
        self.padding = (BLOCK - stored % BLOCK) % BLOCK;
        let sparse = if kind == Kind::File { self.sparse(header, &pax)? } else { None };
        let size = sparse.as_ref().map_or(stored, |map| map.size);
        let pieces = sparse.map(|map| map.pieces);
        let pax_path = pax.sparse.name.filter(|_| pieces.is_some()).or(pax.path);
        let path = pax_path.or(long_path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || header.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
        Ok(Entry {
            // Old archives mark a directory by nothing but a final slash.
            kind: if kind == Kind::File && path.ends_with(b"/") { Kind::Directory } else { kind },
            path,
            link: pax.link.or(long_link).unwrap_or_else(link),
            size,
            mode: number(&header.as_old().mode, header.mode()).map_err(damaged)? & 0o7777,
            uid: id(pax.uid, number(&header.as_old().uid, header.uid()), "uid")?,
            gid: id(pax.gid, number(&header.as_old().gid, header.gid()), "gid")?,
            mtime: pax.mtime.unwrap_or((header.mtime().unwrap_or(0) as i64, 0)),
            device: device(header),
            xattrs: pax.xattrs,
            pieces,
            at: self.position,
        })
    }

    /// The map of a sparse file, in whichever of GNU tar's four formats it is; it fits the stored bytes that follow it.
    fn sparse(&mut self, header: &Header, pax: &pax::Records) -> Result<Option<sparse::Map>> {
        let map = if header.entry_type() == EntryType::GNUSparse {
            self.old_sparse(header)?
        } else if pax.sparse.has_map_in_content() {
            self.sparse_content(pax)?
        } else if let Some(map) = pax.sparse.map()? {
            map
        } else {
            return Ok(None);
        };
        map.check(self.left)?;
        Ok(Some(map))
    }

    /// Old GNU format: some pieces in the header, more in blocks behind it.
    fn old_sparse(&mut self, header: &Header) -> Result<sparse::Map> {
        let gnu = header.as_gnu().ok_or_else(sparse::bad)?;
        let mut pieces = Vec::new();
        add_pieces(&mut pieces, &gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            self.input.read_exact(block.as_mut_bytes()).map_err(damaged)?;
            self.position += BLOCK;
            add_pieces(&mut pieces, block.sparse())?;
            more = block.is_extended();
        }
        Ok(sparse::Map { size: gnu.real_size().map_err(damaged)?, pieces })
    }

    /// PAX format 1.0: the map stands before the content, in decimal lines that fill whole blocks.
    fn sparse_content(&mut self, pax: &pax::Records) -> Result<sparse::Map> {
        let mut lines = sparse::Lines::default();
        let mut block = [0; BLOCK as usize];
        while !lines.complete()? {
            if self.left < BLOCK {
                return Err(sparse::bad());
            }
            self.input.read_exact(&mut block).map_err(damaged)?;
            self.position += BLOCK;
            self.left -= BLOCK;
            lines.add(&block)?;
        }
        Ok(sparse::Map { size: pax.sparse.real_size.ok_or_else(sparse::bad)?, pieces: lines.pieces() })
    }

    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>> {
        let mut name = self.extension(header)?;
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn extension(&mut self, header: &Header) -> Result<Vec<u8>> {
        let size = header.entry_size().map_err(damaged)?;
        if size > limits::TAR_EXTENSION {
            return Err(Error::untrusted(format!("archive has an extended header of {size} bytes")));
        }
        let mut bytes = vec![0; size as usize];
        self.input.read_exact(&mut bytes).map_err(damaged)?;
        self.position += size;
        self.skip((BLOCK - size % BLOCK) % BLOCK)?;
        Ok(bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        let skipped = (self.pass)(&mut self.input, bytes).map_err(damaged)?;
        self.position += skipped;
        if skipped < bytes {
            return Err(Error::untrusted("archive ends in the middle of an entry"));
        }
        Ok(())
    }
}

impl<'f> TarReader<BufReader<&'f File>> {
    /// Over a complete archive in a file, whose contents are not read to pass over them.
    pub(crate) fn over_file(file: &'f File) -> Self {
        let pass = |input: &mut BufReader<&'f File>, bytes| {
            let distance = i64::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
            input.seek_relative(distance).map(|()| bytes)
        };
        TarReader { pass, ..TarReader::new(BufReader::new(file)) }
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.input.read(&mut buffer[..wanted])?;
        if got == 0 && wanted > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "archive ends in the middle of an entry"));
        }
        self.left -= got as u64;
        self.position += got as u64;
        Ok(got)
    }
}

/// Whether the block is a tar header: the only reliable mark is its checksum.
pub(crate) fn is_header(block: &[u8]) -> bool {
    if block.len() < BLOCK as usize {
        return false;
    }
    let header = Header::from_byte_slice(&block[..BLOCK as usize]);
    let sum: u32 = (0..BLOCK as usize).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(block[at]) }).sum();
    header.cksum().is_ok_and(|wanted| wanted == sum)
}

/// Reads until the buffer is full or the stream ends; how much came.
pub(crate) fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A numeric field, of which nothing means zero (as to Go's archive/tar).
fn number<T: Default>(field: &[u8], parsed: io::Result<T>) -> io::Result<T> {
    match field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        true => Ok(T::default()),
        false => parsed,
    }
}

/// An error while reading a stream: one of our own that a reader below carried, or damage.
pub(crate) fn damaged(error: io::Error) -> Error {
    if error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
        let inner = error.into_inner().and_then(|inner| inner.downcast::<Error>().ok());
        return inner.map_or_else(|| Error::untrusted("damaged archive"), |inner| *inner);
    }
    Error::untrusted(format!("damaged archive: {error}"))
}

fn add_pieces(pieces: &mut Vec<(u64, u64)>, headers: &[tar::GnuSparseHeader]) -> Result<()> {
    for header in headers.iter().filter(|header| !header.is_empty()) {
        pieces.push((header.offset().map_err(damaged)?, header.length().map_err(damaged)?));
    }
    sparse::check_count(pieces.len())?;
    Ok(())
}

fn kind_of(header: &Header) -> Result<Kind> {
    Ok(match header.entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Char => Kind::Char,
        EntryType::Block => Kind::Block,
        EntryType::Directory => Kind::Directory,
        EntryType::Fifo => Kind::Fifo,
        other => {
            let kind = char::from(other.as_byte());
            return Err(Error::untrusted(format!("archive has an entry of unknown type {kind:?}")));
        }
    })
}

/// A user or group id: 32 bits, and never the one that means "none" (CVE-2024-40635).
fn id(extended: Option<u64>, header: io::Result<u64>, what: &str) -> Result<u32> {
    let value = extended.map_or(header, Ok).map_err(damaged)?;
    match u32::try_from(value) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(Error::untrusted(format!("archive has an entry with the impossible {what} {value}"))),
    }
}

fn device(header: &Header) -> (u32, u32) {
    let number = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or(0);
    (number(header.device_major()), number(header.device_minor()))
}
