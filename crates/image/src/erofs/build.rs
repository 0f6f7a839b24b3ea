//! From a layer's archive to its tree, by the rules of the OCI image specification (*Layer*, *Whiteouts*): later entries
//! replace earlier ones, missing parents are made, links on the way to a parent are followed within the layer only.
//! The archive is hostile; what it may ask for is bounded here and in `limits`.

use std::io::Read;

use super::tree::{Content, Node, NodeId, Piece, ROOT, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, Tree};
use crate::attributes;
use crate::error::{Error, Result};
use crate::tarread::{Entry, Kind, TarReader};
use crate::unpack::{at, clean};
use crate::whiteout::Mark;

/// As many links as the kernel follows on one path (path_resolution(7)).
const MAX_LINKS: u32 = 40;

/// A tree and the bytes of its files.
pub(crate) struct Layer {
    pub(crate) tree: Tree,
    pub(crate) size: u64,
}

/// Reads the whole archive, which is number `archive` of those that the tree will point to.
pub(crate) fn build(tar: &mut TarReader<impl Read>, archive: u16) -> Result<Layer> {
    let mut builder = Builder { tree: Tree::new(), archive, size: 0 };
    while let Some(entry) = tar.next()? {
        builder.apply(&entry).map_err(|error| at(&entry, error))?;
    }
    Ok(Layer { tree: builder.tree, size: builder.size })
}

struct Builder {
    tree: Tree,
    archive: u16,
    size: u64,
}

impl Builder {
    fn apply(&mut self, entry: &Entry) -> Result<()> {
        let path = clean(&entry.path)?;
        let names: Vec<&[u8]> = path.iter().map(std::os::unix::ffi::OsStrExt::as_bytes).collect();
        let Some((&name, above)) = names.split_last() else {
            return self.root(entry);
        };
        let parent = self.parent(above, entry.mtime)?;
        if let Some(mark) = Mark::of(name)? {
            return self.whiteout(parent, &mark);
        }
        match entry.kind {
            Kind::Directory => self.directory(entry, parent, name),
            Kind::HardLink if clean(&entry.link)? == path => Ok(()),
            Kind::HardLink => self.hard_link(entry, parent, name),
            _ => {
                let content = self.content(entry)?;
                let node = self.tree.add(described(entry, content)?)?;
                self.tree.link(parent, name, node)
            }
        }
    }

