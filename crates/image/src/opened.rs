//! Archives that a build adds: found by their content, compressed or not.

use std::fs::File;
use std::io::{Cursor, Read};

use crate::inflate::inflate;
use crate::tarread::{TarReader, is_header, read_full};

/// An archive's entries, whatever it is compressed with; none if the file is no archive.
pub fn open_archive(file: File) -> Option<TarReader<Box<dyn Read>>> {
    let mut content = inflate(file).ok()?;
    let mut block = vec![0; 512];
    // What only looks compressed is no archive either.
    let got = read_full(&mut content, &mut block).ok()?;
    block.truncate(got);
    is_header(&block).then(|| TarReader::new(Box::new(Cursor::new(block).chain(content)) as Box<dyn Read>))
}
