//! Writes a tree as an EROFS image without file contents: those are read from the archives, which the image names as its
//! devices. Two passes: one finds a place for everything, one writes it from front to end. The same tree gives the same
//! bytes.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::data::{Chunk, Map};
use super::directory;
use super::format::{
    BLOCK, CHUNK, HOLE, INODE, Layout, SLOT, SUPERBLOCK_AT, Superblock, chunk, device_number, inode, xattr_bytes,
    xattr_size,
};
use super::tree::{Content, NodeId, Piece, ROOT, Tree};
use crate::error::{Error, Result, Step};
use crate::limits;

/// Where one inode and its data are.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Offset of the inode from where inodes begin.
    pub(super) at: u64,
    layout: Layout,
    /// Bytes of its data.
    size: u64,
}

/// Writes the image of `tree` to `out`, an empty file; `archives` are what its pieces point into.
pub(crate) fn write(tree: &Tree, archives: &[File], out: &File) -> Result<()> {
    let order = tree.in_order();
    let plan = Plan::new(tree, &order, archives)?;
    let links = tree.link_counts(&order);
    let mut writer = Writer { out: BufWriter::with_capacity(256 << 10, out), at: 0 };
    writer.pad(SUPERBLOCK_AT).and_then(|()| writer.put(&plan.superblock(order.len()).bytes())).step(what)?;
    let mut copies = Vec::new();
    for (number, &id) in order.iter().enumerate() {
        let place = plan.places[id as usize];
        writer.pad(plan.meta + place.at).step(what)?;
        let head = inode(tree.node(id), place.layout, place.size, number as u32 + 1, links[id as usize]);
        writer.put(&head).and_then(|()| writer.put(&xattr_bytes(tree.node(id)))).step(what)?;
        plan.behind_inode(tree, id, &mut writer, &mut copies)?;
    }
    writer.pad(plan.data).step(what)?;
    for &id in &order {
        plan.whole_blocks(tree, id, &mut writer).step(what)?;
    }
    writer.pad(plan.copies).and_then(|()| writer.out.flush()).step(what)?;
    copies.iter().try_for_each(|copy| copy.make(archives, out))?;
    out.set_len(plan.end).step(what)
}

/// Where the first inode is: number 0 is no good number for a file.
const FIRST: u64 = SLOT;

fn what() -> String {
    "write a layer's index".into()
}

/// The first pass' result.
struct Plan {
    /// Offsets in the image: of the inodes, of directories' and links' blocks, of copied chunks, of the end.
    meta: u64,
    data: u64,
    copies: u64,
    end: u64,
    places: Vec<Place>,
    /// Of directories.
    parents: Vec<NodeId>,
    /// Blocks of each archive.
    devices: Vec<u32>,
}

impl Plan {
    fn new(tree: &Tree, order: &[NodeId], archives: &[File]) -> Result<Self> {
        let mut sizes = Vec::with_capacity(archives.len());
        for archive in archives {
            sizes.push(archive.metadata().step(|| "look at a layer's archive".into())?.len());
        }
        let meta = (SUPERBLOCK_AT + Superblock::length(archives.len())).next_multiple_of(BLOCK);
        let nowhere = Place { at: 0, layout: Layout::Plain(0), size: 0 };
        let mut places = vec![nowhere; tree.len()];
        // Blocks are counted from where they begin, which is known once all inodes have their place.
        let (mut at, mut blocks, mut copied) = (FIRST, 0, 0);
        for &id in order {
            let shape = Shape::of(tree, id)?;
            at = shape.fit(at);
            places[id as usize] = Place { at, layout: shape.layout(blocks)?, size: shape.size };
            at += shape.behind + shape.inline;
            blocks += shape.blocks;
            copied += shape.copied;
        }
        let data = (meta + at).next_multiple_of(BLOCK);
        let copies = data + blocks * BLOCK;
        if copies > sizes.iter().sum::<u64>() + limits::INDEX_FLOOR {
            return Err(Error::untrusted("the layer's sparse files are too scattered"));
        }
        let end = copies + copied * BLOCK;
        block_number(end / BLOCK)?;
        let base = (data / BLOCK) as u32;
        for place in &mut places {
            place.layout = match place.layout {
                Layout::Plain(block) => Layout::Plain(block + base),
                Layout::Inline(block) => Layout::Inline(block + base),
                other => other,
            };
        }
        let devices = sizes.iter().map(|size| block_number(size.div_ceil(BLOCK))).collect::<Result<_>>()?;
        let parents = directory::parents(tree, order);
        Ok(Plan { meta, data, copies, end, places, parents, devices })
    }

