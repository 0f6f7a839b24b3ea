//! Decompression as Docker knows it (gzip, zstd, xz, bzip2 or none, told apart by their first bytes), with a budget that
//! ends decompression bombs.

use std::cell::Cell;
use std::io::{self, BufReader, Cursor, Read};
use std::rc::Rc;

use crate::error::{Error, Result, Step};
use crate::limits;
use crate::tarread::{damaged, read_full};

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

impl Compression {
    /// By the magic number.
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            // A frame, or a skippable frame, which zstd:chunked images may begin with.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Bzip2,
            _ => Compression::None,
        }
    }
}

/// Looks at the first bytes and puts the right decoder on top.
pub fn inflate<'a>(mut input: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut start = [0u8; 6];
    let got = read_full(&mut input, &mut start).map_err(damaged)?;
    let compression = Compression::of(&start[..got]);
    let whole = Cursor::new(start).take(got as u64).chain(input);
    if compression == Compression::None {
        return Ok(Box::new(whole));
    }
    let consumed = Rc::new(Cell::new(0));
    let counted = BufReader::with_capacity(128 << 10, Counted { input: whole, count: Rc::clone(&consumed) });
    let decoder: Box<dyn Read + 'a> = match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(counted)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(counted).step(|| "start the zstd decoder".into())?),
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(limits::XZ_MEMORY, liblzma::stream::CONCATENATED)
                .step(|| "start the xz decoder".into())?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(counted, stream))
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(counted)),
        Compression::None => Box::new(counted),
    };
    Ok(Box::new(Bounded { input: decoder, consumed, produced: 0 }))
}

/// Counts what is read.
struct Counted<R> {
    input: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.input.read(buffer)?;
        self.count.set(self.count.get() + got as u64);
        Ok(got)
    }
}

/// Ends when the content has grown out of proportion to its compressed form.
struct Bounded<R> {
    input: R,
    consumed: Rc<Cell<u64>>,
    produced: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.input.read(buffer)?;
        self.produced += got as u64;
        let budget = limits::INFLATED_FLOOR.max(self.consumed.get().saturating_mul(limits::INFLATED_RATIO));
        if self.produced > budget {
            let text = format!(
                "decompression bomb: {} compressed bytes grow to more than {} MiB, over {} times as much",
                self.consumed.get(),
                budget >> 20,
                limits::INFLATED_RATIO
            );
            return Err(io::Error::other(Error::Untrusted(text)));
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn inflated(bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        inflate(bytes).unwrap().read_to_end(&mut all).unwrap();
        all
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// zstd(1), *Skippable Frames*: zstd:chunked images have them in the middle and at the end.
    fn skippable(number: u8, content: &[u8]) -> Vec<u8> {
        [&[0x50 | number, 0x2a, 0x4d, 0x18], &(content.len() as u32).to_le_bytes()[..], content].concat()
    }

    #[test]
    fn streams_of_several_parts() {
        let zstd = |text: &[u8]| zstd::encode_all(text, 3).unwrap();
        let frames = [skippable(0, b"first"), zstd(b"one"), skippable(15, b""), zstd(b"two"), skippable(3, b"toc")];
        assert_eq!(inflated(&frames.concat()), b"onetwo");
        assert_eq!(inflated(&[gzip(b"one"), gzip(b""), gzip(b"two")].concat()), b"onetwo");
        let xz = |text: &[u8]| {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        assert_eq!(inflated(&[xz(b"one"), xz(b"two")].concat()), b"onetwo");
        assert_eq!(inflated(b"neither"), b"neither");
    }

    #[test]
    fn what_is_cut_off_is_no_stream() {
        for whole in [gzip(&[7; 1000]), zstd::encode_all(&[7; 1000][..], 3).unwrap()] {
            let cut = inflate(&whole[..whole.len() - 3]).unwrap().read_to_end(&mut Vec::new());
            assert!(cut.is_err(), "{whole:?}");
        }
    }
}
