//! Publishing and sweeping. Whatever an operation makes is first below `tmp/image-…`; then, in this order: everything is
//! synced once, renamed into place, the directories are synced, and one transaction makes it known. A directory left in
//! `tmp` is the mark of an operation that died; the next one that is alone removes it with whatever nothing reaches.

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use records::rusqlite::{Connection, Transaction};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::driver::Driver;
use crate::error::{Result, Step};
use crate::layer::{self, ARCHIVE, INDEX, NewLayer};
use crate::remove::chain_ids;
use crate::store::{Store, set_name};
use crate::{Digest, deep, failpoint, limits};

const MARK: &str = "image-";
/// Files that are open at once to be synced.
const OPEN: usize = 99;

/// An operation in progress: owns a directory, and keeps sweepers away.
pub(crate) struct Staging<'s> {
    store: &'s Store,
    directory: PathBuf,
    next: AtomicU64,
    driver: Driver,
    _lock: File,
}

/// An image that is complete but for its publication.
pub(crate) struct NewImage {
    pub(crate) id: Digest,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Option<Vec<u8>>,
    /// Lowest first; each is either stored already or among the new layers.
    pub(crate) layers: Vec<Digest>,
    pub(crate) created: i64,
    /// Complete names, with tag or digest.
    pub(crate) names: Vec<String>,
}

impl<'s> Staging<'s> {
    /// Begins an operation; removes what dead ones left.
    pub(crate) fn begin(store: &'s Store, records: &mut records::Records) -> Result<Self> {
        store.sweep_leftovers(records)?;
        let tmp = store.root.join("tmp");
        make_directory(&tmp)?;
        let lock = lock_shared(store)?;
        let directory = unique(&tmp);
        make_directory(&directory)?;
        let driver = store.choose_driver(&directory)?.driver;
        Ok(Staging { store, directory, next: AtomicU64::new(0), driver, _lock: lock })
    }

    /// Takes a layer's stream, to its end; nothing is published yet.
    pub(crate) fn receive(&self, stream: impl Read) -> Result<NewLayer> {
        layer::receive(stream, &self.path(), self.driver)
    }

    /// A fresh path in the operation's directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Publishes layers and images: all of them, or none.
    pub(crate) fn publish(
        self,
        records: &mut records::Records,
        layers: &[NewLayer],
        images: &[NewImage],
    ) -> Result<()> {
        let blobs = self.stage_blobs(images)?;
        failpoint::hit("publish-begun");
        self.sync_new(layers, &blobs)?;
        failpoint::hit("publish-synced");
        let layer_parent = self.store.root.join("layers/sha256");
        let blob_parent = self.store.root.join("content/blobs/sha256");
        make_directory(&layer_parent)?;
        make_directory(&blob_parent)?;
        for layer in layers {
            rename(&layer.home, &self.store.layer_home(&layer.diff_id))?;
        }
        failpoint::hit("publish-layers-renamed");
        for (digest, path) in &blobs {
            rename(path, &self.store.blob_path(digest))?;
        }
        failpoint::hit("publish-documents-renamed");
        sync_all(&[layer_parent, blob_parent])?;
        failpoint::hit("publish-directories-synced");
        records.set_durability(records::Durability::Power)?;
        records.write(|transaction| record(transaction, layers, images))?;
        failpoint::hit("publish-recorded");
        Ok(())
    }

    /// An archive and its index are two files; what is unpacked is everywhere on the file system.
    fn sync_new(&self, layers: &[NewLayer], blobs: &[(Digest, PathBuf)]) -> Result<()> {
        let indexed = layers.iter().filter(|layer| layer.driver == Driver::Erofs);
        let of_layers =
            indexed.flat_map(|layer| [layer.home.join(ARCHIVE), layer.home.join(INDEX), layer.home.clone()]);
        let all: Vec<PathBuf> = blobs.iter().map(|(_, path)| path.clone()).chain(of_layers).collect();
        all.chunks(OPEN).try_for_each(sync_all)?;
        if layers.iter().any(|layer| layer.driver == Driver::Directory) {
            let root = File::open(&self.directory).step(|| format!("open {}", self.directory.display()))?;
            rustix::fs::syncfs(&root).step(|| "write the image to the disk".into())?;
        }
        Ok(())
    }

