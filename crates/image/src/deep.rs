//! One index over all layers of a deep image, kept below `merged/` under the name of the layers' chain. It can be made
//! again from the layers at any time, so it has no record.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Result, Step};
use crate::layer::ARCHIVE;
use crate::staging::{lock_shared, make_directory, unique};
use crate::store::Store;
use crate::tarread::TarReader;
use crate::{Digest, erofs};

/// The directory of these indexes.
pub(crate) fn directory(store: &Store) -> PathBuf {
    store.root.join("merged")
}

/// Where the index of a chain is.
pub(crate) fn path(store: &Store, chain: &Digest) -> PathBuf {
    directory(store).join(format!("{}.erofs", chain.hex()))
}

/// Makes the index of `layers` (lowest first) unless it is there.
pub(crate) fn ensure(store: &Store, chain: &Digest, layers: &[Digest]) -> Result<()> {
    let path = path(store, chain);
    if path.exists() {
        return Ok(());
    }
    // A sweep takes what nobody holds: the file in the making, too.
    let _lock = lock_shared(store)?;
    let tmp = store.root.join("tmp");
    make_directory(&tmp)?;
    make_directory(&directory(store))?;
    let new = unique(&tmp);
    let made = make(store, layers, &new)
        .and_then(|()| std::fs::rename(&new, &path).step(|| format!("rename {} to {}", new.display(), path.display())));
    if made.is_err() {
        // What cannot be removed now is swept by a later operation.
        let _ = std::fs::remove_file(&new);
    }
    made
}

pub(crate) fn make(store: &Store, layers: &[Digest], path: &Path) -> Result<()> {
    let mut archives = Vec::with_capacity(layers.len());
    let merged = erofs::merge(layers.iter().enumerate().map(|(number, layer)| {
        let archive = store.layer_home(layer).join(ARCHIVE);
        let file = File::open(&archive).step(|| format!("open {}", archive.display()))?;
        let tree = erofs::build(&mut TarReader::over_file(&file), number as u16)?.tree;
        archives.push(file);
        Ok(tree)
    }))?;
    let out = File::options().read(true).write(true).create_new(true).open(path);
    let out = out.step(|| format!("create {}", path.display()))?;
    erofs::write(&merged, &archives, &out)?;
    // A crash must not leave a name without the content.
    out.sync_data().step(|| format!("sync {}", path.display()))
}
