//! Reads a log across its rotations, oldest entry first, and follows it while it is written. Damaged entries are passed
//! over. Which entries are wanted is the verb's business.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Driver, files, json, local};
use crate::verbs::LogEntry;

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;
/// An entry longer than this (of Docker's making, or damage) is not waited for.
const LONGEST: usize = 1 << 20;

/// One file of a log, open.
struct Part {
    inode: u64,
    file: Box<dyn Read + Send>,
}

/// A position in a log.
pub(crate) struct Reader {
    path: PathBuf,
    driver: Driver,
    /// Files still to read, newest first; the last one is read now.
    parts: Vec<Part>,
    /// Inode of the file read last.
    inode: u64,
    buffer: Vec<u8>,
}

impl Reader {
    /// A reader at the beginning of the log, or at a place before which there are at least `tail` entries fewer.
    pub(crate) fn open(path: &Path, driver: Driver, tail: Option<u64>) -> io::Result<Self> {
        let mut reader = Reader { path: path.to_owned(), driver, parts: Vec::new(), inode: 0, buffer: Vec::new() };
        reader.parts = reader.open_parts()?;
        if let (Some(wanted), Driver::JsonFile) = (tail, driver) {
            reader.skip_to_tail(wanted)?;
        }
        Ok(reader)
    }

    /// Opens all files, newest first. A file that is renamed meanwhile is met again and left out by its inode.
    fn open_parts(&self) -> io::Result<Vec<Part>> {
        let mut parts: Vec<Part> = Vec::new();
        for number in 0.. {
            let candidates = match number {
                0 => vec![(self.path.clone(), false)],
                _ => vec![
                    (files::numbered(&self.path, number, ""), false),
                    (files::numbered(&self.path, number, ".gz"), true),
                ],
            };
            let Some((file, compressed)) = first_open(candidates)? else { if number == 0 { continue } else { break } };
            let inode = file.metadata()?.ino();
            if parts.iter().all(|part| part.inode != inode) {
                let file: Box<dyn Read + Send> =
                    if compressed { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
                parts.push(Part { inode, file });
            }
        }
        Ok(parts)
    }

    /// If the newest file alone has `wanted` lines, goes to where the last of them begin and forgets the others.
    fn skip_to_tail(&mut self, wanted: u64) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let inode = file.metadata()?.ino();
        if let Some(offset) = tail_offset(&mut file, wanted)? {
            file.seek(SeekFrom::Start(offset))?;
            self.parts = vec![Part { inode, file: Box::new(file) }];
        }
        Ok(())
    }

    /// The next entry; none at the (present) end.
    pub(crate) fn next(&mut self) -> io::Result<Option<LogEntry>> {
        loop {
            if let Some(entry) = self.take_entry() {
                return Ok(Some(entry));
            }
            if !self.fill()? && !self.next_part()? {
                return Ok(None);
            }
        }
    }

    fn take_entry(&mut self) -> Option<LogEntry> {
        let mut at = 0;
        let found = loop {
            let step = match self.driver {
                Driver::JsonFile => json::decode(&self.buffer[at..]),
                Driver::Local => local::decode(&self.buffer[at..]),
                Driver::None => None,
            };
            let Some((length, entry)) = step else { break None };
            at += length;
            if entry.is_some() {
                break entry;
            }
        };
        self.buffer.drain(..at);
        found
    }

    /// Reads on in the present file; false at its end.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(part) = self.parts.last_mut() else { return Ok(false) };
        self.inode = part.inode;
        if self.buffer.len() > LONGEST {
            self.buffer.clear();
        }
        let old = self.buffer.len();
        self.buffer.resize(old + CHUNK, 0);
        // A compressed file that a crash cut short ends where it is cut.
        let count = part.file.read(&mut self.buffer[old..]).unwrap_or(0);
        self.buffer.truncate(old + count);
        Ok(count > 0)
    }

    /// Goes on to the next newer file; false if the present one is the newest.
    fn next_part(&mut self) -> io::Result<bool> {
        if self.parts.len() > 1 {
            self.parts.pop();
            self.buffer.clear();
            return Ok(true);
        }
        let current = std::fs::metadata(&self.path).map(|data| data.ino()).unwrap_or(self.inode);
        if current == self.inode {
            return Ok(false);
        }
        // Rotated since: what was written between the last read and the rotation is still to be read first.
        if self.fill()? {
            return Ok(true);
        }
        let mut newer = self.open_parts()?;
        if let Some(ours) = newer.iter().position(|part| part.inode == self.inode) {
            newer.truncate(ours);
        }
        self.parts = newer;
        self.buffer.clear();
        Ok(!self.parts.is_empty())
    }
}

fn first_open(candidates: Vec<(PathBuf, bool)>) -> io::Result<Option<(File, bool)>> {
    for (path, compressed) in candidates {
        match File::open(path) {
            Ok(file) => return Ok(Some((file, compressed))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Where the last `wanted` lines of a file begin; none if it has fewer.
fn tail_offset(file: &mut File, wanted: u64) -> io::Result<Option<u64>> {
    let size = file.metadata()?.len();
    let (mut end, mut lines) = (size, 0);
    let mut chunk = vec![0; CHUNK];
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let part = &mut chunk[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        for at in (0..part.len()).rev().filter(|&at| part[at] == b'\n') {
            // The newline at the very end closes the last line; every other one stands before a line.
            if start + at as u64 + 1 == size {
                continue;
            }
            lines += 1;
            if lines >= wanted.max(1) {
                return Ok(Some(if wanted == 0 { size } else { start + at as u64 + 1 }));
            }
        }
        end = start;
    }
    Ok(None)
}