    fn stage_blobs(&self, images: &[NewImage]) -> Result<Vec<(Digest, PathBuf)>> {
        let mut blobs = Vec::new();
        for bytes in images.iter().flat_map(|image| image.manifest.iter().chain([&image.config])) {
            let path = self.path();
            std::fs::write(&path, bytes).step(|| format!("write {}", path.display()))?;
            blobs.push((Digest::of(bytes), path));
        }
        let layout = self.path();
        std::fs::write(&layout, r#"{"imageLayoutVersion":"1.0.0"}"#).step(|| format!("write {}", layout.display()))?;
        make_directory(&self.store.root.join("content"))?;
        rename(&layout, &self.store.root.join("content/oci-layout"))?;
        Ok(blobs)
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is swept by a later operation.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A mark in `tmp` that there will be something to sweep. It outlives its process; while it is held nobody sweeps.
pub(crate) struct Mark {
    directory: PathBuf,
    _lock: File,
}

impl Mark {
    /// There is nothing to sweep after all.
    pub(crate) fn clear(self) {
        // What cannot be removed now is swept by a later operation.
        let _ = std::fs::remove_dir(&self.directory);
    }
}

impl Store {
    /// Leaves a mark before a removal is committed, so that whoever comes next finishes it if need be.
    pub(crate) fn mark(&self) -> Result<Mark> {
        let tmp = self.root.join("tmp");
        make_directory(&tmp)?;
        let lock = lock_shared(self)?;
        let directory = unique(&tmp);
        make_directory(&directory)?;
        Ok(Mark { directory, _lock: lock })
    }

    /// Whether an operation is under way or died half-way: one directory listing.
    pub fn has_leftovers(&self) -> bool {
        let entries = std::fs::read_dir(self.root.join("tmp")).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().as_encoded_bytes().starts_with(MARK.as_bytes()))
    }

    /// Removes what operations that died left behind; nothing happens while another operation is under way.
    pub fn sweep_leftovers(&self, records: &mut records::Records) -> Result<()> {
        if self.has_leftovers() { self.sweep(records) } else { Ok(()) }
    }

    /// Removes every layer, blob and temporary directory that no image reaches, unless another operation is under way:
    /// then the marks in `tmp` stay, and a later operation does it.
    pub fn sweep(&self, records: &mut records::Records) -> Result<()> {
        make_directory(&self.root.join("tmp"))?;
        let lock = lock_file(self)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(()),
            other => other.step(|| "lock the image store".into())?,
        }
        let (layers, blobs) = records.write(reachable)?;
        failpoint::hit("sweep-forgotten");
        let (merged, mounts) = self.used_mounts(records.read(), &layers)?;
        self.unmount_others(&mounts)?;
        failpoint::hit("sweep-unmounted");
        let trash = unique(&self.root.join("tmp"));
        remove_others(&deep::directory(self), &merged, &trash)?;
        remove_others(&self.root.join("layers/sha256"), &layers, &trash)?;
        remove_others(&self.root.join("content/blobs/sha256"), &blobs, &trash)?;
        failpoint::hit("sweep-moved");
        let dead = self.marked();
        // To delete takes as long as the disk likes (where it is told of every free block, half a minute is nothing
        // special), and nobody else shall wait for it. What is under way from now on is not in the list.
        drop(lock);
        dead.iter().try_for_each(|path| {
            let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            match removed {
                // Another sweep was faster.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed.step(|| format!("remove {}", path.display())),
            }
        })
    }

    /// What operations have in the directory for work that is under way.
    fn marked(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root.join("tmp")).into_iter().flatten().flatten();
        let marked = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(MARK.as_bytes()));
        marked.map(|entry| entry.path()).collect()
    }
}

impl Store {
    /// File names of the merged indexes that images need, and names of the mounts that they or `layers` may have.
    fn used_mounts(
        &self,
        connection: &Connection,
        layers: &HashSet<String>,
    ) -> Result<(HashSet<String>, HashSet<String>)> {
        let mut query = connection.prepare(
            "SELECT group_concat(layer, ' ' ORDER BY position) FROM image_layers GROUP BY image HAVING count(*) > ?1",
        )?;
        let stacks = query.query_map([limits::STACKED as i64], |row| row.get::<_, String>(0))?;
        let (mut merged, mut mounts) = (HashSet::new(), layers.clone());
        for stack in stacks {
            let stack = stack?.split(' ').map(str::parse).collect::<Result<Vec<Digest>>>()?;
            if let Some(chain) = chain_ids(&stack).pop() {
                merged.insert(format!("{}.erofs", chain.hex()));
                mounts.insert(chain.hex().to_owned());
            }
        }
        Ok((merged, mounts))
    }
}

