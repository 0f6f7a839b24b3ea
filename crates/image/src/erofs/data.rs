//! Block maps: how the pieces of a file, which lie in tar archives, become EROFS chunks. A chunk that no archive holds
//! in one run of whole blocks (possible in sparse files only) is copied into the index.

use super::format::{BLOCK, BLOCK_BITS, HOLE, MAX_CHUNK_BITS};
use super::tree::Piece;
use crate::error::{Error, Result};
use crate::limits;

/// A file's map.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// log2 of the number of blocks of a chunk.
    pub(super) bits: u32,
    pub(super) chunks: Vec<Chunk>,
}

/// Where a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Hole,
    /// In an archive, from this block on.
    At {
        archive: u16,
        block: u32,
    },
    /// To be copied into the index: so many bytes from this offset of the file.
    Copied {
        from: u64,
        length: u64,
    },
}

impl Map {
    /// The map of a file of this size (not 0).
    pub(super) fn new(size: u64, pieces: &[Piece]) -> Result<Self> {
        let bits = match pieces {
            [one] if one.at == 0 && one.length == size => whole(size),
            _ => sparse(size, pieces),
        };
        let length = BLOCK << bits;
        let mut rest = pieces;
        let chunks = (0..size.div_ceil(length))
            .map(|number| {
                let from = number * length;
                let end = size.min(from + length);
                while rest.first().is_some_and(|piece| piece.at + piece.length <= from) {
                    rest = &rest[1..];
                }
                chunk(from, end, rest)
            })
            .collect::<Result<_>>()?;
        Ok(Map { bits, chunks })
    }

    /// Blocks that the copied chunks need.
    pub(super) fn copied_blocks(&self) -> u64 {
        let copied = |chunk: &Chunk| matches!(chunk, Chunk::Copied { .. });
        (self.chunks.iter().filter(|chunk| copied(chunk)).count() as u64) << self.bits
    }
}

/// One chunk if possible.
fn whole(size: u64) -> u32 {
    let blocks = size.div_ceil(BLOCK);
    blocks.next_power_of_two().ilog2().min(MAX_CHUNK_BITS)
}

/// The largest chunks that all pieces begin and end with, so that nothing is copied; larger ones if those are too many.
fn sparse(size: u64, pieces: &[Piece]) -> u32 {
    let edges = pieces.iter().flat_map(|piece| [piece.at, piece.at + piece.length]).filter(|edge| *edge != size);
    let common = edges.fold(0, |all, edge| all | edge).trailing_zeros().clamp(BLOCK_BITS, BLOCK_BITS + whole(size));
    let fewest = size.div_ceil(limits::SPARSE_CHUNKS).next_power_of_two().ilog2();
    (common.max(fewest) - BLOCK_BITS).min(MAX_CHUNK_BITS)
}

/// The chunk from `from` to `end`; `pieces` begin with the first one that ends behind `from`.
fn chunk(from: u64, end: u64, pieces: &[Piece]) -> Result<Chunk> {
    let Some(first) = pieces.first().filter(|piece| piece.at < end) else { return Ok(Chunk::Hole) };
    let offset = first.offset + from.saturating_sub(first.at);
    if first.at <= from && end <= first.at + first.length && offset % BLOCK == 0 {
        let block = u32::try_from(offset / BLOCK).ok().filter(|block| *block != HOLE);
        let block = block.ok_or_else(|| Error::untrusted("the layer is larger than 2 TiB"))?;
        return Ok(Chunk::At { archive: first.archive, block });
    }
    Ok(Chunk::Copied { from, length: end - from })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(at: u64, length: u64, offset: u64) -> Piece {
        Piece { at, length, archive: 3, offset }
    }

    fn at(block: u32) -> Chunk {
        Chunk::At { archive: 3, block }
    }

    #[test]
    fn whole_files_are_one_chunk() {
        for size in [1, 511, 512, 513, 5_000_000_000] {
            let map = Map::new(size, &[piece(0, size, 1024)]).unwrap();
            assert_eq!(map.chunks, [at(2)], "{size}");
            assert!(BLOCK << map.bits >= size);
        }
        // Larger than the largest chunk.
        let huge = (1 << 40) + 1;
        assert_eq!(Map::new(huge, &[piece(0, huge, 0)]).unwrap().chunks, [at(0), at(1 << 31)]);
        assert!(Map::new(4, &[piece(0, 4, 1 << 42)]).is_err());
    }

    #[test]
    fn sparse_files() {
        // 8 KiB of hole, 4 KiB of data, 4 KiB of hole.
        let map = Map::new(16 << 10, &[piece(8 << 10, 4 << 10, 512)]).unwrap();
        assert_eq!(map, Map { bits: 3, chunks: vec![Chunk::Hole, Chunk::Hole, at(1), Chunk::Hole] });
        // Nothing but a hole.
        assert_eq!(Map::new(1 << 30, &[]).unwrap().chunks, [Chunk::Hole]);
        // Data that begin in the middle of a block.
        let map = Map::new(1024, &[piece(100, 10, 512), piece(600, 424, 522)]).unwrap();
        let copied = |from| Chunk::Copied { from, length: 512 };
        assert_eq!(map.chunks, [copied(0), copied(512)]);
        assert_eq!(map.copied_blocks(), 2);
        // The end need not be aligned.
        assert_eq!(Map::new(1 << 20 | 3, &[piece(1 << 20, 3, 512)]).unwrap().chunks, [Chunk::Hole, at(1)]);
    }

    #[test]
    fn maps_stay_short() {
        let map = Map::new(1 << 42, &[piece(512, 512, 0), piece((1 << 42) - 3, 3, 512)]).unwrap();
        assert!(map.chunks.len() as u64 <= limits::SPARSE_CHUNKS, "{}", map.chunks.len());
        assert!(matches!(map.chunks[0], Chunk::Copied { .. }) && map.chunks[1] == Chunk::Hole);
    }
}
