//! EROFS' structures on disk, as far as an uncompressed index needs them (kernel, `fs/erofs/erofs_fs.h`): little-endian,
//! blocks of 512 bytes so that every file in a tar archive begins at one.

use super::tree::Node;

/// log2 of the block size.
pub(super) const BLOCK_BITS: u32 = 9;
/// Bytes of a block, which is also tar's.
pub(super) const BLOCK: u64 = 1 << BLOCK_BITS;
/// Where the superblock is.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
/// Inodes are numbered in units of this many bytes.
pub(super) const SLOT: u64 = 32;
/// Bytes of an extended inode.
pub(super) const INODE: u64 = 64;
/// Bytes of an entry in the table of devices.
pub(super) const DEVICE_SLOT: u64 = 128;
/// Bytes of a block map's entry, and its alignment.
pub(super) const CHUNK: u64 = 8;
/// Bytes of a directory entry without its name.
pub(super) const DIRENT: usize = 12;
/// Largest log2 of a chunk's number of blocks.
pub(super) const MAX_CHUNK_BITS: u32 = 31;
/// A block map's entry for a hole.
pub(super) const HOLE: u32 = u32::MAX;

const MAGIC: u32 = 0xE0F5_E1E2;
const SUPERBLOCK: usize = 128;
const INCOMPAT_CHUNKED: u32 = 0x4;
const INCOMPAT_DEVICES: u32 = 0x8;
const XATTR_HEADER: u64 = 12;
const EXTENDED: u16 = 1;
const CHUNK_INDEXES: u32 = 0x20;

/// How an inode's data are found (`EROFS_INODE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// In whole blocks one after the other, from this one on.
    Plain(u32),
    /// The same, but the last part stands behind the inode.
    Inline(u32),
    /// By a map of chunks of this many blocks (log2).
    Chunks(u32),
    /// None; the number of a device.
    Device(u32),
}

impl Layout {
    fn format(self) -> u16 {
        let layout = match self {
            Layout::Plain(_) | Layout::Device(_) => 0,
            Layout::Inline(_) => 2,
            Layout::Chunks(_) => 4,
        };
        EXTENDED | layout << 1
    }

    fn union(self) -> u32 {
        match self {
            Layout::Plain(block) | Layout::Inline(block) => block,
            Layout::Chunks(bits) => CHUNK_INDEXES | bits,
            Layout::Device(number) => number,
        }
    }
}

/// The kernel's `new_encode_dev`.
pub(super) fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// `struct erofs_inode_extended`, without what follows it.
pub(super) fn inode(node: &Node, layout: Layout, size: u64, number: u32, links: u32) -> [u8; INODE as usize] {
    let mut bytes = [0; INODE as usize];
    let mut out = Fields(&mut bytes, 0);
    out.u16(layout.format());
    out.u16(xattr_count(node));
    out.u16(node.mode);
    out.u16(0);
    out.u64(size);
    out.u32(layout.union());
    out.u32(number);
    out.u32(node.uid);
    out.u32(node.gid);
    out.u64(node.mtime.0 as u64);
    out.u32(node.mtime.1);
    out.u32(links);
    bytes
}

/// What the superblock says.
pub(super) struct Superblock {
    pub(super) root: u16,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) meta_block: u32,
    /// Blocks of each archive.
    pub(super) devices: Vec<u32>,
}

impl Superblock {
    /// Bytes of superblock and table of devices.
    pub(super) fn length(devices: usize) -> u64 {
        SUPERBLOCK as u64 + devices as u64 * DEVICE_SLOT
    }

    /// `struct erofs_super_block` and the table of devices.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; (Self::length(self.devices.len())).next_multiple_of(BLOCK) as usize];
        let mut out = Fields(&mut bytes, 0);
        out.u32(MAGIC);
        // No checksum, which is optional: erofs-utils before 1.9 compute it wrongly for blocks below 1 KiB, and crash.
        out.skip(8);
        out.u8(BLOCK_BITS as u8);
        out.u8(0);
        out.u16(self.root);
        out.u64(self.inodes);
        out.skip(12); // Build time: an index is the same whenever it is made.
        out.u32(self.blocks);
        out.u32(self.meta_block);
        out.u32(0);
        out.skip(32); // UUID and volume name.
        out.u32(INCOMPAT_CHUNKED | INCOMPAT_DEVICES);
        out.u16(0);
        out.u16(self.devices.len() as u16);
        out.u16(((SUPERBLOCK_AT + SUPERBLOCK as u64) / DEVICE_SLOT) as u16);
        out.u8(0);
        for (slot, blocks) in self.devices.iter().enumerate() {
            let mut out = Fields(&mut bytes, SUPERBLOCK + slot * DEVICE_SLOT as usize + 64);
            out.u32(*blocks);
            out.u32(0); // No address of its own in the image: it is found by its number alone.
        }
        bytes
    }
}

