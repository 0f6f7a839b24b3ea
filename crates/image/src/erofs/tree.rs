//! A directory tree in memory, between the archives that describe it and the EROFS image that it becomes. Knows nothing
//! of either format; file contents stay where they are and are only pointed to.

use std::collections::BTreeMap;

use crate::attributes::Attributes;
use crate::error::{Error, Result};
use crate::limits;

/// Index of a node in its tree.
pub(crate) type NodeId = u32;

/// The root directory's index.
pub(crate) const ROOT: NodeId = 0;

/// Names of a directory in the order of their bytes, which is EROFS' order too.
pub(crate) type Children = BTreeMap<Box<[u8]>, NodeId>;

/// A file of any kind; several names may lead to it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Kind and permissions, as in `st_mode`.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Attributes,
    pub(crate) content: Content,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Directory {
        children: Children,
        /// Hides what the layers below have in this directory.
        opaque: bool,
    },
    File {
        size: u64,
        /// In order; what lies between is a hole.
        pieces: Box<[Piece]>,
    },
    Symlink(Box<[u8]>),
    /// A character or block device (major, minor), or a FIFO. Character device 0:0 hides a name of the layers below.
    Special(u32, u32),
}

/// Where a part of a file is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Offset in the file.
    pub(crate) at: u64,
    /// Bytes.
    pub(crate) length: u64,
    /// Number of the archive, the lowest layer's is 0.
    pub(crate) archive: u16,
    /// Offset in that archive.
    pub(crate) offset: u64,
}

/// The tree. Nodes that lost their last name stay in the table, unused.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// Bytes of nodes, names, attributes and maps; bounded because archives are hostile.
    weight: usize,
}

pub(crate) const S_IFMT: u16 = 0o170000;
pub(crate) const S_IFREG: u16 = 0o100000;
pub(crate) const S_IFDIR: u16 = 0o040000;
pub(crate) const S_IFLNK: u16 = 0o120000;
pub(crate) const S_IFCHR: u16 = 0o020000;
pub(crate) const S_IFBLK: u16 = 0o060000;
pub(crate) const S_IFIFO: u16 = 0o010000;

/// Bytes that a name takes in a directory beside its own: its entry, and what the allocator adds.
const NAME: usize = 48;

impl Node {
    /// A directory that no archive describes: root's, 0755.
    pub(crate) fn directory(mtime: (i64, u32)) -> Self {
        let content = Content::Directory { children: Children::new(), opaque: false };
        Node { mode: S_IFDIR | 0o755, uid: 0, gid: 0, mtime, xattrs: Vec::new(), content }
    }

    /// What hides a name of the layers below.
    pub(crate) fn whiteout() -> Self {
        let content = Content::Special(0, 0);
        Node { mode: S_IFCHR, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new(), content }
    }

    pub(crate) fn is_whiteout(&self) -> bool {
        self.mode & S_IFMT == S_IFCHR && matches!(self.content, Content::Special(0, 0))
    }

    pub(crate) fn children(&self) -> Option<&Children> {
        match &self.content {
            Content::Directory { children, .. } => Some(children),
            _ => None,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.children().is_some()
    }

    fn weight(&self) -> usize {
        let attributes: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let content = match &self.content {
            Content::File { pieces, .. } => size_of_val(&pieces[..]),
            Content::Symlink(target) => target.len(),
            _ => 0,
        };
        attributes + content
    }
}

impl Tree {
    /// An empty root directory.
    pub(crate) fn new() -> Self {
        Tree { nodes: vec![Node::directory((0, 0))], weight: 0 }
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// How many nodes there are, used or not.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// What the directory has under this name.
    pub(crate) fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.node(directory).children()?.get(name).copied()
    }

    /// Adds a node that has no name yet.
    pub(crate) fn add(&mut self, node: Node) -> Result<NodeId> {
        self.bear(size_of::<Node>() + node.weight())?;
        let id = NodeId::try_from(self.nodes.len()).map_err(|_| Error::untrusted("the layer has too many files"))?;
        self.nodes.push(node);
        Ok(id)
    }

    /// Gives a node a name, in the place of whatever had it.
    pub(crate) fn link(&mut self, directory: NodeId, name: &[u8], id: NodeId) -> Result<()> {
        self.bear(NAME + name.len())?;
        if let Content::Directory { children, .. } = &mut self.node_mut(directory).content {
            children.insert(name.into(), id);
        }
        Ok(())
    }

    /// Takes a name away.
    pub(crate) fn unlink(&mut self, directory: NodeId, name: &[u8]) {
        if let Content::Directory { children, .. } = &mut self.node_mut(directory).content {
            children.remove(name);
        }
    }

    /// Counts what the archive makes us remember.
    pub(crate) fn bear(&mut self, bytes: usize) -> Result<()> {
        self.weight += bytes;
        if self.weight > limits::INDEX_MEMORY {
            let megabytes = limits::INDEX_MEMORY >> 20;
            return Err(Error::untrusted(format!("files, names and attributes that take more than {megabytes} MiB")));
        }
        Ok(())
    }

    /// All nodes that have a name, each once, parents before children and the children of a directory together; the
    /// position is the order in which they are stored.
    pub(crate) fn in_order(&self) -> Vec<NodeId> {
        let mut order = vec![ROOT];
        let mut seen = vec![false; self.nodes.len()];
        let mut next = 0;
        while let Some(&id) = order.get(next) {
            next += 1;
            for &child in self.node(id).children().into_iter().flat_map(Children::values) {
                if !std::mem::replace(&mut seen[child as usize], true) {
                    order.push(child);
                }
            }
        }
        order
    }

    /// How many names each node has; directories count as file systems count them.
    pub(crate) fn link_counts(&self, order: &[NodeId]) -> Vec<u32> {
        let mut counts = vec![0u32; self.nodes.len()];
        counts[ROOT as usize] = 2;
        for &id in order {
            for &child in self.node(id).children().into_iter().flat_map(Children::values) {
                if self.node(child).is_directory() {
                    counts[child as usize] += 2;
                    counts[id as usize] += 1;
                } else {
                    counts[child as usize] += 1;
                }
            }
        }
        counts
    }
}
