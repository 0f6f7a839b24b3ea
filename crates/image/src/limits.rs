//! How much an archive or a registry may ask of us. Images are untrusted input: every size, count and depth that they
//! control has a bound here.

/// Layers of one image: what overlayfs stacks in one mount (`OVL_MAX_STACK`). Docker's own limit is 127.
pub(crate) const LAYERS: usize = 500;
/// Bytes of an image configuration.
pub(crate) const CONFIG: u64 = 8 << 20;
/// Bytes of a manifest or an index; registries refuse larger ones.
pub(crate) const MANIFEST: u64 = 4 << 20;
/// Bytes of all JSON documents of one archive together.
pub(crate) const DOCUMENTS: u64 = 64 << 20;
/// Entries of one archive or layer.
pub(crate) const ENTRIES: u64 = 4_000_000;
/// Bytes of one entry: more than any disk has, and no sum of two overflows.
pub(crate) const FILE: u64 = 1 << 60;
/// Bytes of one path or link target; Linux' `PATH_MAX`.
pub(crate) const PATH: usize = 4096;
/// Components of one path.
pub(crate) const DEPTH: usize = 256;
/// Bytes of all directory names of one layer together, which are kept in memory while it is unpacked.
pub(crate) const DIRECTORY_NAMES: usize = 256 << 20;
/// Layers of all images of one archive together.
pub(crate) const ARCHIVE_LAYERS: usize = 4_000;
/// Bytes of one extended tar header.
pub(crate) const TAR_EXTENSION: u64 = 1 << 20;
/// Pieces of a sparse file (CVE-2025-58183).
pub(crate) const SPARSE: usize = 65_536;
/// Nested image indexes.
pub(crate) const INDEX_DEPTH: usize = 4;
/// Images of one archive.
pub(crate) const IMAGES: usize = 1_000;
/// A compressed stream may always grow to this many bytes …
pub(crate) const INFLATED_FLOOR: u64 = 256 << 20;
/// … and beyond it to this many times its compressed size. Real layers stay below 20; a bomb has 1,000 and more.
pub(crate) const INFLATED_RATIO: u64 = 200;
/// Free bytes that unpacking leaves on the disk.
pub(crate) const FREE_RESERVE: u64 = 64 << 20;
/// Memory that an xz decoder may take; `xz -9` needs 65 MiB.
pub(crate) const XZ_MEMORY: u64 = 256 << 20;
/// Bytes of files, names, attributes and maps of sparse files that one layer's index, or that of all layers of a deep image,
/// may keep in memory: room for [`ENTRIES`] of the usual sort.
pub(crate) const INDEX_MEMORY: usize = 1 << 30;
/// Bytes of an index beyond those of its archives: no honest layer needs any, scattered sparse files do.
pub(crate) const INDEX_FLOOR: u64 = 16 << 20;
/// Entries in the block map of one sparse file.
pub(crate) const SPARSE_CHUNKS: u64 = 16_384;
/// Layers of an image beyond which they are merged into one index.
pub(crate) const STACKED: usize = 8;