/// An entry of a block map: `struct erofs_inode_chunk_index`. Device 0 is the index itself.
pub(super) fn chunk(device: u16, block: u32) -> [u8; CHUNK as usize] {
    let mut bytes = [0; CHUNK as usize];
    let mut out = Fields(&mut bytes, 2);
    out.u16(device);
    out.u32(block);
    bytes
}

/// `struct erofs_dirent`.
pub(super) fn dirent(nid: u64, name_at: usize, mode: u16) -> [u8; DIRENT] {
    let mut bytes = [0; DIRENT];
    let mut out = Fields(&mut bytes, 0);
    out.u64(nid);
    out.u16(name_at as u16);
    // The kernel's FT_* numbers, by the kind bits of a mode.
    out.u8(match mode >> 12 {
        0o10 => 1,
        0o04 => 2,
        0o02 => 3,
        0o06 => 4,
        0o01 => 5,
        0o12 => 7,
        _ => 0,
    });
    bytes
}

/// The attribute that marks an opaque directory for overlayfs.
const OPAQUE: (&[u8], &[u8]) = (b"trusted.overlay.opaque", b"y");

/// All attributes of a node, as overlayfs is to see them.
fn xattrs(node: &Node) -> impl Iterator<Item = (&[u8], &[u8])> {
    let opaque = matches!(node.content, super::tree::Content::Directory { opaque: true, .. });
    node.xattrs.iter().map(|(name, value)| (&name[..], &value[..])).chain(opaque.then_some(OPAQUE))
}

/// EROFS' number for a name's beginning, and the rest of the name.
fn split_name(name: &[u8]) -> (u8, &[u8]) {
    let known: [(u8, &[u8]); 5] = [
        (1, b"user."),
        (2, b"system.posix_acl_access"),
        (3, b"system.posix_acl_default"),
        (4, b"trusted."),
        (6, b"security."),
    ];
    let found = known.iter().find_map(|(number, prefix)| Some((*number, name.strip_prefix(*prefix)?)));
    found.unwrap_or((0, name))
}

/// Bytes of the attributes behind a node's inode.
pub(super) fn xattr_size(node: &Node) -> u64 {
    let entries: u64 = xattrs(node)
        .map(|(name, value)| (4 + split_name(name).1.len() as u64 + value.len() as u64).next_multiple_of(4))
        .sum();
    if entries == 0 { 0 } else { XATTR_HEADER + entries }
}

fn xattr_count(node: &Node) -> u16 {
    match xattr_size(node) {
        0 => 0,
        size => ((size - XATTR_HEADER) / 4 + 1) as u16,
    }
}

/// `struct erofs_xattr_ibody_header` and the entries, all of them the inode's own.
pub(super) fn xattr_bytes(node: &Node) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in xattrs(node) {
        if bytes.is_empty() {
            bytes.resize(XATTR_HEADER as usize, 0);
        }
        let (number, rest) = split_name(name);
        bytes.extend([rest.len() as u8, number]);
        bytes.extend((value.len() as u16).to_le_bytes());
        bytes.extend(rest);
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// Writes fields one after the other.
struct Fields<'a>(&'a mut [u8], usize);

impl Fields<'_> {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.0[self.1..self.1 + N].copy_from_slice(&bytes);
        self.1 += N;
    }

    fn u8(&mut self, value: u8) {
        self.put([value]);
    }

    fn u16(&mut self, value: u16) {
        self.put(value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.put(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.put(value.to_le_bytes());
    }

    fn skip(&mut self, bytes: usize) {
        self.1 += bytes;
    }
}