/// Forgets unused layers; hexadecimal names of the layers and blobs that stay.
fn reachable(transaction: &Transaction<'_>) -> Result<(HashSet<String>, HashSet<String>)> {
    transaction.execute("DELETE FROM layers WHERE diff_id NOT IN (SELECT layer FROM image_layers)", [])?;
    let set = |query: &str| -> Result<HashSet<String>> {
        let mut query = transaction.prepare(query)?;
        let rows = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(rows)
    };
    Ok((
        set("SELECT substr(diff_id, 8) FROM layers")?,
        set("SELECT substr(id, 8) FROM images
             UNION SELECT substr(manifest, 8) FROM images WHERE manifest IS NOT NULL")?,
    ))
}

/// Moves what is not in `keep` away at once, so that a name is either whole or gone.
fn remove_others(directory: &Path, keep: &HashSet<String>, trash: &Path) -> Result<()> {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| keep.contains(name)) {
            make_directory(trash)?;
            rename(&entry.path(), &trash.join(name))?;
        }
    }
    Ok(())
}

fn record(transaction: &Transaction<'_>, layers: &[NewLayer], images: &[NewImage]) -> Result<()> {
    let mut insert =
        transaction.prepare("INSERT INTO layers (diff_id, size) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
    for layer in layers {
        insert.execute((layer.diff_id.as_str(), layer.size as i64))?;
    }
    for image in images {
        record_image(transaction, image)?;
    }
    Ok(())
}

fn record_image(transaction: &Transaction<'_>, image: &NewImage) -> Result<()> {
    let manifest = image.manifest.as_deref().map(Digest::of);
    let now = jiff::Timestamp::now().as_second();
    transaction.execute(
        "INSERT INTO images (id, manifest, created, size, tagged_at) VALUES (?1, ?2, ?3, 0, ?4)
         ON CONFLICT DO UPDATE SET manifest = coalesce(excluded.manifest, manifest)",
        (image.id.as_str(), manifest.as_ref().map(Digest::as_str), image.created, now),
    )?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO image_layers (image, position, layer) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
    )?;
    for (position, layer) in image.layers.iter().enumerate() {
        insert.execute((image.id.as_str(), position as i64, layer.as_str()))?;
    }
    transaction.execute(
        "UPDATE images SET size = (SELECT coalesce(sum(l.size), 0) FROM image_layers i JOIN layers l ON l.diff_id = i.layer
         WHERE i.image = images.id) WHERE id = ?1",
        [image.id.as_str()],
    )?;
    image.names.iter().try_for_each(|name| set_name(transaction, name, image.id.as_str()))
}

/// Renames; a target that exists already is equally good, because names are digests of the content.
fn rename(from: &Path, to: &Path) -> Result<()> {
    match rustix::fs::rename(from, to) {
        Ok(()) | Err(Errno::EXIST | Errno::NOTEMPTY) => Ok(()),
        Err(error) => Err(error).step(|| format!("rename {} to {}", from.display(), to.display())),
    }
}

/// Waits until files and directories are on the disk. All contents first: a journal then takes what belongs to them in one
/// go with the first sync, and those that follow find nothing to do; otherwise each of them waits for a commit of its own.
fn sync_all(paths: &[PathBuf]) -> Result<()> {
    let open = |path: &PathBuf| File::open(path).step(|| format!("open {}", path.display()));
    let files = paths.iter().map(open).collect::<Result<Vec<_>>>()?;
    files.iter().for_each(linux::file::begin_write_back);
    files.iter().for_each(linux::file::finish_write_back);
    files.iter().zip(paths).try_for_each(|(file, path)| file.sync_all().step(|| format!("sync {}", path.display())))
}

/// Makes the directory and its parents, for root alone.
pub(crate) fn make_directory(directory: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).step(|| format!("make {}", directory.display()))
}

fn lock_file(store: &Store) -> Result<File> {
    let path = store.root.join("images.lock");
    let opened = File::options().create(true).append(true).mode(0o600).open(&path);
    opened.step(|| format!("open {}", path.display()))
}

/// Keeps sweepers away.
pub(crate) fn lock_shared(store: &Store) -> Result<File> {
    let lock = lock_file(store)?;
    flock(&lock, FlockOperation::LockShared).step(|| "lock the image store".into())?;
    Ok(lock)
}

/// A name in `tmp` that no living or dead operation has.
pub(crate) fn unique(tmp: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let time = jiff::Timestamp::now().as_nanosecond();
    tmp.join(format!("{MARK}{}-{}-{time:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}