    /// The archive's `./`: what the container's `/` looks like.
    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::untrusted("the root is not a directory"));
        }
        self.describe(ROOT, entry)
    }

    /// A directory over a directory changes its attributes only.
    fn directory(&mut self, entry: &Entry, parent: NodeId, name: &[u8]) -> Result<()> {
        let found = self.tree.child(parent, name);
        if let Some(id) = found.filter(|&id| self.tree.node(id).is_directory()) {
            return self.describe(id, entry);
        }
        let opaque = found.is_some_and(|id| self.tree.node(id).is_whiteout());
        let id = self.make(parent, name, opaque, entry.mtime)?;
        self.describe(id, entry)
    }

    fn make(&mut self, parent: NodeId, name: &[u8], hides: bool, mtime: (i64, u32)) -> Result<NodeId> {
        let id = self.tree.add(Node::directory(mtime))?;
        self.tree.link(parent, name, id)?;
        if hides {
            self.set_opaque(id);
        }
        Ok(id)
    }

    /// Sets what an entry says about a directory.
    fn describe(&mut self, id: NodeId, entry: &Entry) -> Result<()> {
        let (mode, xattrs) = attributes::settled(entry.mode, attributes::kept(entry)?);
        self.tree.bear(xattrs.iter().map(|(name, value)| name.len() + value.len()).sum())?;
        let node = self.tree.node_mut(id);
        node.mode = S_IFDIR | mode;
        (node.uid, node.gid, node.mtime) = (entry.uid, entry.gid, entry.mtime);
        for (name, value) in xattrs {
            node.xattrs.retain(|(other, _)| *other != name);
            node.xattrs.push((name, value));
        }
        Ok(())
    }

    fn content(&mut self, entry: &Entry) -> Result<Content> {
        let (major, minor) = entry.device;
        Ok(match entry.kind {
            Kind::File => self.file(entry),
            Kind::Symlink => {
                let target = attributes::link_target(entry)?;
                // Docker counts them too.
                self.size += target.len() as u64;
                Content::Symlink(target.into())
            }
            Kind::Char if entry.device == (0, 0) => {
                return Err(Error::untrusted("character device 0:0, which overlayfs would take for a deletion"));
            }
            Kind::Fifo => Content::Special(0, 0),
            _ if major >= 1 << 12 || minor >= 1 << 20 => {
                return Err(Error::untrusted(format!("impossible device number {major}:{minor}")));
            }
            _ => Content::Special(major, minor),
        })
    }

    fn file(&mut self, entry: &Entry) -> Content {
        let archive = self.archive;
        let whole = [(0, entry.size)];
        let mut offset = entry.at;
        let mut pieces = Vec::new();
        for &(at, length) in entry.pieces.as_deref().unwrap_or(&whole).iter().filter(|piece| piece.1 > 0) {
            pieces.push(Piece { at, length, archive, offset });
            offset += length;
            self.size += length;
        }
        Content::File { size: entry.size, pieces: pieces.into() }
    }

    fn hard_link(&mut self, entry: &Entry, parent: NodeId, name: &[u8]) -> Result<()> {
        let target = clean(&entry.link)?;
        let missing = || Error::untrusted(format!("hard link to {target:?}, which this layer does not have"));
        let names: Vec<&[u8]> = target.iter().map(std::os::unix::ffi::OsStrExt::as_bytes).collect();
        let (&last, above) = names.split_last().ok_or_else(missing)?;
        let mut trail = vec![ROOT];
        if !self.look(&mut trail, above, &mut 0)? {
            return Err(missing());
        }
        let found = trail.last().and_then(|&directory| self.tree.child(directory, last)).ok_or_else(missing)?;
        if self.tree.node(found).is_directory() || self.tree.node(found).is_whiteout() {
            return Err(missing());
        }
        self.tree.link(parent, name, found)
    }

    /// `.wh.NAME` hides NAME of the layers below, `.wh..wh..opq` all that they have in the directory. What this layer
    /// itself brings stays visible, wherever it stands in the archive.
    fn whiteout(&mut self, parent: NodeId, mark: &Mark<'_>) -> Result<()> {
        let hidden = match mark {
            Mark::Bookkeeping => return Ok(()),
            Mark::Opaque => {
                self.set_opaque(parent);
                return Ok(());
            }
            Mark::Hidden(name) => *name,
        };
        match self.tree.child(parent, hidden) {
            None => {
                let id = self.tree.add(Node::whiteout())?;
                self.tree.link(parent, hidden, id)?;
            }
            Some(id) if self.tree.node(id).is_directory() => self.set_opaque(id),
            Some(_) => {}
        }
        Ok(())
    }

    fn set_opaque(&mut self, directory: NodeId) {
        if let Content::Directory { opaque, .. } = &mut self.tree.node_mut(directory).content {
            *opaque = true;
        }
    }

    /// The directory of this path; what is missing of it is made.
    fn parent(&mut self, names: &[&[u8]], mtime: (i64, u32)) -> Result<NodeId> {
        let mut trail = vec![ROOT];
        let mut links = 0;
        for &name in names {
            let here = trail[trail.len() - 1];
            let below = match self.tree.child(here, name) {
                None => self.make(here, name, false, mtime)?,
                Some(id) => match &self.tree.node(id).content {
                    Content::Directory { .. } => id,
                    Content::Symlink(target) => {
                        if !self.follow(&mut trail, target, &mut links)? {
                            return Err(Error::untrusted(format!("{} is a symbolic link to nowhere", shown(name))));
                        }
                        continue;
                    }
                    _ if self.tree.node(id).is_whiteout() => self.make(here, name, true, mtime)?,
                    _ => return Err(Error::untrusted(format!("{} is no directory", shown(name)))),
                },
            };
            trail.push(below);
        }
        Ok(trail[trail.len() - 1])
    }

    /// Extends the trail of directories by a path; whether all of it exists.
    fn look(&self, trail: &mut Vec<NodeId>, names: &[&[u8]], links: &mut u32) -> Result<bool> {
        for &name in names {
            match name {
                b"" | b"." => continue,
                b".." if trail.len() == 1 => return Err(leads_out()),
                b".." => {
                    trail.pop();
                    continue;
                }
                _ => {}
            }
            let Some(id) = trail.last().and_then(|&here| self.tree.child(here, name)) else { return Ok(false) };
            match &self.tree.node(id).content {
                Content::Directory { .. } => trail.push(id),
                Content::Symlink(target) if self.follow(trail, target, links)? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    fn follow(&self, trail: &mut Vec<NodeId>, target: &[u8], links: &mut u32) -> Result<bool> {
        *links += 1;
        if target.starts_with(b"/") || *links > MAX_LINKS {
            return Err(leads_out());
        }
        let names: Vec<&[u8]> = target.split(|&byte| byte == b'/').collect();
        self.look(trail, &names, links)
    }
}

fn leads_out() -> Error {
    Error::untrusted("the path leads out of the layer through a link")
}

fn shown(name: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(name))
}

/// Anything but a directory. Attributes are kept for regular files only, as unpacking does.
fn described(entry: &Entry, content: Content) -> Result<Node> {
    let kind = match entry.kind {
        Kind::Symlink => S_IFLNK,
        Kind::Char => S_IFCHR,
        Kind::Block => S_IFBLK,
        Kind::Fifo => S_IFIFO,
        _ => S_IFREG,
    };
    let (permissions, xattrs) = match kind {
        S_IFLNK => (0o777, Vec::new()),
        S_IFREG => attributes::settled(entry.mode, attributes::kept(entry)?),
        _ => (entry.mode as u16, Vec::new()),
    };
    let (uid, gid, mtime) = (entry.uid, entry.gid, entry.mtime);
    Ok(Node { mode: kind | permissions, uid, gid, mtime, xattrs, content })
}