    fn superblock(&self, inodes: usize) -> Superblock {
        Superblock {
            root: (self.places[ROOT as usize].at / SLOT) as u16,
            inodes: inodes as u64,
            blocks: (self.end / BLOCK) as u32,
            meta_block: (self.meta / BLOCK) as u32,
            devices: self.devices.clone(),
        }
    }

    fn directory(&self, tree: &Tree, id: NodeId) -> Vec<u8> {
        directory::bytes(tree, id, &self.places, self.parents[id as usize])
    }

    /// What follows the inode and its attributes: a block map, or the end of a directory or link.
    fn behind_inode(&self, tree: &Tree, id: NodeId, writer: &mut Writer<'_>, copies: &mut Vec<Copy>) -> Result<()> {
        match (&tree.node(id).content, self.places[id as usize].layout) {
            (Content::File { size, pieces }, Layout::Chunks(_)) => {
                writer.pad(writer.at.next_multiple_of(CHUNK)).step(what)?;
                let map = Map::new(*size, pieces)?;
                for entry in &map.chunks {
                    let bytes = match *entry {
                        Chunk::Hole => chunk(0, HOLE),
                        Chunk::At { archive, block } => chunk(archive + 1, block),
                        Chunk::Copied { from, length } => {
                            let to = copies.last().map_or(self.copies, |last: &Copy| last.to + last.room);
                            copies.push(Copy::new(pieces, from, length, to, BLOCK << map.bits));
                            chunk(0, block_number(to / BLOCK)?)
                        }
                    };
                    writer.put(&bytes).step(what)?;
                }
                Ok(())
            }
            (Content::Directory { .. }, Layout::Inline(_)) => {
                let bytes = self.directory(tree, id);
                writer.put(&bytes[bytes.len() / BLOCK as usize * BLOCK as usize..]).step(what)
            }
            (Content::Symlink(target), Layout::Inline(_)) => {
                writer.put(&target[target.len() / BLOCK as usize * BLOCK as usize..]).step(what)
            }
            _ => Ok(()),
        }
    }

    /// A directory's or link's data, as far as they do not follow the inode.
    fn whole_blocks(&self, tree: &Tree, id: NodeId, writer: &mut Writer<'_>) -> io::Result<()> {
        let place = &self.places[id as usize];
        let blocks = match place.layout {
            Layout::Plain(_) => place.size.next_multiple_of(BLOCK),
            Layout::Inline(_) => place.size / BLOCK * BLOCK,
            _ => 0,
        };
        if blocks == 0 {
            return Ok(());
        }
        let end = writer.at + blocks;
        let length = (blocks.min(place.size)) as usize;
        match &tree.node(id).content {
            Content::Directory { .. } => writer.put(&self.directory(tree, id)[..length])?,
            Content::Symlink(target) => writer.put(&target[..length])?,
            _ => {}
        }
        writer.pad(end)
    }
}

/// What one inode needs.
struct Shape {
    /// Bytes of its data.
    size: u64,
    /// Bytes of inode, attributes and block map.
    behind: u64,
    /// Bytes of its data that follow those.
    inline: u64,
    /// Blocks of its data elsewhere.
    blocks: u64,
    /// Blocks of copied chunks.
    copied: u64,
    kind: Kind,
}

enum Kind {
    Stream,
    Map(u32),
    Device(u32),
}

