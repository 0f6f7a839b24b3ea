//! Stacks layers into one tree, as overlayfs would show them (kernel, Documentation/filesystems/overlayfs.rst): so that a
//! start and a lookup cost the same however many layers an image has.

use super::tree::{Content, Node, NodeId, ROOT, Tree};
use crate::error::Result;

/// The tree of layers, lowest first, of which only one at a time is in memory. Nothing is left of whiteouts.
pub(crate) fn merge(layers: impl IntoIterator<Item = Result<Tree>>) -> Result<Tree> {
    let mut merged = Tree::new();
    for layer in layers {
        let layer = &layer?;
        let mut stack = Stack { merged: &mut merged, layer, moved: vec![None; layer.len()] };
        stack.directory(ROOT, ROOT)?;
    }
    Ok(merged)
}

/// One layer on its way onto the others.
struct Stack<'t> {
    merged: &'t mut Tree,
    layer: &'t Tree,
    /// Where a node of the layer has gone: hard links stay links.
    moved: Vec<Option<NodeId>>,
}

impl Stack<'_> {
    /// Puts a directory over another one: its attributes count, its children are added.
    fn directory(&mut self, from: NodeId, to: NodeId) -> Result<()> {
        let mut open = vec![(from, to)];
        while let Some((from, to)) = open.pop() {
            let Content::Directory { children, opaque } = &self.layer.node(from).content else { continue };
            self.describe(from, to, *opaque)?;
            for (name, &child) in children {
                if let Some(pair) = self.child(to, name, child)? {
                    open.push(pair);
                }
            }
        }
        Ok(())
    }

    fn describe(&mut self, from: NodeId, to: NodeId, opaque: bool) -> Result<()> {
        let above = self.layer.node(from);
        self.merged.bear(above.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum())?;
        let node = self.merged.node_mut(to);
        (node.mode, node.uid, node.gid, node.mtime) = (above.mode, above.uid, above.gid, above.mtime);
        node.xattrs.clone_from(&above.xattrs);
        if let (true, Content::Directory { children, .. }) = (opaque, &mut node.content) {
            children.clear();
        }
        Ok(())
    }

    /// Puts one child in its place; the directories to go on with, if it is one.
    fn child(&mut self, to: NodeId, name: &[u8], child: NodeId) -> Result<Option<(NodeId, NodeId)>> {
        let node = self.layer.node(child);
        if node.is_whiteout() {
            self.merged.unlink(to, name);
            return Ok(None);
        }
        if !node.is_directory() {
            let id = self.moved(child)?;
            self.merged.link(to, name, id)?;
            return Ok(None);
        }
        let below = self.merged.child(to, name).filter(|&id| self.merged.node(id).is_directory());
        let id = match below {
            Some(id) => id,
            None => {
                let id = self.merged.add(Node::directory(node.mtime))?;
                self.merged.link(to, name, id)?;
                id
            }
        };
        Ok(Some((child, id)))
    }

    fn moved(&mut self, child: NodeId) -> Result<NodeId> {
        if let Some(id) = self.moved[child as usize] {
            return Ok(id);
        }
        let id = self.merged.add(self.layer.node(child).clone())?;
        self.moved[child as usize] = Some(id);
        Ok(id)
    }
}
