//! A directory's data: blocks of entries followed by their names, all in the order of the names' bytes, so that the kernel
//! finds a name by halving (kernel, Documentation/filesystems/erofs.rst, *Directories*).

use super::format::{BLOCK, DIRENT, SLOT, dirent};
use super::tree::{Children, NodeId, ROOT, Tree};
use super::write::Place;

const BLOCK_SIZE: usize = BLOCK as usize;

/// The names with the two that every directory has.
fn names(children: &Children) -> impl Iterator<Item = (&[u8], Option<NodeId>)> {
    let own = children.iter().map(|(name, &id)| (&name[..], Some(id)));
    let mut dots = [&b"."[..], b".."].into_iter().peekable();
    let mut own = own.peekable();
    std::iter::from_fn(move || match (dots.peek(), own.peek()) {
        (Some(dot), Some((name, _))) if name < dot => own.next(),
        (Some(_), _) => dots.next().map(|dot| (dot, None)),
        (None, _) => own.next(),
    })
}

/// Bytes of the directory.
pub(super) fn size(children: &Children) -> u64 {
    let (mut whole, mut used) = (0, 0);
    for (name, _) in names(children) {
        if used + DIRENT + name.len() > BLOCK_SIZE {
            whole += 1;
            used = 0;
        }
        used += DIRENT + name.len();
    }
    whole * BLOCK + used as u64
}

/// The directory's data. `places` says where inodes are.
pub(super) fn bytes(tree: &Tree, id: NodeId, places: &[Place], parent: NodeId) -> Vec<u8> {
    let mut out = Vec::new();
    let mut block: Vec<(&[u8], NodeId)> = Vec::new();
    let mut used = 0;
    let Some(children) = tree.node(id).children() else { return out };
    for (name, child) in names(children) {
        let child = child.unwrap_or(if name == b"." { id } else { parent });
        if used + DIRENT + name.len() > BLOCK_SIZE {
            put_block(&mut out, tree, &block, places);
            out.resize(out.len().next_multiple_of(BLOCK_SIZE), 0);
            block.clear();
            used = 0;
        }
        used += DIRENT + name.len();
        block.push((name, child));
    }
    put_block(&mut out, tree, &block, places);
    out
}

fn put_block(out: &mut Vec<u8>, tree: &Tree, block: &[(&[u8], NodeId)], places: &[Place]) {
    let mut name_at = block.len() * DIRENT;
    for (name, child) in block {
        out.extend(dirent(places[*child as usize].at / SLOT, name_at, tree.node(*child).mode));
        name_at += name.len();
    }
    block.iter().for_each(|(name, _)| out.extend(*name));
}

/// The parent of each directory; the root is its own.
pub(super) fn parents(tree: &Tree, order: &[NodeId]) -> Vec<NodeId> {
    let mut parents = vec![ROOT; tree.len()];
    for &id in order {
        for &child in tree.node(id).children().into_iter().flat_map(Children::values) {
            parents[child as usize] = id;
        }
    }
    parents
}
