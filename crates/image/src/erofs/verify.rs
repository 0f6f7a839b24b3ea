//! Reads an image back and checks everything that the kernel relies on: that inodes, names, attributes and chunks are
//! where they should be, in the order in which they are looked for, and inside their devices. For tests and fuzzers:
//! what is written here needs no check when it is used.

use super::format::{BLOCK, CHUNK, DEVICE_SLOT, DIRENT, HOLE, INODE, SLOT, SUPERBLOCK_AT};

/// The image and the lengths of its archives.
struct Image<'a> {
    bytes: &'a [u8],
    archives: &'a [u64],
    meta: u64,
}

/// How many inodes the image has, or what is wrong with it.
pub(crate) fn verify(bytes: &[u8], archives: &[u64]) -> Result<u64, String> {
    let at = SUPERBLOCK_AT as usize;
    let mut image = Image { bytes, archives, meta: 0 };
    wanted(image.number(at, 4)? == 0xE0F5_E1E2, "no superblock")?;
    wanted(image.number(at + 36, 4)? * BLOCK == bytes.len() as u64, "the number of blocks is wrong")?;
    wanted(image.number(at + 86, 2)? == archives.len() as u64, "the number of devices is wrong")?;
    for (slot, length) in archives.iter().enumerate() {
        let blocks = image.number(at + 128 + slot * DEVICE_SLOT as usize + 64, 4)?;
        wanted(blocks == length.div_ceil(BLOCK), "a device's size is wrong")?;
    }
    image.meta = image.number(at + 40, 4)? * BLOCK;
    let root = image.number(at + 14, 2)?;
    let mut seen = std::collections::HashMap::new();
    let mut open = vec![(root, root)];
    while let Some((nid, parent)) = open.pop() {
        let kind = image.inode(nid)?;
        if seen.insert(nid, kind).is_some() {
            wanted(kind != DIRECTORY, "a directory has two names")?;
            continue;
        }
        if kind == DIRECTORY {
            open.extend(image.directory(nid, parent)?.into_iter().map(|child| (child, nid)));
        }
    }
    wanted(image.number(at + 16, 8)? == seen.len() as u64, "the number of inodes is wrong")?;
    Ok(seen.len() as u64)
}

const DIRECTORY: u64 = 0o4;

fn wanted(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

impl Image<'_> {
    fn slice(&self, at: usize, length: usize) -> Result<&[u8], String> {
        let end = at.checked_add(length).ok_or("an offset overflows")?;
        self.bytes.get(at..end).ok_or_else(|| format!("{at}+{length} is outside of the image"))
    }

    fn number(&self, at: usize, length: usize) -> Result<u64, String> {
        let mut bytes = [0; 8];
        bytes[..length].copy_from_slice(self.slice(at, length)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn at(&self, nid: u64) -> usize {
        (self.meta + nid * SLOT) as usize
    }

    /// Bytes of inode and attributes.
    fn head(&self, nid: u64) -> Result<usize, String> {
        let count = self.number(self.at(nid) + 2, 2)? as usize;
        Ok(INODE as usize + if count == 0 { 0 } else { 12 + (count - 1) * 4 })
    }

    /// Checks an inode; the kind bits of its mode.
    fn inode(&self, nid: u64) -> Result<u64, String> {
        let at = self.at(nid);
        wanted(at as u64 % BLOCK + INODE <= BLOCK, "an inode crosses a block")?;
        let (layout, kind) = (self.number(at, 2)? >> 1, self.number(at + 4, 2)? >> 12);
        let size = self.number(at + 8, 8)?;
        self.slice(at, self.head(nid)?)?;
        match layout {
            4 => self.chunks(nid, size)?,
            _ if kind == DIRECTORY || kind == 0o12 => drop(self.data(nid)?),
            _ => wanted(size == 0, "a file without a map has a size")?,
        }
        Ok(kind)
    }

    fn chunks(&self, nid: u64, size: u64) -> Result<(), String> {
        let at = self.at(nid);
        let length = BLOCK << (self.number(at + 16, 4)? & 31);
        let map = (at + self.head(nid)?).next_multiple_of(CHUNK as usize);
        for number in 0..size.div_ceil(length) {
            let entry = map + (number * CHUNK) as usize;
            let (device, block) = (self.number(entry + 2, 2)?, self.number(entry + 4, 4)?);
            if block == u64::from(HOLE) {
                continue;
            }
            let room = match device {
                0 => self.bytes.len() as u64,
                _ => *self.archives.get(device as usize - 1).ok_or("a chunk is on no device")?,
            };
            let end = block * BLOCK + length.min(size - number * length);
            wanted(end <= room, "a chunk leaves its device")?;
        }
        Ok(())
    }

    /// A directory's or link's data.
    fn data(&self, nid: u64) -> Result<Vec<u8>, String> {
        let at = self.at(nid);
        let (layout, size) = (self.number(at, 2)? >> 1, self.number(at + 8, 8)? as usize);
        let first = (self.number(at + 16, 4)? * BLOCK) as usize;
        if layout == 0 {
            return self.slice(first, size).map(<[u8]>::to_vec);
        }
        wanted(layout == 2, "an unknown layout")?;
        let whole = size / BLOCK as usize * BLOCK as usize;
        let tail = at + self.head(nid)?;
        wanted(tail as u64 % BLOCK + (size - whole) as u64 <= BLOCK, "inline data cross a block")?;
        Ok([self.slice(first, whole)?, self.slice(tail, size - whole)?].concat())
    }

    /// Checks names and their order; the children.
    fn directory(&self, nid: u64, parent: u64) -> Result<Vec<u64>, String> {
        let data = self.data(nid)?;
        let (mut children, mut last) = (Vec::new(), Vec::new());
        for block in data.chunks(BLOCK as usize) {
            let field = |at: usize| block.get(at..at + DIRENT).ok_or("a cut entry");
            let name_at = |entry: &[u8]| usize::from(u16::from_le_bytes([entry[8], entry[9]]));
            let count = name_at(field(0)?) / DIRENT;
            for index in 0..count {
                let entry = field(index * DIRENT)?;
                let end = if index + 1 < count { name_at(field((index + 1) * DIRENT)?) } else { block.len() };
                let name = block.get(name_at(entry)..end).ok_or("a name is outside of its block")?;
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
                wanted(!name.is_empty() && name > last, "names are out of order")?;
                let child = u64::from_le_bytes(entry[..8].try_into().map_err(|_| "a cut entry")?);
                match &name[..] {
                    b"." => wanted(child == nid, "`.` leads elsewhere")?,
                    b".." => wanted(child == parent, "`..` leads elsewhere")?,
                    _ => children.push(child),
                }
                last = name;
            }
        }
        Ok(children)
    }
}