impl Shape {
    fn of(tree: &Tree, id: NodeId) -> Result<Self> {
        let node = tree.node(id);
        let head = INODE + xattr_size(node);
        let none = Shape { size: 0, behind: head, inline: 0, blocks: 0, copied: 0, kind: Kind::Stream };
        Ok(match &node.content {
            Content::File { size: 0, .. } => none,
            Content::File { size, pieces } => {
                let map = Map::new(*size, pieces)?;
                let behind = head.next_multiple_of(CHUNK) + map.chunks.len() as u64 * CHUNK;
                Shape { size: *size, behind, copied: map.copied_blocks(), kind: Kind::Map(map.bits), ..none }
            }
            Content::Special(major, minor) => Shape { kind: Kind::Device(device_number(*major, *minor)), ..none },
            Content::Symlink(target) => none.stream(target.len() as u64),
            Content::Directory { children, .. } => none.stream(directory::size(children)),
        })
    }

    /// Data of a directory or link: the last part goes behind the inode if both fit into one block.
    fn stream(self, size: u64) -> Self {
        let tail = size % BLOCK;
        match tail > 0 && self.behind + tail <= BLOCK {
            true => Shape { size, inline: tail, blocks: size / BLOCK, ..self },
            false => Shape { size, blocks: size.div_ceil(BLOCK), ..self },
        }
    }

    /// The first place from `at` on: an inode, and one with its inline data, stays within a block.
    fn fit(&self, at: u64) -> u64 {
        let at = at.next_multiple_of(SLOT);
        let together = if self.inline > 0 { self.behind + self.inline } else { INODE };
        if at % BLOCK + together > BLOCK { at.next_multiple_of(BLOCK) } else { at }
    }

    fn layout(&self, block: u64) -> Result<Layout> {
        let block = block_number(block)?;
        Ok(match self.kind {
            Kind::Map(bits) => Layout::Chunks(bits),
            Kind::Device(number) => Layout::Device(number),
            Kind::Stream if self.inline > 0 => Layout::Inline(block),
            Kind::Stream => Layout::Plain(block),
        })
    }
}

/// Blocks are numbered with 32 bits, the last of which means a hole.
fn block_number(block: u64) -> Result<u32> {
    let number = u32::try_from(block).ok().filter(|number| *number != HOLE);
    number.ok_or_else(|| Error::untrusted("the layer is larger than 2 TiB"))
}

/// A chunk to be copied.
struct Copy {
    pieces: Vec<Piece>,
    from: u64,
    to: u64,
    room: u64,
}

impl Copy {
    fn new(pieces: &[Piece], from: u64, length: u64, to: u64, room: u64) -> Self {
        let end = from + length;
        let inside = pieces.iter().filter(|piece| piece.at < end && piece.at + piece.length > from);
        let cut = inside.map(|piece| {
            let (start, stop) = (piece.at.max(from), (piece.at + piece.length).min(end));
            Piece { at: start, length: stop - start, offset: piece.offset + (start - piece.at), ..*piece }
        });
        Copy { pieces: cut.collect(), from, to, room }
    }

    fn make(&self, archives: &[File], out: &File) -> Result<()> {
        for piece in &self.pieces {
            let mut archive = &archives[usize::from(piece.archive)];
            let to = self.to + (piece.at - self.from);
            archive.seek(SeekFrom::Start(piece.offset)).step(what)?;
            let copied = io::copy(&mut archive.take(piece.length), &mut At { file: out, at: to }).step(what)?;
            if copied < piece.length {
                return Err(Error::untrusted("the archive ends in the middle of a sparse file"));
            }
        }
        Ok(())
    }
}

/// Writes from an offset on.
struct At<'f> {
    file: &'f File,
    at: u64,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_at(bytes, self.at)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one after the other and knows where it is.
struct Writer<'f> {
    out: BufWriter<&'f File>,
    at: u64,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Zeros up to an offset.
    fn pad(&mut self, to: u64) -> io::Result<()> {
        const ZEROS: [u8; 1024] = [0; 1024];
        debug_assert!(to >= self.at && to - self.at <= 1024, "from {} to {to}", self.at);
        self.put(&ZEROS[..(to - self.at) as usize])
    }
}
